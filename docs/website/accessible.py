"""Add what the HTML of Sphinx and MyST-NB lacks for screen readers and the keyboard.

Tests: tests/architecture/test_website.py (axe finds nothing serious).
"""

import re
from typing import Any

from sphinx.application import Sphinx

AFTER_THE_THEME = 900  # the theme makes the navigation in the same event, with priority 500
REPLACEMENTS = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<summary aria-label="Toggle hidden content">': "<summary>",  # its own words say it
    "<pre>": '<pre tabindex="0">',  # a wide one scrolls, by the arrow keys too
}
PLOT = re.compile(r'<img alt="[./]*_images/\w+\.png"')
"""A plot of a notebook, which MyST-NB describes by the name of its file."""


def make_accessible(
    app: Sphinx, name: str, template: str, context: dict[str, Any], page: object
) -> None:
    """Replace what is written in the body and the navigation of a page."""
    if context.get("body"):
        context["body"] = PLOT.sub('<img alt="plot, drawn by the code above"', context["body"])
    for part in ("body", "furo_navigation_tree"):
        for found, better in REPLACEMENTS.items():
            if context.get(part):
                context[part] = context[part].replace(found, better)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("html-page-context", make_accessible, priority=AFTER_THE_THEME)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
