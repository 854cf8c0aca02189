"""Styles of text that are readable on a black, a white and a gray terminal.

A terminal's own red, green and yellow are not, nor is dim text.
So emphasis is bold, and a color brings its own background.
Tests: tests/cli/test_token_colors.py.
"""

GOOD = "color(231) on color(28)"
WARNING = "color(16) on color(221)"
PROBLEM = "color(231) on color(160)"
NEIGHBORS = (
    "color(16) on color(153)",
    "color(16) on color(157)",
    "color(16) on color(229)",
    "color(16) on color(217)",
)
"""Background colors of consecutive tokens."""
