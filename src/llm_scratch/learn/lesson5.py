"""Exercises of lesson 5: what is in a file of weights. Their solutions are sealed.

Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from llm_scratch.learn.exercise import Exercise, choices


def _float_bits(rng: Random) -> tuple[Any, ...]:
    return rng.randint(0, 1), rng.randint(128, 133), rng.choice(("01", "10", "11", "001", "101"))


def _half(rng: Random) -> tuple[Any, ...]:
    (bits,) = struct.unpack("<I", struct.pack("<f", rng.uniform(-50, 50)))
    return (bits >> 16,)


def _weights_row(rng: Random) -> tuple[Any, ...]:
    row = [round(rng.uniform(-1, 1), 2) for _ in range(rng.randint(2, 4))]
    largest = max(map(abs, row)) + round(rng.uniform(0.1, 1), 2)
    return [*row, rng.choice((-largest, largest))], rng.choice((4, 6, 8))


def _integers_and_scales(rng: Random) -> tuple[Any, ...]:
    rows, columns = rng.randint(2, 3), rng.randint(2, 3)
    integers = [[rng.randint(-127, 127) for _ in range(columns)] for _ in range(rows)]
    return integers, [round(rng.uniform(0.01, 0.1), 3) for _ in range(rows)]


def _matrix_size(rng: Random) -> tuple[Any, ...]:
    return tuple(rng.sample(range(20, 90), 2))


@dataclass(frozen=True)
class _Call:
    """An object whose pickle calls a function when it is read."""

    function: Callable[[str], Any]
    text: str

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, (self.text,)


def _pickle(rng: Random) -> tuple[Any, ...]:
    values: list[Any] = []
    for word in rng.choices(("lr", "RMS", "step", "R", "bias", "REDUCE"), k=rng.randint(1, 4)):
        function = rng.choice((str, len, None))
        values.append(_Call(function, word) if function else word)
    return (pickle.dumps(values, protocol=2),)


def _safetensors(rng: Random) -> tuple[Any, ...]:
    names = rng.sample(("w", "b", "scale"), rng.randint(2, 3))
    header: dict[str, Any] = {}
    data = b""
    for name in names:
        numbers = [float(rng.randint(-99, 99)) for _ in range(rng.randint(1, 3))]
        end = len(data) + 4 * len(numbers)
        header[name] = {"dtype": "F32", "shape": [len(numbers)], "data_offsets": [len(data), end]}
        data += struct.pack(f"<{len(numbers)}f", *numbers)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data, rng.choice(names)


def _layer_of_gpt2(rng: Random) -> tuple[Any, ...]:
    width = 12 * rng.randint(4, 60)
    return width, *rng.choice(
        (
            ("attn.c_attn", "query, key and value side by side", 3 * width),
            ("mlp.c_fc", "the first layer of the feed-forward network", 4 * width),
        )
    )


def _fused(rng: Random) -> tuple[Any, ...]:
    width = rng.choice((2, 2, 3))
    numbers = rng.sample(range(100), 3 * width * width)
    return [numbers[3 * width * i : 3 * width * (i + 1)] for i in range(width)], width


def _square_matrix(rng: Random) -> tuple[Any, ...]:
    return choices(
        rng,
        "its loss on a text whose loss is known, or its logits on fixed ids",
        "the shapes of all matrices: one that is turned over does not fit",
        "the number of parameters: it changes if a matrix is turned over",
        "the size of the file, as the header says it",
    )


def _weight_and_bit(rng: Random) -> tuple[Any, ...]:
    return round(rng.uniform(2, 60), 1), rng.choice((20, 21, 22, 24))


EXERCISES = (
    Exercise(
        "5.1",
        "A number from its bits",
        "compute",
        _float_bits,
        """
A float32 has the sign bit {0}, the exponent {1} (as a whole number), and the digits {2} followed
by zeros. Which number is it?
""",
        (
            "Section 5.1 checks a number by this formula: sign, times power of two, times digits.",
            "The power of two is the exponent minus 127.",
            "The digits are binary places after a point, and before the point there is a one.",
        ),
    ),
    Exercise(
        "5.2",
        "From bfloat16 to float32",
        "implement",
        _half,
        """
A bfloat16 number is the upper half of a float32. `half` is an integer with these 16 bits. Return
the number that they stand for. `struct.unpack("<f", data)[0]` makes a float32 of four bytes, the
lowest first.
""",
        (
            "The upper half of 32 bits. What is in the lower half?",
            "Shifting to the left by some bits makes room for the lower half.",
            "`number.to_bytes(4, 'little')` gives four bytes, the lowest first.",
        ),
        start="""
import struct


def from_bfloat16(half):
    return ...  # your code
""",
    ),
    Exercise(
        "5.3",
        "Quantization, with a bug",
        "bug",
        _weights_row,
        """
