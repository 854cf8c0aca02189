"""`play`: what it refuses, the folder that it exports, the snapshots that training keeps for it."""

import json
from pathlib import Path

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
