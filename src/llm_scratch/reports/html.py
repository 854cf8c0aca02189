"""Build HTML from elements, with all text escaped.

`element("p", "a < b")` gives `<p>a &lt; b</p>`: a plain string is always escaped; only an `Html`,
which `element` returns, is inserted unchanged.
Tests: tests/reports/test_html.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from llm_scratch.formatting import sanitize

VOID = frozenset({"br", "meta"})
"""Elements without content and without an end tag."""


class Html(str):
    """Markup that is inserted without escaping."""

    __slots__ = ()


def text(content: str | Html) -> Html:
    """Escape text: `<`, `>`, `&` and quotes, and replace control characters.

    An `Html` is returned unchanged.
    """
    return content if isinstance(content, Html) else Html(escape(sanitize(content)))


def element(tag: str, /, *content: str | Html, **attributes: str | float) -> Html:
    """An element with its content.

    Args:
        tag: name of the element, such as "p".
        content: strings, which are escaped, and elements.
        attributes: a trailing underscore is dropped (`class_="bar"`), another one becomes a hyphen
            (`aria_label="loss"`).
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for key, value in attributes.items()
        if value != ""
    )
    if tag in VOID:
        return Html(f"<{tag}{pairs}>")
    return Html(f"<{tag}{pairs}>{''.join(text(part) for part in content)}</{tag}>")


def table(
    header: tuple[str, ...], rows: Sequence[tuple[str | Html, ...]], class_: str = ""
) -> Html:
    """A table that scrolls in its own box if it is too wide; the first column heads the rows."""
    head = element("tr", *(element("th", name, scope="col") for name in header))
    body = [
        element(
            "tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])
        )
        for row in rows
    ]
    inner = [element("thead", head)] * any(header) + [element("tbody", *body)]
    return element("div", element("table", *inner, class_=class_), class_="wide")
