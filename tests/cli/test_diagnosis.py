"""`runs diagnose`: problems first, with evidence and advice, in 80 columns; JSON; errors."""

from __future__ import annotations

import json
import math


def write_curve(run, losses):
    """Replace the loss curve of a run: (training loss, validation loss) of each evaluation."""
    rows = [
        {
            "step": 0,
            "tokens": 0,
            "passes": 0.0,
            "train_loss": math.log(40),
            "val_loss": math.log(40),
        }
    ]
    for i, (train, val) in enumerate(losses, 1):
        rows.append({"step": i, "tokens": 32 * i, "loss": train, "lr": 1e-3, "grad_norm": 1.0})
        rows.append(
            {"step": i, "tokens": 32 * i, "passes": i / 10, "train_loss": train, "val_loss": val}
        )
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


OVER_FITTING = [
    (3.0, 3.1),
    (2.5, 2.6),
    (2.0, 2.4),
    (1.5, 2.5),
    (1.2, 2.7),
    (1.0, 2.9),
    (0.9, 3.0),
    (0.85, 3.1),
]


def test_diagnosis_lists_problems_first_with_evidence_and_advice(llm, trained):
    write_curve(trained, OVER_FITTING)
    result = llm("runs", "diagnose", trained)
    assert result.code == 0
    words = " ".join(result.out.split())
    assert "Problems: overfitting from step 3 on: the validation loss rises." in words
    assert "validation loss 2.40 at step 3, 3.10 at the end; training loss 2.00 and 0.85" in words
    assert "→ The `best` checkpoint is from before. Try more text" in words
    assert words.index("✗ overfitting") < words.index("✓ initial loss")
    assert max(len(line) for line in result.out.splitlines()[1:-1]) <= 80
    assert f"the curve: llm-scratch plot '{trained}'" in result.out


def test_diagnosis_of_a_healthy_run_finds_no_problems(llm, trained):
    write_curve(trained, [(2 + 1.6 / i, 2.02 + 1.6 / i) for i in range(1, 20)])
    assert "No problems: the run is healthy." in llm("runs", "diagnose", trained).out
    write_curve(trained, [(3.6, 3.6)])
    assert (
        "No problems so far; there are few evaluations yet." in llm("runs", "diagnose", trained).out
    )


def test_diagnosis_json_has_every_finding(llm, trained):
    write_curve(trained, OVER_FITTING)
    result = json.loads(llm("runs", "diagnose", trained, "--json").out)
    assert result["step"] == 8
    assert result["findings"]["overfitting"]["state"] == "problem"
    assert result["findings"]["initial loss"].keys() == {"state", "summary", "evidence", "advice"}


def test_diagnosis_rejects_a_run_without_a_curve(llm, trained, tmp_path):
    result = llm("runs", "diagnose", "nowhere")
    assert (result.code, "no run 'nowhere' here" in result.err) == (4, True)
    (tmp_path / "folder").mkdir()
    assert llm("runs", "diagnose", "folder").code == 4
    (trained / "metrics.jsonl").write_text("")
    result = llm("runs", "diagnose", trained)
    assert (
        result.code,
        "no evaluation yet; train at least train.eval_every steps" in result.err,
    ) == (3, True)
