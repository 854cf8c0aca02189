"""No clock decides a default test: an assert on seconds belongs behind `timing` or `slow`.

Read from the source of each test file, by these rules:
- a value comes from a clock if a call in CLOCKS made it, also through assignments, containers,
  attributes, and functions of the same file;
- an assert on such a value is an error;
- so is a script in a string that reads a clock, since its value cannot be followed, unless the file
  has a test behind a marker;
- a numeric `timeout=` only ends a hang, so it is at least MIN_TIMEOUT_SECONDS.
Not detected: values from another file, output of a subprocess, and libraries that read the clock
by themselves (hypothesis does: see tests/conftest.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CLOCKS = {"perf_counter", "process_time", "monotonic", "thread_time", "time.time"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS} | {"getrusage", "os.times"}
IN_A_SCRIPT = re.compile(rf"\b({'|'.join(map(re.escape, CLOCKS))})\(")
MIN_TIMEOUT_SECONDS = 120
STORING = ("append", "extend", "add")
MARKERS = re.compile(r"\bmark\.(timing|slow)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class ClockReader:
    """The values of one test file that come from a clock, and the lines that assert on them."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self.functions = [node for node in ast.walk(self.tree) if isinstance(node, Function)]
        self.of_clock: set[str] = set()
        """Functions, fixtures and attributes (with a dot before them) whose value is of a clock."""
        before = -1
        while len(self.of_clock) != before:
            before = len(self.of_clock)
            for function in self.functions:
                self._note(function)

    def problems(self) -> list[tuple[int, str]]:
        """(line, what is wrong), in order."""
        behind_marker = [*self._marked()]
        marked = {id(node) for part in behind_marker for node in ast.walk(part)}
        found = [(line, "asserts on a clock") for line in self._asserts(marked)]
        docstrings = {id(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(self.tree):
            is_timeout = (
                isinstance(node, ast.keyword) and node.arg == "timeout" and id(node) not in marked
            )
            if is_timeout and is_short(node.value):
                found.append((node.value.lineno, f"timeout={ast.unparse(node.value)}"))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                script = IN_A_SCRIPT.search(node.value)
                if script and not behind_marker and id(node) not in docstrings:
                    found.append((node.lineno, f"a script reads {script[1]}"))
        return sorted(set(found))

    def _asserts(self, marked: set[int]) -> Iterator[int]:
        """The lines of asserts on a clock, outside of marked tests."""
        for function in self.functions:
            names = self._names(function)
            for node in ast.walk(function):
                unmarked = isinstance(node, ast.Assert) and id(node) not in marked
                if unmarked and self._is_of_clock(node.test, names):
                    yield node.lineno

    def _marked(self) -> Iterator[ast.AST]:
        """Functions and classes with a marker; the whole file, if `pytestmark` has one."""
        for node in ast.walk(self.tree):
            decorators = node.decorator_list if isinstance(node, Function | ast.ClassDef) else []
            if any(MARKERS.search(ast.unparse(decorator)) for decorator in decorators):
                yield node
            statement = ast.unparse(node) if isinstance(node, ast.Assign) else ""
            if statement.startswith("pytestmark = ") and MARKERS.search(statement):
                yield self.tree

    def _note(self, function: Function) -> None:
        """Add to `of_clock` what this function returns or assigns to attributes."""
        names = self._names(function)
        for node in ast.walk(function):
            value = node.value if isinstance(node, ast.Return | ast.Yield) else None
            if value is not None and self._is_of_clock(value, names):
                self.of_clock.add(function.name)
        self.of_clock |= {name for name in names if name.startswith(".")}

    def _names(self, function: Function) -> set[str]:
        """The names in a function whose value comes from a clock; attributes begin with a dot."""
        names = {given.arg for given in function.args.args if given.arg in self.of_clock}
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
    """(where to, what) of code that stores a value: =, +=, :=, for, with, `x.append(value)`."""
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr):
        if node.value is not None:
            yield node.target, node.value
    elif isinstance(node, ast.For | ast.comprehension):
        yield node.target, node.iter
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.optional_vars, node.context_expr
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in STORING:
        yield from ((node.func.value, argument) for argument in node.args)


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


def is_short(timeout: ast.expr) -> bool:
    """Whether this is a number of seconds below MIN_TIMEOUT_SECONDS."""
    seconds = timeout.value if isinstance(timeout, ast.Constant) else None
    return seconds is not None and seconds < MIN_TIMEOUT_SECONDS


def patches_of_time(tree: ast.AST) -> list[int]:
    """Return the lines that replace a function of the module `time` for the whole process.

    A thread that sleeps in a loop then spins,
    or takes what the test prepared for the code under test.
    """
    found = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "setattr"
            and node.args
        ):
            target = node.args[0]
            named = isinstance(target, ast.Name) and target.id == "time"
            if named or (
                isinstance(target, ast.Constant)
                and re.match(r"(.*\.)?time\.\w+$", str(target.value))
            ):
                found.append(node.lineno)
    return found


