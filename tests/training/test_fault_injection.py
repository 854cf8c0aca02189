"""Fault injection: faults fire once, at the requested place and step."""

import pytest

from llm_scratch.errors import USAGE, UserError
from llm_scratch.training import fault_injection


def test_fault_injection_is_off_by_default(monkeypatch):
    monkeypatch.delenv(fault_injection.VARIABLE, raising=False)
    assert fault_injection.requested_fault("step", 1) is None


def test_fault_fires_once_at_the_requested_place_and_step(monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "step:17:nan,step:17:-inf,save:20:kill")
    assert [fault_injection.requested_fault("step", step) for step in range(15, 20)] == [None, None, "nan", None, None]
    assert fault_injection.requested_fault("save", 17) is None
    assert [fault_injection.requested_fault("step", 17) for _ in range(2)] == ["-inf", None]
    assert [fault_injection.requested_fault("save", 20) for _ in range(2)] == ["kill", None]


@pytest.mark.parametrize(("rank", "want"), [(None, [None, "inf"]), ("0", [None, "inf"]), ("1", ["spike", None])])
def test_fault_can_be_limited_to_one_rank(rank, want, monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "step:2:spike@1,step:3:inf@0")
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    assert [fault_injection.requested_fault("step", step) for step in (2, 3)] == want


@pytest.mark.parametrize("order", ["step:17:nun", "stop:17:nan", "step:x:nan", "step:17", "step", "save:3:nan", "step:-1:nan"])
def test_malformed_fault_is_an_error(order, monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, order)
    with pytest.raises(UserError, match=r"step:STEP:nan\|inf") as error:
        fault_injection.requested_fault("step", 1)
    assert error.value.code == USAGE
