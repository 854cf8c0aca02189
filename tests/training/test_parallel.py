"""Micro-batches per rank, and activation checkpointing with the same bits.

Several processes are in tests/reliability/test_w04_w06_processes.py.
"""

import copy

import pytest
import torch

from llm_scratch.config import SystemConfig, TrainConfig
from llm_scratch.errors import USAGE, UserError
from llm_scratch.model.gpt import GPTModel
from llm_scratch.training.distributed import Distributed
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.parallel import (
    check_batch_size,
    gradient_sync,
    micro_batches,
    parallelize,
)

CFG = {
    "vocab_size": 50,
    "context_length": 8,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.2,
}


@pytest.mark.parametrize(
    ("rows", "size", "near"), [(9, 2, "8 or 10"), (3, 4, "4"), (10, 4, "8 or 12")]
)
def test_batch_size_must_divide_evenly_among_processes(rows, size, near):
    with pytest.raises(
        UserError,
        match=(
            f"batch_size={rows} rows cannot be divided evenly among {size} processes; try {near}$"
        ),
    ) as error:
        check_batch_size(TrainConfig(batch_size=rows), Distributed(0, size))
    assert error.value.code == USAGE
    check_batch_size(TrainConfig(batch_size=3 * size), Distributed(0, size))


@pytest.mark.parametrize("rows", [24, 48])
@pytest.mark.parametrize("micro", [1, 2, 3, 4, 8, 24])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_micro_batches_are_as_few_as_possible_and_no_larger(rows, micro, size):
    cfg = TrainConfig(batch_size=rows, micro_batches=micro)
    parts = micro_batches(cfg, Distributed(0, size))
    largest = rows // size / parts
    assert largest <= rows / micro
    assert parts == 1 or rows // size / (parts - 1) > rows / micro


def test_activation_checkpointing_changes_no_bit_of_loss_and_gradient():
    """Dropout drops the same positions when the backward pass recomputes activations."""
    torch.manual_seed(0)
    plain = GPTModel(CFG).train()
    again = copy.deepcopy(plain)
    ids, targets = torch.randint(0, 50, (4, 8)), torch.randint(0, 50, (4, 8))
    saved = {}
    for name, model in (("plain", plain), ("again", again)):
        wrapped_model = parallelize(
            ModelWithLoss(model),
            SystemConfig(activation_checkpointing=name == "again"),
            Distributed(),
        )
        held = []
        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, held=held: held.append(t.nbytes) or t, lambda t: t
        ):
            loss = wrapped_model(ids, targets)
        loss.backward()
        saved[name] = (loss.detach(), [p.grad for p in model.parameters()], sum(held))
    assert torch.equal(saved["plain"][0], saved["again"][0])
    assert all(torch.equal(a, b) for a, b in zip(saved["plain"][1], saved["again"][1]))
    assert saved["again"][2] < saved["plain"][2] / 3


def test_activation_checkpointing_does_not_change_generation():
    torch.manual_seed(0)
    model = GPTModel(CFG).eval()
    ids = torch.randint(0, 50, (1, 6))
    want = model(ids)
    parallelize(ModelWithLoss(model), SystemConfig(activation_checkpointing=True), Distributed())
    cache = model.new_cache(1)
    with torch.no_grad():
        got = torch.cat([model(ids[:, t : t + 1], cache) for t in range(6)], 1)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_single_process_model_is_not_wrapped():
    model_with_loss = ModelWithLoss(GPTModel(CFG))
    assert (
        parallelize(model_with_loss, SystemConfig(parallel="fsdp"), Distributed())
        is model_with_loss
    )
    with gradient_sync(model_with_loss, False, Distributed()) as nothing:
        assert nothing is None
