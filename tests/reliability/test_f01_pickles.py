"""F1: every reader of models opens forty malicious files, and no code in them runs."""

import contextlib
import io
import pickle
import re
import shutil
import sys

import torch
from reliability.payloads import calls, files

from llm_scratch.cli import main
from llm_scratch.errors import CHECKPOINT, DATA, UserError
from llm_scratch.loading import load, read
from llm_scratch.model.gpt import GPTModel


def door(open_it, path):
    """The exit code of a reader of models and its message; no code if it loads the file."""
    try:
        return open_it(path), ""
    except UserError as error:
        return error.code, str(error)


def commands(folder):
    """Every command that opens a model or a tokenizer: name -> its arguments for a path."""
    text, good = folder / "text.txt", folder / "good.pth"
    text.write_text("abc" * 50)
    torch.save(
        GPTModel(
            {"vocab_size": 4, "context_length": 4, "emb_dim": 4, "n_heads": 1, "n_layers": 1}
        ).state_dict(),
        good,
    )
    out = ["--out", str(folder / "out")]
    return {
        "import": lambda path: ["import", path, *out],
        "generate": lambda path: ["generate", path, "x"],
        "chat": lambda path: ["chat", path],
        "evaluate": lambda path: ["evaluate", path, "--text", str(text)],
        "train --from": lambda path: [
            "train",
            "verdict",
            "--from",
            path,
            "--data.source",
            f"file:{text}",
            *out,
        ],
        "export hf": lambda path: ["export", "hf", path, str(folder / "out")],
        "quantize": lambda path: ["quantize", path, "--text", str(text), *out],
        "import --tokenizer": lambda path: ["import", str(good), "--tokenizer", path, *out],
        "data prepare --tokenizer": lambda path: [
            "data",
            "prepare",
            f"file:{text}",
            "--tokenizer",
            path,
            *out,
        ],
    }


def test_f1_no_code_in_a_file_is_executed(tmp_path, measured, capsys, monkeypatch):
    marker, out = tmp_path / "it-ran", tmp_path / "out"
    (tmp_path / "files").mkdir()
    bombs = files(tmp_path / "files", marker)
    assert len(bombs) >= 30
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    doors = {"load": load, "read": read}
    doors |= {
        name: lambda path, words=words: main(words(str(path)))
        for name, words in commands(tmp_path).items()
    }
    assert len(doors) == 11
    for name, path in bombs.items():
        for which, open_it in doors.items():
            capsys.readouterr()
            opened = again(path, tmp_path)
            code, message = door(open_it, opened)
            message += capsys.readouterr().err
            assert code in (CHECKPOINT, DATA), f"{which} {name}: {code} {message}"
            assert message.count("\n") == (which not in ("load", "read")), (
                f"{which} {name}: {message}"
            )  # one line per command, and no traceback
            assert not marker.exists(), f"{which} {name}"
            assert not out.exists(), f"{which} {name}"
    measured(
        "F1",
        f"0 of {len(bombs)} ran, through {len(doors)} entry points: {', '.join(doors)}",
        "0 of 30 run",
    )


def again(path, folder):
    """Return the file, or a fresh copy of the folder.

    The first reader of a run with a corrupt checkpoint sets that checkpoint aside.
    """
    if path.is_file():
        return path
    shutil.rmtree(folder / "again", ignore_errors=True)
    return shutil.copytree(path, folder / "again" / path.name)


def test_f1_refused_pickle_error_names_a_fix(tmp_path):
    (tmp_path / "files").mkdir()
    for name, path in files(tmp_path / "files", tmp_path / "it-ran").items():
        if (
            path.suffix in (".pt", ".pth", ".bin", ".pkl")
            or name == "transformers with pytorch_model.bin"
        ):
            assert re.search(
                "convert (it )?to safetensors|download model.safetensors instead, or convert it",
                door(load, path)[1],
            ), name


def test_f1_each_payload_runs_in_an_unsafe_reader(tmp_path):
    for name in calls_in(tmp_path / "names", tmp_path / "x"):
        marker = tmp_path / f"ran {name}"
        with contextlib.suppress(
            RuntimeError
        ):  # torch.load runs the program, and then fails because the file is not a checkpoint
            pickle.loads(pickle.dumps(calls_in(tmp_path / name, marker)[name]))
        assert marker.is_dir(), name


def calls_in(folder, marker):
    (folder / "empty").mkdir(parents=True)
    return calls(folder, marker)
