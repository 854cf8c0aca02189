"""The state of a run as tensors and plain numbers: what is put back continues with the same bits."""

import json

import pytest
import torch

from llm_scratch.config import TrainConfig
from llm_scratch.model.gpt import GPTModel
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.state import optimizer_tensors, plain_weights, random_state, restore_optimizer, restore_random

TINY = {"vocab_size": 13, "context_length": 8, "emb_dim": 12, "n_heads": 3, "n_layers": 2, "drop_rate": 0.2}


def steps(model, optimizer, n):
    for _ in range(n):
        optimizer.zero_grad()
        model(torch.arange(8)[None]).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_put_back_goes_on_with_the_same_bits(name, tied):
    torch.manual_seed(1)
    cfg = TINY | {"tie_embeddings": tied}
    model = GPTModel(cfg)
    optimizer = OPTIMIZERS[name](model, TrainConfig())
    steps(model, optimizer, 3)
    weights = {k: v.clone() for k, v in plain_weights(model).items()}
    tensors = {k: v.clone() for k, v in optimizer_tensors(model, optimizer).items()}
    states = json.loads(json.dumps(random_state()))
    steps(model, optimizer, 3)

    other = GPTModel(cfg)
    other.load_state_dict(weights, strict=False)
    other_optimizer = OPTIMIZERS[name](other, TrainConfig())
    restore_optimizer(other, other_optimizer, tensors)
    restore_random(states)
    steps(other, other_optimizer, 3)
    for (name_, a), b in zip(model.named_parameters(), other.parameters()):
        assert torch.equal(a, b), name_


def test_tensors_are_named_after_their_weight():
    model = GPTModel(TINY)
    optimizer = OPTIMIZERS["adamw"](model, TrainConfig())
    steps(model, optimizer, 1)
    names = {f"{name}/{slot}" for name, _ in model.named_parameters() for slot in ("step", "exp_avg", "exp_avg_sq")}
    assert set(optimizer_tensors(model, optimizer)) == names


def test_random_state_continues_the_same_row_of_numbers():
    torch.rand(5)
    states = random_state()
    want = torch.rand(10)
    restore_random(states)
    assert torch.equal(torch.rand(10), want)


def test_a_tied_weight_is_kept_once():
    untied, tied = (set(plain_weights(GPTModel(TINY | {"tie_embeddings": tied}))) for tied in (False, True))
    assert untied - tied == {"out_head.weight"}
