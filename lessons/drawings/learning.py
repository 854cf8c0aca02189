"""Drawings of lesson 0: tensors, the training loop, gradients, optimizers."""

from __future__ import annotations

import math

from drawings.svg import Drawing


def tensor_shapes() -> Drawing:
    """Numbers, lists, tables and stacks of tables."""
    d = Drawing(
        (
            "Four tensors: a number, a list of 4, a table of 3 rows and 4 columns,"
            " and a stack of 2 such tables"
        ),
        214,
    )
    top, cell = 66, 26
    d.text(62, 26, "a number", 14, "middle", bold=True)
    d.text(62, 46, "()", 13, "middle", "soft", mono=True)
    d.text(190, 26, "a list", 14, "middle", bold=True)
    d.text(190, 46, "(4)", 13, "middle", "soft", mono=True)
    d.text(372, 26, "a table", 14, "middle", bold=True)
    d.text(372, 46, "(3, 4)", 13, "middle", "soft", mono=True)
    d.text(590, 26, "a stack of tables", 14, "middle", bold=True)
    d.text(590, 46, "(2, 3, 4)", 13, "middle", "soft", mono=True)
    d.cells(49, top, [""], cell, cell, "blue", 3)
    d.cells(133, top, [""] * 4, cell, cell, "blue", 3)
    for row in range(3):
        d.cells(315, top + row * 29, [""] * 4, cell, cell, "blue", 3)
    for x, y, color in ((558, top, "pink"), (512, top + 38, "blue")):
        d.box(x - 6, y - 6, 125, 96, color="paper", corner=8)
        for row in range(3):
            d.cells(x, y + row * 29, [""] * 4, cell, cell, color, 3)
    d.text(304, top + 42, "3 rows", 12, "end", "soft")
    d.text(372, top + 102, "4 columns", 12, "middle", "soft")
    d.text(654, top + 112, "2 tables", 12, "start", "soft")
    return d


def matrix_product() -> Drawing:
    """One entry of a matrix product."""
    d = Drawing(
        (
            "One entry of a matrix product:"
            " a row of the first matrix times a column of the second, added up"
        ),
        236,
    )
    first, second = [["1", "2", "3"], ["4", "5", "6"]], [["1", "0"], ["0", "1"], ["1", "1"]]
    for i, row in enumerate(first):
        d.cells(60, 76 + i * 38, row, 34, 34, "blue" if i == 1 else "grey")
    d.text(196, 111, "@", 20, "middle")
    for i, row in enumerate(second):
        d.cells(220, 57 + i * 38, row, 34, 34, ["orange", "grey"])
    d.text(324, 111, "=", 20, "middle")
    for i, row in enumerate([["4", "5"], ["10", "11"]]):
        d.cells(350, 76 + i * 38, row, 34, 34, ["green", "grey"] if i == 1 else "grey")
    for x, shape in ((115, "[2, 3]"), (257, "[3, 2]"), (387, "[2, 2]")):
        d.text(x, 28, shape, 13, "middle", "soft", mono=True)
    d.arrow((460, 164), (367, 164), (367, 152), color="green")
    d.text(468, 164, "4·1 + 5·0 + 6·1 = 10", 15, mono=True)
    d.caption(
        "The inner sizes, 3 and 3, must agree, and disappear. The outer ones, 2 and 2, remain."
    )
    return d


def training_loop() -> Drawing:
    """Batch, model, loss, gradient, step, and around again."""
    d = Drawing(
        (
            "The training loop: batch, model, logits, loss;"
            " then gradients flow back, and the optimizer turns the parameters"
        ),
        258,
    )
    for x, label, color in (
        (24, "batch|of text", "grey"),
        (204, "model", "blue"),
        (384, "logits", "grey"),
        (564, "loss", "orange"),
    ):
        d.box(x, 58, 132, 56, label, color, 15)
    for x in (156, 336, 516):
        d.arrow((x, 86), (x + 48, 86))
    d.arrow((90, 58), (90, 26), (630, 26), (630, 58))
    d.text(360, 26, "targets: what really came next", 13, "middle", "soft", halo=True)
    d.arrow((630, 114), (630, 160), color="red")
    d.box(500, 160, 196, 52, "gradient|of every parameter", "red")
    d.arrow((500, 186), (366, 186), color="red")
    d.text(433, 172, "backward", 13, "middle", "red-text")
    d.box(174, 160, 192, 52, "optimizer|makes a step", "green")
    d.arrow((270, 160), (270, 114), color="green")
    d.text(282, 138, "all parameters, turned a little", 13, color="green-text")
    d.caption(
        "One round is a step. A real run makes hundreds to millions of them,"
        " each with another batch."
    )
    return d