Quantize a row of weights to integers of `bits` bits: the largest weight in size becomes the
largest level or its negative, and all weights are rounded to levels. Return the integers and the
scale. This works for some rows only. Find and fix the bug.
""",
        (
            "Try a row whose weight of largest magnitude is negative.",
            "Which integers come out? With 8 bits, they should be from -127 to 127.",
            "`max` compares numbers, not their magnitudes. `abs` gives the magnitude.",
        ),
        start="""
def quantize(row, bits):
    largest_level = 2 ** (bits - 1) - 1
    scale = max(row) / largest_level
    return [round(weight / scale) for weight in row], scale
""",
    ),
    Exercise(
        "5.4",
        "And back again",
        "implement",
        _integers_and_scales,
        """
Turn a quantized matrix back into weights. `integers` is a list of rows, and `scales` has one
scale for each row.
""",
        (
            "What did quantization divide by?",
            "A scale belongs to a whole row.",
            "`zip(integers, scales)` gives each row with its scale.",
        ),
        start="""
def dequantize(integers, scales):
    return ...  # your code
""",
    ),
    Exercise(
        "5.5",
        "How much memory is saved?",
        "compute",
        _matrix_size,
        """
A matrix of {0} rows and {1} columns is stored with 8 bits a weight, and a float32 scale for each
row. How many bytes does it take?
""",
        (
            "A byte has eight bits.",
            "Add the scales. How many are there, and how many bytes has a float32?",
            "Section 5.1 says how many bytes a float32 takes.",
        ),
    ),
    Exercise(
        "5.6",
        "Would it run something?",
        "implement",
        _pickle,
        """
How many calls does a pickle make when it is read? Count the `REDUCE` instructions without reading
it. `pickletools.genops(pickled)` gives (instruction, value, place) for each instruction; an
instruction has a `name`.
""",
        (
            "A wrong answer shows a pickle. Print the name of each of its instructions.",
            (
                "The letters of the name may also be in a text that was pickled."
                " Compare instructions only."
            ),
            "True counts as one in a sum.",
        ),
        start="""
import pickletools


def n_calls(pickled):
    return ...  # your code
""",
    ),
    Exercise(
        "5.7",
        "A reader of safetensors",
        "implement",
        _safetensors,
        """
Read one tensor from the bytes of a safetensors file, and return its numbers as a list. All of
ours are F32. Section 5.3 has the format; `struct.unpack("<3f", data)` makes three numbers of
twelve bytes, the lowest byte of each first.
""",
        (
            "The first eight bytes are the length of the header, the lowest byte first.",
            "Offsets in the header are counted from where the header ends.",
            "`json.loads` reads the header. `f'<{n}f'` is the format for n numbers.",
        ),
        start="""
import json
import struct


def read_tensor(data, name):
    return ...  # your code
""",
    ),
    Exercise(
        "5.8",
        "The shape of a Conv1D",
        "predict",
        _layer_of_gpt2,
        """
A GPT-2 of width {0} is stored under Hugging Face's names, whose layers compute `x @ w`. What is
the shape of the weight `{1}`, which is {2}?
""",
        (
            "`x` ends with the width. A product needs equal inner sizes.",
            "PyTorch's `Linear` computes `x @ w.T`. This layer does not turn its matrix over.",
            "How wide is the result: the width times three, or times the factor of the network?",
        ),
    ),
    Exercise(
        "5.9",
        "Cut in three and transposed",
        "implement",
        _fused,
        """
`fused` is the c_attn matrix of a GPT-2: `width` rows, and in each row the columns of query, key
and value, side by side. Return three matrices, for query, key and value, as PyTorch's `Linear`
keeps them: [out, in].
""",
        (
            "Cut each row into three equal parts first.",
            "The first part of every row, together, is the matrix of query, not turned over yet.",
            "`zip(*matrix)` exchanges rows and columns.",
        ),
        start="""
def split_qkv(fused, width):
    return ...  # your code
""",
    ),
    Exercise(
        "5.10",
        "Was it loaded rightly?",
        "explain",
        _square_matrix,
        """
A GPT-2 was loaded, and one square matrix of it is turned over (transposed). Which check notices?
{0}
Answer with the letter.
""",
        (
            "A square matrix that is turned over: which of its properties change?",
            "It still multiplies, so there is no error. What comes out?",
            "Section 4.9 turns a matrix over on purpose. What does it look at?",
        ),
    ),
    Exercise(
        "5.11",
        "One bit of a weight",
        "experiment",
        _weight_and_bit,
        """
A weight is {0}, as a float32. Flip its bit {1}, counted from 0, the lowest. What is it then? Use
`struct` as section 5.5 does. Two digits after the point are enough.
""",
        (
            "`struct.pack` makes four bytes, `int.from_bytes` a whole number of them.",
            "The operator `^` flips bits: `number ^ 1 << bit`.",
            "Bit 31 is the sign, 23 to 30 are the exponent, the lower ones are digits.",
        ),
    ),
)
