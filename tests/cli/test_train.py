"""`train`: files of a run, resuming, starting over, output."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml

from llm_scratch.cli.progress import ProgressDisplay
from llm_scratch.config import RunConfig, from_dict, to_dict
from llm_scratch.loading import load
from llm_scratch.presets import PRESETS, preset
from llm_scratch.run_directory import iter_metrics
from llm_scratch.tokenizers import TOKENIZERS

from .conftest import files


@pytest.fixture(autouse=True)
def _few_pictures(request, monkeypatch):
    """Draw no plots unless a test reads them, since a plot takes longer than the run."""
    if "every_file" not in request.node.name:
        monkeypatch.setattr("llm_scratch.reports.plot.plot_runs", lambda runs, out: [])


@pytest.mark.parametrize("name", PRESETS)
def test_print_config_prints_what_would_run(name, llm):
    result = llm("train", name, "--print-config", "--train.lr", "0.125")
    printed = yaml.safe_load(result.out)
    want = to_dict(preset(name))
    want["train"]["lr"] = 0.125
    assert printed == want
    assert to_dict(from_dict(RunConfig, printed)) == want


def test_train_writes_every_file_and_prints_its_path(llm, loss_plots, tiny, tmp_path):
    result = llm(*tiny, "--out", "my run")
    assert result.code == 0, result.err
    here = files(tmp_path / "my run")
    expected = {
        "config.yaml",
        "env.json",
        "log.txt",
        "loss-plot.pdf",
        "loss-plot.png",
        "metrics.jsonl",
        "samples.md",
    }
    assert expected <= here
    assert {"ckpt/best", "ckpt/latest", "ckpt/step-00000004/model.safetensors"} <= here
    assert not [name for name in here if ".part" in name or ".tmp" in name]
    for sentence in (
        "device: cpu",
        "hens and foxes.txt, 2,156 training tokens, 539 validation tokens",
        "sample:",
        "Done in ",
    ):
        assert sentence in " ".join(result.out.split())
    assert "llm-scratch generate 'my run' the" in result.out
    assert "my run/loss-plot.png" in result.out
    rows = [
        json.loads(line)
        for line in (tmp_path / "my run" / "metrics.jsonl").read_text().splitlines()
    ]
    best = min(row["val_loss"] for row in rows if "val_loss" in row)
    assert f"Best validation loss: {best:.4f} nats per token" in result.out
    log = (tmp_path / "my run" / "log.txt").read_text()
    assert "step 4/4 (100.00%)" in log
    assert log.count("validation loss") == 3
    assert yaml.safe_load((tmp_path / "my run" / "config.yaml").read_text())["train"]["steps"] == 4


def test_train_resumes_after_ctrl_c_to_the_same_bits(llm, tiny, trained_once, monkeypatch):
    step = ProgressDisplay.step

    def stop_after_one(self, run, row):
        step(self, run, row)
        if run.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ProgressDisplay, "step", stop_after_one)
    stopped = llm(*tiny, "--out", "x")
    assert stopped.code == 130
    assert (
        stopped.err
        == "llm-scratch: stopped at step 1, saved in x; run the same command to resume\n"
    )
    monkeypatch.setattr(ProgressDisplay, "step", step)
    done = llm(*tiny, "--out", "x")
    assert done.code == 0
    assert "resuming at step 1 of 4" in done.out
    end = "ckpt/step-00000004/model.safetensors"
    assert Path("x", end).read_bytes() == (trained_once / end).read_bytes()


def test_train_does_not_change_a_finished_run(llm, tiny, trained):
    before = (trained / "metrics.jsonl").read_bytes()
    result = llm(*tiny, "--out", trained)
    assert result.code == 0
    output = " ".join(result.out.split())
    assert (
        f"all 4 steps are done already; llm-scratch train --resume '{trained}' --train.steps 8"
        " trains longer" in output
    )
    assert "--fresh --force starts over" in output
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_fresh_without_force_keeps_an_existing_run(llm, tiny, trained):
    before = sorted(trained.rglob("*"))
    result = llm(*tiny, "--out", trained, "--fresh")
    assert (result.code, result.err.count("\n")) == (4, 1)
    assert (
        "it holds a run of 4 steps; --fresh --force removes it, or choose another --out"
        in result.err
    )
    assert sorted(trained.rglob("*")) == before
    assert llm(*tiny, "--out", trained / "new", "--fresh", "--train.steps", "1").code == 0, (
        "without an existing run, --fresh has nothing to check"
    )


def test_force_without_fresh_is_an_error(llm, tiny, trained):
    result = llm(*tiny, "--out", trained, "--force")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "--fresh --force" in result.err


def test_fresh_with_force_removes_the_run(llm, tiny, trained):
    (trained / "mine.txt").write_text("of an older run")
    result = llm(
        *tiny, "--out", trained, "--fresh", "--force", "--train.lr", "0.5", "--train.steps", "1"
    )
    assert result.code == 0
    assert f"removed the run that was in {trained}" in result.out.replace("\n", "")
    assert not (trained / "mine.txt").exists()
    assert yaml.safe_load((trained / "config.yaml").read_text())["train"]["lr"] == 0.5


def test_train_without_out_resumes_an_unfinished_run_or_uses_a_dated_folder(llm, tiny, monkeypatch):
    step = ProgressDisplay.step

    def stop(self, run, row):
        step(self, run, row)
        os.kill(os.getpid(), signal.SIGTERM)

    today = f"runs/{date.today().isoformat()}-shakespeare"
    monkeypatch.setattr(ProgressDisplay, "step", stop)
    first = llm(*tiny)
    assert (first.code, f"saved in {today};" in first.err) == (143, True)
    monkeypatch.setattr(ProgressDisplay, "step", step)
    second = llm(*tiny)
    assert f"run: resuming {today} at step 1; --fresh starts a new run" in second.out
    third = llm(*tiny)
    assert f"run: {today}-2" in third.out
    assert len(list(Path("runs").iterdir())) == 2


def test_run_on_stories_is_compared_with_the_entropy_floor(llm, monkeypatch):
    from llm_scratch.evaluation import skills

    few = 16
    for name in ("measure_skills", "story_bits_per_byte"):
        real = getattr(skills, name)
        monkeypatch.setattr(
            skills, name, lambda model, tokenizer, real=real: real(model, tokenizer, n_stories=few)
        )
    words = (
        "--data.source stories:60 --data.val-fraction 0.2 --model.vocab-size 400"
        " --model.context-length 512 --model.emb-dim 16"
    )
    words += (
        " --model.n-heads 2 --model.n-layers 1 --train.steps 2 --train.batch-size 2"
        " --train.eval-batches 1 --train.sample-every 0"
    )
    result = llm("train", "quickstart", "--out", "tales", *words.split())
    assert result.code == 0, result.err
    measured = json.loads(Path("tales/skills.json").read_text())
    assert measured["bits_per_byte"] > measured["floor_bits_per_byte"] > 0
    assert set(measured["skills"]) == {"name", "pronoun", "object", "count", "order"}
    assert "above the grammar's entropy of" in result.out
    assert "chance" in result.out
    small = llm("train", "quickstart", "--out", "small", *words.replace("512", "64").split())
    assert small.code == 0
    assert "skills not measured: a story has" in small.out
    assert "llm-scratch generate small" in small.out


FAILURE = TypeError("Cannot convert a MPS Tensor to float64 dtype\nas it has none")


def fail(*_, **__):
    raise FAILURE


def test_failure_of_the_skills_does_not_fail_the_training(llm, monkeypatch):
    monkeypatch.setattr("llm_scratch.evaluation.skills.story_bits_per_byte", fail)
    words = (
        "--data.source stories:60 --data.val-fraction 0.2 --model.vocab-size 400"
        " --model.context-length 64 --model.emb-dim 16"
    )
    words += (
        " --model.n-heads 2 --model.n-layers 1 --train.steps 1 --train.batch-size 2"
        " --train.eval-batches 1 --train.sample-every 0"
    )
    result = llm("train", "quickstart", "--out", "tales", *words.split())
    assert (result.code, result.err) == (0, "")
    line = (
        "warning: skills not measured: TypeError:"
        " Cannot convert a MPS Tensor to float64 dtype as it has none; to try again:"
    )
    assert f"{line} llm-scratch evaluate tales --skills\n" in result.out
    assert "llm-scratch generate tales" in result.out, "the next commands are still printed"


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        (
            "llm_scratch.cli.commands.plan.compare_with_plan",
            "warning: plan not compared: TypeError: {}; to try again: llm-scratch plan x\n",
        ),
        ("llm_scratch.cli.commands.plan.print_plan", "warning: no plan made: TypeError: {}\n"),
        (
            "llm_scratch.reports.plot.plot_runs",
            (
                "warning: cannot draw the loss plot (TypeError: {});"
                " `llm-scratch plot x` draws it later\n"
            ),
        ),
        (
            "llm_scratch.training.samples.stream",
            (
                "warning: no sample at step 4 (TypeError: {});"
                " `llm-scratch generate x` generates one\n"
            ),
        ),
    ],
)
def test_failure_of_plan_or_summary_does_not_fail_the_training(
    name, warning, llm, loss_plots, tiny, monkeypatch, trained_once
):
    monkeypatch.setattr(name, fail)
    result = llm(*tiny, "--out", "x")
    assert (result.code, result.err) == (0, "")
    assert warning.format(" ".join(str(FAILURE).split())) in result.out.replace(
        "dtype\nas", "dtype as"
    )
    end = "ckpt/step-00000004/model.safetensors"
    assert Path("x", end).read_bytes() == (trained_once / end).read_bytes()


def test_leftover_rank_gives_a_notice_and_the_run_is_saved(llm, tiny, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    result = llm(*tiny, "--out", "x")
    assert (result.code, result.err) == (0, "")
    assert (
        "warning: RANK=1 is ignored: WORLD_SIZE is not above 1, so this is the only process\n"
        in result.out
    )
    assert "Done in " in result.out
    assert Path("x/ckpt/step-00000004").is_dir()


def test_leftover_world_size_is_an_error_before_the_work(llm, tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    result = llm(*tiny, "--out", "x")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert (
        "llm-scratch: WORLD_SIZE=2 needs RANK; unset RANK and WORLD_SIZE to train with one process"
        in result.err
    )
    assert not Path("x").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows reports a broken pipe differently")
def test_training_continues_when_the_reader_of_its_output_closes(tiny, tmp_path, trained_once):
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "llm_scratch", *tiny, "--out", str(tmp_path / "x")]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    notice = (
        "llm-scratch: standard output cannot be written;"
        " the run continues, its log.txt has every line\n"
    )
    assert (done.returncode, done.stderr) == (0, notice)
    end = "ckpt/step-00000004/model.safetensors"
    assert (tmp_path / "x" / end).read_bytes() == (trained_once / end).read_bytes()
    assert "step 4/4" in (tmp_path / "x" / "log.txt").read_text()


def test_import_flag_adds_a_preset_and_a_source(llm, tmp_path, monkeypatch):
    from llm_scratch.data.sources import SOURCES

    monkeypatch.setitem(PRESETS, "mine", PRESETS["shakespeare"])
    monkeypatch.setitem(SOURCES, "abc", SOURCES["file"])
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "mine.py").write_text(
        "from llm_scratch import PRESETS, SOURCES\nfrom llm_scratch.config import *\nSOURCES['abc']"
        " = lambda argument: ['abc ' * 100]\nPRESETS['mine'] = lambda:"
        " RunConfig(GPTConfig(vocab_size=8, context_length=8, emb_dim=8, n_heads=1, n_layers=1),\n "
        "   DataConfig(source='abc', tokenizer='chars'), TrainConfig(steps=1, batch_size=1,"
        " prompt='a'))\n"
    )
    result = llm("train", "mine", "--import", "mine.py", "--out", "x")
    assert result.code == 0, result.err
    assert "text: abc, 360 training tokens, 40 validation tokens" in result.out
    assert "each epoch leaves out 7 tokens" in result.out  # 359 targets, rows of 8


def test_run_with_gaps_in_its_ids_generates_and_evaluates(llm, tiny, tmp_path, monkeypatch):
    """Use ids with gaps, as in tiktoken's cl100k_base: a model can choose an id without a token."""
    monkeypatch.setitem(TOKENIZERS, "gaps", None)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "mine.py").write_text(
        "import tiktoken\nfrom llm_scratch import TOKENIZERS\nranks = {bytes([i]): i for i in"
        " range(256)}\nencoding = tiktoken.Encoding('gaps', pat_str=r'\\s+|\\S+',"
        " mergeable_ranks=ranks, special_tokens={'<|endoftext|>': 290})\nTOKENIZERS['gaps'] ="
        " lambda texts, vocab_size=None: encoding\n"
    )
    words = [
        "--data.tokenizer",
        "gaps",
        "--model.vocab-size",
        "291",
        "--import",
        "mine.py",
        "--out",
        "x",
    ]
    result = llm(*tiny, *words)
    assert result.code == 0, result.err
    for command in (
        ["generate", "x", "the", "--max-tokens", "60", "--temperature", "50", "--seed", "1"],
        ["evaluate", "x"],
    ):
        result = llm(*command)
        assert result.code == 0, result.err


