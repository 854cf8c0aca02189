"""HTML elements: text and attributes never become markup."""

from __future__ import annotations

from llm_scratch.reports.html import Html, element, table, text

HOSTILE = "<script>alert('\"&')</script>"
ESCAPED = "&lt;script&gt;alert(&#x27;&quot;&amp;&#x27;)&lt;/script&gt;"


def test_html_text_is_escaped_and_markup_is_not():
    assert text(HOSTILE) == ESCAPED
    assert text(Html("<b>x</b>")) == "<b>x</b>"
    assert element("p", HOSTILE, element("b", HOSTILE)) == f"<p>{ESCAPED}<b>{ESCAPED}</b></p>"


def test_attributes_are_escaped():
    assert (
        element("i", class_=HOSTILE, aria_label='a"b')
        == f'<i class="{ESCAPED}" aria-label="a&quot;b"></i>'
    )
    assert element("i", class_="") == "<i></i>"


def test_control_characters_are_replaced():
    assert text("a\x1b[31m\u202eb\n\tc") == "a\ufffd[31m\ufffdb\n\tc"


def test_void_elements_have_no_end_tag():
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_html_table_has_row_headers_and_escapes_cells():
    made = table(("name", "value"), [(HOSTILE, HOSTILE)])
    assert made.count("<th ") == 3
    assert f'<th scope="row">{ESCAPED}</th><td>{ESCAPED}</td>' in made
    assert "<thead>" not in table((), [("a", "b")])
