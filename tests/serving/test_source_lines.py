"""Every line of code that the page shows exists, and every view names one."""

import re
from pathlib import Path

import llm_scratch
from llm_scratch.serving.source_lines import SOURCES, all_sources

ROOT = Path(llm_scratch.__file__).parent


def test_sources_are_the_lines_of_the_files():
    for name, source in all_sources().items():
        lines = (ROOT.parent.parent / source["file"]).read_text(encoding="utf-8").splitlines()
        first = source["lines"].splitlines()[0]
        assert lines[source["line"] - 1].strip() == first, name
        assert '"""' not in source["lines"], name
        assert source["summary"], name


def test_playground_views_name_a_known_source():
    views = (ROOT / "serving/static/views").glob("*.js")
    named = {
        found
        for view in views
        for found in re.findall(
            r'source: (?:[^"\n]*\? )?"(\w+)"(?: : "(\w+)")?', view.read_text(encoding="utf-8")
        )
        for found in found
        if found
    }
    assert len(named) > 6
    assert named <= SOURCES.keys()
