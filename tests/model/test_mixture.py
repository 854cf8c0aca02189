"""Mixture of experts: equal to a sum over all experts and to transformers, and balanced."""

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from llm_scratch.model.mixture import MixtureOfExperts, Router, Routing, balance_loss, choose
from llm_scratch.model.training_hooks import add_extra_loss, after_step

B, T, C, E, K = 2, 5, 8, 6, 2


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(C, 12), nn.SiLU(), nn.Linear(12, C))

    def forward(self, x):
        return self.layers(x)


def mixture(shared=False, gate=False, **changes):
    torch.manual_seed(0)
    routing = Routing(E, K)._replace(**changes)
    return MixtureOfExperts(C, routing, Expert, Expert() if shared else None, gate)


def by_the_formula(model, x):
    """Every expert runs on every token; the weights of those not chosen are 0."""
    weights, chosen = model.router(x)
    table = torch.zeros(*x.shape[:-1], len(model.experts)).scatter(-1, chosen, weights)
    y = sum(table[..., e, None] * expert(x) for e, expert in enumerate(model.experts))
    if model.shared is not None:
        gate = 1 if model.shared_gate is None else model.shared_gate(x).sigmoid()
        y = y + gate * model.shared(x)
    return y


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scores": "sigmoid", "normalize": False, "scale": 2.5},
        {"n_groups": 3, "n_chosen_groups": 2, "balance_rate": 0.1},
        {"shared": True, "gate": True, "logit_bias": True},
        {"shared": True, "n_chosen": E},
    ],
)
def test_mixture_and_its_gradients_equal_the_sum_over_all_experts(options):
    model, x = mixture(**options), torch.randn(B, T, C, requires_grad=True)
    results = []
    for run in (model, lambda x: by_the_formula(model, x)):
        model.zero_grad()
        x.grad = None
        y = run(x)
        y.cos().sum().backward()
        results.append([y, x.grad, *(p.grad for p in model.parameters())])
    for ours, formula in zip(*results):
        torch.testing.assert_close(ours, formula, rtol=1e-4, atol=1e-6)


def test_mixture_of_one_expert_equals_the_plain_network():
    model, x = mixture(n_experts=1, n_chosen=1), torch.randn(B, T, C)
    torch.testing.assert_close(model(x), model.experts[0](x))


@torch.no_grad()
def test_router_equals_transformers_deepseek():
    config = transformers.DeepseekV3Config(
        hidden_size=C,
        n_routed_experts=12,
        num_experts_per_tok=3,
        n_group=4,
        topk_group=2,
        routed_scaling_factor=2.5,
    )
    theirs = DeepseekV3TopkRouter(config)
    router = Router(C, Routing(12, 3, "sigmoid", True, 2.5, 4, 2, balance_rate=0.1))
    theirs.weight.normal_()
    theirs.e_score_correction_bias.normal_(std=0.2)
    router.linear.weight.copy_(theirs.weight)
    router.balance_bias.copy_(theirs.e_score_correction_bias)
    x = torch.randn(50, C)
    _, want, indices = theirs(x)
    weights, chosen = router(x)
    table = torch.zeros(50, 12)
    torch.testing.assert_close(table.scatter(1, chosen, weights), table.scatter(1, indices, want))


