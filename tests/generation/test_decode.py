"""Decoding: the plain loop as reference, cache, ends of rows, complete characters, errors."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from llm_scratch.errors import GenerationWarning, UserError
from llm_scratch.generation.cached_model import PAD, pad_left
from llm_scratch.generation.decode import (
    generate,
    generate_text_simple,
    stream,
    stream_batch,
    stream_chunks,
    text_to_token_ids,
    token_ids_to_text,
)
from llm_scratch.model.gpt import GPTModel

CFG = {
    "vocab_size": 61,
    "context_length": 12,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.5,
    "qkv_bias": True,
}


class Bytes:
    """A tokenizer whose tokens are the bytes, and 256 the end of text."""

    n_vocab, eot_token = 257, 256

    def encode(self, text, *, allowed_special=frozenset(), disallowed_special=()):
        return list(text.encode())

    def decode_bytes(self, ids):
        return b"".join(b"<|endoftext|>" if i == 256 else bytes([i]) for i in ids)

    def decode(self, ids):
        return self.decode_bytes(ids).decode(errors="replace")


class Words(Bytes):
    """A tokenizer that joins its words with a space."""

    words, n_vocab, eot_token = ["once", "there", "was", "a", "fox", "<eot>"], 6, 5

    def encode(self, text, *, allowed_special=frozenset(), disallowed_special=()):
        return [self.words.index(word) for word in text.split()]

    def decode_bytes(self, ids):
        return " ".join(self.words[i] for i in ids).encode()


class Script(nn.Module):
    """A model with fixed output for any input: row r of a batch generates `script[r]`."""

    def __init__(self, *script, vocab=300):
        super().__init__()
        self.script, self.vocab, self.start = script, vocab, None

    def forward(self, in_idx):
        self.start = in_idx.shape[1] if self.start is None else self.start
        rows = torch.tensor([row[in_idx.shape[1] - self.start] for row in self.script])
        return (
            nn.functional.one_hot(rows, self.vocab)[:, None].expand(-1, in_idx.shape[1], -1) * 50.0
        )


class Chain(nn.Module):
    """A model that continues the text whose beginning it reads."""

    def __init__(self, *texts):
        super().__init__()
        self.texts = texts

    def forward(self, in_idx):
        rows = [bytes(row.tolist()).decode() for row in in_idx]
        following = [
            next(text for text in self.texts if text.startswith(row))[len(row)] for row in rows
        ]
        return nn.functional.one_hot(torch.tensor([ord(c) for c in following]), 257)[:, None] * 50.0


@pytest.fixture
def model():
    torch.manual_seed(123)
    return GPTModel(CFG)


@pytest.fixture
def idx():
    return torch.randint(0, CFG["vocab_size"], (3, 5), generator=torch.Generator().manual_seed(1))


def plainly(model, idx, n, context_size, choose):
    """Generate as the notebooks do: the whole window at each step, without a cache."""
    for _ in range(n):
        with torch.no_grad():
            idx = torch.cat([idx, choose(model(idx[:, -context_size:])[:, -1])], 1)
    return idx


def draw(logits, t=1.4, k=7):
    logits = torch.where(logits < logits.topk(k).values[:, -1:], -torch.inf, logits) / t
    return torch.multinomial(logits.softmax(-1), 1)


@pytest.mark.parametrize("context_size", [4, 5, 9, 12])
def test_greedy_ids_equal_the_plain_loop(model, idx, context_size):
    """30 new tokens: the cache fills, then the window slides."""
    want = plainly(
        model.eval(), idx, 30, context_size, lambda logits: logits.argmax(-1, keepdim=True)
    )
    assert torch.equal(generate_text_simple(model, idx, 30, context_size), want)
    assert torch.equal(generate(model, idx, 30, context_size), want)


@pytest.mark.parametrize("context_size", [3, 8, 12])
def test_drawn_ids_equal_the_plain_loop_from_the_same_seed(model, idx, context_size):
    torch.manual_seed(123)
    want = plainly(model.eval(), idx, 30, context_size, draw)
    torch.manual_seed(123)
    assert torch.equal(generate(model, idx, 30, context_size, temperature=1.4, top_k=7), want)
    ours = generate(
        model,
        idx,
        30,
        context_size,
        temperature=1.4,
        top_k=7,
        generator=torch.Generator().manual_seed(123),
    )
    assert torch.equal(ours, want)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_ids_with_cache_equal_ids_without_cache(model, idx, temperature):
    plain = nn.Module()
    plain.inner, plain.cfg, plain.forward = model, CFG, lambda ids: model(ids)
    assert not hasattr(plain, "new_cache")
    with_cache, without = (
        generate(m, idx, 30, temperature=temperature, generator=torch.Generator().manual_seed(5))
        for m in (model, plain)
    )
    assert torch.equal(with_cache, without)


def test_cached_generation_reads_each_token_once(model, idx, monkeypatch):
    shapes = []
    monkeypatch.setattr(
        model,
        "hidden",
        lambda ids, cache=None: shapes.append(ids.shape[1]) or GPTModel.hidden(model, ids, cache),
    )
    generate(model, idx, 10)
    assert shapes == [5, 1, 1, 1, 1, 1, 1, 1, 12, 12]
    shapes.clear()
    generate(model, idx, 3, prefill_chunk=2)
    assert shapes == [2, 2, 1, 1, 1]


def test_generation_computes_only_the_last_logits(model, idx):
    seen = []
    model.out_head.register_forward_hook(lambda part, args, out: seen.append(tuple(out.shape)))
    generate(model, idx, 2)
    assert seen == [(3, 1, 61)] * 2


def test_rows_of_a_batch_are_independent(model, idx):
    together = generate(model, idx, 12)
    for row in range(3):
        assert torch.equal(generate(model, idx[row : row + 1], 12), together[row : row + 1])


@pytest.mark.parametrize("context_size", [None, 13, 4096])
def test_context_size_is_limited_to_that_of_the_model(model, idx, context_size):
    """The notebooks' generate_text_simple raised in pos_emb."""
    assert torch.equal(
        generate(model, idx, 20, context_size), generate(model, idx, 20, CFG["context_length"])
    )


