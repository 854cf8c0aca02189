"""AdamW equals the formula, and Muon's two halves equal plain references.

The right weights are in each group.
"""

import copy

import pytest
import torch

from llm_scratch.config import GPTConfig, TrainConfig
from llm_scratch.errors import UserError
from llm_scratch.model.gpt import GPTModel
from llm_scratch.training.optim import ADAM_LR_SCALE, OPTIMIZERS, Muon, adamw, muon, orthogonalize

TINY = GPTConfig(
    vocab_size=13, context_length=8, emb_dim=12, n_heads=3, n_layers=2, drop_rate=0.0, qkv_bias=True
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPTModel(TINY)


def give_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def names_of(group, model):
    named = {p: name for name, p in model.named_parameters()}
    return {named[p] for p in group["params"]}


def test_adamw_equals_its_formula(model):
    cfg = TrainConfig(lr=3e-3, weight_decay=0.2, betas=(0.8, 0.99))
    theirs = {name: p.detach().clone() for name, p in model.named_parameters()}
    mean, square = ({name: torch.zeros_like(p) for name, p in theirs.items()} for _ in range(2))
    optimizer = adamw(model, cfg)
    for t in range(1, 6):
        give_gradients(model, t)
        for name, p in model.named_parameters():
            w, g = theirs[name], p.grad
            mean[name] = 0.8 * mean[name] + 0.2 * g
            square[name] = 0.99 * square[name] + 0.01 * g**2
            move = mean[name] / (1 - 0.8**t) / ((square[name] / (1 - 0.99**t)).sqrt() + 1e-8)
            theirs[name] = w - cfg.lr * (0.2 if p.ndim >= 2 else 0.0) * w - cfg.lr * move
        optimizer.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(
            p.detach(), theirs[name], rtol=1e-5, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_adamw_decays_matrices_only_or_all(model):
    for decay, rest in (("matrices", 0.0), ("all", 0.1)):
        decayed, others = adamw(model, TrainConfig(weight_decay=0.1, decay=decay)).param_groups
        assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, rest)
    with pytest.raises(UserError, match="decay='all' has no effect on muon"):
        muon(model, TrainConfig(decay="all", optimizer="muon"))
    everything = {name for name, _ in model.named_parameters()}
    small = {name for name in everything if name.endswith(("bias", "scale", "shift"))}
    assert names_of(others, model) == small
    assert names_of(decayed, model) == everything - small


@pytest.mark.parametrize("shape", [(8, 8), (16, 64), (64, 16), (3, 20, 20), (2, 3, 5, 40), (1, 30)])
def test_orthogonalize_brings_singular_values_to_about_1(shape):
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    u, before, v = torch.linalg.svd(gradient, full_matrices=False)
    after = orthogonalize(gradient)
    values = torch.linalg.svdvals(after)
    kept = before > 0.03 * before.norm(
        dim=-1, keepdim=True
    )  # five iterations raise singular values that are not too small
    assert values.min() >= 0
    assert ((values > 0.6) & (values < 1.3))[kept.sort(-1, descending=True).values].all()
    torch.testing.assert_close(after, u @ (u.mT @ after @ v.mT) @ v, rtol=1e-4, atol=1e-4)
    middle = u.mT @ after @ v.mT
    assert (
        middle - torch.diag_embed(middle.diagonal(dim1=-2, dim2=-1))
    ).abs().max() < 1e-3  # the singular vectors are unchanged
    assert middle.diagonal(dim1=-2, dim2=-1).min() > -1e-3


def test_orthogonalize_does_not_depend_on_the_gradients_size():
    gradient = torch.randn(10, 20)
    torch.testing.assert_close(
        orthogonalize(gradient), orthogonalize(1e3 * gradient), rtol=1e-3, atol=1e-4
    )
    assert (orthogonalize(torch.zeros(4, 6)) == 0).all()


def test_muon_moves_matrices_by_orthogonalized_nesterov_momentum():
    shapes = [(6, 9), (6, 9), (12, 4), (5, 5)]
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [p.detach().clone() for p in params]
    momentum = [torch.zeros(shape) for shape in shapes]
    optimizer = Muon(
        [{"params": params, "matrix": True, "weight_decay": 0.1}],
        lr=0.02,
        betas=(0.9, 0.95),
        momentum=0.9,
    )
    for _ in range(4):
        for i, p in enumerate(params):
            p.grad = torch.randn(p.shape)
            momentum[i] = 0.9 * momentum[i] + 0.1 * p.grad
            direction = orthogonalize(0.1 * p.grad + 0.9 * momentum[i])
            rows, columns = p.shape
            theirs[i] = (
                theirs[i] * (1 - 0.02 * 0.1) - 0.02 * max(1, rows / columns) ** 0.5 * direction
            )
        optimizer.step()
    for ours, want in zip(params, theirs):
        torch.testing.assert_close(ours.detach(), want, rtol=1e-4, atol=1e-5)


def test_muons_other_groups_are_torchs_adamw(model):
    other = copy.deepcopy(model)
    ours = Muon(
        [{"params": list(model.parameters()), "weight_decay": 0.05}], lr=2e-3, betas=(0.9, 0.95)
    )
    theirs = torch.optim.AdamW(other.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05)
    for t in range(5):
        give_gradients(model, t)
        give_gradients(other, t)
        ours.step()
        theirs.step()
    for p, want in zip(model.parameters(), other.parameters()):
        torch.testing.assert_close(p, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_muon_takes_the_matrices_inside_the_blocks(tied):
    model = GPTModel(dict(TINY) | {"tie_embeddings": tied})
    inner, outer, others = muon(model, TrainConfig(weight_decay=0.3)).param_groups
    everything = {name for name, _ in model.named_parameters()}
    assert names_of(outer, model) == {"tok_emb.weight", "pos_emb.weight"} | (
        set() if tied else {"out_head.weight"}
    )
    assert names_of(others, model) == {
        name for name in everything if name.endswith(("bias", "scale", "shift"))
    }
    assert names_of(inner, model) == everything - names_of(outer, model) - names_of(others, model)
    assert (inner["matrix"], outer["matrix"], others["matrix"]) == (True, False, False)
    assert [group["weight_decay"] for group in (inner, outer, others)] == [0.3, 0.0, 0.0]
    assert [group.get("lr_scale", 1.0) for group in (inner, outer, others)] == [
        1.0,
        ADAM_LR_SCALE,
        ADAM_LR_SCALE,
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_weights_and_weights_without_gradient_are_unchanged(model, name):
    frozen, unused = model.tok_emb.weight, model.final_norm.scale
    frozen.requires_grad_(False)
    optimizer = OPTIMIZERS[name](model, TrainConfig())
    give_gradients(model, 1)
    unused.grad = None
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer.step()
    still = {n for n, p in model.named_parameters() if torch.equal(p, before[n])}
    assert still == {"tok_emb.weight", "final_norm.scale"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_find_a_minimum(name):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    x = torch.randn(64, 6)
    y = x.prod(1, keepdim=True).tanh()
    optimizer = OPTIMIZERS[name](model, TrainConfig(lr=0.02, weight_decay=0.0))
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