def test_order_documents_becomes_shuffled_for_a_text_of_one_document(
    llm, tiny, text_file, monkeypatch
):
    """Train as `train quickstart --data.source shakespeare` does.

    The order is changed and saved, and the same command resumes.
    """
    words = [*tiny, "--data.order", "documents"]
    result = llm(*words, "--out", "x")
    assert result.code == 0, result.err
    assert (
        "rows: adjacent windows (--data.order shuffled) instead of one document each: the text is"
        " one document" in result.out
    )
    assert yaml.safe_load(Path("x/config.yaml").read_text())["data"]["order"] == "shuffled"
    again = llm(*words, "--out", "x")
    assert (again.code, "all 4 steps are done already" in again.out) == (0, True)
    assert load(Path("x"))[0].start_id is None, "no row began with an end of text"
    step = ProgressDisplay.step

    def stop(self, run, row):
        step(self, run, row)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ProgressDisplay, "step", stop)
    assert llm(*words).code == 143
    monkeypatch.setattr(ProgressDisplay, "step", step)
    assert "resuming at step 1 of 4" in llm(*words).out, "also found in runs/"


def test_plan_uses_the_order_that_the_text_allows(llm, tiny):
    result = llm("plan", *tiny[1:], "--data.order", "documents", "--json")
    assert result.code == 0
    assert "the text is one document" in result.err
    assert json.loads(result.out)["tokens_per_step"] == 2 * 16


