"""Faults on order: where and when they were ordered, once, and nowhere else."""

import pytest

from llm_scratch.errors import USAGE, UserError
from llm_scratch.training import fault_injection


def test_without_orders_nothing_happens(monkeypatch):
    monkeypatch.delenv(fault_injection.VARIABLE, raising=False)
    assert fault_injection.requested_fault("step", 1) is None


def test_a_fault_happens_where_and_when_it_was_ordered_and_once(monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "step:17:nan,step:17:-inf,save:20:kill")
    assert [fault_injection.requested_fault("step", step) for step in range(15, 20)] == [None, None, "nan", None, None]
    assert fault_injection.requested_fault("save", 17) is None
    assert [fault_injection.requested_fault("step", 17) for _ in range(2)] == ["-inf", None]
    assert [fault_injection.requested_fault("save", 20) for _ in range(2)] == ["kill", None]


@pytest.mark.parametrize(("rank", "want"), [(None, [None, "inf"]), ("0", [None, "inf"]), ("1", ["spike", None])])
def test_a_fault_of_one_process(rank, want, monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, "step:2:spike@1,step:3:inf@0")
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    assert [fault_injection.requested_fault("step", step) for step in (2, 3)] == want


@pytest.mark.parametrize("order", ["step:17:nun", "stop:17:nan", "step:x:nan", "step:17", "step", "save:3:nan", "step:-1:nan"])
def test_an_order_that_cannot_be_read_is_an_error(order, monkeypatch):
    monkeypatch.setenv(fault_injection.VARIABLE, order)
    with pytest.raises(UserError, match=r"step:STEP:nan\|inf") as error:
        fault_injection.requested_fault("step", 1)
    assert error.value.code == USAGE
