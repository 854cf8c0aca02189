"""benchmarks/interleaved.py: a contender that ends is named, and the others are measured on."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)  # scripts, not a package

from interleaved import Contenders  # noqa: E402

sys.path.remove(BENCHMARKS)  # its reliability.py would hide tests/reliability

ANSWERS = """
import sys
print("{}", flush=True)
for number, line in enumerate(sys.stdin):
    if number == LIMIT:
        sys.exit("not enough memory")
    print('{"number": %d}' % number, flush=True)
"""


@pytest.fixture
def ask():
    """Contenders that end when they are stopped."""
    contenders = Contenders()
    yield contenders
    contenders.stop()


def start(ask, name, code):
    ask.start(name, [sys.executable, "-S", "-c", code])


def test_contender_that_does_not_start_is_missing(ask, capsys):
    start(ask, "broken", "raise SystemExit('no such library')")
    start(ask, "silent", "raise SystemExit(3)")
    assert ask.names == []
    assert ask.missing == {"broken": "no such library", "silent": "ended with exit code 3"}
    assert "broken does not run here: no such library" in capsys.readouterr().out


def test_contender_that_ends_while_it_is_measured_is_missing(ask):
    start(ask, "steady", ANSWERS.replace("LIMIT", "-1"))
    start(ask, "dies", ANSWERS.replace("LIMIT", "1"))
    assert ask.names == ["steady", "dies"]
    answers = ask.rounds(3, lambda name: ask(name, "?")["number"])
    assert answers == {"steady": [0, 1, 2]}
    assert ask.names == ["steady"]
    assert ask.missing == {"dies": "not enough memory"}
