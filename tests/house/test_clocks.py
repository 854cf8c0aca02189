"""No clock decides a default test: an assert on seconds belongs behind the marker `timing` or `slow`.

Read from the source of each test file, by these rules:
- a value is of a clock if it comes from a call in CLOCKS: through assignments, containers, attributes, and functions of the same file;
- an assert on such a value is an error;
- so is a script in a string that reads a clock, as its value comes back unseen, unless the file has a test behind a marker;
- a `timeout=` in numbers ends a hang and nothing else, so it is at least MIN_TIMEOUT_SECONDS.
Not seen: values from another file, what a subprocess prints, libraries that look at the clock (hypothesis: see tests/conftest.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CLOCKS = {
    *("perf_counter", "perf_counter_ns", "process_time", "process_time_ns", "monotonic", "monotonic_ns"),
    *("thread_time", "thread_time_ns", "time.time", "time.time_ns", "getrusage", "os.times"),
}
IN_A_SCRIPT = re.compile(r"\b(" + "|".join(re.escape(name) for name in sorted(CLOCKS, reverse=True)) + r")\(")
MIN_TIMEOUT_SECONDS = 120
MARKERS = re.compile(r"\bmark\.(timing|slow)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class ClockReader:
    """What in one test file comes from a clock, and the lines where it decides."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self.functions = [node for node in ast.walk(self.tree) if isinstance(node, Function)]
        self.of_clock: set[str] = set()
        """Names of functions, fixtures and attributes (with a dot before them) whose value is of a clock."""
        before = -1
        while len(self.of_clock) != before:
            before = len(self.of_clock)
            for function in self.functions:
                self._note(function)

    def problems(self) -> list[tuple[int, str]]:
        """(line, what is wrong), in order."""
        behind_marker = [*self._marked()]
        marked = {id(node) for part in behind_marker for node in ast.walk(part)}
        docstrings = {id(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}
        found = []
        for function in self.functions:
            names = self._names(function)
            for node in ast.walk(function):
                if isinstance(node, ast.Assert) and id(node) not in marked and self._is_of_clock(node.test, names):
                    found.append((node.lineno, "asserts on a clock"))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not behind_marker and id(node) not in docstrings:
                found += [(node.lineno, f"a script reads {match[1]}") for match in IN_A_SCRIPT.finditer(node.value)]
            if isinstance(node, ast.keyword) and node.arg == "timeout" and is_short(node.value):
                found.append((node.value.lineno, f"timeout={ast.unparse(node.value)}"))
        return sorted(set(found))

    def _marked(self) -> Iterator[ast.AST]:
        """Functions and classes with a marker; the whole file, if `pytestmark` has one."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function | ast.ClassDef) and any(MARKERS.search(ast.unparse(one)) for one in node.decorator_list):
                yield node
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark" and MARKERS.search(ast.unparse(node)):
                yield self.tree

    def _note(self, function: Function) -> None:
        """Add to `of_clock` what this function returns or assigns to attributes."""
        names = self._names(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Return | ast.Yield) and node.value is not None and self._is_of_clock(node.value, names):
                self.of_clock.add(function.name)
        self.of_clock |= {name for name in names if name.startswith(".")}

    def _names(self, function: Function) -> set[str]:
        """The names in a function whose value is of a clock, and attributes with a dot before them."""
        names = {argument.arg for argument in function.args.args if argument.arg in self.of_clock}
        before = -1
        while len(names) != before:
            before = len(names)
            for node in ast.walk(function):
                for target, value in assignments(node):
                    if self._is_of_clock(value, names):
                        names |= stored_names(target)
        return names

    def _is_of_clock(self, value: ast.AST, names: set[str]) -> bool:
        for node in ast.walk(value):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in CLOCKS | self.of_clock or called.rpartition(".")[2] in CLOCKS:
                    return True
            if isinstance(node, ast.Name) and node.id in names:
                return True
            if isinstance(node, ast.Attribute) and "." + node.attr in self.of_clock | names:
                return True
        return False


def assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """(where to, what) of a statement that stores a value: =, +=, :=, for, with, and `x.append(value)`."""
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        yield node.target, node.value
    elif isinstance(node, ast.For | ast.comprehension):
        yield node.target, node.iter
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.optional_vars, node.context_expr
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("append", "extend", "add"):
        yield from ((node.func.value, argument) for argument in node.args)


def is_short(timeout: ast.expr) -> bool:
    return isinstance(timeout, ast.Constant) and timeout.value is not None and timeout.value < MIN_TIMEOUT_SECONDS


def stored_names(target: ast.expr) -> set[str]:
    """`x` for x, x[0] and (x, y); `.when` for self.when."""
    if isinstance(target, ast.Name):
        return {target.id}
    if isinstance(target, ast.Attribute):
        return {"." + target.attr}
    if isinstance(target, ast.Subscript | ast.Starred):
        return stored_names(target.value)
    if isinstance(target, ast.Tuple | ast.List):
        return set().union(*map(stored_names, target.elts))
    return set()


def test_no_clock_decides_a_default_test():
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 100
    found = [
        f"{path.relative_to(TESTS)}:{line}: {what}; count what it does (tests/effort.py), or mark it `timing`"
        for path in files
        if path != Path(__file__)
        for line, what in ClockReader(path.read_text(encoding="utf-8")).problems()
    ]
    assert not found, "\n".join(found)


START, SPENT = "    began = time.perf_counter()\n", "    spent = time.perf_counter() - began\n"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def test_a():\n" + START + "    assert time.perf_counter() - began < 1\n", [3]),
        ("def test_a():\n" + START + SPENT + "    slowest = max(0, spent)\n    assert slowest <= 1\n", [5]),
        ("def test_a():\n" + START + "    a, b = process_time() - began, 3\n    assert a < 1\n", [4]),
        ("def test_a():\n    while time.monotonic() < end:\n        work()\n    assert end\n", []),
        ("def took(work):\n" + START + SPENT + "    return spent, 3\n\ndef test_a():\n    assert took(len)[0] < 1\n", [7]),
        ("def took():\n    return time.time()\n\ndef test_a():\n    x = [took() for _ in range(3)]\n    assert min(x) < 1\n", [6]),
        ("def test_a():\n    found = []\n    found.append(time.process_time())\n    assert min(found) < 1\n", [4]),
        ("class W:\n    def step(self):\n        self.when = time.time()\n\ndef test_a(w):\n    assert w.when < 1\n", [6]),
        ("@pytest.fixture\ndef now():\n    return time.monotonic()\n\ndef test_a(now):\n    assert now < 1\n", [6]),
        ("@pytest.mark.timing\ndef test_a():\n" + START + "    assert time.perf_counter() - began < 1\n", []),
        ("@pytest.mark.slow\ndef test_a():\n" + START + "    assert time.perf_counter() - began < 1\n", []),
        ("pytestmark = pytest.mark.timing\ndef test_a():\n    assert time.time() < 1\n", []),
        ("def test_a(monkeypatch):\n    monkeypatch.setattr(time, 'perf_counter', lambda: 3.0)\n    assert took() == 3.0\n", []),
        ("CODE = '''\nbegan = time.perf_counter()\n'''\n\ndef test_a():\n    assert run(CODE) < 1\n", [1]),
        ("def test_a():\n    '''As time.time() shows.'''\n    assert True\n", []),
        ("def test_a():\n    subprocess.run(words, timeout=60)\n", [2]),
        ("def test_a():\n    subprocess.run(words, timeout=300)\n    get(timeout=None)\n", []),
    ],
)
def test_the_reader_reads(source, lines):
    assert [line for line, _ in ClockReader(source).problems()] == lines