def test_prompt_longer_than_the_context_is_kept_complete(model):
    idx = torch.arange(40)[None]
    with pytest.warns(
        GenerationWarning,
        match="the prompt has 40 tokens and the model sees 12: the first 28 are dropped",
    ):
        out = generate(model, idx, 3)
    assert torch.equal(out[:, :40], idx)
    assert torch.equal(out[:, 40:], generate(model, idx[:, -12:], 3)[:, 12:])


def test_generation_works_with_a_model_that_only_returns_logits():
    assert generate(Script([7, 8, 9]), torch.zeros(1, 2, dtype=torch.long), 3).tolist() == [
        [0, 0, 7, 8, 9]
    ]


def test_batch_ends_row_by_row_and_keeps_the_end_token():
    """The notebooks compared the whole batch with one id, which raised an error.

    They also left the end token out.
    """
    idx = torch.zeros(3, 1, dtype=torch.long)
    script = [7, 2, 5, 5, 5, 5], [2, 9, 9, 9, 9, 9], [8, 8, 8, 2, 8, 8]
    out = generate(Script(*script), idx, 6, eos_id=2)
    assert out.tolist() == [[0, 7, 2, 2, 2], [0, 2, 2, 2, 2], [0, 8, 8, 8, 2]]


def test_samples_of_a_prompt_share_its_prefill(model, idx, monkeypatch):
    """Two prompts of three samples are read as two rows.

    Each sample is the one that its seed gives alone.
    """
    shapes = []
    monkeypatch.setattr(
        model,
        "hidden",
        lambda ids, cache=None: (
            shapes.append(tuple(ids.shape)) or GPTModel.hidden(model, ids, cache)
        ),
    )
    chance = [torch.Generator().manual_seed(seed) for seed in range(6)]
    out = generate(model, idx[:2], 4, temperature=1.5, samples=3, generator=chance)
    assert shapes == [(2, 5), (6, 1), (6, 1), (6, 1)]
    for row in range(6):
        alone = generate(
            model,
            idx[row // 3][None],
            4,
            temperature=1.5,
            generator=torch.Generator().manual_seed(row),
        )
        assert torch.equal(out[row : row + 1], alone)
    assert len({tuple(row) for row in out.tolist()}) == 6


def test_generation_slides_or_stops_when_the_context_is_full(model, idx):
    """12 tokens fit: 5 of the prompt, 7 new ones, and one more that the full window gives."""
    slid, stopped = (
        generate(model, idx, 30, context_overflow=overflow) for overflow in ("slide", "stop")
    )
    assert (slid.shape[1], stopped.shape[1]) == (35, 13)
    assert torch.equal(slid[:, :13], stopped)
    assert torch.equal(
        generate(model, torch.zeros(1, 13, dtype=torch.long), 3, context_overflow="stop"),
        torch.zeros(1, 13, dtype=torch.long),
    )


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("eos_id", [None, 5])
def test_rows_of_different_lengths_fill_the_context_one_by_one(model, samples, eos_id):
    """Each row is as if alone, then padded; one prompt is too long from the start.

    A row that reached the end token keeps it.
    """
    rows = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [3], list(range(20)), [4, 5, 6, 7]]
    chance = [torch.Generator().manual_seed(seed) for seed in range(4 * samples)]
    overflow = {
        "temperature": 2.0,
        "context_overflow": "stop",
        "eos_id": eos_id,
        "logit_bias": {5: 4.0},
    }
    out = generate(model, pad_left(rows), 40, generator=chance, samples=samples, **overflow)
    ended = 0
    for number, got in enumerate(out[:, 20:].tolist()):
        row = rows[number // samples]
        alone = generate(
            model,
            torch.tensor([row]),
            40,
            generator=torch.Generator().manual_seed(number),
            **overflow,
        )[0, len(row) :].tolist()
        assert len(alone) == max(0, 13 - len(row)) or alone[-1] == eos_id
        ended += bool(alone) and alone[-1] == eos_id
        assert got == alone + [alone[-1] if alone and alone[-1] == eos_id else PAD] * (
            len(got) - len(alone)
        )
    assert bool(ended) == (eos_id is not None)
    assert out.shape[1] < 20 + 13


def test_full_row_is_reread_when_the_others_continue(model, monkeypatch):
    """The shorter row continues without padding, and does not read the window at each step."""
    shapes = []
    monkeypatch.setattr(
        model,
        "hidden",
        lambda ids, cache=None: shapes.append(ids.shape[1]) or GPTModel.hidden(model, ids, cache),
    )
    generate(model, pad_left([[1] * 10, [2] * 4]), 40, context_overflow="stop")
    assert shapes == [10, 1, 1, 7, 1, 1, 1, 1, 1]


def test_cache_is_freed_when_the_consumer_stops(model):
    caches = []
    model.new_cache = lambda n: (
        caches.append(weakref.ref(cache := GPTModel.new_cache(model, n))) or cache
    )
    pieces = stream(model, Bytes(), "\x01", seed=1)
    next(pieces)
    assert caches[0]() is not None
    pieces.close()
    assert caches[0]() is None


def test_end_token_in_the_prompt_does_not_end_generation():
    assert generate(Script([7, 7, 2]), torch.tensor([[2]]), 5, eos_id=2).tolist() == [[2, 7, 7, 2]]


def test_generation_restores_the_mode_of_every_module(model, idx):
    for train, frozen in ((True, False), (False, True)):
        model.train(train)
        model.trf_blocks[0].train(frozen)
        before = [part.training for part in model.modules()]
        generate(model, idx, 2)
        list(stream(model, Bytes(), "\x01", max_new_tokens=1, temperature=0))
        assert [part.training for part in model.modules()] == before


def test_mode_is_restored_when_the_model_fails_or_the_consumer_stops():
    model = nn.Module()
    model.forward = lambda ids: 1 / 0
    with pytest.raises(ZeroDivisionError):
        generate(model, torch.zeros(1, 1, dtype=torch.long), 1)
    assert model.training
    script = Script([65] * 10)
    pieces = stream(script, Bytes(), "x")
    assert next(pieces) == "A"
    pieces.close()
    assert script.training


def test_generation_records_no_gradient(model, idx):
    recorded = []
    model.out_head.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    generate(model, idx, 2)
    generate_text_simple(model, idx, 1, 8)
    assert recorded == [False] * 3
    assert torch.is_grad_enabled()
    pieces = stream(Script([65] * 9), Bytes(), "x", max_new_tokens=9)
    next(pieces)
    assert torch.is_grad_enabled(), (
        "a half-read stream must not switch gradients off for its reader"
    )


def test_generated_ids_can_be_trained_on(model, idx):
    model(generate(model, idx, 2)).sum().backward()
    assert model.tok_emb.weight.grad is not None


def test_stream_yields_complete_characters():
    text = "né ☃ 🦊!"
    pieces = list(
        stream(Script(list(text.encode())), Bytes(), "x", max_new_tokens=len(text.encode()))
    )
    assert pieces == list(text)


def test_stream_shows_bytes_that_are_no_character():
    """A lone continuation byte, and a character cut off by the end: as `decode` shows them."""
    ids = [0x41, 0x80, 0x42, 0xF0, 0x9F, 0x43, 0xE2, 0x98]
    text = "".join(stream(Script(ids), Bytes(), "x", max_new_tokens=len(ids)))
    assert text == Bytes().decode(ids) == "A\ufffdB\ufffdC\ufffd"


def test_stream_ends_where_the_text_ends():
    script = [72, 105, 256, 33]
    assert "".join(stream(Script(script), Bytes(), "x")) == "Hi"
    assert (
        "".join(stream(Script(script), Bytes(), "x", max_new_tokens=4, stop_at_eot=False)) == "Hi!"
    )


def test_stream_joins_words_as_their_tokenizer_does():
    assert list(stream(Script([1, 2, 3, 4, 5]), Words(), "once")) == [
        " there",
        " was",
        " a",
        " fox",
    ]


def test_chunks_have_the_probabilities_of_the_model_before_any_sampler(model):
    model = GPTModel(CFG | {"vocab_size": 300})
    pieces = list(
        stream_chunks(
            model,
            Bytes(),
            "fox",
            max_new_tokens=6,
            temperature=0.2,
            top_k=3,
            seed=1,
            top=4,
            stop_at_eot=False,
        )
    )
    ids = list(b"fox")
    for piece in pieces[:6]:  # a seventh may hold bytes of an incomplete character
        with torch.no_grad():
            want = model.eval()(torch.tensor([ids]))[0, -1, :257].log_softmax(-1)
        assert piece.logprob == pytest.approx(want[piece.id].item(), abs=1e-5)
        assert [i for i, _ in piece.top] == want.topk(4).indices.tolist()
        assert [p for _, p in piece.top] == pytest.approx(want.topk(4).values.tolist(), abs=1e-5)
        ids.append(piece.id)
    assert all(
        p.logprob is None and p.top == ()
        for p in stream_chunks(model, Bytes(), "fox", max_new_tokens=3)
    )


def test_stop_string_ends_each_row_by_itself():
    chain = Chain("one. two", "a b c. d")
    rows = {0: "", 1: ""}
    for row, piece in stream_batch(
        chain, Bytes(), ["o", "a"], stop=[". "], max_new_tokens=8, temperature=0
    ):
        rows[row] += piece.text
    assert rows == {0: "ne", 1: " b c"}
    assert chain.training, "the model's mode is restored"


@pytest.mark.parametrize("context_overflow", ["slide", "stop"])
def test_seed_gives_the_same_text_alone_and_in_a_batch_of_32(context_overflow):
    """Use prompts of all lengths in float32, so that most rows are padded.

    They fill the context one after the other.
    """
    torch.manual_seed(1)
    model = GPTModel(CFG | {"vocab_size": 257, "context_length": 40})
    prompts = ["the quick brown fox jumps over"[: 1 + number % 30] for number in range(32)]
    settings = {
        "max_new_tokens": 25,
        "temperature": 1.1,
        "top_p": 0.95,
        "repetition_penalty": 1.2,
        "stop_at_eot": False,
    }
    settings["context_overflow"] = context_overflow
    together = [[] for _ in prompts]
    for row, piece in stream_batch(model, Bytes(), prompts, seed=100, **settings):
        together[row].append(piece.id)
    for row, prompt in enumerate(prompts):
        alone = [
            piece.id for piece in stream_chunks(model, Bytes(), prompt, seed=100 + row, **settings)
        ]
        assert together[row] == alone + [None] * (len(together[row]) - len(alone)), prompt


def test_stream_batch_takes_a_cache_for_one_prompt_only(model):
    with pytest.raises(
        ValueError, match="cache: holds one text, and there are 2 prompts; leave it out"
    ):
        stream_batch(model, Bytes(), ["\x01", "\x02"], cache=model.new_cache(1))


def test_stream_draws_only_tokens_that_the_tokenizer_has():
    """Use a vocabulary that is rounded up for speed: its last logits belong to no token."""
    model = nn.Module()
    model.forward = lambda ids: torch.arange(300.0).expand(1, ids.shape[1], 300)
    assert (
        list(stream(model, Bytes(), "x", max_new_tokens=1, temperature=0, stop_at_eot=False)) == []
    )
    assert "".join(stream(model, Bytes(), "x", max_new_tokens=3, temperature=0)) == ""


def test_stream_begins_an_empty_prompt_after_the_end_of_text():
    seen = []
    model = nn.Module()
    model.forward = lambda ids: seen.append(ids.tolist()) or torch.zeros(1, ids.shape[1], 257)
    list(stream(model, Bytes(), "", max_new_tokens=1))
    assert seen == [[[256]]]


def test_stream_repeats_a_seed_and_follows_manual_seed(model):
    model = GPTModel(CFG | {"vocab_size": 257})

    def text(**kwargs):
        return "".join(stream(model, Bytes(), "fox", max_new_tokens=20, **kwargs))

    assert text(seed=4) == text(seed=4) != text(seed=5)
    torch.manual_seed(9)
    first = text()
    torch.manual_seed(9)
    assert text() == first
    assert text(temperature=0) == text(temperature=0, seed=1)


def test_stream_equals_generate():
    model = GPTModel(CFG | {"vocab_size": 257})
    ids = generate(
        model,
        text_to_token_ids("fox", Bytes()),
        25,
        temperature=0.9,
        top_k=30,
        top_p=0.8,
        generator=torch.Generator().manual_seed(4),
    )
    pieces = stream(
        model,
        Bytes(),
        "fox",
        max_new_tokens=25,
        temperature=0.9,
        top_k=30,
        top_p=0.8,
        seed=4,
        stop_at_eot=False,
    )
    assert "fox" + "".join(pieces) == Bytes().decode([i for i in ids[0].tolist() if i != 256])


def test_text_to_ids_and_ids_to_text_are_inverse(gpt2):
    ids = text_to_token_ids("Every effort<|endoftext|> moves you", gpt2)
    assert ids.shape[0] == 1
    assert gpt2.eot_token in ids
    assert (
        token_ids_to_text(ids, gpt2)
        == token_ids_to_text(ids[0], gpt2)
        == "Every effort<|endoftext|> moves you"
    )


def test_special_tokens_in_a_prompt_are_plain_text(gpt2):
    seen = []
    model = nn.Module()
    model.forward = lambda ids: (
        seen.append(ids[0].tolist()) or torch.zeros(1, ids.shape[1], gpt2.n_vocab)
    )
    list(stream(model, gpt2, "a<|endoftext|>b", max_new_tokens=1, seed=1))
    assert gpt2.eot_token not in seen[0]
    assert gpt2.decode(seen[0]) == "a<|endoftext|>b"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"temperature": -0.1}, "temperature: -0.1 is out"),
        ({"temperature": float("nan")}, "temperature: nan is out"),
        ({"temperature": 1.0, "top_k": 0}, "top_k: 0 is out"),
        ({"temperature": 1.0, "top_p": 2.0}, "top_p: 2.0 is out"),
        ({"max_new_tokens": -1}, "max_new_tokens: -1 is out"),
    ],
)
def test_generate_errors_name_settings_out_of_range(model, idx, settings, word):
    with pytest.raises(UserError, match=word):
        generate(model, idx, **({"max_new_tokens": 2} | settings))
    with pytest.raises(UserError, match=word):
        list(stream(model, Bytes(), "\x01", **settings))


