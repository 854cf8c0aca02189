"""The cached model gives the logits of the uncached one.

This holds for every model, batch, padding, length and chunk.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llm_scratch.errors import UserError
from llm_scratch.generation.cached_model import PAD, CachedModel, check_prompt, pad_left
from llm_scratch.generation.decode import generate
from llm_scratch.model import ARCHITECTURES, build
from llm_scratch.model.lesson_models import DummyGPTModel

V, CONTEXT = 31, 11


def model_of(architecture: str) -> nn.Module:
    torch.manual_seed(5)
    shape = {"vocab_size": V, "context_length": CONTEXT, "emb_dim": 24, "n_heads": 4, "n_layers": 2}
    own = {"gpt": {"qkv_bias": True}, "qwen_next": {"full_every": 2}}  # both kinds of its layers
    model = build(shape | {"architecture": architecture} | own.get(architecture, {})).eval()
    for weight in model.parameters():
        if (
            not weight.any()
        ):  # a part that starts at zero would give the same output for every input
            nn.init.normal_(weight, std=0.2)
    return model


READY = {name: model_of(name) for name in ARCHITECTURES}
READY["bare"] = DummyGPTModel(READY["gpt"].cfg).eval()  # has no cache


def plainly(model: nn.Module, row: list[int], size: int, n: int) -> list[int]:
    """The notebooks' loop for one row: the whole window at each step, no cache, no padding."""
    row = list(row)
    for _ in range(n):
        with torch.no_grad():
            row.append(int(model(torch.tensor([row[-size:]]))[0, -1].argmax()))
    return row


