"""In the engine, each text of a running batch equals the one generated alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llm_scratch.config import GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.generation.config import GenerationConfig
from llm_scratch.generation.decode import generate
from llm_scratch.generation.detokenizer import StreamingDetokenizer
from llm_scratch.generation.engine import Engine
from llm_scratch.generation.row import Row
from llm_scratch.model import build

V, CONTEXT, END = 29, 11, 0


class Letters:
    """A tokenizer of 27 letters after the end of text; the model's last id has no token."""

    n_vocab, eot_token = V - 1, END

    def decode_bytes(self, ids):
        return b"".join(bytes([96 + i]) if i else b"<|endoftext|>" for i in ids)


class Turns(Letters):
    """The same with letters as end tokens, as Llama 3 has three."""

    special_tokens = {"x": 24, "y": 25}
    other_ends = ("x", "y")


def model_of(architecture: str) -> nn.Module:
    torch.manual_seed(3)
    shape = {
        "vocab_size": V,
        "context_length": CONTEXT,
        "emb_dim": 24,
        "n_heads": 4,
        "n_layers": 2,
        "drop_rate": 0.3,
    }
    model = build({"architecture": architecture, **shape})
    for weight in model.parameters():
        if not weight.any():  # parts that start at zero would ignore the text
            nn.init.normal_(weight, std=0.2)
    return model


