"""Each user error is one line with its exit code, and leaves no files."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest

from .conftest import files

Q = ["train", "quickstart"]
CASES = {
    # arguments, exit code, content of the line
    "unknown verb": (["trian", "quickstart"], 2, "unknown command 'trian'; did you mean 'train'?"),
    "unknown verb of a group": (
        ["tokenizer", "trian"],
        2,
        "unknown tokenizer command 'trian'; did you mean 'train'?",
    ),
    "no preset": (["train"], 2, "PRESET is missing; known: quickstart, verdict"),
    "unknown preset": (
        ["train", "quikstart"],
        2,
        "unknown preset 'quikstart'; did you mean 'quickstart'?",
    ),
    "unknown setting": (
        [*Q, "--train.lrr", "1e-3"],
        2,
        "unknown setting 'train.lrr'; did you mean 'train.lr'?",
    ),
    "unknown setting with =": (
        [*Q, "--train.lrr=1e-3"],
        2,
        "unknown setting 'train.lrr'; did you mean 'train.lr'?",
    ),
    "setting without its group": (
        [*Q, "--lr", "1e-3"],
        2,
        "unknown option '--lr'; did you mean '--train.lr'?",
    ),
    "unknown option": (
        ["generate", "{run}", "x", "--tokns", "3"],
        2,
        "unknown option '--tokns'; did you mean '--max-tokens'?",
    ),
    "text with a dash": (
        ["generate", "gpt2", "--wow"],
        2,
        "'--wow'; --help lists all; write -- before a text that begins with a dash",
    ),
    "nothing like it": ([*Q, "--qqqqqq"], 2, "unknown option '--qqqqqq'; --help lists all"),
    "not a whole number": (
        [*Q, "--train.steps", "many"],
        2,
        "--train.steps is 'many'; expected a whole number",
    ),
    "not a number": ([*Q, "--train.lr", "fast"], 2, "--train.lr is 'fast'; expected a number"),
    "not a choice": (
        [*Q, "--model.init", "foo"],
        2,
        "--model.init is 'foo'; expected one of 'torch', 'gpt2'",
    ),
    "no value": ([*Q, "--train.steps"], 2, "--train.steps needs a value"),
    "one value of two": ([*Q, "--train.betas", "0.9"], 2, "--train.betas"),
    "a word too many": (["config", "quickstart", "verdict"], 2, "unexpected verdict"),
    "a word too few": (["generate"], 2, "RUN"),
    "heads": (
        [*Q, "--model.emb-dim", "130"],
        2,
        "emb_dim=130 is not a multiple of n_heads=4; try emb_dim=128",
    ),
    "no steps": ([*Q, "--train.steps", "0"], 2, "--train.steps: 0 is out of range"),
    "unknown source": (
        [*Q, "--data.source", "storeis:9"],
        2,
        "unknown source 'storeis'; did you mean 'stories'?",
    ),
    "unknown tokenizer": (
        [*Q, "--data.tokenizer", "bep"],
        2,
        "unknown tokenizer 'bep'; did you mean 'bpe'?",
    ),
    "unknown optimizer": (
        [*Q, "--train.optimizer", "adam"],
        2,
        "unknown optimizer 'adam'; did you mean 'adamw'?",
    ),
    "unknown schedule": (
        [*Q, "--train.schedule", "cosin"],
        2,
        "unknown schedule 'cosin'; did you mean 'cosine'?",
    ),
    "unknown architecture": ([*Q, "--model.architecture", "gtp"], 2, "unknown architecture 'gtp'"),
    "vocabulary too small": (["{tiny}", "--model.vocab-size", "10"], 2, "model.vocab_size=10"),
    "empty text": (
        [*Q, "--data.source", "file:{tmp}/empty.txt"],
        3,
        "empty.txt is empty; expected text",
    ),
    "binary text": ([*Q, "--data.source", "file:{tmp}/binary.txt"], 3, "is a binary file"),
    "not UTF-8": ([*Q, "--data.source", "file:{tmp}/latin.txt"], 3, "is not UTF-8 text"),
    "short text": (["{tiny}", "--data.source", "file:{tmp}/short.txt"], 3, "one window takes 17"),
    "no such text": ([*Q, "--data.source", "file:{tmp}/none.txt"], 3, "cannot read"),
    "no text matches": ([*Q, "--data.source", "file:{tmp}/*.none"], 3, "no file matches"),
    "a folder without text": (
        [*Q, "--data.source", "file:{tmp}/nothing inside"],
        3,
        "holds no text files (0 files in all)",
    ),
    "own text without a path": (
        ["train", "text"],
        2,
        "PATH is missing; name files, a folder or a pattern",
    ),
    "own text twice": (
        ["train", "text", "{tmp}/short.txt", "--data.source", "verdict"],
        2,
        "PATH and --data.source exclude each other",
    ),
    "own text that is not there": (
        ["train", "text", "{tmp}/short.txt", "{tmp}/none.txt"],
        3,
        "none.txt: no such file or folder",
    ),
    "own text in no time": (
        ["train", "text", "{tmp}/short.txt", "--minutes", "0"],
        2,
        "--minutes: 0.0 is out of range; give 0.01 to",
    ),
    "own text too short": (["train", "text", "{tmp}/short.txt"], 3, "one window takes 9"),
    "a path after a preset": (
        [*Q, "{tmp}/short.txt"],
        2,
        "short.txt; paths and --minutes belong to `llm-scratch train text PATH`",
    ),
    "minutes for a preset": ([*Q, "--minutes", "3"], 2, "--minutes 3 would be ignored"),
    "a plan of own text": (["plan", "text"], 2, "`llm-scratch train text PATH --print-config`"),
    "printing an unknown tokenizer": (
        [*Q, "--print-config", "--data.tokenizer", "bep"],
        2,
        "unknown tokenizer 'bep'; did you mean 'bpe'?",
    ),
    "printing an unknown optimizer": (
        [*Q, "--print-config", "--train.optimizer", "adamz"],
        2,
        "unknown optimizer 'adamz'",
    ),
    "printing a text that is not there": (
        [*Q, "--print-config", "--data.source", "file:{tmp}/none.txt"],
        3,
        "no such file",
    ),
    "printing with two orders": (
        [*Q, "--print-config", "--fresh", "--resume", "x"],
        2,
        "--resume and --fresh exclude each other",
    ),
    "printing for no device": (
        [*Q, "--print-config", "--device", "cuda:99"],
        2,
        "no device 'cuda:99' here",
    ),
    "no such file of settings": ([*Q, "--config", "{tmp}/none.yaml"], 2, "cannot read"),
    "unknown key in YAML": (
        [*Q, "--config", "{tmp}/key.yaml"],
        2,
        "unknown setting 'train.lrr'; did you mean 'train.lr'?",
    ),
    "not YAML": ([*Q, "--config", "{tmp}/bad.yaml"], 2, "bad.yaml is not YAML"),
    "wrong kind in YAML": (
        [*Q, "--config", "{tmp}/kind.yaml"],
        2,
        "setting 'train.steps' is 'many'; expected int",
    ),
    "out is a file": ([*Q, "--out", "{tmp}/empty.txt"], 2, "it is a file; use a folder"),
    "out holds other things": ([*Q, "--out", "{tmp}"], 2, "it holds files that are not of a run"),
    "fresh on other things": (
        [*Q, "--out", "{tmp}", "--fresh"],
        2,
        "it holds files that are not of a run",
    ),
    "out holds another run": (
        ["{tiny}", "--out", "{run}", "--train.lr", "0.5"],
        4,
        "other settings (train.lr is 0.02 there, 0.5 here)",
    ),
    "missing run": (["generate", "{tmp}/nothing", "x"], 4, "no model at"),
    "path of a run with a typing error": (
        ["generate", "{tmp}/tinny run", "x"],
        4,
        "tinny run; did you mean '",
    ),
    "no run of a preset": (
        ["generate", "quickstart", "x"],
        4,
        "no run 'quickstart' here or in runs/",
    ),
    "not a .pth": (["generate", "{tmp}/short.txt", "x"], 4, "is not a file of weights alone"),
    "temperature": (
        ["generate", "{run}", "the", "--temperature", "-1"],
        2,
        "--temperature: -1.0 is out of range; give 0, or",
    ),
    "top-k": (["generate", "{run}", "the", "--top-k", "0"], 2, "--top-k: 0 is out of range"),
    "top-p": (["generate", "{run}", "the", "--top-p", "1.5"], 2, "--top-p: 1.5 is out of range"),
    "no samples": (
        ["generate", "{run}", "the", "--samples", "0"],
        2,
        "--samples: 0 is out of range",
    ),
    "a letter that was never seen": (["generate", "{run}", "Ω"], 3, "Ω"),
    "two texts": (["evaluate", "{run}", "--text", "a", "--source", "b"], 2, "exclude each other"),
    "text of one letter": (
        ["evaluate", "{run}", "--text", "{tmp}/letter.txt"],
        3,
        "at least 2 tokens",
    ),
    "no text said": (["evaluate", "{run}/ckpt/step-00000004"], 2, "no validation text is recorded"),
    "unknown kind of picture": (
        ["plot", "{run}", "--out", "{tmp}/x.bmp"],
        2,
        "use a name that ends in",
    ),
    "plot of a folder": (["plot", "{tmp}"], 4, "not a run directory"),
    "plot of nothing": (["plot"], 2, "RUN"),
    "no tokenizer file": (["tokenizer", "show", "{tmp}/none.json", "x"], 3, "none.json"),
    "tokenizer not yet learned": (["tokenizer", "show", "bpe", "x"], 2, "has to be trained first"),
    "vocabulary below the bytes": (
        ["tokenizer", "train", "file:{tmp}/short.txt", "--vocab-size", "10"],
        2,
        "--vocab-size: 10 is out of range; give a whole number from 257",
    ),
    "tokenizer written as text": (
        ["tokenizer", "train", "file:{tmp}/short.txt", "--out", "{tmp}/t.txt"],
        2,
        "not the name of a .json file",
    ),
    "download of nothing": (["data", "download"], 2, "NAME is missing; known:"),
    "download unknown": (
        ["data", "download", "vedict"],
        2,
        "unknown source 'vedict'; did you mean 'verdict'?",
    ),
    "no network": (
        ["data", "download", "verdict"],
        3,
        "cannot download the-verdict.txt: downloads are disabled",
    ),
    "no network for training": (["train", "verdict"], 3, "cannot download the-verdict.txt"),
    "how many stories": (["data", "show", "stories:many"], 2, "not a number of stories"),
    "unknown preset to print": (["config", "quikstart"], 2, "unknown preset 'quikstart'"),
    "missing run to show": (["runs", "show", "{tmp}"], 4, "not a run directory"),
    "missing folder of runs": (["runs", "list", "{tmp}/none"], 4, "no such folder"),
    "no file to import": ([*Q, "--import", "{tmp}/none.py"], 2, "no such Python file"),
    "error in an import": (
        [*Q, "--import", "{tmp}/broken.py"],
        2,
        "broken.py: ZeroDivisionError: division by zero",
    ),
    "unknown device": (
        ["{tiny}", "--device", "gpu"],
        2,
        "unknown device 'gpu'; expected auto, cpu, cuda",
    ),
    "device that is not here": (["{tiny}", "--device", "cuda:99"], 2, "no device 'cuda:99' here"),
}


@pytest.fixture
def mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files with one fault each, without network and data folder."""
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "binary.txt").write_bytes(b"text\0text")
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (tmp_path / "nothing inside").mkdir()
    (tmp_path / "short.txt").write_text("the fox", encoding="utf-8")
    (tmp_path / "letter.txt").write_text("t", encoding="utf-8")
    (tmp_path / "key.yaml").write_text("train: {lrr: 1}", encoding="utf-8")
    (tmp_path / "bad.yaml").write_text("train: [1", encoding="utf-8")
    (tmp_path / "kind.yaml").write_text("train: {steps: many}", encoding="utf-8")
    (tmp_path / "broken.py").write_text("1 / 0", encoding="utf-8")
    monkeypatch.delenv("LLM_SCRATCH_DATA", raising=False)
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_usage_error_is_one_line_and_leaves_no_file(case, llm, mistakes, tiny, trained):
    words, code, message = CASES[case]
    words = [
        w
        for word in words
        for w in (tiny if word == "{tiny}" else [word.format(tmp=mistakes, run=trained)])
    ]
    before = files(mistakes)
    result = llm(*words)
    assert result.code == code, result.err
    assert result.err.startswith("llm-scratch: ")
    assert result.err.count("\n") == 1, result.err
    assert message in result.err
    assert files(mistakes) == before


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "empty; it must"), (b"\xff", "is not UTF-8 text")]
)
def test_standard_input_must_be_text(data, message, llm, trained, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    result = llm("generate", trained, "-")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert message in result.err


def damage(folder: Path) -> None:
    """Flip one bit in the middle of the weights."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damaged_checkpoint_gives_a_warning_and_the_older_one_is_used(llm, trained, caplog):
    best = (trained / "ckpt" / "best").read_text().strip()
    damage(trained / "ckpt" / best)
    result = llm("generate", trained, "the", "--max-tokens", "3", "--device", "cpu")
    assert result.code == 0
    assert result.out.startswith("the")
    assert f"{best} is damaged" in caplog.text
    assert (trained / "ckpt" / "quarantine" / best).is_dir()


def test_run_with_only_damaged_checkpoints_is_an_error(llm, trained, tiny):
    for folder in (trained / "ckpt").glob("step-*"):
        damage(folder)
    for words in (["generate", trained, "the"], [*tiny, "--out", trained]):
        result = llm(*words)
        assert result.code == 4
        assert "all checkpoints of" in result.err.splitlines()[-1]
    assert not list((trained / "ckpt").glob("step-*"))  # the run was not silently restarted


def test_full_disk_leaves_the_last_checkpoint(llm, tiny, trained, monkeypatch):
    import llm_scratch.storage.files as files_module

    shutil.rmtree(trained / "ckpt" / "step-00000004")
    (trained / "ckpt" / "latest").write_text("step-00000002\n")
    before = files(trained / "ckpt")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module.FileSystem, "write", full)
    monkeypatch.setattr("llm_scratch.reports.plot.plot_runs", lambda runs, out: [])
    result = llm(*tiny, "--out", trained)
    assert result.code == 6
    assert "No space left on device" in result.err
    assert result.err.count("\n") == 1
    assert files(trained / "ckpt") == before


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full, a file that is always full"
)
def test_full_disk_for_metrics_is_an_error(llm, tiny, monkeypatch):
    from llm_scratch.training.append_log import DurableLog
    from llm_scratch.training.run_logger import RunLogger

    started = RunLogger.started

    def started_on_a_full_disk(self, state, resumed):
        started(self, state, resumed)
        self._metrics = self._logs[0] = DurableLog(Path("/dev/full"), self._warn)

    monkeypatch.setattr(RunLogger, "started", started_on_a_full_disk)
    monkeypatch.setattr("llm_scratch.training.checkpoint_writer.RETRY_DELAY_SECONDS", 0.0)
    result = llm(*tiny, "--out", "x")
    assert (result.code, result.err.count("\n")) == (6, 1)
    assert "cannot save the checkpoint" in result.err
    assert "cannot write /dev/full: No space left on device (need" in result.err
    assert result.out.count("lines are kept in memory") == 1


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs /proc, a folder that is never writable"
)
def test_unwritable_folder_is_an_error(llm, tiny):
    result = llm(*tiny, "--out", "/proc/llm-scratch-run")
    assert (result.code, result.err.count("\n")) == (6, 1)
    assert "not writable" in result.err
