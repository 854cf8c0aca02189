"""Every lesson runs as a plain script, with and without its text.

Its notebook is the same lesson, executed.

The lessons are found by name, so these tests apply to a new one as soon as its file exists.
"""

from __future__ import annotations

import builtins
import importlib.util
import os
import re
import shutil
import subprocess
import symtable
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DATA, ROOT
from scripts import QUIET, Scripts

from llm_scratch.learn.exercise import Exercise
from llm_scratch.learn.registry import EXERCISES

jupytext = pytest.importorskip(
    "jupytext",
    reason="needs the extra 'lessons': pip install jupytext nbclient nbconvert ipykernel",
)
nbformat = pytest.importorskip(
    "nbformat",
    reason="needs the extra 'lessons': pip install jupytext nbclient nbconvert ipykernel",
)

LESSONS = sorted((ROOT / "lessons").glob("step*_*.py"))
# a lesson takes a twentieth of it on an idle machine
SECONDS = 900

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


def _load_build():
    spec = importlib.util.spec_from_file_location("lessons_build", ROOT / "lessons" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = _load_build()


def environment(folder: Path) -> dict[str, str]:
    """Environment variables of a lesson: no display, and a cache folder of its own."""
    settings = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "LLM_SCRATCH_FULL")
    }
    settings |= {
        "MPLBACKEND": "Agg",
        "LLM_SCRATCH_CACHE": str(folder / "cache"),
        "PYTHONIOENCODING": "utf-8",
    }
    return settings | ({"LLM_SCRATCH_DATA": str(DATA)} if DATA.is_dir() else {})


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    """What a lesson printed, after checking that it ended well."""
    name = Path(done.args[-1]).name
    assert done.returncode == 0, (
        f"{name} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    assert "Warning" not in done.stderr, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def scripts() -> Iterator[Scripts]:
    """Run lessons in processes forked from one that has imported everything."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork, which Windows does not have; a slow test does without")
    with Scripts() as scripts:
        yield scripts


@pytest.fixture(scope="module", params=LESSONS, ids=lambda path: path.stem)
def printed(request, scripts, tmp_path_factory) -> tuple[Path, str]:
    """(a lesson, what it prints)."""
    folder = tmp_path_factory.mktemp("lesson")
    work = folder / "work"
    work.mkdir()
    return request.param, output_of(
        scripts.run(request.param, work, environment(folder), folder / "log")
    )


def notebook_of(lesson: Path):
    path = ROOT / "notebook" / f"{lesson.stem.split('_')[0]}.ipynb"
    assert path.is_file(), f"{path.name} is missing; run: make lessons"
    return nbformat.read(path, as_version=4)


def test_lessons_are_numbered_without_a_gap():
    assert list(build.lessons()) == [f"step{i}" for i in range(len(LESSONS))]
    assert len(LESSONS) >= 2


def test_lesson_runs_as_a_script(printed):
    lesson, plain = printed
    assert len(plain.splitlines()) > 10
    if (DATA / "the-verdict.txt").is_file():
        assert "Continuing with" not in plain, (
            f"{lesson.name} did not find its text or vocabulary, so it left checks out"
        )


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("import sys; print(sys.argv); sys.exit()", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('no text')", 1, "no text"),
        ("input()", 1, "EOFError"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import warnings; warnings.warn('old')", 1, "UserWarning: old"),
    ],
)
def test_forked_script_ends_as_in_a_new_process(code, status, message, scripts, tmp_path):
    (tmp_path / "a.py").write_text(code)
    done = scripts.run(tmp_path / "a.py", tmp_path, environment(tmp_path), tmp_path / "log")
    assert done.returncode == status
    assert message in done.stderr


@pytest.mark.slow
@each_lesson
def test_lesson_runs_in_a_new_process(lesson, tmp_path):
    done = subprocess.run(
        [sys.executable, *QUIET, str(lesson)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    assert len(output_of(done).splitlines()) > 10


def exercises_of(lesson: Path) -> list[Exercise]:
    number = lesson.stem[len("step")]
    return [exercise for name, exercise in EXERCISES.items() if name.startswith(f"{number}.")]


def test_exercises_wait_for_an_answer(printed):
    """Their solutions: tests/learn/test_exercises.py."""
    lesson, plain = printed
    graded = re.findall(r'^check\("([\d.]+)"', lesson.read_text(encoding="utf-8"), re.MULTILINE)
    assert graded == [exercise.id for exercise in exercises_of(lesson)]
    unsolved = [exercise.id for exercise in exercises_of(lesson) if exercise.kind != "bug"]
    assert re.findall(r"^exercise (.*?): not solved yet$", plain, re.MULTILINE) == unsolved


@each_lesson
def test_exercise_begins_with_the_code_of_the_registry(lesson):
    text = lesson.read_text(encoding="utf-8")
    for exercise in exercises_of(lesson):
        code = exercise.start[exercise.start.find("def ") :]
        assert code.strip() in text, exercise.id
        for needed in re.findall(r"^import \w+$", exercise.start, re.MULTILINE):
            assert re.search(rf"^{needed}\b", text, re.MULTILINE), f"{exercise.id}: {needed}"


@each_lesson
def test_exercise_does_not_redefine_a_name_of_the_lesson(lesson):
    """A later cell, or one that is run again, would use the learner's function."""
    cells = [cell.source for cell in jupytext.read(lesson).cells if cell.cell_type == "code"]
    others = "\n\n".join(source for source in cells if not re.search(r"^check\(", source, re.M))
    taken = {
        symbol.get_name()
        for symbol in symtable.symtable(others, lesson.name, "exec").get_symbols()
        if symbol.is_assigned() or symbol.is_imported()
    }
    assert len(taken) > 10
    assert not taken & {exercise.function for exercise in exercises_of(lesson)}


def _needing_something() -> list:
    """Return the lessons that read a text or GPT-2's vocabulary.

    The fourth, which trains, is slow.
    """
    found = [
        path
        for path in LESSONS
        if re.search(r"read\(.verdict.\)|TOKENIZERS\[.gpt2.\]", path.read_text(encoding="utf-8"))
    ]
    return [
        pytest.param(
            path, id=path.stem, marks=[pytest.mark.slow] if path.stem.startswith("step4") else []
        )
        for path in found
    ]


@pytest.mark.parametrize("lesson", _needing_something())
def test_lesson_runs_without_its_text_and_without_network(lesson, scripts, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = {
        "LLM_SCRATCH_DATA": str(empty),
        "TIKTOKEN_CACHE_DIR": str(empty),
        "LLM_SCRATCH_OFFLINE": "1",
    }
    printed = output_of(
        scripts.run(lesson, empty, environment(tmp_path) | nothing, tmp_path / "log")
    )
    assert re.search("^Continuing with", printed, re.MULTILINE), (
        "it must print which checks it leaves out"
    )


def test_script_prints_headings_and_where_its_pictures_are(printed):
    source, plain = printed[0].read_text(encoding="utf-8"), printed[1]
    assert re.findall(r"^#+ .*", plain, re.MULTILINE) == re.findall(r"(?m)^# (#+ .*)", source)
    assert plain.count("picture: ") == source.count("plt.show()")


@each_lesson
def test_notebook_holds_the_lessons_cells(lesson):
    want = [(cell.id, cell.cell_type, cell.source) for cell in build.as_notebook(lesson).cells]
    got = [(cell.id, cell.cell_type, cell.source) for cell in notebook_of(lesson).cells]
    assert got == want, f"{lesson.name} has changed since its notebook was made; run: make lessons"


@each_lesson
def test_notebook_was_executed_completely_without_errors(lesson):
    notebook = notebook_of(lesson)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }, "a cell ended in an error"
    assert all(output.name == "stdout" for output in outputs if output.output_type == "stream"), (
        "something was written to stderr"
    )
    shown = [output.get("text") or output.data.get("text/plain", "") for output in outputs]
    assert any(shown)
    assert any("image/png" in output.get("data", {}) for output in outputs), (
        "a lesson has a picture"
    )
    for text in shown:
        assert not re.search(r" at 0x[0-9a-f]{6}", text), (
            f"an address in memory differs every time: {text[:200]}"
        )
        assert str(ROOT.parent) not in text, f"a path of one machine: {text[:200]}"
        assert str(Path.home()) + os.sep not in text, f"a path of one machine: {text[:200]}"
        assert "Continuing with" not in text, (
            "the notebook was made without the text or the vocabulary that it is about"
        )
    assert "execution" not in str([cell.metadata for cell in code]), (
        "times of execution differ every time"
    )


MAX_CELL_LINES, MAX_CELL_COLUMNS = 12, 88


@each_lesson
def test_cell_that_is_not_folded_shows_one_idea(lesson):
    """Few lines, which fit a notebook's width; blank ones do not count."""
    cells = [cell for cell in jupytext.read(lesson).cells if cell.cell_type == "code"]
    shown = [
        [line for line in cell.source.splitlines() if line.strip()]
        for cell in cells
        if not build.is_folded(cell)
    ]
    too_long = [lines[0] for lines in shown if len(lines) > MAX_CELL_LINES]
    too_wide = [line for lines in shown for line in lines if len(line) > MAX_CELL_COLUMNS]
    assert not too_long
    assert not too_wide


@each_lesson
def test_folded_cells_are_folded_in_the_notebook(lesson):
    for cell, made in zip(jupytext.read(lesson).cells, build.as_notebook(lesson).cells):
        assert ("jupyter" in made.metadata) == build.is_folded(cell)


@each_lesson
def test_lesson_definitions_read_no_variable_of_an_earlier_cell(lesson):
    """Functions and classes of a lesson read only imports, definitions and CONSTANTS.

    A variable of an earlier cell would be hidden state.

    Cells tagged "what-goes-wrong" are free: they show what happens otherwise.
    """
    cells = [
        c
        for c in jupytext.read(lesson).cells
        if c.cell_type == "code" and "what-goes-wrong" not in c.metadata.get("tags", [])
    ]
    table = symtable.symtable("\n\n".join(cell.source for cell in cells), lesson.name, "exec")
    free = {
        s.get_name()
        for s in table.get_symbols()
        if s.is_imported() or s.is_namespace() or s.get_name().isupper()
    } | set(dir(builtins))

    def taken(scope: symtable.SymbolTable) -> list[str]:
        here = [
            f"{scope.get_name()} reads {s.get_name()}"
            for s in scope.get_symbols()
            if s.is_global() and s.get_name() not in free
        ]
        return here + [line for child in scope.get_children() for line in taken(child)]

    definitions = [
        scope
        for scope in table.get_children()
        if scope.get_name() not in ("genexpr", "listcomp", "dictcomp", "setcomp", "lambda")
    ]
    assert [line for scope in definitions for line in taken(scope)] == []


@pytest.fixture
def workshop(tmp_path):
    """A folder with build.py and one small lesson, and a function that builds there."""
    (tmp_path / "lessons").mkdir()
    for name in ("build.py", "glossary_links.py"):
        shutil.copy(ROOT / "lessons" / name, tmp_path / "lessons")
    shutil.copytree(ROOT / "lessons" / "drawings", tmp_path / "lessons" / "drawings")
    small = [
        "# %% [markdown]\n# # Small",
        "# %%\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
        "# %%\nprint(1 + 1)",
        "# %%\nprint(1 + 1)\n",
    ]
    (tmp_path / "lessons" / "step1_small.py").write_text("\n".join(small), encoding="utf-8")

    def make(*names: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tmp_path / "lessons" / "build.py"), *names]
        return subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )

    return tmp_path, make