class Uncached(nn.Module):
    """A model without a cache."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.cfg = inner, inner.cfg

    def forward(self, ids):
        return self.inner(ids)


MODELS = {name: model_of(name) for name in ("gpt", "nanochat")}
MODELS["uncached"] = Uncached(MODELS["gpt"])

SETTINGS = {
    "max_tokens": st.integers(0, 14),
    "temperature": st.sampled_from([0.0, 0.7, 1.5]),
    "seed": st.integers(0, 99),
    "top_k": st.none() | st.integers(1, 9),
    "min_p": st.sampled_from([None, 0.2]),
    "repetition_penalty": st.sampled_from([None, 1.3]),
    "mirostat": st.sampled_from([None, None, 3.0]),
    "logit_bias": st.sampled_from([None, {END: 3.0}]),
    "stop": st.sampled_from([(), ("a", "bc")]),
    "stop_at_eot": st.booleans(),
    "context_overflow": st.sampled_from(["slide", "stop"]),
    "top": st.sampled_from([None, 2]),
}
PROMPTS = st.lists(st.integers(1, V - 2), min_size=1, max_size=CONTEXT + 3)
CONFIGS = (
    st.fixed_dictionaries(SETTINGS)
    .filter(lambda s: not (s["mirostat"] and s["temperature"] == 0))
    .map(lambda settings: GenerationConfig.of(**settings))
)


def alone(model, prompt, config):
    """Return ids, text and stop reason from `generate`, which has a fixed batch and no engine."""
    ids = generate(
        model,
        torch.tensor([prompt]),
        config.max_tokens,
        generator=torch.Generator().manual_seed(config.seed),
        n_vocab=Letters.n_vocab,
        context_overflow=config.context_overflow,
        mirostat=config.mirostat,
        **config.sampling(),
    )[0, len(prompt) :].tolist()
    detokenizer = StreamingDetokenizer(
        Letters(), prompt[-1], {END}, config.stop, config.stop_at_eot
    )
    text = ""
    for n, token in enumerate(ids, 1):
        text += detokenizer.push(token)
        if detokenizer.done:
            return ids[:n], text, "end_of_text" if token == END else "stop"
    return ids, text + detokenizer.flush(), "length" if len(ids) == config.max_tokens else "context"


class Client:
    """Collects the chunks of every text of an engine."""

    def __init__(self, engine):
        self.engine, self.requests, self.chunks = engine, {}, {}

    def add(self, prompt, config):
        id = self.engine.add(prompt, config)
        self.requests[id], self.chunks[id] = (prompt, config), []
        return id

    def step(self):
        for id, chunk in self.engine.step().items():
            assert id in self.engine or chunk.stop_reason is not None
            self.chunks[id].append(chunk)

    def run(self):
        while self.engine:
            self.step()

    def result(self, id):
        chunks = self.chunks[id]
        reason = chunks[-1].stop_reason if chunks else None
        return [c.id for c in chunks if c.id is not None], "".join(c.text for c in chunks), reason


@pytest.mark.filterwarnings("ignore:the prompt has:llm_scratch.errors.GenerationWarning")
@given(
    name=st.sampled_from(sorted(MODELS)),
    arrivals=st.lists(st.lists(st.tuples(PROMPTS, CONFIGS), max_size=3), min_size=1, max_size=8),
    removals=st.lists(st.integers(0, 20), min_size=8, max_size=8),
    chunk=st.none() | st.integers(1, 4),
)
@settings(max_examples=120, deadline=None)
def test_engine_text_equals_the_text_generated_alone(name, arrivals, removals, chunk):
    """Texts of all lengths and settings join and leave at any step.

    Some contexts fill, and slide or stop.
    """
    model = MODELS[name]
    with Engine(model, Letters(), prefill_chunk=chunk) as engine:
        client, removed = Client(engine), set()
        for now, victim in zip(arrivals, removals):
            for prompt, config in now:
                client.add(prompt, config)
            client.step()
            if victim in engine:
                engine.remove(victim)
                removed.add(victim)
                assert victim not in engine
        client.run()
    for id, (prompt, config) in client.requests.items():
        ids, text, reason = client.result(id)
        want_ids, want_text, want_reason = alone(model, prompt, config)
        if id in removed:
            assert want_ids[: len(ids)] == ids
            assert want_text.startswith(text)
            assert reason is None
        else:
            assert (ids, text, reason) == (want_ids, want_text, want_reason)
        assert all(
            (c.logprob is None) == (config.top is None)
            for c in client.chunks[id]
            if c.id is not None
        )


def greedy(max_tokens, **settings):
    return GenerationConfig(max_tokens=max_tokens, temperature=0.0, **settings)


@pytest.fixture
def reads(monkeypatch):
    """The shapes of ids that the model reads."""
    model, shapes = MODELS["gpt"], []
    hidden = type(model).hidden
    monkeypatch.setattr(
        model,
        "hidden",
        lambda ids, cache=None: shapes.append(tuple(ids.shape)) or hidden(model, ids, cache),
    )
    return shapes


def test_new_prompts_are_read_together_and_equal_ones_once(reads):
    with Engine(MODELS["gpt"]) as engine:
        for prompt in ([1, 2, 3], [4], [1, 2, 3]):
            engine.add(prompt, greedy(3))
        engine.step()
        engine.step()
    assert reads == [(2, 3), (3, 1)]


def test_joining_row_is_read_once_and_a_leaving_row_causes_no_reading(reads):
    """The joining text is longer than the running one, and ends first."""
    with Engine(MODELS["gpt"]) as engine:
        client = Client(engine)
        first = client.add([1, 2], greedy(6))
        client.step()
        second = client.add([3, 4, 5, 6, 7], greedy(2))
        client.run()
    assert reads == [(1, 2), (1, 5), (1, 1), (2, 1), (1, 1), (1, 1), (1, 1)]
    for id in (first, second):
        assert (
            client.result(id)[0]
            == alone(
                MODELS["gpt"], *client.requests[id][:1], greedy(6 if id == first else 2, seed=0)
            )[0]
        )


def test_padding_leaves_with_the_row_that_required_it():
    model = MODELS["gpt"]
    with Engine(model) as engine:
        client = Client(engine)
        client.add([1] * 9, greedy(1 + 1))
        client.add([2], greedy(6))
        client.step()
        cache = engine._batches[0].reader.cache
        assert (cache.pos, cache.left_padding.tolist()) == (9, [0, 8])
        client.step()
        assert (cache.pos, cache.left_padding, cache.rows) == (2, None, 1)


def test_sliding_row_keeps_the_cache_of_the_others(reads):
    with Engine(MODELS["gpt"]) as engine:
        client = Client(engine)
        client.add([1] * CONTEXT, greedy(3))
        client.add([2, 3], greedy(4))
        client.run()
    assert reads == [(2, CONTEXT), (1, CONTEXT), (1, 1), (1, CONTEXT), (1, 1), (1, 1)]


def test_next_prompt_with_the_same_prefix_is_read_after_it(reads):
    with Engine(MODELS["gpt"]) as engine:
        client = Client(engine)
        first = client.add([1, 2, 3], greedy(2))
        client.run()
        client.add([1, 2, 3, *client.result(first)[0], 7], greedy(1))
        client.run()
    assert reads == [(1, 3), (1, 1), (1, 2)]


def test_full_context_ends_a_text_or_keeps_it_from_starting():
    with Engine(MODELS["gpt"]) as engine:
        client = Client(engine)
        ids = [
            client.add([1] * n, greedy(40, context_overflow="stop"))
            for n in (CONTEXT - 1, CONTEXT, CONTEXT + 1)
        ]
        client.run()
    assert [(len(client.result(id)[0]), client.result(id)[2]) for id in ids] == [
        (2, "context"),
        (1, "context"),
        (0, "context"),
    ]


def test_row_with_every_token_excluded_ends_and_the_others_continue():
    with Engine(MODELS["gpt"], Letters()) as engine:
        client = Client(engine)
        stuck = client.add([1], greedy(90, no_repeat_ngram_size=1, stop_at_eot=False))
        other = client.add([1], greedy(90, stop_at_eot=False))
        client.run()
    assert (len(client.result(stuck)[0]), client.result(stuck)[2]) == (V - 2, "excluded")
    assert (len(client.result(other)[0]), client.result(other)[2]) == (90, "length")


@pytest.mark.parametrize("end", [END, 24, 25])
def test_text_ends_with_any_end_token_of_its_tokenizer(end):
    row, logits = Row((2,), GenerationConfig(max_tokens=9), Turns()), torch.zeros(V)
    assert row.push(3, logits).text == "c"
    last = row.push(end, logits)
    assert (last.text, last.stop_reason) == ("", "end_of_text")


def test_constraint_holds_for_its_own_row():
    pytest.importorskip("llguidance", reason="needs the extra `constrain`")

    class Bytes(Letters):
        n_vocab, eot_token = 257, 256

        def encode(self, text, **_):
            return list(text.encode())

        def decode_bytes(self, ids):
            return bytes(i for i in ids if i != 256)

    torch.manual_seed(1)
    model = build(GPTConfig(vocab_size=257, context_length=32, emb_dim=24, n_heads=4, n_layers=1))
    with Engine(model, Bytes()) as engine:
        client = Client(engine)
        yes = client.add([120], GenerationConfig(regex="(yes|no){2}", seed=1))
        free = client.add([120], GenerationConfig(seed=1, max_tokens=9, stop_at_eot=False))
        client.step()
        number = client.add([120], GenerationConfig(regex="[0-9]{3}", seed=1))
        client.run()
    assert client.result(yes)[1] in ("yesyes", "yesno", "noyes", "nono")
    assert client.result(number)[1].isdigit()
    assert len(client.result(free)[0]) == 9


def test_invalid_request_is_rejected_before_it_joins_the_batch():
    engine = Engine(MODELS["gpt"])
    for prompt, config, message in (
        ([], greedy(1), "the prompt is empty"),
        ([V], greedy(1), "outside the model's vocabulary"),
        ([1], greedy(1, stop=("x",)), "need a tokenizer"),
        ([1], greedy(1, logit_bias={V: 1.0}), f"no token {V} in the vocabulary"),
    ):
        with pytest.raises(UserError, match=message):
            engine.add(prompt, config)
    assert not engine
    assert engine.step() == {}
    engine.close()


def test_prompt_that_fails_in_prefill_leaves_the_other_rows_running(monkeypatch):
    model = MODELS["gpt"]
    hidden = type(model).hidden

    def short_of_memory(ids, cache=None):
        if ids.shape[1] > 4:
            raise MemoryError
        return hidden(model, ids, cache)

    monkeypatch.setattr(model, "hidden", short_of_memory)
    with Engine(model) as engine:
        client = Client(engine)
        first = client.add([1, 2], greedy(5, seed=0))
        client.step()
        lost = client.add([3] * 6, greedy(5))
        with pytest.raises(MemoryError):
            client.step()
        assert first in engine
        assert lost not in engine
        client.run()
    monkeypatch.undo()
    assert client.result(first) == alone(model, [1, 2], greedy(5, seed=0))[:1] + ("", "length")


def test_mode_of_the_model_is_restored_on_close():
    model = MODELS["gpt"].train()
    with Engine(model) as engine:
        assert not model.training
        engine.add([1])
        engine.step()
    assert model.training
    assert not engine
