"""Every exercise accepts its solution and diagnoses each known mistake.

No message gives the answer away.
"""

from __future__ import annotations

import re
from collections import namedtuple

import pytest

from llm_scratch.learn.exercise import (
    KINDS,
    TEXT_COLUMNS,
    UNANSWERED,
    Exercise,
    Verdict,
    grade,
    same,
    wrap_paragraphs,
)
from llm_scratch.learn.hang_guard import MAX_STEPS
from llm_scratch.learn.registry import EXERCISES
from llm_scratch.learn.sealed import FOLDER, open_sealed

SEEDS = range(12)
LESSONS = sorted({name.split(".")[0] for name in EXERCISES})

each_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
each_mistake = pytest.mark.parametrize(
    ("exercise", "number"),
    [
        pytest.param(e, n, id=f"{e.id}-{m.__name__}")
        for e in EXERCISES.values()
        for n, m in enumerate(open_sealed(e.id).mistakes)
    ],
)


def answer(exercise: Exercise, function, seed):
    """A learner's answer: the function, or its value for the question's inputs."""
    return function if exercise.function else function(*exercise.inputs(seed))


def verdicts(exercise: Exercise, function) -> list[Verdict]:
    return [grade(exercise, answer(exercise, function, seed), seed) for seed in SEEDS]


def diagnosis(mistake) -> str:
    return " ".join(mistake.__doc__.split())


def test_exercise_ids_are_in_order_and_each_has_a_sealed_file():
    ids = list(EXERCISES)
    assert len(ids) >= 60
    for lesson in LESSONS:
        numbers = [int(name.split(".")[1]) for name in ids if name.startswith(f"{lesson}.")]
        assert numbers == list(range(1, len(numbers) + 1))
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(ids)


@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_has_exercises_of_every_kind(lesson):
    kinds = [e.kind for e in EXERCISES.values() if e.id.startswith(f"{lesson}.")]
    assert len(kinds) >= 8
    assert set(kinds) == set(KINDS)