def backward() -> Drawing:
    """The chain rule on a graph of three operations."""
    d = Drawing(
        (
            "The computation x times x plus e to the x as a graph:"
            " values flow right, slopes flow back and are added at x"
        ),
        300,
    )
    d.circle(92, 138, 36, "x = 3", "blue", 16)
    d.box(290, 50, 140, 56, "x · x = 9", "grey", 16)
    d.box(290, 170, 140, 56, "exp(x) = 20.09", "grey", 15)
    d.circle(610, 138, 44, "29.09", "orange", 16)
    d.text(610, 72, "sum", 14, "middle", bold=True)
    for x0, y0, x1, y1, bend in (
        (128, 126, 290, 66, -1),
        (128, 150, 290, 210, 1),
        (430, 66, 568, 124, -1),
        (430, 210, 568, 152, 1),
    ):
        d.arrow((x0, y0), (x1, y1))
        d.arrow(
            (x1 - 2, y1 - 13 * bend),
            (x0 + 4, y0 - (9 if x0 < 200 else 13) * bend),
            color="red",
            dashed=True,
        )
    d.text(214, 106, "3 + 3", 14, "middle", "red-text", mono=True, halo=True)
    d.text(214, 171, "20.09", 14, "middle", "red-text", mono=True, halo=True)
    d.text(496, 106, "1", 14, "middle", "red-text", mono=True, halo=True)
    d.text(496, 171, "1", 14, "middle", "red-text", mono=True, halo=True)
    d.arrow((92, 196), (92, 176), color="red")
    d.text(92, 208, "6 + 20.09", 14, "middle", "red-text", mono=True)
    d.text(92, 228, "= 26.09", 14, "middle", "red-text", mono=True)
    d.line((180, 268), (220, 268))
    d.text(228, 268, "values, forward", 13, color="soft")
    d.line((370, 268), (410, 268), color="red", dashed=True)
    d.text(418, 268, "slopes, backward from the end", 13, color="soft")
    return d


def _paths() -> dict[str, list[tuple[float, float]]]:
    """Ways of four optimizers down 0.5 (20 x^2 + y^2), as in lesson 0; x across the valley."""
    steep, flat, start = 20.0, 1.0, (1.0, 2.0)
    paths: dict[str, list[tuple[float, float]]] = {
        "SGD": [start],
        "momentum": [start],
        "AdamW": [start],
        "Muon": [start],
    }
    vx = vy = 0.0
    mean, square, ax, ay = [0.0, 0.0], [0.0, 0.0], 0.0, 0.0
    for n in range(1, 22):
        x, y = paths["SGD"][-1]
        paths["SGD"].append((x - 0.09 * steep * x, y - 0.09 * flat * y))
        x, y = paths["momentum"][-1]
        vx, vy = 0.9 * vx + steep * x, 0.9 * vy + flat * y
        paths["momentum"].append((x - 0.02 * vx, y - 0.02 * vy))
        x, y = paths["AdamW"][-1]
        gradient, new = (steep * x, flat * y), []
        for i, g in enumerate(gradient):
            mean[i], square[i] = 0.9 * mean[i] + 0.1 * g, 0.999 * square[i] + 0.001 * g * g
            new.append(0.1 * (mean[i] / (1 - 0.9**n)) / math.sqrt(square[i] / (1 - 0.999**n)))
        paths["AdamW"].append((x - new[0], y - new[1]))
        x, y = paths["Muon"][-1]
        ax, ay = 0.95 * ax + 0.05 * steep * x, 0.95 * ay + 0.05 * flat * y
        ahead = 0.95 * ax + 0.05 * steep * x, 0.95 * ay + 0.05 * flat * y
        paths["Muon"].append((x - math.copysign(0.1, ahead[0]), y - math.copysign(0.1, ahead[1])))
    return paths


def optimizers() -> Drawing:
    """A valley with the ways that two optimizers take through it."""
    d = Drawing(
        (
            "A long valley seen from above:"
            " SGD bounces between its walls, Muon crosses it in a straight line"
        ),
        300,
    )

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return 90 + (2.0 - point[1]) * 190, 142 + point[0] * 88

    goal = at((0, 0))
    for level in (0.05, 0.25, 0.7, 1.6, 3.2, 5.6, 9.0):
        d.ellipse(*goal, math.sqrt(2 * level) * 190, math.sqrt(2 * level / 20) * 88)
    paths = _paths()
    for name, color in (("SGD", "red"), ("Muon", "blue")):
        points = [at(point) for point in paths[name][:20]]
        d.line(*points, color=color, width=2)
        for x, y in points[1:]:
            d.dot(x, y, color)
    d.circle(*at((1.0, 2.0)), 6, color="grey")
    d.circle(*goal, 6, color="green")
    d.text(78, 230, "start", 13, "end", "soft", halo=True)
    d.text(goal[0] + 12, 142, "lowest loss", 13, color="green-text", bold=True, halo=True)
    d.text(
        140,
        40,
        "SGD: down the steepest wall, again and again",
        13,
        color="red-text",
        bold=True,
        halo=True,
    )
    d.text(
        190, 222, "Muon: equally fast across and along", 13, color="blue-text", bold=True, halo=True
    )
    d.caption("A valley seen from above. Each ring joins places of equal loss.")
    return d


DRAWINGS = (tensor_shapes, matrix_product, training_loop, backward, optimizers)
