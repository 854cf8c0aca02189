"""What the playground's views show about a text: one function a view, from a `Question` to JSON.

The numbers come from `interpretability`; here they are put into the shape that the page reads.
Positions count the model's start token, if it has one, as position 0.
Tests: tests/serving/test_inspection.py (equal to the tools called directly).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from llm_scratch.errors import UserError
from llm_scratch.evaluation.story_surprise import grammar_bits
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.heads import pattern_scores, stack_patterns
from llm_scratch.interpretability.jacobian_lens import JacobianLens
from llm_scratch.interpretability.lenses import (
    direct_logit_attribution,
    kl_to_final_bits,
    logit_lens,
)
from llm_scratch.interpretability.patching import activation_patching
from llm_scratch.model.loss import next_token_loss
from llm_scratch.serving.arrays import halves, rounded, shares
from llm_scratch.serving.question import Question, ablatable_parts, integer, string
from llm_scratch.tokenizers.token_text import token_text

TOP = 20
"""Most likely tokens that are listed."""
LENSES = ("norm", "raw", "jacobian")
"""The logit lens with the final norm and without it, and the Jacobian lens."""


def inspect_text(question: Question) -> dict[str, Any]:
    """Tokens with surprise and entropy in bits, head scores, the logits of the last position.

    The entropy of a token is that of the prediction after it.
    """
    ids = question.ids[0].tolist()
    with question.changed() as model, capture(model, "*.hook_pattern") as acts:
        logits = model(question.ids)  # [1, T, V]
    if len(ids) > 1:
        bits = next_token_loss(logits[:, :-1], question.ids[:, 1:], "none")[0] / math.log(2)
    else:
        bits = torch.empty(0)
    entropy = torch.special.entr(logits[0].float().softmax(-1)).sum(-1) / math.log(2)  # [T]
    start = question.n_start
    columns = zip(
        ids,
        [None, *rounded(bits, 3)],
        rounded(entropy, 3),
        [None] * start + grammar_bits(question.tokenizer, ids[start:]),
        strict=True,
    )
    tokens = [
        {
            "id": token,
            "text": token_text(question.tokenizer, token),
            "bits": of_model,
            "entropy": of_prediction,
            "grammar_bits": None if of_grammar is None else round(of_grammar, 3),
        }
        for token, of_model, of_prediction, of_grammar in columns
    ]
    pattern = stack_patterns(acts)  # [L, 1, H, T, T]
    scores = pattern_scores(pattern, question.ids)  # name -> [L, H]
    return {
        "tokens": tokens,
        "n_start": question.n_start,
        "head_scores": {name: rounded(score) for name, score in scores.items()},
        "logits": halves(logits[0, -1, : question.tokenizer.n_vocab]),
    }


def logits_at(question: Question, body: Mapping[str, Any]) -> dict[str, Any]:
    """The logits after a position, in float16."""
    position = integer(body, "position", question.n_tokens - 1)
    return {"logits": halves(question.logits()[position, : question.tokenizer.n_vocab])}


def attention(question: Question, body: Mapping[str, Any]) -> dict[str, Any]:
    """The attention weights of all heads of a layer, [H, T, T] in one byte each, and their sums.

    A row of bytes does not add up, as each is rounded; "sums" is [H, T].
    """
    layer = integer(body, "layer", len(question.model.trf_blocks) - 1)
    name = f"blocks.{layer}.attn.hook_pattern"
    with question.changed() as model, capture(model, name) as acts:
        model(question.ids)
    pattern = acts[name][0]
    return {"pattern": shares(pattern), "sums": rounded(pattern.sum(-1))}


def dot_product(question: Question, body: Mapping[str, Any]) -> dict[str, Any]:
    """How one attention weight is computed: query, key, products, score, softmax row."""
    layer = integer(body, "layer", len(question.model.trf_blocks) - 1)
    head = integer(body, "head", question.model.trf_blocks[layer].att.num_heads - 1)
    query = integer(body, "query", question.n_tokens - 1)
    key = integer(body, "key", query)
    steps = ("rot_q", "rot_k", "attn_scores", "pattern")
    prefix = f"blocks.{layer}.attn.hook_"
    with question.changed() as model, capture(model, *(prefix + step for step in steps)) as acts:
        model(question.ids)
    q, k, scores, pattern = (acts[prefix + step][0] for step in steps)
    q, k = q[query], k[key]  # [H, D]; grouped heads share keys
    q, k = q[head], k[head * len(k) // len(q)]
    return {
        "q": rounded(q),
        "k": rounded(k),
        "products": rounded(q * k),
        "dot": rounded((q * k).sum()),
        "scale": round(q.shape[0] ** -0.5, 6),
        "score": rounded(scores[head, query, key]),
        "scores": rounded(scores[head, query, : query + 1]),
        "weights": rounded(pattern[head, query, : query + 1], 5),
    }


def lens(
    question: Question, body: Mapping[str, Any], jacobian: JacobianLens | None
) -> dict[str, Any]:
    """What each layer would predict at each position: token, its probability, KL to the last layer.

    "target" is the probability of the token that follows in the text.
    """
    logits = lens_logits(question, body, jacobian)  # [L + 1, T, V]
    probability = logits.softmax(-1)
    best = probability.max(-1)
    following = torch.cat([question.ids[0, 1:], logits[-1, -1:].argmax(-1)])  # [T]
    index = following.expand(len(logits), -1)[..., None]
    own = logits.gather(-1, index)
    return {
        "token": best.indices.tolist(),
        "text": [
            [token_text(question.tokenizer, token) for token in row]
            for row in best.indices.tolist()
        ],
        "probability": rounded(best.values),
        "target": rounded(probability.gather(-1, index)[..., 0]),
        "rank": ((logits > own).sum(-1) + 1).tolist(),
        "kl_bits": rounded(kl_to_final_bits(logits).clamp(min=0)),
    }


def lens_cell(
    question: Question, body: Mapping[str, Any], jacobian: JacobianLens | None
) -> dict[str, Any]:
    """The most likely tokens of one layer at one position."""
    layer = integer(body, "layer", len(question.model.trf_blocks))
    position = integer(body, "position", question.n_tokens - 1)
    return {"top": top_tokens(question, lens_logits(question, body, jacobian)[layer, position])}


def lens_logits(
    question: Question, body: Mapping[str, Any], jacobian: JacobianLens | None
) -> Tensor:
    """Logits of every layer through a lens of `LENSES`: [L + 1, T, V].

    Raises:
        UserError: another lens.
    """
    kind = string(body, "kind", "norm")
    if kind not in LENSES:
        raise UserError(f"kind: {kind[:40]!r} is unknown; use {', '.join(LENSES)}")
    with question.changed() as model:
        if kind == "jacobian" and jacobian is not None:
            return jacobian(model, question.ids)[:, 0].float()
        return logit_lens(model, question.ids, normalize=kind != "raw")[:, 0].float()


def top_tokens(question: Question, logits: Tensor, n: int = TOP) -> list[dict[str, Any]]:
    """The most likely tokens of logits [V]."""
    probability = logits[: question.tokenizer.n_vocab].softmax(-1)
    best = probability.topk(min(n, len(probability)))
    return [
        {"id": token, "text": token_text(question.tokenizer, token), "probability": round(p, 6)}
        for p, token in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def flow(question: Question, body: Mapping[str, Any]) -> dict[str, Any]:
    """The residual stream: its norm after each step, and what parts add to a logit.

    At the selected position the token is the candidate; elsewhere it is the one that follows.
    """
    position = integer(body, "position", question.n_tokens - 1)
    candidate = integer(body, "candidate", question.tokenizer.n_vocab - 1)
    targets = torch.cat([question.ids[:, 1:], question.logits()[-1:].argmax(-1)[None]], 1)
    targets[0, position] = candidate
    with question.changed() as model:
        attribution = direct_logit_attribution(model, question.ids, targets)
        with capture(
            model, "blocks.0.hook_resid_pre", "blocks.*.hook_*_out", "*.hook_resid_post"
        ) as acts:
            logits = model(question.ids)[0]
    norms = {name: rounded(x[0].norm(dim=-1), 3) for name, x in acts.items()}
    return {
        "names": list(attribution.names),
        "values": rounded(attribution.values[:, 0], 3),
        "norms": norms,
        "logit": rounded(logits[position, candidate], 4),
        "targets": [token_text(question.tokenizer, token) for token in targets[0].tolist()],
    }


def ablations(question: Question, body: Mapping[str, Any]) -> dict[str, Any]:
    """The probability of a token with each head and network ablated, one at a time."""
    position = integer(body, "position", question.n_tokens - 1)
    candidate = integer(body, "candidate", question.tokenizer.n_vocab - 1)
    rows = []
    for name in ablatable_parts(question.model):
        logits = question.logits(name)[position]
        best = int(logits.argmax())
        rows.append(
            {
                "part": name,
                "probability": round(float(logits.softmax(-1)[candidate]), 6),
                "logit": round(float(logits[candidate]), 4),
                "best": token_text(question.tokenizer, best),
                "best_probability": round(float(logits.softmax(-1)[best]), 6),
            }
        )
    logits = question.logits()[position]
    return {
        "probability": round(float(logits.softmax(-1)[candidate]), 6),
        "logit": round(float(logits[candidate]), 4),
        "best": token_text(question.tokenizer, int(logits.argmax())),
        "parts": rows,
    }


def patching(question: Question, other: Question, body: Mapping[str, Any]) -> dict[str, Any]:
    """How far each part's value on another text moves the prediction towards that text's answer.

    The measure is the logit of the other text's most likely token minus that of the candidate; a
    share of 0 is the text as it is, 1 the other text.

    Raises:
        UserError: the texts differ in length, have the same answer, or give the same logits.
    """
    if other.n_tokens != question.n_tokens:
        raise UserError(
            f"other: has {other.n_tokens} tokens and the text has {question.n_tokens}; change words"
            " without changing the number of tokens"
        )
    position = integer(body, "position", question.n_tokens - 1)
    candidate = integer(body, "candidate", question.tokenizer.n_vocab - 1)
    other_logits = other.logits()[position]
    answer = int(other_logits[: question.tokenizer.n_vocab].argmax())
    if answer == candidate:
        raise UserError(
            f"other: the model continues it with {token_text(question.tokenizer, answer)!r}, too;"
            " change a word that the answer depends on"
        )

    def preference(logits: Tensor) -> Tensor:
        return logits[0, position, answer].float() - logits[0, position, candidate].float()

    parts = ablatable_parts(question.model)
    before, after = (
        preference(question.logits()[None]),
        other_logits[answer] - other_logits[candidate],
    )
    if math.isclose(before, after, abs_tol=1e-4):  # a share would be noise, or 0 / 0
        raise UserError(
            "other: changes nothing at the selected token; change a word there or before it, or"
            " select a later token"
        )
    with question.changed() as model:
        changes = activation_patching(model, question.ids, other.ids, [*parts.values()], preference)
    return {
        "answer": token_text(question.tokenizer, answer),
        "before": round(float(before), 4),
        "after": round(float(after), 4),
        "parts": [
            {
                "part": name,
                "change": round(float(change), 4),
                "share": round(float(change / (after - before)), 4),
            }
            for name, change in zip(parts, changes)
        ],
    }
