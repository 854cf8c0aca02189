"""tools/smoke_test.py finds failures; `make test-versions` checks that there are none."""

import subprocess
import sys

import pytest
import smoke_test
import torch


def test_smoke_test_imports_every_module():
    assert smoke_test.import_all() is None
    assert "llm_scratch.cli.commands.plot" in sys.modules
    assert "text_data" in sys.modules


def test_smoke_test_names_a_module_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "llm_scratch.cli.commands.plot", None
    )  # so that its import fails
    error = smoke_test.import_all()
    assert error.startswith("llm_scratch.cli.commands.plot: ModuleNotFoundError")


def test_smoke_test_accepts_a_module_whose_extra_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # so that its import fails
    monkeypatch.delitem(sys.modules, "llm_scratch.evaluation.harness", raising=False)
    assert smoke_test.import_all() is None


def test_smoke_test_shows_the_output_of_a_failed_command(tmp_path):
    assert smoke_test.run_command("--version", tmp_path) is None
    error = smoke_test.run_command("train no-such-preset", tmp_path)
    assert error.startswith("exit code 2\n")
    assert "no-such-preset" in error


@pytest.mark.parametrize(("resumed", "error"), [(1.0, None), (1.0000001, "other weights")])
def test_smoke_test_compares_a_resumed_run_bit_by_bit(monkeypatch, tmp_path, resumed, error):
    models = {"whole": torch.nn.Linear(2, 2), "resumed": torch.nn.Linear(2, 2)}
    for name, weight in (("whole", 1.0), ("resumed", resumed)):
        (tmp_path / name).mkdir()
        torch.nn.init.constant_(models[name].weight, 1.0)
        torch.nn.init.constant_(models[name].bias, weight)
    monkeypatch.setattr("llm_scratch.load", lambda path: (models[path.name], None))
    found = smoke_test.compare_runs(tmp_path)
    assert found is None if error is None else error in found


def test_runs_that_were_not_made_are_not_compared(tmp_path):
    (tmp_path / "whole").mkdir()
    assert smoke_test.compare_runs(tmp_path) == "nothing to compare: no resumed run was made"


def test_raising_check_has_failed_and_the_others_run(monkeypatch, capsys):
    def slow(words, folder):
        raise subprocess.TimeoutExpired(words, 1800)

    monkeypatch.setattr(smoke_test, "import_all", lambda: None)
    monkeypatch.setattr(smoke_test, "COMMANDS", {"slow": "doctor"})
    monkeypatch.setattr(smoke_test, "compare_runs", lambda folder: None)
    monkeypatch.setattr(smoke_test, "run_command", slow)
    assert smoke_test.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "TimeoutExpired: Command 'doctor' timed out after 1800 seconds"
    assert lines[-1] == "2 passed, 1 failed"


def test_smoke_test_failure_sets_the_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(smoke_test, "import_all", lambda: None)
    monkeypatch.setattr(smoke_test, "COMMANDS", {"bad": "", "good": ""})
    monkeypatch.setattr(smoke_test, "compare_runs", lambda folder: None)
    outcomes = iter(["exit code 2\nno such thing", None, None, None])
    monkeypatch.setattr(smoke_test, "run_command", lambda words, folder: next(outcomes))
    codes = [smoke_test.main(), smoke_test.main()]
    lines = capsys.readouterr().out.splitlines()
    assert codes == [1, 0]
    assert lines[2].startswith("FAILED  bad ")
    assert lines[3:5] == ["exit code 2", "no such thing"]
    totals = [line for line in lines if "passed" in line]
    assert totals == ["3 passed, 1 failed", "4 passed, 0 failed"]
