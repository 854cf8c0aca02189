"""Durations as people say them. Tests: tests/test_durations.py."""

from __future__ import annotations

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY
MIN_DAYS = 2
"""days from which hours are no longer counted on"""
MIN_YEARS = 2


def format_duration(seconds: float) -> str:
    """Seconds in one unit or two: 45 s, 2 min 10 s, 3 h 20 min, 35 days, 2.3 years.

    Args:
        seconds: 0 or more; below 1, as tenths.
    """
    if seconds < 0.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "0 s"
    if round(seconds) < MINUTE:
        return f"{seconds:.0f} s"
    if round(seconds) < HOUR:
        return _two_units(round(seconds), MINUTE, "min", 1, "s")
    if seconds < MIN_DAYS * DAY:
        return _two_units(round(seconds / MINUTE) * MINUTE, HOUR, "h", MINUTE, "min")
    if seconds < 10 * DAY:
        hours = round(seconds / HOUR)
        return f"{hours // 24} days {hours % 24} h" if hours % 24 else f"{hours // 24} days"
    if seconds < MIN_YEARS * YEAR:
        return f"{seconds / DAY:.0f} days"
    return f"{seconds / YEAR:,.1f} years"


def _two_units(seconds: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    whole, rest = divmod(seconds, large)
    return f"{whole} {large_unit}" + (f" {rest // small} {small_unit}" if rest else "")
