"""The state of a run as tensors and plain values: restored, it continues with the same bits."""

import json
import random

import numpy as np
import pytest
import torch

from llm_scratch.config import SystemConfig, TrainConfig
from llm_scratch.model.gpt import GPTModel
from llm_scratch.training.model_with_loss import prepare_for_training
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.state import (
    environment_diff,
    numerics,
    optimizer_tensors,
    restore_optimizer,
    restore_random,
    rng_state,
    seed_everything,
    unique_state_dict,
)

TINY = {
    "vocab_size": 13,
    "context_length": 8,
    "emb_dim": 12,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.2,
}


def steps(model, optimizer, n):
    for _ in range(n):
        optimizer.zero_grad()
        model(torch.arange(8)[None]).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_restored_optimizer_continues_with_the_same_bits(name, tied):
    torch.manual_seed(1)
    cfg = TINY | {"tie_embeddings": tied}
    model = GPTModel(cfg)
    optimizer = OPTIMIZERS[name](model, TrainConfig())
    steps(model, optimizer, 3)
    weights = {k: v.clone() for k, v in unique_state_dict(model).items()}
    tensors = {k: v.clone() for k, v in optimizer_tensors(model, optimizer).items()}
    states = json.loads(json.dumps(rng_state()))
    steps(model, optimizer, 3)

    other = GPTModel(cfg)
    other.load_state_dict(weights, strict=False)
    other_optimizer = OPTIMIZERS[name](other, TrainConfig())
    restore_optimizer(other, other_optimizer, tensors.items())
    restore_random(states)
    steps(other, other_optimizer, 3)
    for (name_, a), b in zip(model.named_parameters(), other.parameters()):
        assert torch.equal(a, b), name_


def test_optimizer_tensors_are_named_after_their_weight():
    model = GPTModel(TINY)
    optimizer = OPTIMIZERS["adamw"](model, TrainConfig())
    steps(model, optimizer, 1)
    names = {
        f"{name}/{slot}"
        for name, _ in model.named_parameters()
        for slot in ("step", "exp_avg", "exp_avg_sq")
    }
    assert set(optimizer_tensors(model, optimizer)) == names


def numbers():
    """Draw from every generator; one normal number stays cached inside its generator."""
    return [
        torch.rand(3).tolist(),
        random.random(),
        random.gauss(0, 1),
        np.random.rand(3).tolist(),
        np.random.randn(),
    ]


def test_seed_everything_seeds_all_generators():
    seed_everything(7)
    want = numbers()
    assert numbers() != want
    seed_everything(7)
    assert numbers() == want


def test_restored_random_state_continues_the_sequence():
    numbers()
    states = json.loads(json.dumps(rng_state()))
    want = [numbers(), numbers()]
    numbers()
    restore_random(states)
    assert [numbers(), numbers()] == want


def test_random_state_of_torch_alone_leaves_the_other_generators_unchanged():
    """Format 1 stored this state."""
    states = {"cpu": rng_state()["cpu"]}
    want = torch.rand(3)
    python, numpy_ = random.getstate(), np.random.get_state()[1].tolist()
    restore_random(states)
    assert torch.equal(torch.rand(3), want)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == (python, numpy_)


def test_tied_weight_is_saved_once():
    untied, tied = (
        set(unique_state_dict(GPTModel(TINY | {"tie_embeddings": tied}))) for tied in (False, True)
    )
    assert untied - tied == {"out_head.weight"}


HERE = {
    "torch": "2.13",
    "device": "cpu",
    "rounding": "0a",
    "threads": 2,
    "precision": "float32",
    "matmul_backend": "oneDNN",
    "onednn_products": ["forward"],
    "compiled": False,
}


@pytest.mark.parametrize(
    ("stored", "want"),
    [
        ({}, ""),  # what format 1 stored
        (HERE, ""),
        (HERE | {"step": 4}, ""),
        ({"threads": 77}, "threads was 77 and is 2: "),
        ({"torch": "1.0", "threads": 77}, "torch was 1.0 and is 2.13, threads was 77 and is 2: "),
        (HERE | {"matmul_backend": "MKL"}, "matmul_backend was MKL and is oneDNN: "),
        (HERE | {"onednn_products": []}, "onednn_products was none and is forward: "),
        (HERE | {"compiled": True}, "compiled was True and is False: "),
        (HERE | {"precision": "bfloat16"}, "precision was bfloat16 and is float32: "),
        (HERE | {"rounding": "ff"}, "this processor rounds differently from that of the "),
        (HERE | {"rounding": "ff", "threads": 4}, "threads was 4 and is 2: "),
        (
            {"device": "cuda", "matmul_backend": "", "rounding": "ff"},
            "device was cuda and is cpu: ",
        ),
    ],
)
def test_environment_diff_names_every_difference(stored, want):
    message = environment_diff(stored, HERE)
    assert message.startswith(want)
    assert bool(message) == bool(want)
    assert "\n" not in message


def test_numerics_are_json_and_equal_to_themselves():
    model_with_loss = prepare_for_training(GPTModel(TINY), SystemConfig(), torch.device("cpu"))
    here = numerics(model_with_loss, torch.device("cpu"))
    assert json.loads(json.dumps(here)) == here
    assert here["threads"] == torch.get_num_threads()
    assert set(here) == set(HERE)
    assert environment_diff(here, numerics(model_with_loss, torch.device("cpu"))) == ""


def test_cpu_run_does_not_initialize_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "get_rng_state", lambda: pytest.fail("this takes half a gigabyte of GPU memory")
    )
    assert "cuda" not in rng_state()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.arange(16, dtype=torch.uint8))
    assert rng_state()["cuda"] == bytes(range(16)).hex()


def test_random_state_includes_apples_gpu(monkeypatch):
    """Stub torch.mps and its generator, since this build has no such device."""
    held = torch.arange(9, dtype=torch.uint8)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: held)
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: put_back.append(state.tolist()))
    put_back: list[list[int]] = []
    states = json.loads(json.dumps(rng_state()))
    restore_random(states)
    assert put_back == [held.tolist()]
    restore_random({name: state for name, state in states.items() if name != "mps"})
    assert len(put_back) == 1, "a checkpoint of a CPU run has no GPU state"
