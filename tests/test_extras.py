"""The table of optional packages equals that of pyproject.toml.

No message names a package on the index that is not ours.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from llm_scratch.extras import EXTRAS, install_command

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NAME = re.compile(r"""pip install[^`\n]*?['" ]llm[-_]scratch(?=\\?\[|['"`\s]|$)""")


def test_extras_are_those_of_pyproject():
    declared = {
        extra: tuple(
            re.split(r"[>=<]", line)[0]
            for line in lines
            if not line.startswith(PROJECT["project"]["name"])
        )
        for extra, lines in PROJECT["project"]["optional-dependencies"].items()
    }
    # a higher bound for what another extra has
    declared["dev"] = tuple(name for name in declared["dev"] if name not in declared["hf"])
    assert {name: extra.packages for name, extra in EXTRAS.items()} == declared
    assert install_command("data", "python -m pip") == "python -m pip install pyarrow datasets"


def test_doctor_lists_every_optional_package_with_what_it_enables(monkeypatch):
    from llm_scratch.cli.commands import doctor

    monkeypatch.setattr(doctor, "_version", lambda package: None if package == "pyarrow" else "1.0")
    rows = {row.name: row for row in doctor._packages()}
    assert list(rows) == [package for extra in EXTRAS.values() for package in extra.packages]
    for extra in EXTRAS.values():
        assert all(extra.enables in rows[package].value for package in extra.packages)
    assert rows["pyarrow"].value.startswith("not installed (extra 'data'")
    assert rows["pyarrow"].fix.endswith(" install pyarrow")


def test_modules_of_the_notebooks_are_in_the_wheel():
    modules = PROJECT["tool"]["setuptools"]["py-modules"]
    assert sorted(modules) == sorted(path.stem for path in (ROOT / "src").glob("*.py"))
    assert {"attention", "gpt_download"} <= set(modules)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("pip install 'llm-scratch[hf]'", True),
        ('pip install "llm-scratch"', True),
        ("pip install --upgrade llm-scratch", True),
        ("pip install llm_scratch", True),
        ("pip install transformers", False),
        ('pip install -e ".[hf]"', False),
        ("pip install llm-scratch-gpt", False),
    ],
)
def test_install_check_finds_the_name_of_another_project(line, wrong):
    assert bool(NAME.search(line)) == wrong


def test_messages_and_pages_install_only_our_package():
    folders = ["src", "docs", "lessons", "notebook", "tests", "tools", "benchmarks"]
    paths = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".ipynb")
    ]
    paths += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile")]
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()[:80]}"
        for path in paths
        if path != Path(__file__)
        for line in path.read_text(encoding="utf-8").splitlines()
        if NAME.search(line)
    ]
    assert not found