def test_stream_rejects_invalid_prompts(model):
    with pytest.raises(UserError, match="the prompt is empty"):
        generate(model, torch.empty(1, 0, dtype=torch.long), 1)
    with pytest.raises(UserError, match="context_size: 0 is out"):
        generate_text_simple(model, torch.zeros(1, 1, dtype=torch.long), 1, 0)
    with pytest.raises(UserError, match="id 61 .* vocabulary of 61"):
        generate(model, torch.tensor([[61]]), 1)
    with pytest.raises(ValueError, match=r"\(5,\)"):
        generate(model, torch.zeros(5, dtype=torch.long), 1)
    with pytest.raises(ValueError, match="2 rows"):
        token_ids_to_text(torch.zeros(2, 5, dtype=torch.long), Bytes())


def test_stream_raises_before_the_first_chunk_is_requested(model):
    with pytest.raises(UserError, match="vocabulary"):
        stream(model, Bytes(), "fox")


def test_zero_new_tokens_return_the_prompt(model, idx):
    assert torch.equal(generate(model, idx, 0), idx)
    assert list(stream(model, Bytes(), "\x01", max_new_tokens=0)) == []


def test_model_of_documents_reads_a_prompt_after_its_start_token():
    """`start_id` goes before the prompt: the text is that of a prompt with this token."""
    torch.manual_seed(0)
    model = GPTModel(
        {
            "vocab_size": 257,
            "context_length": 16,
            "emb_dim": 24,
            "n_heads": 4,
            "n_layers": 1,
            "drop_rate": 0.0,
            "qkv_bias": False,
        }
    ).eval()
    plain = list(stream(model, Bytes(), "ab", max_new_tokens=8, temperature=0.0))
    model.start_id = 256
    started = "".join(
        stream(model, Bytes(), "ab", max_new_tokens=8, temperature=0.0, stop_at_eot=False)
    )
    ids = generate_text_simple(model, torch.tensor([[256, *b"ab"]]), 8, 16)[0, 3:].tolist()
    assert started == Bytes().decode([i for i in ids if i != 256])
    assert started != "".join(plain)


