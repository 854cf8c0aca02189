"""Trouble on order, so that tests can see what a run does about it; without `LLM_SCRATCH_FAULT` nothing here does anything.

    LLM_SCRATCH_FAULT=step:17:nan,save:20:kill llm-scratch train quickstart

A fault is `place:step:kind`, several are parted by commas; `@1` at the end means process 1 of a torchrun alone. Each happens
once: it is taken out of the variable when it does, so to have it twice, write it twice.
Proof: tests/training/test_fault_injection.py.
"""

from __future__ import annotations

import os

from llm_scratch.errors import UserError

VARIABLE = "LLM_SCRATCH_FAULT"
KINDS = {
    "step": ("nan", "inf", "-inf", "spike"),  # the loss of a step
    "gradient": ("nan", "inf", "-inf"),  # one number of a step's gradient
    "save": ("kill", "enospc"),  # in the middle of writing a checkpoint: killed, or the disk is full
}


def requested_fault(place: str, step: int) -> str | None:
    """The trouble that was ordered for this place and step, or None; each order is served once."""
    if VARIABLE not in os.environ:
        return None
    orders = [order for order in os.environ[VARIABLE].split(",") if order]
    for order in orders:
        ordered_place, ordered_step, kind, rank = _read(order)
        if (ordered_place, ordered_step) == (place, step) and rank in ("", os.environ.get("RANK", "0")):
            orders.remove(order)
            os.environ[VARIABLE] = ",".join(orders)
            return kind
    return None


def _read(order: str) -> tuple[str, int, str, str]:
    """An order in its parts: place, step, kind, rank.

    Raises:
        UserError: it cannot be read; says what can.
    """
    place, _, rest = order.partition(":")
    step, _, rest = rest.partition(":")
    kind, _, rank = rest.partition("@")
    if kind not in KINDS.get(place, ()) or not step.isdigit():
        known = ", ".join(f"{place}:STEP:{'|'.join(kinds)}" for place, kinds in KINDS.items())
        raise UserError(f"{VARIABLE} has {order!r}; expected {known}")
    return place, int(step), kind, rank