def test_tokenizer_flag_accepts_a_path(llm, tiny, text_file, trained, monkeypatch):
    """A file's vocabulary sets the model's; a resumed run no longer needs the file."""
    assert (
        llm(
            "tokenizer", "train", f"file:{text_file}", "--vocab-size", "270", "--out", "class.json"
        ).code
        == 0
    )
    words = [
        word
        for word in tiny
        if word not in ("--data.tokenizer", "chars", "--model.vocab-size", "40")
    ]
    assert llm(*words, "--data.tokenizer", "class.json", "--out", "x").code == 0
    config = yaml.safe_load(Path("x/config.yaml").read_text())
    assert (config["data"]["tokenizer"], config["model"]["vocab_size"]) == ("class.json", 270)
    of_run = llm(*words, "--data.tokenizer", "x", "--out", "y")
    assert of_run.code == 0, of_run.err
    assert load(Path("y"))[1].n_vocab == 270
    small = llm(*words, "--data.tokenizer", "class.json", "--model.vocab-size", "269")
    assert (small.code, "has 270 tokens, but model.vocab_size=269" in small.err) == (2, True)
    shutil.rmtree("x/ckpt/step-00000004")
    Path("x/ckpt/latest").write_text("step-00000002\n")
    Path("class.json").write_text("{}")
    resumed = llm("train", "--config", "x/config.yaml", "--out", "x")
    assert resumed.code == 0, resumed.err
    assert "resuming at step 2 of 4" in resumed.out


