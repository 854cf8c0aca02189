"""benchmarks/decode.py: all contenders have the same weights; one that does not run is named."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)  # scripts, not a package

import decode  # noqa: E402
from interleaved import Contenders  # noqa: E402

sys.path.remove(BENCHMARKS)  # its reliability.py would hide tests/reliability

SMALL = {"vocab_size": 40, "context_length": 32, "emb_dim": 16, "n_heads": 2, "n_layers": 1}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(decode, "CFG", decode.CFG | SMALL)
    monkeypatch.setattr(decode, "READ", 100)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_transformers_continues_with_our_weights(cache):
    pytest.importorskip("transformers", reason="the reference: pip install -e '.[hf]'")
    ids, model = torch.randint(0, 40, (1, 5)), decode.shared_model()
    _, _, written = decode.theirs(cache)(ids, 4)
    text = ids
    with torch.no_grad():
        for _ in range(4):
            text = torch.cat([text, model(text)[:, -1:].argmax(-1)], dim=1)
    assert written == text[0, 5:].tolist()


def test_failing_contender_is_named_and_the_others_are_measured(monkeypatch, capsys):
    answer = {"first": 1.0, "others": 2.0, "ids": [1, 2], "peak": 10}

    @contextmanager
    def contenders(names, command):
        class Ask(Contenders):
            def __call__(self, name, question):
                assert name != "hf-dynamic"
                return dict(answer)

        ask = Ask()
        ask.names, ask.missing = [n for n in names if n != "hf-dynamic"], {"hf-dynamic": "old"}
        yield ask

    monkeypatch.setattr(decode, "contenders", contenders)
    words = "--rounds 1 --new 3 --batches 1 --prompts 16 --only ours-fp32 hf-dynamic"
    monkeypatch.setattr(sys, "argv", ["decode.py", *words.split()])
    decode.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["missing"] == {"hf-dynamic": "old"}
    assert list(report["tokens_per_s"]["b1_p16"]) == ["ours-fp32"]
