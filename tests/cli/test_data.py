"""`data`: sources, downloads and statistics."""

from __future__ import annotations

import re

from llm_scratch.cli.commands.data import story_entropy_floor
from llm_scratch.data.sources import SOURCES
from llm_scratch.data.stories import generate_story


def test_data_list_has_every_source_and_its_location(llm, monkeypatch, tmp_path, data_dir):
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path))
    monkeypatch.delenv("LLM_SCRATCH_DATA", raising=False)
    out = llm("data", "list").out
    assert all(re.search(rf"^{name}", out, re.M) for name in SOURCES)
    assert "llm-scratch data download verdict" in out
    assert max(map(len, out.splitlines())) <= 80
    monkeypatch.setenv("LLM_SCRATCH_DATA", str(data_dir))
    assert "data download" not in llm("data", "list").out


def test_data_download_prints_the_path_of_the_file(llm, monkeypatch, data_dir):
    monkeypatch.setenv("LLM_SCRATCH_DATA", str(data_dir))
    result = llm("data", "download", "verdict", "stories")
    assert result.out == f"verdict: {data_dir / 'the-verdict.txt'}\nstories: needs no download\n"


def test_data_download_of_gpt2_prints_the_path_of_its_vocabulary(llm, gpt2):
    assert llm("data", "download", "gpt2").out.startswith("gpt2: /")


def test_data_show_prints_counts(llm, text_file):
    out = llm("data", "show", f"file:{text_file}").out
    text = text_file.read_text()
    for what, value in (
        ("documents", "1"),
        ("words", f"{len(text.split()):,}"),
        ("bytes", f"{len(text):,}"),
    ):
        assert re.search(rf"^{what} +{value} *$", out, re.M)
    assert re.search(rf"^characters +{len(text):,}, {len(set(text))} different", out, re.M)
    assert "the hen sat on the red mat" in out


def test_data_show_of_stories_prints_the_entropy(llm):
    stories = [generate_story(seed) for seed in range(20)]
    want = sum(story.bits for story in stories) / sum(len(story.text.encode()) for story in stories)
    assert story_entropy_floor(20) == want
    assert f"floor       {want:.4f} bits per byte" in llm("data", "show", "stories:20").out


def test_data_download_help_names_every_file(llm):
    from llm_scratch.data.sources import DOWNLOADED

    out = " ".join(llm("data", "download", "--help").out.replace("│", " ").split())
    assert ", ".join([*DOWNLOADED, "gpt2"]) in out
