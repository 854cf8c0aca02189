"""Resume runs with changed intervals, prompt, steps or text, and with a huge learning rate."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from llm_scratch.run_directory import iter_metrics
from llm_scratch.storage.checkpoint import list_checkpoints, read


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("llm_scratch.reports.plot.plot_runs", lambda runs, out: [])


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def last_weights(run: Path) -> bytes:
    return (list_checkpoints(run)[0] / "model.safetensors").read_bytes()


CHINESE = "天地玄黃宇宙洪荒日月盈昃辰宿列張寒來暑往"


@pytest.fixture
def chinese(tmp_path) -> list[str]:
    """The arguments that train on 20 Chinese letters, none of which the default prompt has."""
    path = tmp_path / "chinese.txt"
    path.write_text(CHINESE * 40, encoding="utf-8")
    words = """--data.tokenizer chars --model.vocab-size 21 --model.context-length 16
        --model.emb-dim 16 --model.n-heads 2 --model.n-layers 1 --train.steps 4 --train.batch-size 2
        --train.eval-every 2 --train.eval-batches 1 --train.sample-every 2 --train.warmup-steps 0"""
    return ["train", "shakespeare", "--data.source", f"file:{path}", *words.split(), "--out", "x"]


def test_prompt_with_unknown_characters_gives_a_warning_before_step_1(llm, chinese):
    result = llm(*chinese)
    assert result.code == 0, result.err
    output = in_one_line(result.out)
    warning = (
        "warning: samples cannot begin with 'ROMEO:':"
        " the character 'R' (U+0052) was not in the training text"
    )
    assert output.index(warning) < output.index("step 0")
    assert f"using {CHINESE[:8]!r}, set another with --train.prompt" in output
    samples = Path("x/samples.md").read_text(encoding="utf-8").partition("## Step 2")[2]
    assert CHINESE[:8] in samples
    assert f"llm-scratch generate x '{CHINESE[:8]}'" in output, "the next command is one that works"
    assert llm("generate", "x", CHINESE[:8], "--max-tokens", "3", "--seed", "1").code == 0


OTHER_VIEW = [
    *("--train.prompt", "hen", "--train.sample-every", "1", "--train.log-every", "3"),
    *("--train.eval-every", "1", "--train.eval-batches", "1", "--train.save-every", "1"),
]


def test_intervals_and_prompt_may_change_on_resume_with_equal_bits(llm, tiny, trained_once):
    stopped = [*tiny, "--out", "x"]
    stopped[stopped.index("--train.save-every") + 1] = "2"
    assert llm(*stopped).code == 0
    shutil.rmtree("x/ckpt/step-00000004")
    Path("x/ckpt/latest").write_text("step-00000002\n")
    result = llm(*tiny, *OTHER_VIEW, "--out", "x")
    assert result.code == 0, result.err
    assert "resuming at step 2 of 4" in result.out
    assert "validation losses now use 1 batches; until step 2 they used 2" in in_one_line(
        result.out
    )
    assert last_weights(Path("x")) == last_weights(trained_once)
    assert yaml.safe_load(Path("x/config.yaml").read_text())["train"]["prompt"] == "hen"


def test_changed_intervals_give_the_same_final_bits(llm, tiny, trained_once):
    assert llm(*tiny, *OTHER_VIEW, "--model.drop-rate", "0.3", "--out", "often").code == 0
    assert (
        llm(
            *tiny,
            "--model.drop-rate",
            "0.3",
            "--train.eval-every",
            "9",
            "--train.sample-every",
            "0",
            "--out",
            "seldom",
        ).code
        == 0
    )
    assert last_weights(Path("often")) == last_weights(Path("seldom")) != last_weights(trained_once)


def test_finished_run_is_extended_by_resume_and_keeps_its_optimizer(llm, tiny, trained, tmp_path):
    result = llm("train", "--resume", trained, "--train.steps", "6")
    assert result.code == 0, result.err
    output = in_one_line(result.out)
    assert "extended from 4 to 6 steps: the learning rate was " in output
    assert "at step 5, and follows the linear schedule over the new total" in output
    rows = [row for row in iter_metrics(trained / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[4]["lr"] > rows[3]["lr"], "the rate rises to that of the longer schedule"
    end = read(trained / "ckpt" / "step-00000006")
    assert end.optimizer["tok_emb.weight/step"] == 6
    assert (end.state["steps"], end.config["train"]["steps"]) == (6, 6)
    again = llm("train", "--resume", trained, "--train.steps", "6")
    assert "all 6 steps are done already" in again.out
    assert "--train.steps 12 trains longer" in in_one_line(again.out)


def test_extended_run_with_constant_rate_equals_the_longer_run(llm, tiny):
    words = [*tiny, "--train.schedule", "constant", "--model.drop-rate", "0.2"]
    assert llm(*words, "--train.steps", "6", "--out", "whole").code == 0
    assert llm(*words, "--out", "x").code == 0
    assert llm(*words, "--train.steps", "6", "--out", "x").code == 0
    assert last_weights(Path("x")) == last_weights(Path("whole"))


def test_run_is_extended_by_epochs(llm, tiny):
    words = [*tiny, "--train.batch-size", "64", "--out", "x"]
    assert llm(*words, "--train.epochs", "1").code == 0
    result = llm("train", "--resume", "x", "--train.epochs", "2")
    assert result.code == 0, result.err
    assert "extended from 2 to 4 steps" in in_one_line(result.out)
    steps = llm("train", "--resume", "x", "--train.steps", "99")
    assert (steps.code, steps.err.count("\n")) == (4, 1)
    assert "so --train.steps has no effect; use a larger --train.epochs" in steps.err


def test_shortened_run_is_rejected_in_one_line(llm, tiny, trained):
    before = sorted(trained.rglob("*"))
    result = llm(*tiny, "--out", trained, "--train.steps", "3")
    assert (result.code, result.err.count("\n")) == (4, 1)
    assert "is a run of 4 steps and cannot be shortened to 3" in result.err
    assert sorted(trained.rglob("*")) == before


@pytest.fixture
def own_text(tmp_path, text_file, tiny) -> tuple[Path, list[str]]:
    """A text that may change, and the arguments that train on it and stop after 2 of 4 steps."""
    path = tmp_path / "mine.txt"
    path.write_bytes(text_file.read_bytes())
    words = [*tiny, "--out", "x"]
    words[words.index("--data.source") + 1] = f"file:{path}"
    return path, words


def test_resume_rejects_a_changed_text_with_alternatives(llm, own_text):
    path, words = own_text
    assert llm(*words).code == 0
    old = path.read_text()
    path.write_text("Zoë's " + old)
    for more in ([], ["--train.steps", "8"]):
        result = llm(*words, *more)
        assert (result.code, result.err.count("\n")) == (3, 1)
        assert "the text of file:" in result.err
        assert (
            "has changed since the run's last checkpoint (2,695 bytes then, 2,702 now); put the old"
            " text back to resume" in result.err
        )
        assert "or start a new run from this one: --from x --out NEW" in result.err
    path.write_text(old.replace("hen", "neh"))
    assert "still 2,695 bytes, but different ones" in llm(*words).err
    path.write_text(old)
    assert llm(*words).code == 0


def test_evaluate_and_quantize_warn_of_a_changed_text(llm, own_text):
    path, words = own_text
    assert llm(*words).code == 0
    assert "has changed" not in llm("evaluate", "x").err
    path.write_text(path.read_text()[:-200])
    for verb in (["evaluate", "x"], ["quantize", "x", "--out", "q"], ["evaluate", "q"]):
        result = llm(*verb)
        assert result.code == 0, result.err
        assert "the text of file:" in in_one_line(result.err)
        assert "has changed since" in in_one_line(result.err), verb


def test_text_patterns_skip_the_files_of_runs(llm, tiny, own_text):
    words = [*own_text[1]]
    words[words.index("--data.source") + 1] = "file:**/*.txt"
    first = llm(*words)
    assert first.code == 0, first.err
    assert Path("x/log.txt").is_file()
    again = llm(*words)
    assert again.code == 0, again.err
    assert "all 4 steps are done already" in again.out
    nothing = llm(*tiny, "--data.source", "file:x/*.txt", "--out", "y")
    assert nothing.code == 3
    assert "(files of run directories are left out: 1)" in nothing.err


def test_run_that_diverges_in_its_last_step_is_not_finished(llm, tiny):
    words = (
        "--train.lr 1e6 --train.weight-decay 1e6 --train.steps 3 --train.warmup-steps 0"
        " --train.eval-every 3"
    )
    result = llm(*tiny, "--out", "x", *words.split())
    assert (result.code, result.err.count("\n")) == (5, 1)
    assert "training diverged" in result.err
    assert "Try a lower --train.lr" in result.err
    assert "Done" not in result.out
    for line in Path("x/metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    diagnosis = llm("runs", "diagnose", "x")
    assert "training diverged" in diagnosis.out
    assert "healthy" not in diagnosis.out
    refused = llm("generate", "x", "the")
    assert (refused.code, refused.err.count("\n")) == (4, 1)


@pytest.fixture
def overflowing(trained) -> Path:
    """A run of an older version with finite weights that are far too large."""
    import torch

    from llm_scratch.storage import checkpoint
    from llm_scratch.tokenizers import load_tokenizer, save_tokenizer

    old = read(list_checkpoints(trained)[0])
    weights = {name: torch.full_like(value, 3e38) for name, value in old.weights.items()}
    tokenizer = load_tokenizer(old.folder)
    state = {key: value for key, value in old.state.items() if key != "last_eval"}
    run = trained.parent / "overflowing"
    checkpoint.save(
        run,
        4,
        old.config,
        weights,
        {},
        state,
        lambda into: save_tokenizer(tokenizer, into),
        best=True,
    )
    (run / "config.yaml").write_bytes((trained / "config.yaml").read_bytes())
    return run


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "RUN", "the"],
        ["generate", "RUN", "the", "--decoder", "beam"],
        ["generate", "RUN", "the", "--samples", "2", "--top-k", "1"],
        ["evaluate", "RUN"],
        ["quantize", "RUN", "--out", "q"],
        ["export", "hf", "RUN", "h"],
    ],
)
def test_model_with_non_finite_logits_is_rejected_in_one_line(llm, overflowing, words):
    result = llm(*[str(overflowing) if word == "RUN" else word for word in words])
    assert (result.code, len(result.err.strip().splitlines())) == (4, 1), result.err
    assert "not finite" in result.err
    assert "--train.lr" in result.err
    assert not Path("q").exists()
    assert not Path("h").exists()


@pytest.fixture
def few_bits(llm, trained) -> str:
    """The tiny run in 8 bits."""
    assert llm("quantize", trained, "--out", "few").code == 0
    return "few"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "shakespeare", "--from", "few", "--out", "new"],
        ["train", "--resume", "few"],
        ["train", "--resume", "few", "--train.steps", "8"],
        ["train", "--config", "few/config.yaml", "--out", "few"],
        ["plan", "few"],
    ],
)
def test_quantized_run_is_not_trained_and_its_origin_is_named(llm, few_bits, trained, words):
    result = llm(*words)
    assert (result.code, result.err.count("\n")) == (4, 1)
    assert (
        f"few is {trained} quantized to 8 bits and cannot be trained; train {trained}, then"
        " quantize it" in result.err
    )
    assert not Path("new").exists()


NO_CURVE = "quantized to 8 bits; a quantized model is not trained, so it has no training curve"


def test_plot_of_a_quantized_model_names_the_run_with_the_curve(llm, few_bits, trained, tmp_path):
    result = llm("plot", "few")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert f"few is {trained} {NO_CURVE}; use: llm-scratch plot '{trained}'" in result.err
    trained.rename(tmp_path / "elsewhere")
    result = llm("plot", "few")
    assert (result.code, "use:" in result.err) == (
        3,
        False,
    ), "a deleted run is not recommended"


def test_diagnosis_of_a_quantized_model_describes_it(llm, few_bits, trained, tmp_path):
    result = llm("runs", "diagnose", "few")
    assert (result.code, result.err) == (0, "")
    assert f"few is {trained} {NO_CURVE}." in result.out
    assert f"llm-scratch runs diagnose '{trained}'\n" in result.out
    assert "--train" not in result.out
    diagnosis = json.loads(llm("runs", "diagnose", "few", "--json").out)
    assert (diagnosis["description"], diagnosis["findings"]) == (
        f"{trained} quantized to 8 bits",
        {},
    )
    trained.rename(tmp_path / "elsewhere")
    assert "llm-scratch runs diagnose" not in llm("runs", "diagnose", "few").out, (
        "a deleted run is not recommended"
    )


def recommended(output: str) -> list[list[str]]:
    """The commands that a text prints to be copied."""
    return [
        shlex.split(part)[1:] for part in re.findall(r"llm-scratch .*?(?= resumes it|\n)", output)
    ]


def test_commands_in_runs_show_work_for_a_quantized_run(llm, few_bits, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    shown = llm("runs", "show", "few")
    assert "quantized to 8 bits; it cannot be trained" in in_one_line(shown.out)
    found = recommended(shown.out)
    assert [words[0] for words in found] == ["generate"]
    for words in found:
        assert llm(*words).code == 0
    assert "8 bits" in llm("runs", "list", ".").out


def test_commands_in_runs_show_work_for_an_imported_model(llm, trained, text_file, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert llm("import", list_checkpoints(trained)[0], "--out", "mine").code == 0
    result = llm("plot", "mine")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert "not trained here yet, so it has no training curve" in result.err
    result = llm("runs", "diagnose", "mine")
    assert (result.code, "not trained here yet, so it has no training curve" in result.out) == (
        0,
        True,
    )
    assert "--resume" not in result.out
    assert llm("evaluate", "mine", "--text", text_file).code == 0
    shown = llm("runs", "show", "mine")
    assert "imported from" in shown.out
    assert [words[:2] for words in recommended(shown.out)] == [
        ["train", "text"],
        ["generate", "mine"],
    ]
    assert llm("generate", "mine", "--max-tokens", "3").code == 0
    words = (
        "--train.steps 1 --train.eval-every 1 --train.eval-batches 1 --train.batch-size 1"
        " --train.sample-every 0"
    )
    assert (
        llm(
            "train",
            "text",
            text_file,
            "--from",
            "mine",
            "--out",
            "on",
            *words.split(),
            "--data.order",
            "shuffled",
        ).code
        == 0
    )


def test_model_without_a_text_is_not_evaluated_on_another(llm, trained, text_file):
    assert (
        llm("quantize", list_checkpoints(trained)[0], "--text", text_file, "--out", "few").code == 0
    )
    result = llm("evaluate", "few")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "few: the run records no text; pass --text FILE" in result.err
    assert llm("evaluate", "few", "--text", text_file).code == 0