def test_text_ends_with_a_warning_when_every_token_is_excluded(model):
    """Each of 61 tokens may come once: a row ends after those that its prompt has left."""
    idx = torch.tensor([[1, 2, 3], [4, 4, 4]])
    with pytest.warns(GenerationWarning, match="2 of 2 texts end early: every token is excluded"):
        out = generate(model, idx, 70, 12, temperature=1.0, no_repeat_ngram_size=1)
    assert [sorted(row[row >= 0][2:].tolist()) for row in out] == [
        [i for i in range(61) if i not in (1, 2)],
        list(range(61)),
    ]
    assert (out[:, -9:] == PAD).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_stream_ends_with_a_warning_when_every_token_is_excluded(model, temperature):
    settings = {
        "max_new_tokens": 70,
        "temperature": temperature,
        "no_repeat_ngram_size": 1,
        "seed": 1,
    }
    with pytest.warns(GenerationWarning, match="the text ends early: every token is excluded"):
        text = "".join(stream(model, Bytes(), "\x01", **settings))
    assert len(text) == 60


def test_stream_reports_a_prompt_longer_than_the_context(model):
    with pytest.warns(
        GenerationWarning,
        match="the prompt has 14 tokens and the model sees 12: the first 2 are dropped",
    ):
        list(stream(model, Bytes(), "\x01" * 14, max_new_tokens=1))


@pytest.mark.parametrize("seed", [-1, "last"])
def test_negative_seeds_are_rejected_and_seeds_above_the_largest_wrap(model, seed):
    if seed == -1:
        with pytest.raises(
            UserError,
            match="seed: -1 is out of range; give a whole number from 0 to 18446744073709551615",
        ):
            stream(model, Bytes(), "\x01", seed=seed)
        return
    rows = stream_batch(model, Bytes(), ["\x01"], samples=2, seed=2**64 - 1, max_new_tokens=5)
    texts = {
        row: "".join(piece.text for n, piece in found if n == row)
        for found in [list(rows)]
        for row in (0, 1)
    }
    assert texts[1] == "".join(stream(model, Bytes(), "\x01", seed=0, max_new_tokens=5))
