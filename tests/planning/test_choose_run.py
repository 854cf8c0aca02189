"""Settings for texts of all shapes: fixed ones are kept, chosen ones train.

The time budget holds.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from llm_scratch.cli.own_text import base_config
from llm_scratch.config import RunConfig, from_dict, to_dict
from llm_scratch.data.corpus import TextFingerprint, prepare
from llm_scratch.data.sharding import make_shards
from llm_scratch.errors import UserError
from llm_scratch.planning import choose_run as module
from llm_scratch.planning.choice import Choice
from llm_scratch.planning.choose_run import choose_run
from llm_scratch.planning.step_timing import StepTiming
from llm_scratch.tokenizers import ByteBPE, CharTokenizer
from llm_scratch.training.run_data import text_loaders

WORDS = [
    "the",
    "hen",
    "sat",
    "on",
    "a",
    "red",
    "mat",
    "and",
    "then",
    "one",
    "old",
    "fox",
    "came",
    "by",
    "to",
    "ask",
    "her",
    "for",
    "some",
    "rain",
    "or",
    "bread",
    "but",
    "she",
    "would",
    "not",
]


@pytest.fixture(autouse=True)
def _steady_machine(monkeypatch):
    """Simulate a machine of 1e10 FLOP/s with an MFU of 10 %, so that the choice repeats."""

    def timed(config, device, rate, seconds=3.0, width=None):
        tokens = config.train.batch_size * (width or config.model.context_length)
        return StepTiming(
            6 * config.model.n_params * tokens / 1e9,
            2 * config.model.n_params * tokens / 1e9,
            "a formula",
        )

    monkeypatch.setattr(module, "matmul_flops", lambda device: 1e10)
    monkeypatch.setattr(module, "estimate_step_time", timed)
    monkeypatch.setattr("llm_scratch.planning.plan.estimate_step_time", timed)


def text(n_words, seed=0):
    return " ".join(np.random.default_rng(seed).choice(WORDS, n_words)) + ".\n"


def chosen(tmp_path, documents, seconds=60.0, **settings):
    """The choice for documents that are files of a folder."""
    folder = tmp_path / "texts"
    folder.mkdir(exist_ok=True)
    for number, document in enumerate(documents):
        (folder / f"{number:04}.txt").write_text(document, encoding="utf-8")
    base = from_dict(RunConfig, settings, base_config([], f"file:{folder}"))
    names = frozenset(f"{part}.{key}" for part, values in settings.items() for key in values)
    return choose_run(
        base, names, seconds, torch.device("cpu"), request={"source": base.data.source}
    )


SHAPES = {
    "a story": [text(4000)],
    "a large text": [text(60_000)],
    "one line": [text(30_000).replace("\n", " ")],
    "no spaces": ["上海是中国的一座大城市位于长江口" * 2000],
    "many characters": [
        "".join(map(chr, np.random.default_rng(0).integers(0x4E00, 0x5600, 40_000)))
    ],
    "poems": [text(30, seed) for seed in range(200)],
    "three books": [text(20_000, seed) for seed in range(3)],
    "a tiny text": [text(60)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_choose_run_fits_every_kind_of_text(shape, tmp_path):
    choice, plan, corpus = chosen(tmp_path, SHAPES[shape])
    config = choice.config
    again = prepare(config)  # checks that rows fit, and learns the same vocabulary again
    assert np.array_equal(again.train, corpus.train)
    assert np.array_equal(again.val, corpus.val)
    assert corpus.tokenizer.n_vocab == config.model.vocab_size
    loader, _ = text_loaders(config, corpus)
    left_out = ["left out"] if loader.left_out > 0.01 * len(corpus.train) else []
    assert list(choice.lines) == ["text", "tokenizer", "rows", "model", "training", *left_out]
    assert (
        f"{loader.left_out:,} of {len(corpus.train):,} training tokens"
        in choice.lines.get("left out", "")
        or not left_out
    )
    assert 0.02 <= len(corpus.val) / (len(corpus.train) + len(corpus.val)) <= 0.35
    for prompt in choice.prompts:
        assert any(prompt in document for document in SHAPES[shape])
        assert corpus.tokenizer.encode(prompt)
    assert config.train.prompt == choice.prompts[0]
    assert plan.steps == config.train.steps
    assert plan.seconds <= 75


def test_short_documents_are_rows(tmp_path):
    choice, _, _ = chosen(tmp_path, SHAPES["poems"])
    assert (choice.config.data.order, choice.config.data.split) == ("documents", "documents")


def test_choose_run_uses_more_time_for_steps_or_size(tmp_path):
    work = []
    for seconds in (20, 100, 500):
        choice, plan, _ = chosen(tmp_path, SHAPES["three books"], seconds)
        work.append(plan.tokens * choice.config.model.n_params)
        assert 0.5 * seconds < plan.seconds <= seconds
    assert work == sorted(work)
    assert work[-1] > 10 * work[0]


def test_small_text_ends_before_the_time_budget(tmp_path):
    choice, plan, _ = chosen(tmp_path, SHAPES["a story"], 100_000)
    assert plan.seconds < 50_000
    assert plan.epochs == pytest.approx(40, rel=0.05)
    assert "more steps would gain nothing" in choice.lines["training"]


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"emb_dim": 90}},
        {"model": {"n_heads": 3}},
        {"model": {"n_layers": 5, "context_length": 40, "drop_rate": 0.3}},
        {"model": {"architecture": "gpt"}},
        {"train": {"steps": 77, "batch_size": 3, "prompt": "the old"}},
        {"train": {"epochs": 2}},
        {"data": {"tokenizer": "bpe"}},
        {"data": {"tokenizer": "bpe"}, "model": {"vocab_size": 290}},
        {"data": {"tokenizer": "words"}},
        {"data": {"val_fraction": 0.3, "order": "notebook"}},
        {"train": {"optimizer": "adamw"}},
    ],
)
def test_fixed_settings_are_kept(settings, tmp_path):
    choice, plan, _ = chosen(tmp_path, SHAPES["a story"], **settings)
    values = to_dict(choice.config)
    for part, wanted in settings.items():
        assert {key: values[part][key] for key in wanted} == wanted
    prepare(choice.config)
    if "steps" in settings.get("train", {}):
        assert plan.steps == 77
    if "epochs" in settings.get("train", {}):
        assert plan.epochs == pytest.approx(2, rel=0.1)
    if settings.get("train", {}).get("optimizer") == "adamw":
        assert choice.config.train.lr < 0.01, "0.05 is Muon's"


def test_choose_run_takes_the_vocabulary_of_a_tokenizer_file(tmp_path):
    ByteBPE.train([text(3000)], 280).save(tmp_path / "class.json")
    choice, _, corpus = chosen(
        tmp_path, SHAPES["a story"], data={"tokenizer": str(tmp_path / "class.json")}
    )
    assert corpus.tokenizer.n_vocab == choice.config.model.vocab_size == 280


def test_tokenizer_of_an_existing_model_is_kept(tmp_path):
    tokenizer = CharTokenizer.train([text(3000) + "!?"])
    base = replace(base_config([], "mine"), init_from="gpt2")
    (tmp_path / "a.txt").write_text(text(9000))
    base = replace(base, data=replace(base.data, source=f"file:{tmp_path}/a.txt")).with_model(
        vocab_size=99
    )
    choice, plan, corpus = choose_run(
        base, frozenset(), 9999.0, torch.device("cpu"), request={}, tokenizer=tokenizer
    )
    assert corpus.tokenizer is tokenizer
    assert choice.config.model.vocab_size == 99
    assert plan.epochs == pytest.approx(module.MAX_EPOCHS_FROM_MODEL, rel=0.05)
    assert choice.config.train.optimizer == "adamw"


def test_token_shards_are_not_read_as_text(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda number: None)
    (tmp_path / "a.txt").write_text(text(30_000))
    make_shards(f"file:{tmp_path}/a.txt", tmp_path / "shards", "bpe", vocab_size=280)
    choice, _, corpus = choose_run(
        base_config([], f"shards:{tmp_path}/shards"),
        frozenset(),
        60.0,
        torch.device("cpu"),
        request={},
    )
    assert choice.config.model.vocab_size == corpus.tokenizer.n_vocab == 280
    assert choice.fingerprint == ""
    assert choice.facts.n_bytes == len(text(30_000))
    prepare(choice.config)


@pytest.mark.parametrize(
    ("free", "why"), [(10**12, "can be read in so few --minutes"), (1000, "memory can hold")]
)
def test_choose_run_rejects_a_large_text_before_reading_it(free, why, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda: free)
    monkeypatch.setattr(module, "read", lambda source: pytest.fail("read"))
    seconds = 1e-4 if free > 1000 else 60.0
    with pytest.raises(
        UserError,
        match=rf"has [\d.]+ KiB, more than {why}; make token shards .*"
        "data prepare .*texts --out shards/mine --tokenizer bpe",
    ) as error:
        chosen(tmp_path, SHAPES["a story"], seconds)
    assert "`llm-scratch train text shards/mine`" in str(error.value)


def test_choose_run_rejects_a_text_shorter_than_a_row(tmp_path):
    with pytest.raises(UserError, match="one window takes 9"):
        chosen(tmp_path, ["the hen"])


def test_choice_round_trips(tmp_path):
    choice, _, _ = chosen(tmp_path, SHAPES["a story"])
    choice.save(tmp_path)
    assert Choice.load(tmp_path) == choice
    for damaged in ("", "{}", "[]", json.dumps({"config": 3})):
        (tmp_path / "choice.json").write_text(damaged)
        assert Choice.load(tmp_path) is None


def test_fingerprint_changes_with_every_document():
    texts = ["a", "bc"]
    assert TextFingerprint.of(texts) == TextFingerprint.of(["a", "bc"])
    assert (
        len({TextFingerprint.of(t) for t in (texts, ["ab", "c"], ["bc", "a"], ["a"], ["a", "bC"])})
        == 5
    )
