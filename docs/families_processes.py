"""Two processes train a tiny model of an architecture together, as one process trains it alone.

Real processes, connected by gloo on this machine (tests/ranks.py).
"""

from __future__ import annotations

import atexit
import math
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ranks import Ranks  # noqa: E402

from llm_scratch.loading import load  # noqa: E402
from llm_scratch.run_directory import iter_metrics  # noqa: E402

if TYPE_CHECKING:
    from families_table import Tiny

LOSS_TOLERANCE = 1e-5
"""relative: two processes add the same values in another order"""
WEIGHT_TOLERANCE = 1e-3
"""relative to the norm: AdamW divides by gradients that may be close to 0"""


@cache
def ranks() -> Ranks:
    """Starts the processes of every call of `check_processes`; ends with this program."""
    started = Ranks()
    atexit.register(started.__exit__)
    return started.__enter__()


def check_processes(parallel: Literal["ddp", "fsdp"], tiny: Tiny) -> None:
    """Train on two processes, and compare losses and weights with those of one.

    Args:
        parallel: whether each process has the whole model, or a shard of it.
        tiny: the model, and the run of one process.
    """
    config, together = tiny.config(4), tiny.folder / parallel
    shared = replace(config, system=replace(config.system, parallel=parallel))
    for process in ranks().train(2, shared, together):
        assert "error" not in process, process.get("trace", process)
        assert process["warnings"] == []
    ours, theirs = losses(together), losses(tiny.run)
    assert ours.keys() == theirs.keys()
    for name, loss in theirs.items():
        assert math.isclose(ours[name], loss, rel_tol=LOSS_TOLERANCE), (name, ours[name], loss)
    weights = load(together)[0].state_dict()
    for name, weight in load(tiny.run)[0].state_dict().items():
        assert (weights[name] - weight).norm() <= WEIGHT_TOLERANCE * weight.norm(), name


def losses(run: Path) -> dict[str, float]:
    """The losses of a run by name and step."""
    return {
        f"{name} of step {row['step']}": row[name]
        for row in iter_metrics(run / "metrics.jsonl")
        for name in ("loss", "val_loss")
        if name in row
    }
