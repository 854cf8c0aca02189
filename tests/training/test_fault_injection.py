"""Fault injection: faults fire once, at the requested place and step."""

import pytest
import torch

from llm_scratch.errors import USAGE, UserError
from llm_scratch.storage import files
from llm_scratch.training import fault_injection


def test_fault_injection_is_off_by_default(monkeypatch):
    monkeypatch.delenv(fault_injection.VARIABLE, raising=False)
    assert fault_injection.requested_fault("step", 1) is None


def test_fault_fires_once_at_the_requested_place_and_step(monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "step:17:nan,step:17:-inf,save:20:kill")
    assert [fault_injection.requested_fault("step", step) for step in range(15, 20)] == [
        None,
        None,
        "nan",
        None,
        None,
    ]
    assert fault_injection.requested_fault("save", 17) is None
    assert [fault_injection.requested_fault("step", 17) for _ in range(2)] == ["-inf", None]
    assert [fault_injection.requested_fault("save", 20) for _ in range(2)] == ["kill", None]


@pytest.mark.parametrize(
    ("rank", "want"), [(None, [None, "inf"]), ("0", [None, "inf"]), ("1", ["spike", None])]
)
def test_fault_can_be_limited_to_one_rank(rank, want, monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "step:2:spike@1,step:3:inf@0")
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    assert [fault_injection.requested_fault("step", step) for step in (2, 3)] == want


@pytest.mark.parametrize(
    "order",
    ["step:17:nun", "stop:17:nan", "step:x:nan", "step:17", "step", "save:3:nan", "step:-1:nan"],
)
def test_malformed_fault_is_an_error(order, monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, order)
    with pytest.raises(UserError, match=r"step:STEP:nan\|inf") as error:
        fault_injection.requested_fault("step", 1)
    assert error.value.code == USAGE


def test_hook_injects_a_full_disk_into_one_save(tmp_path, monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "save:4:enospc")
    real = files.filesystem
    for step, fails in ((3, False), (4, True), (4, False)):
        with fault_injection.inject_requested(step):
            assert (files.filesystem is not real) == fails
            if fails:
                with pytest.raises(UserError, match="No space left"):
                    files.atomic_write(tmp_path / "file", "x")
    assert files.filesystem is real


def test_hook_injects_a_bad_loss_and_a_bad_gradient_into_one_step(monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "step:2:nan,gradient:3:inf")
    model = torch.nn.Linear(3, 1)
    model.bias.requires_grad_(False)
    seen = []
    for step in (1, 2, 3, 4):
        model.zero_grad()
        with fault_injection.inject_requested(step, model):
            loss = model(torch.ones(3))
            loss.backward()
        seen.append((bool(loss.isfinite()), bool(model.weight.grad.isfinite().all())))
    assert seen == [(True, True), (False, False), (True, False), (True, True)]


def test_fault_hooks_do_nothing_by_default(monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "save:4:enospc")
    real = files.filesystem
    with fault_injection.no_fault(4):
        assert files.filesystem is real
