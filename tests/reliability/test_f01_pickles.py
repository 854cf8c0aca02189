"""F1: forty programs in disguise go through every door for models, and none of them runs."""

import pickle

from reliability.payloads import calls, files

from llm_scratch.cli import main
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.loading import load, read


def test_f1_no_program_in_a_file_is_run(tmp_path, measured, capsys):
    marker = tmp_path / "it-ran"
    (tmp_path / "files").mkdir()
    bombs, out = files(tmp_path / "files", marker), tmp_path / "out"
    assert len(bombs) >= 30
    for name, path in bombs.items():
        for door in (
            load,
            read,
            lambda path: main(["import", str(path), "--out", str(out)]),
            lambda path: main(["generate", str(path), "x"]),
        ):
            try:
                code = door(path)
            except UserError as error:
                code = error.code
                assert "\n" not in str(error), name
            assert code == CHECKPOINT, name
            assert not marker.exists(), name
            assert not out.exists(), name
        said = capsys.readouterr().err
        assert said.count("\n") == 2, said  # one line a command, and no traceback
    measured("F1", f"0 of {len(bombs)} ran, through load, read, import and generate", "0 of 30")


def test_f1_a_pickle_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "files").mkdir()
    for name, path in files(tmp_path / "files", tmp_path / "it-ran").items():
        if path.suffix in (".pt", ".pth", ".bin", ".pkl") or name == "transformers with pytorch_model.bin":
            try:
                load(path)
            except UserError as error:
                assert "convert" in str(error), name
                assert "safetensors" in str(error), name


def test_f1_each_of_them_does_run_where_a_reader_is_careless(tmp_path):
    (tmp_path / "files" / "empty").mkdir(parents=True)
    for name in calls(tmp_path / "files", tmp_path / "x"):
        marker = tmp_path / f"ran {name}"
        (tmp_path / name).mkdir()
        (tmp_path / name / "empty").mkdir()
        pickle.loads(pickle.dumps(calls(tmp_path / name, marker)[name]))
        assert marker.is_dir(), name
