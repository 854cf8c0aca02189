"""Text that must keep to a form: a regular expression, or JSON of a schema.

At each step a parser says which tokens may come next, and the scores of all others become -inf.
What the model would like to say still decides among them. The parser is the library llguidance,
https://github.com/guidance-ai/llguidance (extra `constrain`). Proof:
tests/generation/test_constrain.py (every text matches, from a model that knows nothing).
Source: Willard and Louf 2023, "Efficient Guided Generation for Large Language Models",
https://arxiv.org/abs/2307.09702.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm_scratch.errors import DATA, MAX_REASON, UserError, describe_error, one_line
from llm_scratch.extras import install_command


class Constraint:
    """Forbids every token that the form does not allow; give it to `stream(constraint=...)`, a new one for each call.

    Args:
        tokenizer: with `decode_bytes`, `encode`, `n_vocab` and an `eot_token`, which ends the text
            where the form allows an end.
        regex: the whole text matches this expression, in Rust's syntax
            (https://docs.rs/regex/latest/regex/#syntax), where `\\d` is any digit of any script:
            write `[0-9]`.
        json_schema: the text is JSON that fits this schema, given as JSON; "{}" is any JSON.
    Raises:
        UserError: not exactly one of the two, a form that cannot be read, a tokenizer without an
            end or whose tokens are no bytes of their own (as words joined by spaces), or the extra
            is not installed.
    """

    def __init__(self, tokenizer: Any, *, regex: str | None = None, json_schema: str | None = None) -> None:
        if (regex is None) == (json_schema is None):
            raise UserError("a constraint is either a regular expression or a JSON schema; give one of the two")
        try:
            import llguidance
        except ImportError as e:
            raise UserError(f"constrained decoding needs llguidance; install it with: {install_command('constrain')}") from e
        self._matcher, self._tokens = (
            llguidance.LLMatcher,
            llguidance.LLTokenizer(_wrapped(tokenizer, llguidance)),
        )
        self._grammar = _grammar(llguidance.LLMatcher, regex, json_schema)
        self._rows: list[Any] = []
        if wrong := self._matcher.validate_grammar(self._grammar, self._tokens):
            form = "regular expression" if json_schema is None else "JSON schema"
            raise UserError(f"the {form} cannot be used: {one_line(wrong.splitlines()[0], MAX_REASON)}")

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        """Hear the last token of each text [B, S], unless this is the first call, and forbid what may not follow. [B, V] -> [B, V]."""
        begins = not self._rows
        if self._rows:
            for row, token in zip(self._rows, ids[:, -1].tolist(), strict=True):
                if not row.is_stopped():
                    row.consume_token(token)
        else:
            self._rows = [self._matcher(self._tokens, self._grammar, log_level=0) for _ in ids]
        allowed = np.stack([np.frombuffer(row.compute_logit_bias(), np.uint8)[: logits.shape[1]] > 0 for row in self._rows])
        failed = [row.is_error() for row in self._rows]
        if begins and any(failed):
            raise UserError(
                "no token of this tokenizer can begin the form; use a model whose vocabulary has its characters",
                DATA,
            )
        allowed[failed] = False  # this text ends, and the others continue
        return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), float("-inf"))


def _grammar(matcher: Any, regex: str | None, json_schema: str | None) -> str:
    if regex is not None:
        return matcher.grammar_from_regex(regex)
    try:  # one way to write it: a model that knows no JSON would add spaces for ever
        return matcher.grammar_from_json_schema(json_schema, defaults={"whitespace_flexible": False})
    except ValueError as e:
        raise UserError(f"the JSON schema cannot be read: {describe_error(e)}") from e


def _wrapped(tokenizer: Any, llguidance: Any) -> Any:
    """Our tokenizer as the library wants it: the bytes of every token."""
    try:
        eot = tokenizer.eot_token
    except (AttributeError, KeyError, UserError) as e:
        raise UserError(
            "this tokenizer has no end-of-text token, so a constrained text could not end; use another model",
            DATA,
        ) from e
    tokens = [b"" if token == eot else tokenizer.decode_bytes([token]) for token in range(tokenizer.n_vocab)]
    first, second = [token for token in range(tokenizer.n_vocab) if token != eot][:2]
    if tokenizer.decode_bytes([first, second]) != tokens[first] + tokens[second]:
        raise UserError(
            "this tokenizer joins words with spaces, so its tokens have no bytes of their own; use a model of bytes or BPE",
            DATA,
        )

    def encode(text: bytes | str) -> list[int]:
        return tokenizer.encode(
            text.decode(errors="replace") if isinstance(text, bytes) else text,
            disallowed_special=(),
        )

    class Wrapped(SimpleNamespace):
        __call__ = staticmethod(encode)

    return llguidance.TokenizerWrapper(Wrapped(eos_token_id=eot, bos_token_id=None, tokens=tokens, special_token_ids=[eot]))