def test_tokenizer_is_trained_once_per_run(llm, tiny, monkeypatch):
    """A resumed run reads its tokenizer from the checkpoint, equal to one trained again."""
    words = [word for word in tiny if word != "40"]
    words[words.index("chars")] = "bpe"
    words.insert(words.index("--model.vocab-size") + 1, "270")
    assert llm(*words, "--out", "x").code == 0
    end = {path.name: path.read_bytes() for path in Path("x/ckpt/step-00000004").iterdir()}
    shutil.rmtree("x/ckpt/step-00000004")
    Path("x/ckpt/latest").write_text("step-00000002\n")
    monkeypatch.setitem(TOKENIZERS, "bpe", lambda texts, vocab_size: pytest.fail("learned again"))
    assert llm(*words, "--out", "x").code == 0
    for name in ("model.safetensors", "tokenizer.json"):
        assert Path("x/ckpt/step-00000004", name).read_bytes() == end[name]


def test_divergence_has_its_exit_code(llm, tiny):
    result = llm(
        *tiny,
        "--out",
        "x",
        "--train.optimizer",
        "adamw",
        "--train.lr",
        "1e6",
        "--train.warmup-steps",
        "0",
    )
    assert result.code == 5
    assert "training diverged" in result.err
    assert result.err.count("\n") == 1


