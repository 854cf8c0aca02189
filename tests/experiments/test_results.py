"""results.json is written atomically, in one order, with each run once."""

from __future__ import annotations

import json

import pytest

from llm_scratch.errors import UserError
from llm_scratch.experiments.results import FILE, Results, read_results

ORDER = [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_results_file_does_not_depend_on_the_order_of_the_runs(tmp_path, result):
    texts = []
    for name, order in (("x", ORDER), ("y", ORDER[::-1])):
        for i, (arm, seed) in enumerate(order):
            results = Results(tmp_path / name, ORDER)
            assert len(results.all()) == i
            results.add(result(arm, seed, 0.5 if arm == "a" else None))
        texts.append((tmp_path / name / FILE).read_text())
    assert texts[0] == texts[1]
    assert [(each.arm, each.seed) for each in read_results(tmp_path / "x")] == ORDER


def test_results_file_has_each_run_once(tmp_path, result):
    results = Results(tmp_path, ORDER)
    results.add(result("a", 1, None))
    results.add(result("a", 1, 0.25))
    assert [each.value for each in read_results(tmp_path)] == [0.25]
    assert results.get("b", 1) is None


@pytest.mark.parametrize(
    "change", [{"state": "done"}, {"value": None}, {"more": 1}, {"state": "diverged"}]
)
def test_damaged_results_file_is_an_error(tmp_path, result, change):
    row = vars(result("a", 1, 0.5)) | change
    (tmp_path / FILE).write_text(json.dumps({"runs": [row]}))
    with pytest.raises(UserError, match="not a results file"):
        read_results(tmp_path)
