"""Drawings of lesson 0: tensors, the training loop, gradients, optimizers."""

from __future__ import annotations

import math

from drawings.svg import Drawing


def tensor_shapes() -> Drawing:
    """Numbers, lists, tables and stacks of tables."""
    d = Drawing(
        "Four tensors: a number, a list of 4, a table of 3 rows and 4 columns,"
        " and a stack of 2 such tables",
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
        "One entry of a matrix product:"
        " a row of the first matrix times a column of the second, added up",
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
    """Batch, model, loss, gradient, step, as a loop."""
    d = Drawing(
        "The training loop: batch, model, logits, loss;"
        " then gradients flow back, and the optimizer turns the parameters",
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
        "The computation x times x plus e to the x as a graph:"
        " values flow right, slopes flow back and are added at x",
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
    """Paths of four optimizers down 0.5 (20 x^2 + y^2), as in lesson 0; x across the valley."""
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
    """A valley with the paths of two optimizers through it."""
    d = Drawing(
        "A long valley seen from above:"
        " SGD bounces between its walls, Muon crosses it in a straight line",
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


def broadcasting() -> Drawing:
    """A table divided by a column, which is repeated."""
    d = Drawing(
        "Broadcasting: a table of shape (2, 3) is divided by a column of shape (2, 1), which is"
        " repeated three times",
        206,
    )
    table, sums = (("1", "2", "3"), ("4", "5", "6")), ("6", "15")
    shares = ((".17", ".33", ".50"), (".27", ".33", ".40"))
    for row in range(2):
        y = 60 + row * 42
        d.cells(40, y, table[row], 46, 38, "blue", size=15)
        d.box(256, y, 46, 38, sums[row], "orange", 15, mono=True, corner=4)
        d.cells(306, y, [sums[row]] * 2, 46, 38, "grey", size=15)
        d.cells(480, y, shares[row], 56, 38, "green", size=15)
    d.text(222, 100, "/", 22, "middle")
    d.text(442, 100, "=", 20, "middle")
    for x, shape in ((113, "(2, 3)"), (279, "(2, 1)"), (568, "(2, 3)")):
        d.text(x, 34, shape, 14, "middle", "soft", mono=True)
    d.text(354, 34, "repeated", 13, "middle", "soft")
    d.caption("Sizes must be equal, or one of them 1. Where it is 1, its numbers are repeated.")
    return d


def softmax() -> Drawing:
    """Three logits become powers, and the powers become shares."""
    d = Drawing(
        "Softmax: logits become powers of e, which are all positive, and then shares that add up"
        " to 1",
        232,
    )
    logits = (2.0, 0.0, -1.0)
    powers = [math.exp(logit) for logit in logits]
    shares = [power / sum(powers) for power in powers]
    for x, title in ((30, "logits"), (266, "e to that power"), (502, "divided by the sum")):
        d.text(x, 28, title, 14, bold=True)
    for row, color in enumerate(("blue", "orange", "pink")):
        y = 52 + row * 42
        left, right = sorted((100.0, 100 + 30 * logits[row]))
        d.box(left - 2, y, right - left + 4, 28, color=color, corner=3)
        d.text(178, y + 14, f"{logits[row]:.0f}", 14, mono=True)
        d.box(266, y, 14 * powers[row] + 3, 28, color=color, corner=3)
        d.text(392, y + 14, f"{powers[row]:.2f}", 14, mono=True)
        d.box(502, y, 110 * shares[row] + 3, 28, color=color, corner=3)
        d.text(632, y + 14, f"{shares[row]:.2f}", 14, mono=True)
    d.line((100, 44), (100, 172), dashed=True)
    d.arrow((212, 108), (250, 108))
    d.arrow((448, 108), (486, 108))
    d.caption("The order stays. Differences of logits become ratios of probabilities.")
    return d


def learning_rates() -> Drawing:
    """Gradient descent on a parabola with three learning rates."""
    d = Drawing(
        "Three learning rates on one curve: too small creeps, a good one arrives, too large jumps"
        " ever farther out",
        252,
    )
    panels = ((126, "too small", 0.04, "orange"), (360, "good", 0.35, "blue"))
    for x, title, rate, color in (*panels, (594, "too large", 1.06, "red")):
        d.text(x, 28, title, 15, "middle", bold=True)

        def at(w: float, x: float = x) -> tuple[float, float]:
            return x + 84 * w, 204 - 120 * w * w

        d.line(*[at(i / 20 - 1.15) for i in range(47)])
        w = -0.85 if rate < 1 else 0.64
        for _ in range(4):
            new = w - rate * 2 * w
            d.arrow(at(w), at(new), color=color)
            d.dot(*at(w), color, 4)
            w = new
        d.dot(*at(w), color, 4)
    d.caption(
        "Across: a parameter. Up: the loss. Across, a step is as long as the rate times the slope."
    )
    return d


DRAWINGS = (
    tensor_shapes,
    matrix_product,
    training_loop,
    backward,
    optimizers,
    broadcasting,
    softmax,
    learning_rates,
)
