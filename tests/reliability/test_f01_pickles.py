"""F1: forty programs in disguise go through every door for models, and none of them runs."""

import contextlib
import pickle
import re

from reliability.payloads import calls, files

from llm_scratch.cli import main
from llm_scratch.errors import CHECKPOINT, DATA, UserError
from llm_scratch.loading import load, read


def door(open_it, path):
    """The exit code of a door for models, and what it said; a door that lets in has none."""
    try:
        return open_it(path), ""
    except UserError as error:
        return error.code, str(error)


def test_f1_no_program_in_a_file_is_run(tmp_path, measured, capsys):
    marker, out = tmp_path / "it-ran", tmp_path / "out"
    (tmp_path / "files").mkdir()
    bombs = files(tmp_path / "files", marker)
    assert len(bombs) >= 30
    doors = (load, read, lambda path: main(["import", str(path), "--out", str(out)]), lambda path: main(["generate", str(path), "x"]))
    for name, path in bombs.items():
        for open_it in doors:
            code, said = door(open_it, path)
            assert code in (CHECKPOINT, DATA), name
            assert "\n" not in said, name
            assert not marker.exists(), name
            assert not out.exists(), name
        said = capsys.readouterr().err
        assert said.count("\n") == 2, said  # one line a command, and no traceback
    measured("F1", f"0 of {len(bombs)} ran, through load, read, import and generate", "0 of 30")


def test_f1_a_pickle_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "files").mkdir()
    for name, path in files(tmp_path / "files", tmp_path / "it-ran").items():
        if path.suffix in (".pt", ".pth", ".bin", ".pkl") or name == "transformers with pytorch_model.bin":
            assert re.search("convert (it )?to safetensors", door(load, path)[1]), name


def test_f1_each_of_them_does_run_where_a_reader_is_careless(tmp_path):
    for name in calls_in(tmp_path / "names", tmp_path / "x"):
        marker = tmp_path / f"ran {name}"
        with contextlib.suppress(RuntimeError):  # torch.load runs the program, and then finds that it is no checkpoint
            pickle.loads(pickle.dumps(calls_in(tmp_path / name, marker)[name]))
        assert marker.is_dir(), name


def calls_in(folder, marker):
    (folder / "empty").mkdir(parents=True)
    return calls(folder, marker)