def test_resume_of_a_checkpoint_continues_in_a_new_run(llm, tiny, trained):
    """The first run is unchanged; the new one ends with the same bits."""
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    result = llm(*tiny, "--resume", trained / "ckpt" / "step-00000002", "--out", "new")
    assert result.code == 0, result.err
    assert "resuming at step 2 of 4" in result.out
    end = "ckpt/step-00000004/model.safetensors"
    assert Path("new", end).read_bytes() == (trained / end).read_bytes()
    assert [row["step"] for row in iter_metrics(Path("new/metrics.jsonl"))] == [
        row["step"] for row in iter_metrics(trained / "metrics.jsonl")
    ]
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_resume_of_a_run_continues_in_its_folder(llm, tiny, trained):
    shutil.rmtree(trained / "ckpt" / "step-00000004")
    (trained / "ckpt" / "latest").write_text("step-00000002\n")
    result = llm(*tiny, "--resume", trained)
    assert "resuming at step 2 of 4" in result.out
    assert (trained / "ckpt" / "step-00000004").is_dir()
    assert "resuming at step 4" not in llm(*tiny, "--resume", trained, "--out", "copy").out
    assert Path("copy/ckpt/step-00000004").is_dir()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--resume", "{run}/ckpt/step-00000002"],
            2,
            (
                "a new run is needed, since {run} stays unchanged;"
                " --out must name a new or empty folder"
            ),
        ),
        (["--resume", "{run}/ckpt/step-00000002", "--out", "{run}"], 2, "a new run is needed"),
        (["--resume", "nowhere", "--out", "new"], 4, "not a run directory or checkpoint"),
        (["--resume", "{run}", "--fresh"], 2, "--resume and --fresh exclude each other"),
        (
            ["--resume", "{run}", "--out", "new", "--train.lr", "0.5"],
            4,
            "other settings (train.lr is 0.02 there, 0.5 here)",
        ),
    ],
)
def test_resume_rejects_invalid_arguments(words, code, message, llm, tiny, trained):
    result = llm(*tiny, *(word.format(run=trained) for word in words))
    assert (result.code, result.err.count("\n")) == (code, 1)
    assert message.format(run=trained) in result.err
    assert not Path("new").exists()


def test_resume_from_a_damaged_checkpoint_is_an_error(llm, tiny, trained):
    (trained / "ckpt" / "step-00000002" / "config.json").write_text("{}")
    result = llm(*tiny, "--resume", trained / "ckpt" / "step-00000002", "--out", "new")
    assert (result.code, "damaged checkpoint (config.json has 2 bytes" in result.err) == (4, True)
    assert not Path("new").exists()


def test_train_prints_the_number_of_processes(llm, tiny, monkeypatch):
    """No other process of the job is started, so the run ends where the processes would connect."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    result = llm(*tiny, "--out", "x")
    assert result.code == 2
    assert (
        result.out.splitlines()[0]
        == "processes: 3, as torchrun started them; rank 0 writes the run"
    )
