"""Whether a browser would open in front of the reader, and a question before it does.

Tests: tests/cli/test_play.py.
"""

from __future__ import annotations

import os
import sys
import webbrowser


def has_desktop() -> bool:
    """Whether this terminal is on a desktop, where a browser opens a window of its own.

    Over SSH, and on Linux without a display, it would open elsewhere or take over the terminal.
    """
    if not sys.stdout.isatty() or "SSH_CONNECTION" in os.environ:
        return False
    windows = sys.platform in ("win32", "darwin")
    if not windows and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def is_wanted(question: str) -> bool:
    """Ask a yes-or-no question on a desktop; elsewhere, and without an answer, it is no."""
    if not has_desktop() or not sys.stdin.isatty():
        return False
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False