def test_built_notebook_is_deterministic_byte_for_byte(workshop):
    folder, make = workshop
    done = make()
    assert done.returncode == 0, done.stderr
    first = (folder / "notebook" / "step1.ipynb").read_bytes()
    assert b"image/png" in first
    assert b'"2\\n"' in first
    assert make("1").returncode == 0
    assert (folder / "notebook" / "step1.ipynb").read_bytes() == first


def test_failing_lesson_leaves_the_notebook_unchanged(workshop):
    folder, make = workshop
    (folder / "notebook").mkdir()
    (folder / "notebook" / "step1.ipynb").write_text("the old one", encoding="utf-8")
    with (folder / "lessons" / "step1_small.py").open("a", encoding="utf-8") as file:
        file.write("# %%\nassert 1 + 1 == 3\n")
    done = make("step1")
    assert done.returncode != 0
    assert "AssertionError" in done.stderr
    assert [path.name for path in (folder / "notebook").glob("*.ipynb")] == ["step1.ipynb"]
    assert (folder / "notebook" / "step1.ipynb").read_text(encoding="utf-8") == "the old one"


def test_missing_lesson_is_a_one_line_error(workshop):
    _, make = workshop
    done = make("step9")
    assert (done.returncode, done.stderr) == (
        2,
        "lessons/build.py: unknown lesson 'step9'; did you mean 'step1'?\n",
    )
