"""Fault injection for tests, from the variable LLM_SCRATCH_FAULT; each fault fires once.

    LLM_SCRATCH_FAULT=step:17:nan,save:20:kill llm-scratch train quickstart

A fault is `place:step:kind`; several are separated by commas. A suffix `@1` limits it to rank 1 of
a torchrun job. A fault is removed from the variable when it fires, so list it twice to have it
twice.
Tests: tests/training/test_fault_injection.py.
"""

from __future__ import annotations

import os

from llm_scratch.errors import UserError

VARIABLE = "LLM_SCRATCH_FAULT"
KINDS = {
    "step": ("nan", "inf", "-inf", "spike"),  # the loss of a step
    "gradient": ("nan", "inf", "-inf"),  # one element of a step's gradient
    "save": ("kill", "enospc"),  # while writing a checkpoint: the process is killed, or the disk is full
}


def requested_fault(place: str, step: int) -> str | None:
    """The kind of fault that is requested for this place and step, or None; each fires once."""
    if VARIABLE not in os.environ:
        return None
    faults = [fault for fault in os.environ[VARIABLE].split(",") if fault]
    for fault in faults:
        fault_place, fault_step, kind, rank = _parse(fault)
        if (fault_place, fault_step) == (place, step) and rank in ("", os.environ.get("RANK", "0")):
            faults.remove(fault)
            os.environ[VARIABLE] = ",".join(faults)
            return kind
    return None


def _parse(fault: str) -> tuple[str, int, str, str]:
    """Split a fault into place, step, kind and rank.

    Raises:
        UserError: it is malformed; lists the valid forms.
    """
    place, _, rest = fault.partition(":")
    step, _, rest = rest.partition(":")
    kind, _, rank = rest.partition("@")
    if kind not in KINDS.get(place, ()) or not step.isdigit():
        known = ", ".join(f"{place}:STEP:{'|'.join(kinds)}" for place, kinds in KINDS.items())
        raise UserError(f"{VARIABLE} has {fault!r}; expected {known}")
    return place, int(step), kind, rank
