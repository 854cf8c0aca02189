"""Loss plots: lines equal the metrics; files, several runs, errors."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from llm_scratch.config import RunConfig, dump_config
from llm_scratch.errors import DATA, USAGE, UserError
from llm_scratch.reports.panels import panel_figure
from llm_scratch.reports.plot import COLORS, LossPlot, loss_figure, plot_runs, save_figure, series

ROWS = [
    {"step": 0, "tokens": 0, "train_loss": 5.0, "val_loss": 5.1},
    {"step": 1, "tokens": 64, "loss": 4.0},
    {"step": 2, "tokens": 128, "loss": 3.5, "lr": 0.1},
    {"step": 2, "tokens": 128, "train_loss": 3.2, "val_loss": 3.4},
    {"step": 4, "tokens": 256, "train_loss": 2.0, "val_loss": 3.6},
]


def lines(figure: Figure) -> dict[str, list[list[float]]]:
    return {
        str(line.get_label()): np.asarray(line.get_xydata()).tolist()
        for line in figure.axes[0].lines
    }


def write(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(RunConfig()))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def upper_axis(figure):
    return [(child.get_xlabel(), child) for child in figure.axes[0].child_axes]


def test_plot_lines_equal_the_metrics():
    drawn = lines(loss_figure({"run": ROWS}, floors={"run": 1.5}))
    assert drawn["training, 2 at the end"] == [[0, 5], [2, 3.2], [4, 2]]
    assert drawn["validation, best 3.4 at step 2"] == [[0, 5.1], [2, 3.4], [4, 3.6]]
    assert drawn["single steps"] == [[1, 4], [2, 3.5]]
    assert [[2, 3.4]] in drawn.values(), "the best one is marked"
    assert drawn["floor of the text, 1.5"] == [[0, 1.5], [1, 1.5]]


def test_plot_upper_axis_counts_tokens():
    figure = loss_figure({"run": [row | {"tokens": row["tokens"] + 100} for row in ROWS]})
    name, axis = upper_axis(figure)[0]
    figure.draw_without_rendering()
    assert name == "tokens seen"
    low, high = figure.axes[0].get_xlim()
    assert axis.get_xlim() == pytest.approx((100 + 64 * low, 100 + 64 * high))


@pytest.mark.parametrize("x", ["tokens", "elapsed"])
def test_plot_supports_other_lower_axes(x):
    figure = loss_figure({"run": [row | {"elapsed": row["step"] * 30.0} for row in ROWS]}, x)
    assert figure.axes[0].get_xlabel() == {"tokens": "tokens seen", "elapsed": "time"}[x]
    assert len(upper_axis(figure)) == (x == "elapsed")
    if x == "elapsed":
        figure.draw_without_rendering()
        assert "1 min" in [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert "validation, best 3.4 at 1 min" in lines(figure)
    assert series(ROWS, "tokens", "val_loss").tolist() == [[0, 128, 256], [5.1, 3.4, 3.6]]


def test_plot_compares_runs_by_tokens_when_their_steps_differ():
    same = loss_figure({"a": ROWS, "b": [row | {"val_loss": 9.0} for row in ROWS]})
    assert same.axes[0].get_xlabel() == "steps"
    assert {"a, best 3.4", "b, best 9", "training"} <= lines(same).keys()
    colours = {str(line.get_label()): line.get_color() for line in same.axes[0].lines}
    assert colours["a, best 3.4"] != colours["b, best 9"]
    other = loss_figure({"a": ROWS, "b": [row | {"tokens": row["tokens"] * 8} for row in ROWS]})
    assert other.axes[0].get_xlabel() == "tokens seen"
    assert lines(other)["b, best 3.4"] == [[0, 5.1], [1024, 3.4], [2048, 3.6]]
    timed = {
        name: [row | {"elapsed": row["step"] * pace} for row in ROWS]
        for name, pace in (("slow", 60.0), ("fast", 1.0))
    }
    assert loss_figure(timed, "elapsed").axes[0].get_xlabel() == "time", (
        "a different speed must be visible"
    )


def test_floor_is_not_on_the_edge_of_the_axes():
    """1.85 is inside the margin below the lowest loss, 2, of a range of 3.1."""
    bottom, top = loss_figure({"run": ROWS}, floors={"run": 1.85}).axes[0].get_ylim()
    assert bottom < 1.85 - 0.04 * (top - 1.85)


@pytest.mark.parametrize(
    ("floors", "want"),
    [
        ({"a": 1.5, "b": 1.501}, {"floor of the text, 1.5": "0.35"}),
        ({"b": 1.5}, {"floor of the text, 1.5": "0.35"}),
        ({"a": 1.5, "b": 1.0}, {"floor of a, 1.5": COLORS[0], "floor of b, 1": COLORS[1]}),
        ({}, {}),
    ],
    ids=["the same", "of one", "different", "none"],
)
def test_comparisons_show_the_floor_once_or_for_each_run(floors, want):
    figure = loss_figure({"a": ROWS, "b": ROWS}, floors=floors)
    found = {
        str(line.get_label()): line.get_color()
        for line in figure.axes[0].lines
        if "floor" in str(line.get_label())
    }
    assert found == want


def drawn_labels(axes):
    """The legend, and the label of each line that is longer than a point."""
    legend = {text.get_text() for text in axes.get_legend().get_texts()}
    return legend, [str(line.get_label()) for line in axes.lines if len(line.get_xdata()) > 1]


@pytest.mark.parametrize("runs", [{"run": ROWS}, {"a": ROWS, "b": ROWS}], ids=["alone", "compared"])
def test_plot_legend_names_every_line(runs):
    axes = loss_figure(runs, floors=dict.fromkeys(runs, 1.5)).axes[0]
    legend, labels = drawn_labels(axes)
    compared = len(runs) > 1
    unnamed = [label for label in labels if label not in legend]
    assert len(unnamed) == (2 if compared else 0), (
        "the dashed lines of compared runs share an entry"
    )
    assert ("training" in legend) == compared


def touching_labels(figure, axes):
    """Pairs of drawn labels below an axis with less than a letter between them."""
    figure.draw_without_rendering()
    boxes = [
        label.get_window_extent()
        for label in axes.get_xticklabels()
        if label.get_text() and label.get_visible()
    ]
    low, high = axes.get_window_extent().x0 - 1, axes.get_window_extent().x1 + 1
    boxes = sorted(
        (box for box in boxes if low <= (box.x0 + box.x1) / 2 <= high), key=lambda box: box.x0
    )
    assert len(boxes) >= 2, "an axis with fewer labels is not informative"
    return [(a.x1, b.x0) for a, b in zip(boxes, boxes[1:]) if b.x0 - a.x1 < 8]


DURATIONS = [3, 40, 59, 61, 600, 2400, 3599, 3600, 5400, 20_000, 86_400, 400_000, 3e6, 1e8]


@pytest.mark.parametrize("seconds", DURATIONS)
@pytest.mark.parametrize("panels", [False, True])
def test_labels_of_time_never_touch(seconds, panels):
    rows = [row | {"elapsed": seconds * row["step"] / 4, "lr": 0.1} for row in ROWS]
    figure = (
        panel_figure({"run": rows}, "elapsed") if panels else loss_figure({"run": rows}, "elapsed")
    )
    assert touching_labels(figure, figure.axes[-1]) == []


@pytest.mark.parametrize("scale", [1, 3e2, 2.5e4, 1e6, 7e9])
@pytest.mark.parametrize("x", ["step", "tokens"])
@pytest.mark.parametrize("panels", [False, True])
def test_labels_of_steps_and_tokens_never_touch(scale, x, panels):
    rows = [row | {x: int(scale * row["step"]), "lr": 0.1} for row in ROWS]
    figure = panel_figure({"run": rows}, x) if panels else loss_figure({"run": rows}, x)
    assert touching_labels(figure, figure.axes[-1]) == []


def test_plot_time_ticks_are_round():
    rows = [row | {"elapsed": row["step"] * 9000.0} for row in ROWS]
    figure = loss_figure({"run": rows}, "elapsed")
    figure.draw_without_rendering()
    assert figure.axes[0].get_xlabel() == "time (hours:minutes)"
    assert {"0:00", "2:00", "10:00"} <= {
        label.get_text() for label in figure.axes[0].get_xticklabels()
    }


def test_without_a_training_loss_the_mean_of_the_steps_is_drawn():
    rows = [{"step": i, "tokens": i, "loss": float(i % 2)} for i in range(1000)]
    drawn = lines(loss_figure({"run": rows}))
    mean = np.array(drawn["training, 0.5 at the end"])
    assert len(mean) == 1000 - 20 + 1
    np.testing.assert_allclose(mean[:, 1], 0.5)
    np.testing.assert_allclose(mean[0, 0], np.arange(20).mean())


def test_plot_skips_non_finite_points():
    rows = [
        *ROWS,
        {"step": 6, "tokens": 384, "train_loss": float("nan"), "val_loss": float("inf")},
        {"step": 8, "val_loss": None},
    ]
    assert lines(loss_figure({"run": rows})).keys() >= {
        "training, 2 at the end",
        "validation, best 3.4 at step 2",
    }


def test_plot_of_a_single_row(tmp_path):
    save_figure(loss_figure({"run": ROWS[:1]}), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 5000


def test_plot_runs_writes_pdf_and_png_and_nothing_else(tmp_path):
    run = write(tmp_path / "runs" / "first", ROWS)
    paths = plot_runs([run], tmp_path / "out" / "loss-plot")
    assert [path.name for path in paths] == ["loss-plot.pdf", "loss-plot.png"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "loss-plot.pdf",
        "loss-plot.png",
    ]
    assert paths[0].read_bytes().startswith(b"%PDF")
    assert paths[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["pdf", "png", "svg"])
def test_plot_files_are_deterministic(tmp_path, kind):
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "fixed"}):
        first, second = (
            save_figure(loss_figure({"run": ROWS}), tmp_path / f"{i}.{kind}").read_bytes()
            for i in (1, 2)
        )
    assert first == second


def test_plot_does_not_import_pyplot():
    """pyplot keeps every figure in memory and may search for a display."""
    import subprocess

    code = "import sys, llm_scratch.reports.plot; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plot_errors_name_the_run_or_file(tmp_path):
    with pytest.raises(UserError, match="no loss to draw yet in young") as error:
        plot_runs([write(tmp_path / "young", [{"step": 0, "tokens": 0}])], tmp_path / "plot")
    assert error.value.code == DATA
    with pytest.raises(UserError, match=r"'loss\.gif'.*\.pdf, \.png, \.svg") as error:
        save_figure(Figure(), tmp_path / "loss.gif")
    assert error.value.code == USAGE
    assert not list(tmp_path.glob("*loss*"))
    assert not list(tmp_path.glob("*plot*"))


def test_loss_plot_is_drawn_when_a_run_is_closed(tmp_path):
    write(tmp_path, [{"step": step, "tokens": 10 * step, "loss": 5.0 - step} for step in (1, 2, 3)])
    LossPlot(pytest.fail).closed(SimpleNamespace(folder=tmp_path), None)
    assert (tmp_path / "loss-plot.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "loss-plot.png").read_bytes().startswith(b"\x89PNG")


def test_loss_plot_that_cannot_be_drawn_is_a_warning_unless_training_failed(tmp_path):
    warnings = []
    for error in (None, KeyError()):
        LossPlot(warnings.append).closed(SimpleNamespace(folder=tmp_path), error)
    (message,) = warnings
    assert message.startswith("cannot draw the loss plot (UserError: ")
    assert message.endswith(f"`llm-scratch plot {tmp_path}` draws it later")


def test_background_run_is_wide_pale_and_below():
    rows = [{"step": n, "tokens": 10 * n, "val_loss": 5.0 - n} for n in range(3)]
    figure = loss_figure({"own": rows, "package": rows}, behind="package")
    own, package = (
        next(line for line in figure.axes[0].lines if str(line.get_label()).startswith(name))
        for name in ("own", "package")
    )
    assert package.get_linewidth() > 2 * own.get_linewidth()
    assert package.get_alpha() < 1
    assert package.get_zorder() < own.get_zorder()
