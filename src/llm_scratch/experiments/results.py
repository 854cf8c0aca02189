"""Results of an experiment's runs in one file, results.json, that is replaced as a whole.

Tests: tests/experiments/test_results.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from llm_scratch.errors import DATA, UserError
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.safe_parse import read_json

FILE = "results.json"
TIME_FIELDS = ("seconds",)
"""Fields of a result that differ when the run is repeated."""
State = Literal["finished", "diverged", "failed"]


@dataclass(frozen=True)
class RunResult:
    """The outcome of one run.

    Attributes:
        arm: its name.
        seed: of the pair that it belongs to.
        state: "finished"; "diverged"; "failed": an error, or the metric was not reached.
        value: of the metric; None unless finished.
        reason: of a run that is not finished; "".
        steps, tokens: trained; what is known of a run that is not finished.
        flops: of the training.
        seconds: of the training.
    """

    arm: str
    seed: int
    state: State
    value: float | None
    reason: str
    steps: int
    tokens: int
    flops: float
    seconds: float


class Results:
    """The results of a folder: at most one for each arm and seed.

    Args:
        folder: of the experiment.
        order: every (arm, seed) in the order of the file.
        file: its name.
    """

    def __init__(self, folder: Path, order: Iterable[tuple[str, int]], file: str = FILE) -> None:
        self.path = folder / file
        self._order = list(order)
        self._found: dict[tuple[str, int], RunResult] = {}
        if self.path.is_file():
            known = set(self._order)
            results = read_results(folder, file)
            self._found = {
                (result.arm, result.seed): result
                for result in results
                if (result.arm, result.seed) in known
            }

    def get(self, arm: str, seed: int) -> RunResult | None:
        """The result of a run; None if it is not done."""
        return self._found.get((arm, seed))

    def add(self, result: RunResult) -> None:
        """Add the result of a run, or replace it, and write the file."""
        self._found[result.arm, result.seed] = result
        rows = [json.dumps(asdict(each)) for each in self.all()]
        atomic_write(self.path, '{"runs": [\n' + ",\n".join(rows) + "\n]}\n")

    def all(self) -> list[RunResult]:
        """All results, in the order of the experiment."""
        return [self._found[key] for key in self._order if key in self._found]


def read_results(folder: Path, file: str = FILE) -> list[RunResult]:
    """The results in an experiment's folder.

    Raises:
        UserError: the file is missing or invalid (exit code 3).
    """
    path = folder / file
    values = read_json(path, DATA)
    rows = values.get("runs") if isinstance(values, dict) else None
    if not isinstance(rows, list):
        raise _invalid(path)
    return [parse_result(row, path) for row in rows]


def parse_result(row: Any, path: Path) -> RunResult:
    """A result from the values of its JSON object.

    Args:
        row: of `path`, which errors name.
    Raises:
        UserError: not a result (exit code 3).
    """
    try:
        result = RunResult(**row)
        is_finite = result.value is not None and math.isfinite(result.value)
    except (TypeError, ValueError):
        raise _invalid(path) from None
    is_valid = is_finite if result.state == "finished" else result.value is None
    if result.state not in ("finished", "diverged", "failed") or not is_valid:
        raise _invalid(path)
    return result


def _invalid(path: Path) -> UserError:
    return UserError(
        f"{path}: not a results file of an experiment; remove it, and the runs are measured again",
        DATA,
    )