def test_router_computes_in_float32_under_autocast():
    router, x = mixture().router, torch.randn(B, T, C)
    want = router.linear(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(router.linear(x), want)
        assert torch.equal(router.linear(x.bfloat16()), router.linear(x.bfloat16().float()))


def test_balance_loss_equals_transformers():
    torch.manual_seed(0)
    logits = torch.randn(1, 40, E)
    scores = logits.softmax(-1)
    chosen = choose(scores, None, Routing(E, K))
    want = load_balancing_loss_func((logits[0],), E, K) / K  # theirs is K if balanced
    torch.testing.assert_close(balance_loss(scores, chosen) / 40, want)


def test_balance_loss_is_one_a_token_if_balanced_and_e_if_all_go_to_one_expert():
    scores = torch.eye(E)[None]
    assert balance_loss(scores, torch.arange(E)[None, :, None]) == pytest.approx(E)
    one = scores[:, :1].expand(1, E, E)
    assert balance_loss(one, torch.zeros(1, E, 1, dtype=torch.long)) == pytest.approx(E * E)


def test_balance_loss_of_micro_batches_adds_up():
    scores = torch.rand(4, T, E)
    chosen = scores.topk(K, -1).indices
    whole = balance_loss(scores, chosen)
    parts = [balance_loss(scores[i : i + 2], chosen[i : i + 2]) for i in (0, 2)]
    torch.testing.assert_close(sum(parts), whole)


def imbalance(model, x):
    _, chosen = model.router(x)
    load = torch.bincount(chosen.flatten(), minlength=E).float()
    return (load.max() / load.mean()).item()


def test_bias_balances_the_experts_without_a_gradient():
    model, x = mixture(balance_rate=0.003), torch.randn(64, 8, C) + 1
    model.router.linear.weight.data *= 10
    before = imbalance(model, x)
    for _ in range(80):
        model(x)
        after_step(model, torch.tensor(True), lambda load: load)
    assert before > 1.5
    assert imbalance(model, x) < 1.15
    assert "router.balance_bias" in model.state_dict()
    assert all(name != "router.balance_bias" for name, _ in model.named_parameters())


def test_bias_moves_by_the_sign_of_the_load_over_micro_batches_and_processes():
    model = mixture(balance_rate=0.5, n_experts=3, n_chosen=1)
    model.router.linear.weight.data.zero_()
    model.router.linear.weight.data[:, 0] = torch.tensor([3.0, 2.0, 1.0])
    x = torch.zeros(1, 4, C)
    x[..., 0] = 1  # expert 0 is chosen
    model(x)
    x[:, :, 0] = -1  # expert 2
    model(x[:, :2])
    elsewhere = torch.tensor([0.0, 6.0, 0.0])
    after_step(model, torch.tensor(True), lambda load: (load + elsewhere) / 2)
    assert model.router.balance_bias.tolist() == [0.0, -0.5, 0.5]  # of loads 4, 6 and 2


def test_bad_step_leaves_the_bias_and_evaluation_is_not_counted():
    model, x = mixture(balance_rate=0.5), torch.randn(B, T, C)
    model(x)
    after_step(model, torch.tensor(False), lambda load: load)
    model.eval()
    model(x)
    after_step(model, torch.tensor(True), lambda load: load)
    assert not model.router.balance_bias.any()


def test_balance_loss_reaches_the_gradient_and_not_the_value():
    model, x = mixture(balance_loss=0.5), torch.randn(B, T, C)
    y = model(x).square().sum()
    loss = add_extra_loss(y, model)
    assert loss.item() == y.item()
    loss.backward()
    ours = model.router.linear.weight.grad.clone()
    model.zero_grad()
    scores = model.router.linear(x).softmax(-1)
    extra = 0.5 * balance_loss(scores, choose(scores, None, model.router.routing))
    (model(x).square().sum() + extra).backward()
    torch.testing.assert_close(ours, model.router.linear.weight.grad)


def test_every_expert_has_a_gradient_in_training_and_only_chosen_ones_run_in_eval():
    model = mixture(n_chosen=1)
    x = torch.randn(1, 1, C)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.experts.parameters())
    calls = []
    for expert in model.experts:
        expert.register_forward_hook(lambda *_: calls.append(1))
    model.eval()(x)
    assert len(calls) == 1


def test_experts_run_once_a_batch_on_their_tokens_only():
    model, rows = mixture().eval(), []
    for expert in model.experts:
        expert.register_forward_hook(lambda m, args, y: rows.append(len(args[0])))
    model(torch.randn(4, 9, C))
    assert len(rows) <= E
    assert sum(rows) == 4 * 9 * K


def test_planned_mixture_has_equal_shares():
    with torch.device("meta"):
        model = mixture()
        assert model(torch.zeros(B, T, C)).shape == (B, T, C)


@torch.no_grad()
def test_softmax_of_the_chosen_is_the_normalized_softmax():
    """gpt-oss takes the softmax after the choice, which is the same."""
    router = Router(C, Routing(E, K))
    x = torch.randn(7, C)
    weights, chosen = router(x)
    torch.testing.assert_close(weights, F.softmax(router.linear(x).gather(-1, chosen), -1))