def test_no_test_replaces_the_clock_of_the_whole_process():
    found = [
        f"{path.relative_to(TESTS)}:{line}:"
        " replace the name that the module imported, as in mine.sleep"
        for path in sorted(TESTS.rglob("*.py"))
        for line in patches_of_time(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, found


def test_clock_check_finds_replaced_clocks():
    code = (
        'm.setattr(time, "sleep", f)\nm.setattr("llm_scratch.x.time.sleep",'
        ' f)\nm.setattr("llm_scratch.x.sleep", f)\n'
    )
    assert patches_of_time(ast.parse(code)) == [1, 2]


def test_default_tests_do_not_assert_on_clocks():
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 100
    found = [
        f"{path.relative_to(TESTS)}:{line}: {what}"
        for path in files
        if path != Path(__file__)
        for line, what in ClockReader(path.read_text(encoding="utf-8")).problems()
    ]
    advice = "count what is done (tests/effort.py), or mark the test `timing`"
    assert not found, "\n".join([*found, advice])


TIMED = """
def test_a():
    began = time.perf_counter()
    work()
    assert time.perf_counter() - began < 1
"""
THROUGH_NAMES = """
def test_a():
    began, slowest = process_time(), 0
    spent = process_time() - began
    slowest = max(slowest, spent)
    found = []
    found.append(slowest)
    assert len(words) > 3
    assert min(found) < 1
"""
THROUGH_A_FUNCTION = """
def took(work):
    began = time.monotonic()
    return work(), time.monotonic() - began

def test_a():
    every = [took(work) for _ in range(3)]
    assert min(every)[1] < 1
"""
THROUGH_A_FIXTURE = """
@pytest.fixture
def now():
    yield time.time()

def test_a(now):
    assert now < 1
"""
THROUGH_AN_ATTRIBUTE = """
class Watcher:
    def step(self, run):
        self.when = time.time()

def test_a(watcher):
    assert watcher.when < 1
"""
DEADLINE = """
def test_a():
    while time.monotonic() < end:
        work()
    assert end
    subprocess.run(words, timeout=PATIENCE_SECONDS)
    get(timeout=None)
"""
FAKE_CLOCK = """
def test_a(monkeypatch):
    '''By a clock instead of time.time().'''
    monkeypatch.setattr(time, "perf_counter", lambda: 3.0)
    assert took() == 3.0
"""
SCRIPT = """
CODE = "began = time.perf_counter()"

def test_a():
    assert run(CODE) < 1
"""


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (TIMED, [5]),
        (THROUGH_NAMES, [9]),
        (THROUGH_A_FUNCTION, [8]),
        (THROUGH_A_FIXTURE, [7]),
        (THROUGH_AN_ATTRIBUTE, [7]),
        (SCRIPT, [2]),
        ("def test_a():\n    subprocess.run(words, timeout=60)", [2]),
        (DEADLINE, []),
        (FAKE_CLOCK, []),
        ("@pytest.mark.timing" + TIMED, []),
        ("@pytest.mark.slow" + TIMED, []),
        ("pytestmark = pytest.mark.timing" + TIMED + SCRIPT, []),
    ],
)
def test_clock_reader_finds_every_kind_of_assertion(source, lines):
    assert [line for line, _ in ClockReader(source).problems()] == lines
