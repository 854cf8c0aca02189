"""Handle standard streams that are closed, missing or broken: `>&-`, pythonw, `| head -1`.

Tests: tests/cli/test_streams.py.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO

FAILURES = (OSError, ValueError)
"""Errors of writing to a stream that is broken (OSError) or closed (ValueError)."""


def open_standard_streams() -> None:
    """Open the null device for each standard stream that is closed or missing.

    Otherwise the next opened file would get the number of the closed stream,
    and output would be written into it.
    """
    streams = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))
    for number, *_ in streams:
        try:
            os.fstat(number)
        except OSError:
            _redirect_to_null(number)
    for number, name, mode in streams:
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def flush_standard_streams() -> BaseException | None:
    """Flush stdout and stderr; returns the error of stdout, if any.

    A broken stream is redirected to the null device.

    Python flushes again at exit, and would then print a traceback and exit with code 120.
    """
    failed: BaseException | None = None
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except FAILURES as e:
            failed = e if number == 1 else failed
            _discard(stream)
    return failed


class LenientStream:
    """A text stream that discards its input after the first error.

    For commands whose result is a file: training continues although its progress cannot be printed.

    Args:
        stream: where to write.
        notice: printed on stderr at the first error.
    """

    def __init__(self, stream: TextIO, notice: str = "") -> None:
        self._stream, self._notice, self.broken = stream, notice, False

    def write(self, text: str) -> int:
        """Write text, or discard it if the stream is broken."""
        if not self.broken:
            try:
                self._stream.write(text)
            except FAILURES:
                self._give_up()
        return len(text)

    def flush(self) -> None:
        """Flush the stream unless it is broken."""
        if not self.broken:
            try:
                self._stream.flush()
            except FAILURES:
                self._give_up()

    def _give_up(self) -> None:
        self.broken = True
        _discard(self._stream)
        if self._notice:
            with suppress(*FAILURES):
                print(self._notice, file=sys.stderr, flush=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard(stream: TextIO) -> None:
    """Redirect a stream to the null device, with the content of its buffer."""
    with suppress(*FAILURES, AttributeError):
        _redirect_to_null(stream.fileno())


def _redirect_to_null(number: int) -> None:
    """Open the null device under the file descriptor of a stream."""
    null = os.open(os.devnull, os.O_RDWR)
    if null == number:
        os.set_inheritable(null, True)
    else:
        os.dup2(null, number)
        os.close(null)
