"""Automatic differentiation in 50 lines: numbers that remember how they were computed.

Each operation stores its inputs and its slope with respect to each of them. `backward` walks from
the result to the inputs and multiplies and adds slopes: the chain rule. Lesson 0 builds it step by
step; torch does the same with whole tensors.
Tests: tests/learn/test_autograd.py.
"""

from __future__ import annotations

import math
from itertools import count

_next_number = count()


class Value:
    """A number with its gradient: d(result) / d(this number), filled in by `backward`.

    Attributes:
        data: the number.
        grad: the gradient; `backward` adds to it, so set it to 0 before a second call.
        parents: the values from which it was computed.
        slopes: d(this) / d(parent), for each parent.
    """

    def __init__(
        self, data: float, parents: tuple[Value, ...] = (), slopes: tuple[float, ...] = ()
    ) -> None:
        self.data, self.grad = float(data), 0.0
        self.parents, self.slopes = parents, slopes
        # parents have smaller numbers than the values computed from them
        self.number = next(_next_number)

    def __repr__(self) -> str:
        return f"Value({self.data:.4g}, grad={self.grad:.4g})"

    def __add__(self, other: Value | float) -> Value:
        other = _value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: Value | float) -> Value:
        other = _value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, power: float) -> Value:
        return Value(self.data**power, (self,), (power * self.data ** (power - 1),))

    def __neg__(self) -> Value:
        return self * -1.0

    def __sub__(self, other: Value | float) -> Value:
        return self + -_value(other)

    def __rsub__(self, other: float) -> Value:
        return _value(other) - self

    def __truediv__(self, other: Value | float) -> Value:
        return self * _value(other) ** -1.0

    def __rtruediv__(self, other: float) -> Value:
        return _value(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def exp(self) -> Value:
        """e to the power of this number; the result is its own slope."""
        result = math.exp(self.data)
        return Value(result, (self,), (result,))

    def log(self) -> Value:
        """The natural logarithm; its slope is 1 / number."""
        return Value(math.log(self.data), (self,), (1.0 / self.data,))

    def backward(self) -> None:
        """Add d(this) / d(value) to `grad` of every value from which this one was computed."""
        visited, waiting = {self}, [self]
        while waiting:
            new = set(waiting.pop().parents) - visited
            visited |= new
            waiting += new
        self.grad = 1.0
        for value in sorted(visited, key=lambda value: value.number, reverse=True):
            for parent, slope in zip(value.parents, value.slopes):
                parent.grad += slope * value.grad


def _value(number: Value | float) -> Value:
    return number if isinstance(number, Value) else Value(number)
