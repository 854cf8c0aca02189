"""Signals request a stop; only a second Ctrl-C interrupts; ignored signals stay ignored."""

import os
import signal
import sys
import threading

import pytest

from llm_scratch.training.stop_signals import SIGNALS, stop_signals

CODES = (
    {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}
    if hasattr(signal, "SIGHUP")
    else {}
)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_requests_a_stop_and_determines_the_exit_code(number):
    before = [signal.getsignal(n) for n in SIGNALS]
    with stop_signals() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
    assert 128 + stop.signum == 128 + number == CODES.get(number, 128 + stop.signum)
    assert [signal.getsignal(n) for n in SIGNALS] == before


def test_second_ctrl_c_interrupts_and_the_first_signal_sets_the_code():
    with stop_signals() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert 128 + stop.signum == 143
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_signal_ignored_by_nohup_remains_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_not_caught_outside_the_main_thread():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with stop_signals() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_output_to_a_closed_terminal_is_discarded():
    """After SIGHUP, printing to the lost terminal would raise an error before the save."""
    script = (
        "import os, time\n"
        "from llm_scratch.training.stop_signals import stop_signals\n"
        "with stop_signals() as stop:\n"
        "    print('ready', flush=True)\n"
        "    while not stop.requested: time.sleep(0.01)\n"
        "    print('saving', flush=True)\n"
        "    os._exit(128 + stop.signum)\n"
    )
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal, which Windows does not have")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", script])
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)  # the system sends SIGHUP to the terminal's processes
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
