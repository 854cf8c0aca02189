"""A real comparison of quickstart with itself: twenty pairs of runs differ only in the seed."""

from __future__ import annotations

import pytest

from llm_scratch.experiments.experiment import Budget, compare_settings
from llm_scratch.experiments.runner import run_experiment

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")


@pytest.mark.slow
def test_quickstart_against_itself_shows_no_difference(tmp_path):
    short = "data.source=stories:2000 train.eval_every=20"
    experiment = compare_settings(
        "quickstart", [short, short], 20, budget=Budget("tokens", 20 * 8 * 256)
    )
    (comparison,) = run_experiment(experiment, tmp_path / "out")
    assert comparison.n_seeds == 20
    assert comparison.verdict in ("not shown", "equivalent")
    assert comparison.sd > 0
