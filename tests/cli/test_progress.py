"""Progress of training: lines, a bar on a terminal, samples, log.txt."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from llm_scratch.cli.progress import SAMPLE_CHARACTERS, ProgressDisplay, join_to_fit
from llm_scratch.cli.streams import LenientStream
from llm_scratch.config import RunConfig

ROW = {
    "step": 10.0,
    "tokens": 7680.0,
    "loss": 2.5,
    "lr": 0.02,
    "grad_norm": 0.5,
    "seconds": 0.1,
    "mfu": 0.42,
    "peak_memory_bytes": 1.5 * 2**30,
}
SCORES = {"val_loss": 2.25, "train_loss": 2.125, "val_bits_per_byte": 0.75}


def a_run(folder, step=10, steps=100, description=""):
    return SimpleNamespace(
        folder=folder,
        step=step,
        steps=steps,
        tokens=step * 768,
        last_eval=SCORES,
        description=description,
        config=RunConfig(),
    )


def a_console(terminal=False, width=80):
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=terminal,
        color_system=None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def test_progress_prints_the_chosen_products(tmp_path):
    console = a_console()
    with ProgressDisplay(console) as watch:
        watch.started(a_run(tmp_path, description="bfloat16: because"), resumed=False)
    assert console.file.getvalue() == "products: bfloat16: because\n"


def test_progress_line_has_every_field(tmp_path):
    console = a_console()
    with ProgressDisplay(console, every=0) as watch:
        watch.started(a_run(tmp_path, 0), resumed=False)
        watch.step(a_run(tmp_path), ROW)
        watch.finished(a_run(tmp_path))
    line = console.file.getvalue()
    wanted = (
        r"step 010/100 \(10\.00%\) \| loss 2\.5000 \| lr 0\.02 \| grad norm 0\.5 \| "
        r"100 ms \| 7,680 tok/s \| MFU 42% \| 1\.5 GiB \| 7,680 tokens \| "
        r"0\.7500 bits/byte \| \d+ s elapsed, \d+ s left\n"
    )
    assert re.fullmatch(wanted, line), line
    assert (tmp_path / "log.txt").read_text() == line


def test_progress_lines_are_printed_at_intervals_and_at_the_end(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("llm_scratch.cli.progress.perf_counter", lambda: next(clock))
    console = a_console()
    with ProgressDisplay(console, every=10) as watch:
        watch.started(a_run(tmp_path, 0), resumed=False)
        for step in range(1, 101):
            watch.step(a_run(tmp_path, step), {**ROW, "step": step, "tokens": step * 768})
    lines = console.file.getvalue().splitlines()
    assert 5 < len(lines) < 30
    assert lines[-1].startswith("step 100/100 (100.00%)")


def test_progress_averages_the_last_twenty_steps(tmp_path):
    with ProgressDisplay(a_console(), every=1e9) as watch:
        watch.started(a_run(tmp_path, 0), resumed=False)
        for step in range(1, 41):
            watch.step(
                a_run(tmp_path, step),
                {
                    **ROW,
                    "step": step,
                    "tokens": step * 768,
                    "loss": float(step > 20),
                    "seconds": 0.5,
                },
            )
        assert watch._loss() == 1.0
        assert watch._speed() == pytest.approx(768 / 0.5)


def test_progress_omits_unknown_mfu_and_memory(tmp_path):
    console = a_console()
    with ProgressDisplay(console, every=0) as watch:
        watch.started(a_run(tmp_path, 0), resumed=False)
        watch.step(
            a_run(tmp_path),
            {key: value for key, value in ROW.items() if key not in ("mfu", "peak_memory_bytes")},
        )
    assert "7,680 tok/s | 7,680 tokens" in console.file.getvalue()


def test_progress_bar_fits_80_columns(tmp_path):
    console = a_console(terminal=True)
    with ProgressDisplay(console, every=0) as watch:
        watch.started(a_run(tmp_path, 0), resumed=True)
        watch.step(a_run(tmp_path), ROW)
        watch.evaluated(a_run(tmp_path), SCORES)
        watch.finished(a_run(tmp_path))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    assert "step 10/100 ━" in shown
    assert "loss 2.500 · val 2.250 = 0.750 bits/byte · 7,680 tok/s · MFU 42% · 1.5 GiB" in shown
    assert "step    10  validation loss 2.2500  train loss 2.1250  0.7500 bits/byte" in shown
    assert max(map(len, re.split(r"[\r\n]", shown))) <= 80
    log = (tmp_path / "log.txt").read_text()
    assert "resuming at step 0 of 100" in log
    assert "step 010/100" in log
    assert "\x1b" not in log


@pytest.mark.parametrize(
    ("width", "shown", "left_out"),
    [
        (
            80,
            ["step 10/100 ━", "elapsed,", "loss 2.500 · val 2.250 = 0.750 bits/byte · 7,680 tok/s"],
            [],
        ),
        (35, ["step 10/100 · 0 s elapsed, 0 s left", "loss 2.500"], ["━", "╸", "val "]),
        (20, ["step 10/100", "loss 2.500"], ["━", "elapsed", "val "]),
        (5, ["10%"], ["loss", "10/100", "━"]),
    ],
)
def test_progress_bar_on_a_narrow_terminal_cuts_no_number(
    width, shown, left_out, tmp_path, monkeypatch
):
    for module in ("cli.progress", "training.pace"):
        monkeypatch.setattr(f"llm_scratch.{module}.perf_counter", lambda: 100.0)
    console = a_console(terminal=True, width=width)
    with ProgressDisplay(console, every=1e9) as watch:
        watch.started(a_run(tmp_path, 0), resumed=False)
        watch.step(a_run(tmp_path), ROW)
        watch.finished(a_run(tmp_path))
    bar = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    assert [part for part in shown if part not in bar] == []
    assert [part for part in left_out if part in bar] == []
    assert "…" not in bar
    assert max(map(len, re.split(r"[\r\n]", bar))) <= width


@pytest.mark.parametrize(
    ("terminal", "width", "whole"),
    [(True, 20, False), (True, 80, False), (True, 100, True), (False, 20, True)],
)
def test_progress_wraps_prose_on_a_terminal(terminal, width, whole, tmp_path):
    console = a_console(terminal, width)
    line = "warning: the disk is slow and the checkpoints are large, see to it that there is room"
    with ProgressDisplay(console) as watch:
        watch.warn(line.removeprefix("warning: "))
    lines = [each.rstrip() for each in console.file.getvalue().splitlines()]
    assert (lines == [line]) == whole
    assert " ".join(lines) == line, "no word is broken"


def test_join_to_fit_keeps_the_first_parts():
    assert join_to_fit(["loss 2.5", "", "MFU 42%", "x"], 18) == "loss 2.5 · MFU 42%"
    assert join_to_fit(["loss 2.5", "MFU 42%", "x"], 17) == "loss 2.5"
    assert join_to_fit(["loss 2.5"], 7) == ""


def test_run_continues_when_its_terminal_closes(tmp_path, capsys):
    """Simulate a stream after `| head -1`, or on a full disk."""

    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    stream = LenientStream(Gone(), "the output is lost")
    console = Console(file=stream, width=80, highlight=False, markup=False, emoji=False)
    with ProgressDisplay(console, every=0) as watch:
        watch.started(a_run(tmp_path, 0), resumed=False)
        watch.step(a_run(tmp_path), ROW)
        watch.finished(a_run(tmp_path))
    assert stream.broken
    assert capsys.readouterr().err == "the output is lost\n"
    assert "step 010/100" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("terminal", [False, True])
def test_sample_is_printed_unchanged(terminal, tmp_path):
    console = a_console(terminal)
    text = "[bold]Once[/bold] :smile: \x1b[31mred\x07 é " + "word " * 400 + "END"
    with ProgressDisplay(console) as watch:
        watch.started(a_run(tmp_path, 0), resumed=False)
        watch.sampled(a_run(tmp_path), text)
    shown = re.sub(
        r"\x1b\[(\?25[hl]|2K|1A)", "", console.file.getvalue()
    )  # the bar's output on the terminal
    assert "[bold]Once[/bold] :smile: \ufffd[31mred\ufffd é" in shown
    assert "END" not in shown
    assert len(shown) < 3 * SAMPLE_CHARACTERS
    assert max(map(len, re.split(r"[\r\n]", shown))) <= 80
    assert "word word" in (tmp_path / "log.txt").read_text()


def test_sample_keeps_its_line_breaks(tmp_path):
    console = a_console()
    with ProgressDisplay(console) as watch:
        watch.sampled(a_run(tmp_path), "ROMEO:\n\nO she doth teach")
    assert "    ROMEO:\n\n    O she doth teach\n" in console.file.getvalue()


def test_finished_run_prints_how_to_extend_it(tmp_path):
    console = a_console()
    with ProgressDisplay(console) as watch:
        watch.started(a_run(tmp_path, 100), resumed=True)
    longer = (
        f"llm-scratch train --resume {tmp_path} --train.steps 200 trains longer,"
        " --fresh --force starts over"
    )
    assert f"all 100 steps are done already; {longer}" in console.file.getvalue()


def test_warnings_are_shown_before_and_after_the_start(tmp_path):
    console = a_console()
    with ProgressDisplay(console) as watch:
        watch.warn("a checkpoint is damaged")
        watch.started(a_run(tmp_path, 0), resumed=False)
        watch.warn("again")
    assert console.file.getvalue() == "warning: a checkpoint is damaged\nwarning: again\n"
    assert (tmp_path / "log.txt").read_text() == "warning: again\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_gives_one_warning_and_the_run_continues(tmp_path):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    console = a_console()
    with ProgressDisplay(console) as watch:
        watch.started(a_run(tmp_path, 0), resumed=False)
        watch.warn("one")
        watch.warn("two")
    warned = [
        line for line in console.file.getvalue().splitlines() if "No space left on device" in line
    ]
    assert ["lines are kept in memory" in line for line in warned] == [True, False]
    assert "could not be written" in warned[1]
