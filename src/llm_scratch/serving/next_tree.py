"""The next few tokens as a tree: what beam search keeps and drops, or where samples diverge.

Tests: tests/serving/test_next_tree.py (the best path is what `beam_search`
returns; a sample is what the sampler draws).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llm_scratch.errors import UserError
from llm_scratch.generation.steps import build_sampler
from llm_scratch.model.introspection import context_length
from llm_scratch.serving.inspection import token_text
from llm_scratch.serving.question import Question, integer, sampler_settings, string

STEPS, BEAMS, SAMPLES = 5, 3, 8
LogitsAfter = Callable[[Sequence[Sequence[int]]], Tensor]
"""Continuations of one length, B of them -> logits of their next tokens, [B, V]"""


@dataclass
class Node:
    """A token after others.

    Attributes:
        probability: of the token, given those before it.
        kept: whether the search continues from it.
        best: whether it is on the path that the search returns.
        count: samples that go through it.
    """

    token: int
    probability: float
    kept: bool = True
    best: bool = False
    count: int = 0
    children: list[Node] = field(default_factory=list)


def beam_tree(logits_after: LogitsAfter, steps: int = STEPS, beams: int = BEAMS) -> Node:
    """The tree of beam search: the best tokens after each kept text; the best texts are kept."""
    root = Node(-1, 1.0)
    texts: list[tuple[float, list[Node]]] = [(0.0, [root])]  # log-probability, path
    for _ in range(steps):
        logits = logits_after([[node.token for node in path[1:]] for _, path in texts])
        best = logits.log_softmax(-1).topk(min(beams, logits.shape[-1]))
        candidates = []
        for (total, path), values, tokens in zip(
            texts, best.values.tolist(), best.indices.tolist(), strict=True
        ):
            for value, token in zip(values, tokens):
                node = Node(token, float(torch.tensor(value).exp()), kept=False)
                path[-1].children.append(node)
                candidates.append((total + value, [*path, node]))
        texts = sorted(candidates, key=lambda text: -text[0])[:beams]
        for _, path in texts:
            path[-1].kept = True
    for node in texts[0][1]:
        node.best = True
    return root


def sample_tree(
    logits_after: LogitsAfter,
    prompt: Tensor,
    settings: Mapping[str, Any],
    seed: int,
    steps: int = STEPS,
    samples: int = SAMPLES,
) -> Node:
    """Samples of one prompt [T] that share their beginnings: a node counts those through it."""
    choose = build_sampler(torch.Generator(prompt.device).manual_seed(seed), **settings)
    root = Node(-1, 1.0, count=samples)
    paths = [[root] for _ in range(samples)]
    for _ in range(steps):
        texts = [[node.token for node in path[1:]] for path in paths]
        logits = logits_after(texts)
        new = torch.tensor(texts, dtype=torch.long, device=prompt.device)
        ids = torch.cat([prompt.expand(samples, -1), new], 1)
        shares = logits.softmax(-1)
        for row, (path, token) in enumerate(zip(paths, choose(logits, ids)[:, 0].tolist())):
            if token < 0:
                raise UserError("samplers: exclude every token; reset one of them")
            children = path[-1].children
            node = next((child for child in children if child.token == token), None)
            if node is None:
                node = Node(token, float(shares[row, token]))
                children.append(node)
            node.count += 1
            path.append(node)
    return root


def next_tree(question: Question, body: Mapping[str, Any]) -> dict[str, Any]:
    """The tree after a position, of the kind "beam" or "sample".

    Raises:
        UserError: another kind, or a setting out of range.
    """
    kind = string(body, "kind", "beam")
    if kind not in ("beam", "sample"):
        raise UserError(f"kind: {kind[:40]!r} is unknown; use beam or sample")
    prompt = question.ids[0, : integer(body, "position", question.n_tokens - 1) + 1]  # [T]
    size = context_length(question.model)
    with question.changed() as model:

        def logits_after(texts: Sequence[Sequence[int]]) -> Tensor:
            new = torch.tensor(texts, dtype=torch.long, device=prompt.device)  # [B, n]
            ids = torch.cat([prompt.expand(len(new), -1), new], 1)
            logits = model(ids[:, -size:] if size else ids)[:, -1]
            return logits[:, : question.tokenizer.n_vocab].float()

        if kind == "beam":
            root = beam_tree(logits_after)
        else:
            seed = integer(body, "seed", 2**53, 0)
            root = sample_tree(logits_after, prompt, sampler_settings(body), seed)
    return _as_json(root, question.tokenizer)


def _as_json(node: Node, tokenizer: Any) -> dict[str, Any]:
    return {
        "text": "" if node.token < 0 else token_text(tokenizer, node.token),
        "probability": round(node.probability, 4),
        "kept": node.kept,
        "best": node.best,
        "count": node.count,
        "children": [_as_json(child, tokenizer) for child in node.children],
    }
