"""A lesson as a script: headings are printed, pictures are saved."""

from __future__ import annotations

import subprocess
import sys

from llm_scratch.learn.script import cells, run_as_script

LESSON = """# %% [markdown]
# # A lesson
# Text that a script does not print.

# %% tags=["setup"]
import matplotlib.pyplot as plt
from llm_scratch.learn.script import run_as_script
run_as_script(globals())
print("setup runs once")


# %%
def f():
    return 1


# %% [markdown]
# ## A part
# # of a comment

# %%
plt.plot([1, 2])
plt.show()
{last}
"""


def run(tmp_path, last):
    path = tmp_path / "step7_small.py"
    path.write_text(LESSON.replace("{last}", last), encoding="utf-8")
    return subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )


def test_headings_and_pictures_are_printed_in_order(tmp_path):
    done = run(tmp_path, "assert f() == 1")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    picture = str(tmp_path.joinpath("pictures", "step7-1.png").relative_to(tmp_path))
    assert lines == [
        "# A lesson",
        "setup runs once",
        "## A part",
        "# of a comment",
        f"picture: {picture}",
    ]
    assert (tmp_path / "pictures" / "step7-1.png").stat().st_size > 1000


def test_script_error_names_the_line_of_the_file(tmp_path):
    done = run(tmp_path, "assert f() == 2")
    assert done.returncode == 1
    line = LESSON.splitlines().index("{last}") + 1
    assert f'step7_small.py", line {line}' in done.stderr


def test_run_as_script_does_nothing_in_a_notebook():
    namespace = {"__name__": "__main__"}
    run_as_script(namespace)
    run_as_script({"__name__": "imported", "__file__": "x.py"})
    assert namespace == {"__name__": "__main__"}


def test_script_runs_cells_in_their_order_in_the_file():
    found = cells("header\n# %% [markdown]\n# text\n# %%\na = 1\nb = 2\n")
    assert found == [(2, "markdown", "# text\n"), (4, "code", "a = 1\nb = 2\n")]