@pytest.mark.filterwarnings("ignore:the prompt has:llm_scratch.errors.GenerationWarning")
@given(
    name=st.sampled_from(sorted(READY)),
    rows=st.lists(
        st.lists(st.integers(0, V - 1), min_size=1, max_size=CONTEXT + 4), min_size=1, max_size=4
    ),
    new=st.integers(1, 9),
    chunk=st.none() | st.integers(1, 6),
    size=st.none() | st.integers(1, CONTEXT + 2),
    samples=st.integers(1, 2),
    block=st.sampled_from([1, 3, None]),
)
@settings(max_examples=150, deadline=None)
def test_cached_ids_equal_uncached_ids(name, rows, new, chunk, size, samples, block):
    """Prompts shorter and longer than the context in one padded batch; the context slides.

    The cache grows, or has its full size from the start.
    """
    model = READY[name]
    cache = model.new_cache(len(rows), block) if hasattr(model, "new_cache") else None
    ids = generate(
        model, pad_left(rows), new, size, prefill_chunk=chunk, samples=samples, cache=cache
    )
    got = [[i for i in row if i != PAD] for row in ids.tolist()]
    want = [
        plainly(model, row, min(size or CONTEXT, CONTEXT), new)
        for row in rows
        for _ in range(samples)
    ]
    assert got == want
    if (
        cache is not None and block is not None and new
    ):  # no more memory than its longest window needs
        longest = min(max(map(len, rows)) + new - 1, size or CONTEXT, CONTEXT)
        assert cache.keys[-1].shape[2] == min(-(-longest // block) * block, CONTEXT)


@pytest.mark.filterwarnings("ignore:the prompt has:llm_scratch.errors.GenerationWarning")
@given(
    name=st.sampled_from(
        sorted(name for name, model in READY.items() if hasattr(model, "new_cache"))
    ),
    same=st.integers(0, CONTEXT),
    turns=st.lists(
        st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=CONTEXT), min_size=2, max_size=2),
        min_size=2,
        max_size=4,
    ),
    new=st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_cache_that_holds_another_text_gives_the_same_ids(name, same, turns, new):
    """Use one cache for several batches of two texts in a row.

    They share a prefix, a padding, both or nothing.
    """
    model = READY[name]
    cache = model.new_cache(2)
    for rows in turns:
        idx = pad_left([[1] * same + row for row in rows])
        assert torch.equal(generate(model, idx, new, cache=cache), generate(model, idx, new))


def test_cached_model_reads_a_shared_prefix_once(monkeypatch):
    model, shapes, cache = READY["gpt"], [], READY["gpt"].new_cache(1)
    hidden = type(model).hidden
    monkeypatch.setattr(
        model,
        "hidden",
        lambda ids, cache=None: shapes.append(ids.shape[1]) or hidden(model, ids, cache),
    )
    first = generate(model, torch.tensor([[1, 2, 3]]), 3, cache=cache)
    assert (cache.pos, cache.ids.tolist()) == (
        5,
        first[:, :5].tolist(),
    )  # the logits after the last one were not requested
    generate(model, torch.cat([first, torch.tensor([[7, 8]])], 1), 2, cache=cache)
    generate(model, torch.tensor([[1, 2, 3]]), 1, cache=cache)
    generate(
        model, torch.tensor([[1, 9, 3]]), 1, cache=cache
    )  # the third token agrees again, but not what was before it
    generate(model, torch.tensor([[9]]), 1, cache=cache)
    assert shapes == [3, 1, 1, 3, 1, 1, 2, 1]


def test_cache_that_does_not_fit_is_an_error_with_sizes():
    model = READY["gpt"]
    with pytest.raises(
        ValueError, match=r"cache: has 3 rows, the text 1; create it with new_cache\(1\)"
    ):
        generate(model, torch.tensor([[1]]), 1, cache=model.new_cache(3))
    with pytest.raises(UserError, match="cache: DummyGPTModel does not support one; leave it out"):
        generate(READY["bare"], torch.tensor([[1]]), 1, cache=model.new_cache(1))


@pytest.mark.parametrize("name", sorted(READY))
@pytest.mark.parametrize("chunk", [None, 2])
def test_cached_model_logits_equal_those_of_each_row_alone(name, chunk):
    model, rows = READY[name], [[1, 2, 3, 4, 5, 6], [7], [8, 9, 10]]
    reader = CachedModel(model, prefill_chunk=chunk)
    idx = pad_left(rows)
    with torch.no_grad():
        for _ in range(4):
            alone = torch.cat([model(torch.tensor([row]))[:, -1:] for row in rows])
            torch.testing.assert_close(reader(idx), alone, rtol=1e-5, atol=1e-5)
            rows = [[*row, 3] for row in rows]
            idx = torch.cat([idx, torch.full((3, 1), 3)], 1)


def test_cached_model_reads_only_new_tokens_after_a_rewind():
    """A draft of three tokens, two of them wrong."""
    model = READY["gpt"]
    right = torch.tensor([[1, 2, 3, 4, 9, 9]])
    wrong = torch.tensor([[1, 2, 3, 4, 5, 6]])
    reader = CachedModel(model)
    with torch.no_grad():
        torch.testing.assert_close(reader(wrong, 3), model(wrong)[:, -3:], rtol=1e-5, atol=1e-5)
        reader.rewind(4)
        torch.testing.assert_close(reader(right, 2), model(right)[:, -2:], rtol=1e-5, atol=1e-5)


def test_cached_model_continues_after_select_rows():
    model, idx = READY["gpt"], torch.tensor([[1, 2, 3], [4, 5, 6]])
    reader = CachedModel(model)
    with torch.no_grad():
        reader(idx)
        reader.select_rows([1, 1, 0])
        longer = torch.cat([idx[[1, 1, 0]], torch.tensor([[7], [8], [9]])], 1)
        torch.testing.assert_close(reader(longer), model(longer)[:, -1:], rtol=1e-5, atol=1e-5)


def test_cached_model_accepts_a_model_without_hidden():
    inner = READY["gpt"]
    model = SimpleNamespace(cfg=inner.cfg, new_cache=inner.new_cache)
    wrapped = type(
        "Wrapped", (nn.Module,), {"forward": lambda self, ids, cache=None: inner(ids, cache)}
    )()
    wrapped.cfg, wrapped.new_cache = model.cfg, model.new_cache
    idx = pad_left([[1, 2, 3, 4], [5]])
    with torch.no_grad():
        torch.testing.assert_close(
            CachedModel(wrapped)(idx), CachedModel(inner)(idx), rtol=1e-5, atol=1e-5
        )


def test_shorter_rows_are_padded_on_the_left():
    assert pad_left([[1, 2, 3], [4], []]).tolist() == [[1, 2, 3], [PAD, PAD, 4], [PAD] * 3]


def test_check_prompt_rejects_invalid_batches():
    model = READY["gpt"]
    with pytest.raises(UserError, match="the prompt is empty"):
        check_prompt(model, pad_left([[1], []]))
    with pytest.raises(
        UserError, match="the prompts have padding after a token; pad them with pad_left"
    ):
        check_prompt(model, torch.tensor([[3, PAD, 4]]))
    with pytest.raises(UserError, match="id -2 is outside"):
        check_prompt(model, torch.tensor([[-2, 4]]))
    with pytest.raises(UserError, match="prefill_chunk: 0 is out"):
        CachedModel(model, prefill_chunk=0)
