"""The processor's name."""

from __future__ import annotations

import platform

import pytest

from llm_scratch.hardware import processor


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        ("processor\t: 0\nmodel name\t: Fast 9000\nmodel name\t: other\n", "Fast 9000"),
        ("model name\t: \nmodel name\t: Fast 9000\n", "Fast 9000"),
        ("processor\t: 0\n", "the architecture"),
        (None, "the architecture"),
    ],
)
def test_processor_name_falls_back_to_the_architecture(tmp_path, monkeypatch, lines, want):
    path = tmp_path / "cpuinfo"
    if lines is not None:
        path.write_text(lines)
    monkeypatch.setattr(processor, "CPU_INFO", path)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "the architecture")
    assert processor.processor_name() == want
