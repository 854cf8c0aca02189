"""The doctor's letter: what is ill first, with evidence and advice, in 80 columns; JSON; faults."""

from __future__ import annotations

import json
import math


def sicken(run, losses):
    """Give a run another curve: held-out and learned loss of each look."""
    rows = [{"step": 0, "tokens": 0, "passes": 0.0, "train_loss": math.log(40), "val_loss": math.log(40)}]
    for i, (learned, held_out) in enumerate(losses, 1):
        rows.append({"step": i, "tokens": 32 * i, "loss": learned, "lr": 1e-3, "grad_norm": 1.0})
        rows.append({"step": i, "tokens": 32 * i, "passes": i / 10, "train_loss": learned, "val_loss": held_out})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


OVER_FITTING = [(3.0, 3.1), (2.5, 2.6), (2.0, 2.4), (1.5, 2.5), (1.2, 2.7), (1.0, 2.9), (0.9, 3.0), (0.85, 3.1)]


def test_what_is_ill_stands_first_with_evidence_and_advice(llm, trained):
    sicken(trained, OVER_FITTING)
    result = llm("doctor", trained)
    assert result.code == 0
    words = " ".join(result.out.split())
    assert "It is not well: overfitting from step 3 on: the validation loss rises." in words
    assert "validation loss 2.40 at step 3, 3.10 at the end; training loss 2.00 and 0.85" in words
    assert "→ The `best` checkpoint is from before. Try more text" in words
    assert words.index("✗ overfitting") < words.index("✓ initial loss")
    assert max(len(line) for line in result.out.splitlines()[1:-1]) <= 80
    assert f"see it: llm-scratch plot '{trained}'" in result.out


def test_a_healthy_run(llm, trained):
    sicken(trained, [(2 + 1.6 / i, 2.02 + 1.6 / i) for i in range(1, 20)])
    assert "It is healthy." in llm("doctor", trained).out
    sicken(trained, [(3.6, 3.6)])
    assert "Nothing is wrong so far; it is young." in llm("doctor", trained).out


def test_as_json(llm, trained):
    sicken(trained, OVER_FITTING)
    said = json.loads(llm("doctor", trained, "--json").out)
    assert said["step"] == 8
    assert said["findings"]["overfitting"]["state"] == "problem"
    assert said["findings"]["initial loss"].keys() == {"state", "summary", "evidence", "advice"}


def test_faults_are_named(llm, trained, tmp_path):
    assert "--json is of a run's findings" in llm("doctor", "--json").err
    result = llm("doctor", "nowhere")
    assert (result.code, "no run 'nowhere' here" in result.err) == (4, True)
    (tmp_path / "folder").mkdir()
    assert llm("doctor", "folder").code == 4
    (trained / "metrics.jsonl").write_text("")
    result = llm("doctor", trained)
    assert (result.code, "too young to be judged" in result.err) == (3, True)
