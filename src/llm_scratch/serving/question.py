"""What a request of the playground is about: a model, a text, and what is changed in the model.

Every field is checked here, so that the views' functions compute and nothing else.
Tests: tests/serving/test_inspection.py, tests/reliability/test_s_playground_server.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llm_scratch.errors import UserError
from llm_scratch.evaluation.head_skills import check_parts, known_parts
from llm_scratch.generation.decode import encode_prompt
from llm_scratch.interpretability.capture import activation_names
from llm_scratch.interpretability.patching import Part, ablate
from llm_scratch.model.introspection import context_length, device_of, n_start_tokens, vocab_size
from llm_scratch.serving.model_library import ModelLibrary
from llm_scratch.serving.request_guard import RequestError


def integer(body: Mapping[str, Any], name: str, most: int, default: int | None = None) -> int:
    """A whole number of a request, from 0 to `most`.

    Raises:
        UserError: it is missing or out of range.
    """
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise UserError(
            f"{name}: {str(value)[:40]!r} is out of range; give a whole number from 0 to {most}"
        )
    return value


def string(body: Mapping[str, Any], name: str, default: str = "") -> str:
    """A text of a request.

    Raises:
        UserError: it is not a text, or has half a surrogate pair.
    """
    value = body.get(name, default)
    if not isinstance(value, str):
        raise UserError(f"{name}: expected a text; leave it out or give one")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name}: contains half a surrogate pair; give valid Unicode") from None
    return value


SAMPLERS = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
"""Settings of a request that draws tokens."""


def sampler_settings(body: Mapping[str, Any]) -> dict[str, float]:
    """The samplers that a request sets; their ranges are checked where they are used.

    Raises:
        UserError: a value is not a number.
    """
    settings = {name: body[name] for name in SAMPLERS if body.get(name) is not None}
    for name, value in settings.items():
        if not isinstance(value, int | float):
            raise UserError(
                f"{name}: {str(value)[:40]!r} is not a number; give one, or leave it out"
            )
    return settings


def ablatable_parts(model: Any) -> dict[str, Part]:
    """Every head and feed-forward network that the model has: name -> part."""
    names = set(activation_names(model))
    return {name: part for name, part in known_parts(model).items() if part.name in names}


@dataclass(frozen=True)
class Question:
    """A model, a text, and the parts of the model that are ablated.

    Attributes:
        model, tokenizer: the model, of a snapshot if the request has a step.
        ids: [1, T], the text with the model's start token.
        n_start: tokens before the text, 0 or 1.
        without: names of ablated parts, such as "1.3" or "0.mlp".
        reference: ids whose mean replaces an ablated part; None: zero.
    """

    model: Any
    tokenizer: Any
    ids: Tensor
    n_start: int
    without: tuple[str, ...]
    reference: Tensor | None

    @property
    def n_tokens(self) -> int:
        """T, with the start token."""
        return self.ids.shape[1]

    @contextmanager
    def changed(self, *more: str) -> Iterator[nn.Module]:
        """The model with `without` and further parts ablated, inside the block; no gradients."""
        names = dict.fromkeys((*self.without, *more))
        with torch.no_grad(), self._without(*names) if names else nullcontext():
            yield self.model

    def _without(self, *names: str) -> AbstractContextManager[None]:
        known = ablatable_parts(self.model)
        by: Literal["zero", "mean"] = "zero" if self.reference is None else "mean"
        return ablate(self.model, *(known[name] for name in names), by=by, reference=self.reference)

    def logits(self, *more: str) -> Tensor:
        """The model's output, [T, V], without `more` parts."""
        with self.changed(*more) as model:
            return model(self.ids)[0].float()


def read_question(
    library: ModelLibrary,
    body: Mapping[str, Any],
    reference: Tensor | None,
    field: str = "text",
) -> Question:
    """Check a request about the text in `field`.

    Raises:
        RequestError: the text is longer than the model's context.
        UserError: an unknown model, step or part, a value of the wrong kind.
    """
    step = None if body.get("step") is None else integer(body, "step", 2**40)
    model, tokenizer = library.get(string(body, "model"), step)
    ids = encode_prompt(model, tokenizer, string(body, field))
    n_start = n_start_tokens(model, ids)
    size = context_length(model)
    if size is not None and len(ids) > size:
        raise RequestError(
            400,
            "context_length_exceeded",
            f"{field}: has {len(ids)} tokens, and the model reads {size}; delete {len(ids) - size}"
            " tokens",
        )
    if not ids:
        raise UserError(f"{field}: is empty, and this model has no start token; type a word")
    for position, token in _swaps(body, len(ids), vocab_size(model) or 1).items():
        ids[position] = token
    without = body.get("without", [])
    if (
        not isinstance(without, list)
        or not all(isinstance(name, str) for name in without)
        or len(without) > 1000
    ):
        raise UserError("without: expected a list of parts, such as 1.3 or 0.mlp")
    known = ablatable_parts(model)
    for name in without:
        check_parts(known, name)
    return Question(
        model,
        tokenizer,
        torch.tensor([ids], device=device_of(model)),
        n_start,
        tuple(without),
        reference,
    )


def _swaps(body: Mapping[str, Any], n_tokens: int, n_vocab: int) -> dict[int, int]:
    """The tokens that are replaced: position -> token."""
    swaps = body.get("swap", [])
    if not isinstance(swaps, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in swaps
    ):
        raise UserError("swap: expected a list of [position, token]")
    pairs = [{"position": position, "token": token} for position, token in swaps]
    return {
        integer(pair, "position", n_tokens - 1): integer(pair, "token", n_vocab - 1)
        for pair in pairs
    }
