"""W1, W2: the same seed gives the same run, today and after an update of torch."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.run_directory import iter_metrics
from llm_scratch.storage.checkpoint import load_latest
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.loop import train
from llm_scratch.training.run_logger import NONDETERMINISTIC_FIELDS

STORED = Path(__file__).with_name("w2_losses.json")
TEXT = "the hen sat on the red mat, and the fox ran off.\nno hen was seen on the mat since.\n" * 20
ELSEWHERE = 1e-6  # relative, on a processor of another type
TINY = RunConfig(
    GPTConfig(
        vocab_size=24,
        context_length=16,
        emb_dim=16,
        n_heads=2,
        n_layers=2,
        drop_rate=0.1,
        tie_embeddings=True,
    ),
    DataConfig(source="stories", tokenizer="chars"),
    TrainConfig(
        steps=300,
        batch_size=4,
        micro_batches=2,
        eval_every=100,
        eval_batches=2,
        save_every=100,
        sample_every=0,
        log_every=1,
    ),
)


@pytest.fixture(scope="module")
def corpus():
    tokenizer = TOKENIZERS["chars"]([TEXT])
    ids = np.array(tokenizer.encode(TEXT), dtype=np.int32)
    return Corpus(tokenizer, ids[:1400], ids[1400:], len(ids) - 1400)


@pytest.fixture(autouse=True, scope="module")
def _fast():
    """Use one thread, since sums depend on their number, and skip pictures and disk flushes."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda number: None)
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


def rows(run: Path) -> list[dict[str, float]]:
    return [
        {key: value for key, value in row.items() if key not in NONDETERMINISTIC_FIELDS}
        for row in iter_metrics(run / "metrics.jsonl")
    ]


def test_w1_same_seed_gives_the_same_bits(corpus, tmp_path, measured):
    for name in ("one", "two"):
        torch.manual_seed(len(name))  # the earlier random state does not matter
        train(TINY, tmp_path / name, corpus=corpus)
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert one == two
    assert sum("grad_norm" in row for row in one) == 300
    a, b = (load_latest(tmp_path / name, pytest.fail) for name in ("one", "two"))
    assert all(t.equal(b.weights[name]) for name, t in a.weights.items())
    assert all(t.equal(b.optimizer[name]) for name, t in a.optimizer.items())
    measured(
        "W1",
        "300 of 300 steps: loss, gradient, weights and optimizer",
        "300 steps with bit-identical loss, gradient norm and weights",
    )


def processor() -> str:
    """The type of this processor, and the instruction set that torch uses."""
    try:
        cpu_info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpu_info = ""
    named = [
        re.search(rf"^{field}\s*: (.*)$", cpu_info, re.MULTILINE)
        for field in ("vendor_id", "cpu family", "model")
    ]
    return " ".join(
        [*(found[1] for found in named if found), torch.backends.cpu.get_cpu_capability()]
    )


@pytest.fixture(scope="module")
def losses(corpus, tmp_path_factory):
    """The losses of a run without dropout."""
    folder = tmp_path_factory.mktemp("w2")
    config = replace(TINY.with_model(drop_rate=0.0), train=replace(TINY.train, steps=100, lr=3e-4))
    train(config, folder, corpus=corpus)
    return [row["loss"] for row in rows(folder) if "loss" in row]


def stored_losses() -> tuple[str, dict[str, Any]]:
    """Return the version of torch and its losses in w2_losses.json.

    The version is the running one, or the newest that is stored.
    """
    stored = json.loads(STORED.read_text())
    version = torch.__version__.partition("+")[0]
    version = (
        version if version in stored else max(stored, key=lambda v: [int(n) for n in v.split(".")])
    )
    return version, stored[version]


def test_w2_losses_are_close_to_the_stored_ones(losses, measured):
    version, want = stored_losses()
    difference = max(abs(a - b) / b for a, b in zip(losses, want["losses"], strict=True))
    assert difference <= ELSEWHERE
    measured(
        "W2",
        f"100 losses within {difference:.1e} (stored by torch {version} on {want['cpus'][0]})",
        f"within {ELSEWHERE:.0e} on any CPU",
    )


def test_w2_losses_equal_the_stored_bits(losses, measured):
    version, want = stored_losses()
    here, cpu = torch.__version__.partition("+")[0], processor()
    if here != version or cpu not in want["cpus"]:
        pytest.skip(
            f"the bits are those of torch {version} on {' or '.join(want['cpus'])};"
            f" this is torch {here} on {cpu}"
        )
    assert losses == want["losses"]
    measured("W2", "100 losses: equal bits", "equal bits on the CPU types stored with them")