@each_exercise
def test_solution_passes_in_few_steps(exercise):
    solve = open_sealed(exercise.id).solve
    for seed in SEEDS:
        given = answer(exercise, solve, seed)
        assert grade(exercise, given, seed, MAX_STEPS // 100) == Verdict(True, "right")


@each_exercise
def test_exercise_knows_its_common_mistakes(exercise):
    texts = [diagnosis(mistake) for mistake in open_sealed(exercise.id).mistakes]
    assert len(texts) >= (3 if exercise.kind == "explain" else 5)
    assert len(set(texts)) == len(texts)


@each_mistake
def test_mistake_gets_its_own_diagnosis(exercise, number):
    mistake = open_sealed(exercise.id).mistakes[number]
    found = verdicts(exercise, mistake)
    assert not any(verdict.right for verdict in found)
    own = [verdict.message == diagnosis(mistake) for verdict in found]
    assert sum(own) >= 0.75 * len(own), {verdict.message for verdict in found}


@each_exercise
def test_constant_answer_fails(exercise):
    solve = open_sealed(exercise.id).solve
    for seed in SEEDS:
        written_down = solve(*exercise.inputs("another seed"))
        if exercise.function:
            first = solve(*exercise.inputs(f"{seed} 0"))
            assert not grade(exercise, lambda *_, first=first: first, seed).right
        if exercise.kind != "explain" and not exercise.function:
            others = [solve(*exercise.inputs(other)) for other in range(30)]
            assert sum(same(written_down, other, 0.006) for other in others) <= 10, (
                "too few different answers"
            )
    if exercise.kind == "explain":
        letters = {solve(*exercise.inputs(seed)) for seed in range(30)}
        assert len(letters) == 4, "the right letter must move"


def given_away(text: str, want) -> bool:
    """Whether a text contains the answer as a separate word."""
    if isinstance(want, (tuple, list)):
        return str(want) in text
    if isinstance(want, float):
        return f"{want:.2f}" in text or f"{want:.4g}" in re.findall(r"[\d.]+", text)
    return str(want) in re.findall(r"[\w.]+", text)


@each_exercise
def test_no_message_contains_the_answer(exercise):
    """Search hints and diagnoses for the answer, or for lines of the solution of a function."""
    sealed = open_sealed(exercise.id)
    texts = [*exercise.hints, *map(diagnosis, sealed.mistakes)]
    for seed in SEEDS:
        if not exercise.function:
            want = sealed.solve(*exercise.inputs(seed))
            if exercise.kind == "explain":
                assert not [text for text in texts if re.search(rf"\b{want}\)", text)]
            else:
                assert not [text for text in texts if given_away(text, want)], want
    lines = [line.strip() for line in sealed.solution.splitlines()[1:] if len(line.strip()) > 20]
    assert not [
        text for text in texts for line in lines if line in text and line not in exercise.start
    ]


@each_exercise
def test_example_shows_only_inputs_and_what_the_answer_gave(exercise):
    if not exercise.function:
        assert grade(exercise, "nonsense", 0).example == ""
        return
    verdict = grade(exercise, lambda *_: "nonsense", 0)
    assert verdict.example.startswith(f"  {exercise.function}(")
    assert verdict.example.endswith("gives 'nonsense'")


@each_exercise
def test_question_shows_its_inputs_and_fits_a_terminal(exercise):
    assert len(exercise.hints) == len(set(exercise.hints)) == 3
    texts = {exercise.text(seed) for seed in SEEDS}
    assert (len(texts) == 1) == bool(exercise.function), "numbers must change with the seed"
    for text in texts:
        assert not re.search(r"\{\d\}", text)
        assert all(len(line) <= TEXT_COLUMNS for line in text.splitlines())
        if exercise.kind == "explain":
            assert re.findall(r"^  ([a-d])\) ", text, re.MULTILINE) == list("abcd")


@each_exercise
def test_starting_code_is_valid_and_not_the_solution(exercise):
    if not exercise.start:
        return
    namespace: dict = {}
    exec(exercise.start, namespace)
    verdict = grade(exercise, namespace[exercise.function], 0)
    assert not verdict.right
    assert verdict.answered == (exercise.kind == "bug")


FUNCTION = EXERCISES["0.3"]
VALUE = EXERCISES["0.5"]


def raises(table):
    raise KeyError("oops")


@pytest.mark.parametrize(
    ("exercise", "given", "message"),
    [
        (FUNCTION, None, "not solved yet"),
        (FUNCTION, lambda table: ..., "not solved yet"),
        (FUNCTION, lambda table: None, "the function returns None; is its `return` missing?"),
        (
            FUNCTION,
            [1, 2],
            "this exercise asks for a function, `row_shares`; pass it without calling it",
        ),
        (VALUE, lambda: 3, "this exercise asks for a value, and this is a function"),
        (FUNCTION, lambda table: 3, "the answer is a number, and a list is expected"),
        (FUNCTION, lambda table: [*table, [1]], "the answer has {n} entries, which is too many"),
        (FUNCTION, raises, "the function stops with KeyError: 'oops', line {line}"),
        (VALUE, "about one", "not yet; work it out once more"),
    ],
)
def test_common_errors_have_a_diagnosis(exercise, given, message):
    found = grade(exercise, given, 0).message
    assert re.fullmatch(
        re.escape(message).replace(r"\{n\}", r"\d+").replace(r"\{line\}", r"\d+"), found
    )


def test_missing_return_on_one_path_is_diagnosed():
    def sometimes(table):
        if len(table) == 2:
            return [[number / sum(row) for number in row] for row in table]
        return None

    assert (
        grade(FUNCTION, sometimes, 0).message
        == "the function returns None for some inputs; does every path through it end in a return?"
    )


def test_output_of_an_answer_is_shown_only_for_the_example(capsys):
    def talks(table):
        print(f"table: {table}")
        return table

    verdict = grade(FUNCTION, talks, 0)
    call, printed = verdict.example.splitlines()
    assert call.startswith("  row_shares([[")
    assert printed == f"  prints: table: {call[len('  row_shares(') : call.index(') gives')]}"
    assert capsys.readouterr().out == ""


def test_special_case_is_diagnosed():
    def square_only(table):
        return (
            [[number / sum(row) for number in row] for row in table]
            if len(table) == len(table[0])
            else [[0.0] * len(r) for r in table]
        )

    assert (
        grade(FUNCTION, square_only, 0).message
        == "not yet: right for some inputs and wrong for others; look for a special case"
    )


def test_wrapping_joins_lines_and_keeps_lists():
    text = "one\ntwo three\n  a) first option\n     continued\n  b) second\nlast\n\nparagraph"
    assert wrap_paragraphs(text, 16).splitlines() == [
        "one two three",
        "  a) first",
        "     option",
        "     continued",
        "  b) second",
        "last",
        "",
        "paragraph",
    ]


def test_answer_in_float32_is_right():
    """In a notebook, a learner computes with torch, whose values have seven digits."""
    torch = pytest.importorskip("torch")

    def probabilities(logits, temperature):
        x = torch.tensor(logits)
        return (x / temperature).softmax(0) if temperature else (x == x.max()).float()

    def layer_norm(table, eps):
        x = torch.tensor(table)
        return torch.nn.functional.layer_norm(x, x.shape[1:], eps=eps)

    assert grade(EXERCISES["4.9"], probabilities, 0).right
    assert grade(EXERCISES["3.3"], layer_norm, 0).right


def test_answers_may_be_tensors_and_do_not_change_the_inputs():
    torch = pytest.importorskip("torch")

    def with_torch(table):
        x = torch.tensor(table, dtype=torch.float64)
        table[0][0] = 10**6  # a copy is changed
        return x / x.sum(1, keepdim=True)

    assert grade(FUNCTION, with_torch, 0).right


def test_missing_answer_is_not_counted_as_wrong():
    assert grade(VALUE, ..., 0) is UNANSWERED
    assert not UNANSWERED.answered
    assert str(Verdict(False, "a", "  b")) == "a\n  b"


def test_grading_does_not_import_torch():
    import subprocess
    import sys

    code = (
        "import sys; from llm_scratch.learn.registry import EXERCISES;"
        " from llm_scratch.learn.exercise import grade\n"
    )
    code += "from llm_scratch.learn.sealed import open_sealed\n"
    code += (
        "assert all(grade(e, open_sealed(e.id).solve,"
        " 0).right for e in EXERCISES.values() if e.function)\n"
    )
    code += "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_named_tuple_is_an_answer():
    pair = namedtuple("pair", "first second")
    verdict = grade(EXERCISES["0.3"], lambda table: pair(0.12345678, 2.0), "1")
    assert not verdict.right
    assert verdict.example.endswith("gives (0.1235, 2.0)")
