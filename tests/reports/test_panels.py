"""Panels: each draws its own values, every run has its color, noisy series have a running mean."""

from __future__ import annotations

import numpy as np
import pytest

from llm_scratch.errors import UserError
from llm_scratch.reports.panels import PANELS, panel_figure
from llm_scratch.reports.plot import COLORS, save_figure

ROWS = [
    {"step": s, "tokens": 8 * s, "loss": 5 - s / 100, "lr": s / 1e5, "grad_norm": 1 + s % 2}
    for s in range(1, 201)
]
ROWS += [
    {
        "step": s,
        "tokens": 8 * s,
        "train_loss": 3.0,
        "val_loss": 3.1,
        "val_bits_per_byte": 2 - s / 200,
    }
    for s in (0, 100, 200)
]


def drawn(figure, panel):
    axes = figure.axes[list(PANELS).index(panel)]
    return {
        (str(line.get_label()), line.get_color()): np.asarray(line.get_xydata())
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }


def test_each_panel_draws_its_values():
    figure = panel_figure({"run": ROWS})
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(PANELS.values())
    assert drawn(figure, "val_bits_per_byte")["run", COLORS[0]].tolist() == [
        [0, 2],
        [100, 1.5],
        [200, 1],
    ]
    np.testing.assert_allclose(drawn(figure, "lr")["run", COLORS[0]][:, 1], np.arange(1, 201) / 1e5)
    np.testing.assert_allclose(drawn(figure, "grad_norm")["run", COLORS[0]][:, 1], 1.5)
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "steps", "steps"]


def test_panels_have_a_color_per_run_and_one_legend(tmp_path):
    figure = panel_figure(
        {"a": ROWS, "b": [row | {"tokens": 2 * row["tokens"]} for row in ROWS]}, "tokens"
    )
    assert drawn(figure, "lr").keys() == {("a", COLORS[0]), ("b", COLORS[1])}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "single steps"]
    assert drawn(figure, "val_bits_per_byte")["b", COLORS[1]][:, 0].tolist() == [0, 1600, 3200]
    assert save_figure(figure, tmp_path / "panels.svg").stat().st_size > 10_000


def test_floors_are_in_the_panels_that_have_them_and_in_the_legend():
    floors = {"loss": {"run": 2.5}, "val_bits_per_byte": {"run": 0.9}}
    figure = panel_figure({"run": ROWS}, floors=floors)
    dotted = [
        [line.get_ydata()[0] for line in axes.lines if str(line.get_label()) == "_floor"]
        for axes in figure.axes
    ]
    assert dotted == [[2.5], [0.9], [], []]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "run",
        "single steps",
        "floor of the text",
    ]
    few = [row for row in ROWS if row["step"] in (0, 1, 100, 200)]
    assert [text.get_text() for text in panel_figure({"run": few}).legends[0].get_texts()] == [
        "run"
    ]


def test_panels_without_data_are_an_error():
    with pytest.raises(UserError, match="no loss to draw yet in young"):
        panel_figure({"young": [{"step": 0, "tokens": 0}]})
