"""A model on a GPU gives the CPU's logits, loss, gradients and generated ids."""

from __future__ import annotations

import copy
from itertools import islice

import pytest
import torch

from llm_scratch.config import ModelConfig
from llm_scratch.generation.cached_model import PAD, CachedModel, pad_left
from llm_scratch.generation.config import GenerationConfig
from llm_scratch.generation.decode import generate
from llm_scratch.generation.engine import Engine
from llm_scratch.generation.sampling import greedy
from llm_scratch.generation.steps import steps
from llm_scratch.model import ARCHITECTURES, build
from llm_scratch.model.chunked_loss import total_loss
from llm_scratch.model.loss import IGNORE, next_token_loss
from llm_scratch.model.quantized import quantize

pytestmark = pytest.mark.gpu

V, T = 97, 40
SIZE = {"vocab_size": V, "context_length": T, "emb_dim": 48, "n_heads": 3, "n_layers": 2}
FLOAT32 = 5e-5  # relative: sums in another order give 1e-6, TF32 would give 3e-4
PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6], [5, 3], [5, 8, 9, 7, 9]]


@pytest.fixture(autouse=True)
def _exact_float32():
    torch.set_float32_matmul_precision("highest")  # no TF32


def twins(device, architecture="gpt", **changes):
    """A model on the CPU and its copy on the device, with noise on weights that begin at zero."""
    torch.manual_seed(0)
    cfg = ModelConfig.of({"architecture": architecture, "drop_rate": 0.0} | SIZE | changes)
    model = build(cfg).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model, copy.deepcopy(model).to(device)


def difference(ours, want):
    """Relative, in the Euclidean norm."""
    exact = want.detach().double()
    return float((ours.detach().cpu().double() - exact).norm() / exact.norm())


def batch():
    generator = torch.Generator().manual_seed(1)
    ids, targets = (torch.randint(0, V, (4, T), generator=generator) for _ in range(2))
    targets[0, 30:] = IGNORE
    return ids, targets


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gpu_logits_loss_and_gradients_are_as_exact_as_the_cpus(device, architecture):
    """Compared with float64; small differences of large terms are inexact in float32 everywhere."""
    model, copied = twins(device, architecture)
    exact = copy.deepcopy(model).double()
    ids, targets = batch()
    want = exact(ids)
    assert difference(copied(ids.to(device)), want) < FLOAT32
    losses = [next_token_loss(each(ids), targets, "sum") for each in (model, exact)]
    ours = total_loss(copied, ids.to(device), targets.to(device))
    assert difference(ours, losses[1]) < FLOAT32
    for loss in (ours, *losses):
        loss.backward()
    for (name, weight), cpu, here in zip(
        exact.named_parameters(), model.parameters(), copied.parameters()
    ):
        error = difference(cpu.grad, weight.grad)
        assert difference(here.grad, weight.grad) < max(FLOAT32, 2 * error), name


@pytest.mark.parametrize("prompts", [PROMPTS[::2], PROMPTS[:1]], ids=["padded", "one row"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_cached_logits_equal_uncached_logits(device, architecture, prompts):
    """A prompt that is read in pieces of several tokens and of one."""
    model, copied = twins(device, architecture)
    idx = pad_left(prompts, device)
    reader = CachedModel(copied)
    reader(idx[:, :-4])
    reader(idx[:, :-1])
    ours = reader(idx)[:, -1]
    for row, prompt in enumerate(prompts):
        assert difference(ours[row], model(torch.tensor([prompt]))[0, -1]) < FLOAT32


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_generation_gives_the_cpus_ids(device, architecture):
    """Rows of different lengths, past the end of the context, where the window slides."""
    model, copied = twins(device, architecture)
    ours = generate(copied, pad_left(PROMPTS, device), T, temperature=0)
    want = generate(model, pad_left(PROMPTS), T, temperature=0)
    assert ours.device.type == device.type
    choices = islice(steps(model, pad_left(PROMPTS), lambda logits, _: greedy(logits)), T)
    best = torch.stack([step.logits.topk(2).values for step in choices])  # [steps, B, 2]
    is_clear = best[..., 0] - best[..., 1] > 3e-4  # rounding does not decide the choice
    n_clear = is_clear.int().cumprod(0).sum(0).tolist()  # of each row, before the first other one
    assert sum(n_clear) > T
    for row, n in enumerate(n_clear):
        end = len(PROMPTS[0]) + n
        assert ours[row, :end].tolist() == want[row, :end].tolist()


def test_engine_gives_the_ids_of_each_text_alone(device):
    """Texts join one after the other, end after different lengths, and slide.

    They are greedy or seeded on the device.
    """
    _, copied = twins(device)
    configs = [
        GenerationConfig(max_tokens=length, temperature=t, seed=7)
        for length, t in ((T, 0.0), (9, 0.7), (30, 0.7))
    ]
    ids = {}
    with Engine(copied) as engine:
        for prompt, config in zip(PROMPTS, configs, strict=True):
            engine.add(prompt, config)
            for id, chunk in engine.step().items():
                ids.setdefault(id, []).append(chunk.id)
        while engine:
            for id, chunk in engine.step().items():
                ids[id].append(chunk.id)
    for id, (prompt, config) in enumerate(zip(PROMPTS, configs, strict=True)):
        idx = torch.tensor([prompt], device=device)
        generator = torch.Generator(device).manual_seed(7)
        alone = generate(
            copied, idx, config.max_tokens, temperature=config.temperature, generator=generator
        )
        assert ids[id] == alone[0, len(prompt) :].tolist()


def test_seed_gives_the_same_samples_again_and_only_likely_ones(device):
    model, copied = twins(device)
    idx = pad_left(PROMPTS[:1], device)

    def draw(seed):
        generator = torch.Generator(device).manual_seed(seed)
        return generate(copied, idx, 12, temperature=1.0, top_k=5, generator=generator, samples=4)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    likely = model(torch.tensor(PROMPTS[:1]))[0, -1].topk(5).indices
    assert set(draw(1)[:, idx.shape[1]].tolist()) <= set(likely.tolist())


@pytest.mark.parametrize(("kind", "bound"), [("bfloat16", 0.03), ("8 bits", 0.03), ("4 bits", 0.2)])
@torch.inference_mode()
def test_low_precision_logits_are_close_to_float32(device, kind, bound):
    model, copied = twins(device, emb_dim=96)
    if kind == "bfloat16":
        copied.bfloat16()
    else:
        quantize(copied, int(kind[0]))
    ids, _ = batch()
    assert difference(copied(ids.to(device)), model(ids)) < bound
    ours = generate(copied, pad_left(PROMPTS, device), 6, temperature=0)
    assert ours.shape == (3, 14)
    assert (ours[:, -6:] != PAD).all()
