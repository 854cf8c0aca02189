"""The autograd of lesson 0 gives torch's gradients."""

import math
import random

import pytest
import torch

from llm_scratch.learn.autograd import Value

FORMULAS = {
    "sum and product": lambda a, b, c: a * b + c,
    "a value used twice": lambda a, b, c: a * a + a * b,
    "difference": lambda a, b, c: 3 - (a - b) - c,
    "quotient": lambda a, b, c: a / b + 2 / c,
    "power": lambda a, b, c: a**3 + b**0.5 * c**-1,
    "softmax": lambda a, b, c: a.exp() / (a.exp() + b.exp() + c.exp()),
    "log": lambda a, b, c: (a * b).log() * -c,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_equal_torchs(name):
    numbers = [random.Random(name).uniform(0.2, 2) for _ in "abc"]
    ours = [Value(number) for number in numbers]
    theirs = [torch.tensor(number, dtype=torch.float64, requires_grad=True) for number in numbers]
    result, expected = FORMULAS[name](*ours), FORMULAS[name](*theirs)
    result.backward()
    expected.backward()
    assert result.data == pytest.approx(expected.item(), rel=1e-12)
    assert [v.grad for v in ours] == pytest.approx(
        [0.0 if t.grad is None else t.grad.item() for t in theirs], rel=1e-12
    )


def test_gradients_add_up_until_they_are_reset():
    a = Value(2)
    (a * 3).backward()
    (a * 3).backward()
    assert a.grad == 6.0


def test_long_chain_needs_no_recursion():
    a = Value(1)
    total = Value(0)
    for _ in range(5000):
        total = total + a
    total.backward()
    assert (total.data, a.grad) == (5000, 5000)


def test_repr_of_a_value_shows_data_and_gradient():
    a = Value(math.pi)
    (a * 2).backward()
    assert repr(a) == "Value(3.142, grad=2)"
