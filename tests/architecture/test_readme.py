"""Commands, flags, make targets, files and links in README and the other pages exist."""

import re
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import smoke_test

from llm_scratch.cli import COMMANDS
from llm_scratch.cli.flags import flag_arity
from llm_scratch.presets import OWN_TEXT, PRESETS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def commands(text: str) -> list[str]:
    """Return the command lines of a page: each line of a shell block, and inline ones.

    A line that ends in a backslash is joined with the next.
    """
    blocks = re.findall(
        r"^ *```(?:bash|sh|shell|console|powershell)\n(.*?)^ *```", text, flags=re.M | re.S
    )
    blocks += re.findall(
        r"`(llm-scratch [^`]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    )
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [
        line.strip().removeprefix("$ ").split(" #")[0].rstrip()
        for line in lines
        if line.strip() and not line.lstrip().startswith("#")
    ]


@cache
def flags_of(verb: str) -> set[str]:
    """The flags of a command, such as `--train.lr` of `train`."""
    module, _, name = COMMANDS[verb][0].rpartition(".")
    return {"--help", *flag_arity(getattr(import_module(f"llm_scratch.cli.{module}"), name))}


def unknown_flags(line: str) -> list[str]:
    """The flags of a command line that its command does not have."""
    wrong = []
    for part in re.split(r" (?:&&|\|\||[;|>]) ", line):
        command = re.search(r"llm[-_]scratch (.*)", part)
        words = shlex.split(command[1]) if command else []
        verb = next((verb for n in (2, 1) if (verb := " ".join(words[:n])) in COMMANDS), None)
        if verb:
            given = [
                word.partition("=")[0].replace("_", "-")
                for word in words
                if re.match(r"--[a-z]", word)
            ]
            if "--import" in words:  # the file may define an architecture with settings of its own
                given = [flag for flag in given if not flag.startswith("--model.")]
            wrong += [f"flag {flag!r}" for flag in given if flag not in flags_of(verb)]
    return wrong


def unknown_words(line: str) -> list[str]:
    """The words of a command line that name something missing."""
    wrong = []
    for verb in re.findall(r"llm-scratch ((?:[a-z][a-z0-9-]* ?)*)", line):
        words = verb.split()
        if words and words[0] not in COMMANDS and " ".join(words[:2]) not in COMMANDS:
            wrong.append(f"verb {verb!r}")
        if (
            words[:1] == ["train"]
            and words[1:2]
            and words[1] not in [*PRESETS, OWN_TEXT]
            and "--import" not in line
        ):
            wrong.append(f"preset {words[1]!r}")
    wrong += unknown_flags(line)
    for rest in re.findall(r"(?:^|[;&|] *)make((?: +[^;&|\s]+)*)", line):
        wrong += [
            f"target {word!r}"
            for word in rest.split()
            if "=" not in word and word.isidentifier() and word not in TARGETS
        ]
    for path in re.findall(
        r"(?<![\w/.])((?:lessons|benchmarks|notebook|tests|tools|src|docs|\.ci)/[\w./-]+)", line
    ):
        if not (ROOT / path).exists():
            wrong.append(f"file {path!r}")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_documented_commands_exist(page):
    wrong = [
        f"{line!r}: {', '.join(words)}"
        for line in commands(page.read_text(encoding="utf-8"))
        if (words := unknown_words(line))
    ]
    assert not wrong, "\n".join(wrong)


def test_smoke_test_commands_exist():
    lines = [" ".join(f"llm-scratch {words}".split()) for words in smoke_test.COMMANDS.values()]
    assert not [word for line in lines for word in unknown_words(line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_of_documentation_resolve(page):
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    dead = [
        link
        for link in links
        if not re.match(r"[a-z]+:|#", link) and not (page.parent / link.split("#")[0]).exists()
    ]
    assert not dead, dead


def test_readme_names_the_two_commands():
    lines = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"make demo", "make test"} <= set(lines)


def test_makefile_has_the_documented_targets():
    assert {"setup", "demo", "test", "test-slow", "lessons", "bench", "check"} <= TARGETS


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("llm-scratch train quickstart --out runs/x", []),
        ("llm-scratch trian quickstart", ["verb 'trian quickstart'"]),
        ("llm-scratch train quikstart", ["preset 'quikstart'"]),
        ("llm-scratch tokenizer show gpt2 hello", []),
        ("llm-scratch --help", []),
        ("cd llm && make demo PIP_FLAGS=x", []),
        ("llm-scratch train quickstart --train.lrr 1 --out x", ["flag '--train.lrr'"]),
        ("llm-scratch train quickstart --train.eval_every=5 --model.no-tie-embeddings", []),
        (
            'llm-scratch generate gpt2 "a --mistake in quotes" --top-k 5 --topk 5 | head',
            ["flag '--topk'"],
        ),
        (
            "torchrun --nproc-per-node 2 -m llm_scratch tokenizer train verdict --vocab 300",
            ["flag '--vocab'"],
        ),
        ("make demoo", ["target 'demoo'"]),
        ("python lessons/step9_nothing.py", ["file 'lessons/step9_nothing.py'"]),
    ],
)
def test_unknown_words_finds_missing_commands(line, wrong):
    assert unknown_words(line) == wrong


def test_commands_joins_continued_lines():
    text = "x `llm-scratch a --b` y\n"
    text += (
        "```bash\n$ make demo  # two minutes\nllm-scratch train \\\n "
        " quickstart\n```\n```python\nmake nothing\n```\n"
    )
    assert [line.split() for line in commands(text)] == [
        ["make", "demo"],
        ["llm-scratch", "train", "quickstart"],
        ["llm-scratch", "a", "--b"],
    ]
