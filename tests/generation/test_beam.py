"""Beam search gives transformers' texts and scores.

A wide beam finds the likeliest text of all, a beam of 1 is greedy.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch

from llm_scratch.errors import DATA, UserError
from llm_scratch.generation.beam import beam, beam_search
from llm_scratch.generation.cached_model import PAD
from llm_scratch.generation.decode import generate
from llm_scratch.model.gpt import GPTModel

V = 13
CFG = {
    "vocab_size": V,
    "context_length": 24,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.5,
    "qkv_bias": True,
}


def gpt(seed=1, sharpness=4.0, **changes):
    torch.manual_seed(seed)
    model = GPTModel(CFG | changes)
    with torch.no_grad():
        model.out_head.weight.mul_(sharpness)
    return model


def theirs_of(ours):
    """Return the same weights as transformers' GPT-2, whose matrices are transposed."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")
    cfg = ours.cfg
    config = transformers.GPT2Config(
        vocab_size=V,
        n_positions=cfg.context_length,
        n_embd=cfg.emb_dim,
        n_head=cfg.n_heads,
        n_layer=cfg.n_layers,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    got = {
        "transformer.wte.weight": ours.tok_emb.weight,
        "transformer.wpe.weight": ours.pos_emb.weight,
        "lm_head.weight": ours.out_head.weight,
    }
    for i, block in enumerate(ours.trf_blocks):
        at, qkv = f"transformer.h.{i}.", [block.att.W_query, block.att.W_key, block.att.W_value]
        got[f"{at}attn.c_attn.weight"] = torch.cat([part.weight for part in qkv]).T
        got[f"{at}attn.c_attn.bias"] = torch.cat([part.bias for part in qkv])
        for name, part in (
            ("attn.c_proj", block.att.out_proj),
            ("mlp.c_fc", block.ff.layers[0]),
            ("mlp.c_proj", block.ff.layers[2]),
        ):
            got[f"{at}{name}.weight"], got[f"{at}{name}.bias"] = part.weight.T, part.bias
        for name, norm in (("ln_1", block.norm1), ("ln_2", block.norm2)):
            got[f"{at}{name}.weight"], got[f"{at}{name}.bias"] = norm.scale, norm.shift
    got["transformer.ln_f.weight"] = ours.final_norm.scale
    got["transformer.ln_f.bias"] = ours.final_norm.shift
    missing, strange = theirs.load_state_dict(got, strict=False)
    assert not strange
    assert all(name.endswith(("attn.bias", "masked_bias")) for name in missing)
    return theirs


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("width", "n_best", "length_penalty", "eos"),
    [(4, 4, 1.0, 5), (3, 2, 0.0, 7), (5, 1, 2.0, 5), (2, 2, 1.0, None)],
)
def test_beam_texts_and_scores_equal_transformers(seed, width, n_best, length_penalty, eos):
    ours = gpt(seed).eval()
    idx = torch.randint(0, V, (1, 4), generator=torch.Generator().manual_seed(seed))
    out = theirs_of(ours).generate(
        idx,
        attention_mask=torch.ones_like(idx),
        max_new_tokens=12,
        num_beams=width,
        num_return_sequences=n_best,
        length_penalty=length_penalty,
        eos_token_id=eos,
        pad_token_id=V - 1 if eos is not None else None,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    best = beam_search(
        ours,
        idx,
        max_new_tokens=12,
        beams=width,
        n_best=n_best,
        length_penalty=length_penalty,
        eos_id=eos,
    )
    for text, row, score in zip(
        best, out.sequences[:, 4:].tolist(), out.sequences_scores.tolist(), strict=True
    ):
        assert text.ids == row[: len(text.ids)]
        assert all(token == V - 1 for token in row[len(text.ids) :])
        assert text.score == pytest.approx(score, abs=1e-4)


def test_beam_as_wide_as_all_texts_finds_the_likeliest():
    model, idx = gpt(3).eval(), torch.tensor([[1, 2]])
    texts = torch.tensor(list(product(range(V), repeat=3)))
    with torch.no_grad():
        logprobs = model(torch.cat([idx.expand(len(texts), -1), texts], 1))[:, 1:-1].log_softmax(-1)
    totals = logprobs.gather(2, texts[..., None]).sum((1, 2))
    best = beam_search(model, idx, max_new_tokens=3, beams=V * V, n_best=5, length_penalty=0.0)
    assert [text.ids for text in best] == texts[totals.topk(5).indices].tolist()
    torch.testing.assert_close(
        torch.tensor([text.score for text in best]), totals.topk(5).values, rtol=1e-4, atol=1e-4
    )


def test_beam_of_one_is_greedy_and_ends_where_the_context_does():
    model, idx = gpt(2), torch.tensor([[1, 2, 3]])
    [best] = beam_search(model, idx, max_new_tokens=40, beams=1)
    assert best.ids == generate(model, idx, 40, context_overflow="stop")[0, 3:].tolist()
    assert len(best.ids) == CFG["context_length"] - 3 + 1


def test_beam_search_rejects_a_prompt_longer_than_the_context_but_not_a_full_one():
    full = torch.zeros(1, CFG["context_length"], dtype=torch.long)
    assert len(beam_search(gpt(2), full, max_new_tokens=5)[0].ids) == 1
    with pytest.raises(UserError, match="the prompt has 25 tokens and the model sees 24") as error:
        beam_search(gpt(2), torch.zeros(1, 25, dtype=torch.long), max_new_tokens=5)
    assert error.value.code == DATA
    with pytest.raises(UserError, match="25 tokens and the model sees 8"):
        beam_search(gpt(2), torch.zeros(1, 25, dtype=torch.long), max_new_tokens=5, context_size=8)


def test_beam_search_reads_the_prompt_once(monkeypatch):
    model, shapes = gpt(1), []
    monkeypatch.setattr(
        model,
        "hidden",
        lambda ids, cache=None: (
            shapes.append(tuple(ids.shape)) or GPTModel.hidden(model, ids, cache)
        ),
    )
    beam_search(model, torch.tensor([[1, 2, 3]]), max_new_tokens=3, beams=4)
    assert shapes == [(1, 3), (4, 1), (4, 1)]


def test_beam_steps_sum_to_its_score():
    model, idx = gpt(1), torch.tensor([[1, 2, 3]])
    [best] = beam_search(model, idx, max_new_tokens=6, length_penalty=0.0)
    steps = list(beam(model, idx, max_new_tokens=6, length_penalty=0.0))
    assert [int(step.ids) for step in steps] == best.ids
    assert sum(
        float(step.logits.log_softmax(-1)[0, step.ids[0, 0]]) for step in steps
    ) == pytest.approx(best.score, abs=1e-4)
    assert model.training


def test_steps_of_several_beams_are_padded_where_a_text_has_ended():
    model, idx = gpt(1), torch.tensor([[1, 2, 3]])
    ends = {"eos_id": 5, "length_penalty": 0.0, "max_new_tokens": 12}
    best = beam_search(model, idx, n_best=4, **ends)
    assert len({len(text.ids) for text in best}) > 1
    ids = torch.cat([step.ids for step in beam(model, idx, samples=4, **ends)], 1).tolist()
    assert ids == [text.ids + [PAD] * (len(ids[0]) - len(text.ids)) for text in best]


@pytest.mark.parametrize(
    "wrong", [{"n_best": 5}, {"n_best": 0}, {"idx": torch.zeros(2, 3, dtype=torch.long)}]
)
def test_beam_search_rejects_invalid_arguments(wrong):
    with pytest.raises(UserError, match="one text and 1 <= n_best <= beams"):
        beam_search(gpt(), **({"idx": torch.tensor([[1]]), "max_new_tokens": 2} | wrong))
