"""`play`: rejected addresses, the exported folder, and the snapshots that training keeps."""

import json
import os
import sys
import webbrowser
from pathlib import Path

import pytest

from llm_scratch.cli import desktop
from llm_scratch.storage.snapshots import list_snapshots


def test_play_refuses_addresses_that_other_machines_reach(llm, trained):
    result = llm("play", trained, "--host", "0.0.0.0", "--no-browser")
    assert result.code == 2
    assert "other machines could reach it" in result.err


def test_play_exports_a_folder(llm, trained):
    result = llm("play", trained, "--export", "page", "--json")
    assert result.code == 0
    assert json.loads(result.out)["page"].endswith("index.html")
    assert "globalThis.RECORDED" in (trained.parent / "page" / "answers.js").read_text(
        encoding="utf-8"
    )


def test_train_keeps_snapshots_for_the_film(llm, tiny):
    assert llm(*tiny, "--train.snapshot-every", 2, "--out", "run").code == 0
    assert list_snapshots(Path("run")) == [0, 2, 4]


def test_train_keeps_no_snapshots_by_default(llm, tiny):
    assert llm(*tiny, "--out", "run").code == 0
    assert not (Path("run") / "snapshots").exists()


def test_play_prints_its_address_and_ends_with_ctrl_c(llm, trained, monkeypatch):
    from llm_scratch.serving.http_server import LocalServer

    def interrupted(server):
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalServer, "serve_forever", interrupted)
    result = llm("play", trained, "--port", 0, "--no-browser")
    assert result.code == 0
    assert result.out.startswith("http://127.0.0.1:")
    assert "/?token=" in result.out
    found = json.loads(llm("play", trained, "--port", 0, "--json").out)
    assert found["url"].startswith("http://127.0.0.1:")
    assert found["page"] is None


@pytest.fixture
def on_desktop(monkeypatch):
    """A terminal of Linux with a display and a browser."""
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(webbrowser, "get", lambda: None)
    monkeypatch.setattr(os, "environ", {"DISPLAY": ":0"})


@pytest.mark.parametrize(("answer", "wanted"), [("y", True), ("Yes ", True), ("", False)])
def test_playground_is_offered_on_a_desktop(on_desktop, monkeypatch, answer, wanted):
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert desktop.has_desktop()
    assert desktop.is_wanted("Open it?") is wanted


@pytest.mark.parametrize("environment", [{}, {"DISPLAY": ":0", "SSH_CONNECTION": "1"}])
def test_playground_is_not_offered_without_a_desktop(on_desktop, monkeypatch, environment):
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail("a question"))
    assert not desktop.is_wanted("Open it?")


def test_offer_in_a_script_does_nothing(llm, trained):
    result = llm("play", trained, "--offer")
    assert (result.code, result.out, result.err) == (0, "", "")
