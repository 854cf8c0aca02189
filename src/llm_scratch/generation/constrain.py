"""Constrained decoding: text that matches a regular expression or a JSON schema.

At each step a parser determines the valid next tokens, and the logits of all others become -inf.
The parser is the library llguidance, https://github.com/guidance-ai/llguidance (extra `constrain`).
Tests: tests/generation/test_constrain.py (every text of a random model matches).
Source: Willard and Louf 2023, "Efficient Guided Generation for Large Language Models",
https://arxiv.org/abs/2307.09702.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm_scratch.errors import DATA, MAX_REASON, UserError, describe_error, one_line
from llm_scratch.extras import install_command
from llm_scratch.tokenizers.special import encode_continuation


class Constraint:
    """Logits processor that excludes every token outside a regular expression or JSON schema.

    It follows the texts of one batch from their first token on, so each batch needs a new one.
    `stream(regex=...)` and `stream(json_schema=...)` create it.

    Args:
        tokenizer: with `decode_bytes`, `encode`, `n_vocab` and an `eot_token`, which ends a
            complete text.
        regex: pattern of the whole text, in Rust's syntax
            (https://docs.rs/regex/latest/regex/#syntax); `\\d` matches digits of all scripts, so
            write `[0-9]`.
        json_schema: schema of the text, as JSON; "{}" is any JSON.
    Raises:
        UserError: not exactly one of the two, an invalid pattern or schema, a tokenizer without an
            end-of-text token or whose tokens have no bytes of their own (words joined by spaces),
            no token that can begin a match (exit code 3), or the extra is not installed.
    """

    def __init__(
        self, tokenizer: Any, *, regex: str | None = None, json_schema: str | None = None
    ) -> None:
        if (regex is None) == (json_schema is None):
            raise UserError(
                "a constraint is either a regular expression or a JSON schema; pass one of the two"
            )
        try:
            import llguidance
        except ImportError as e:
            raise UserError(
                "constrained decoding needs llguidance; install it with:"
                f" {install_command('constrain')}"
            ) from e
        self._matcher = llguidance.LLMatcher
        self._tokens = _tokens_of(tokenizer)
        self._grammar = _grammar(llguidance.LLMatcher, regex, json_schema)
        self._rows: list[Any] = []
        error = self._matcher.validate_grammar(self._grammar, self._tokens)
        kind = "regular expression" if json_schema is None else "JSON schema"
        if error:
            raise UserError(
                f"the {kind} cannot be used: {one_line(error.splitlines()[0], MAX_REASON)}"
            )
        first = self._new_matcher()
        first.compute_logit_bias()
        if first.is_error():
            raise UserError(
                f"no token of this tokenizer can begin a match of the {kind};"
                " use a model whose vocabulary has the required characters",
                DATA,
            )

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        """Consume the last token of each text, except at the first call, and mask invalid ones."""
        if self._rows:
            for row, token in zip(self._rows, ids[:, -1].tolist(), strict=True):
                if not row.is_stopped():
                    row.consume_token(token)
        else:
            self._rows = [self._new_matcher() for _ in ids]
        allowed = np.stack(
            [
                np.frombuffer(row.compute_logit_bias(), np.uint8)[: logits.shape[1]] > 0
                for row in self._rows
            ]
        )
        failed = [row.is_error() for row in self._rows]
        allowed[failed] = False  # this text ends, and the others continue
        return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), float("-inf"))

    def _new_matcher(self) -> Any:
        return self._matcher(self._tokens, self._grammar, log_level=0)


def _grammar(matcher: Any, regex: str | None, json_schema: str | None) -> str:
    if regex is not None:
        return matcher.grammar_from_regex(regex)
    try:  # fixed whitespace: an untrained model could add spaces without end
        return matcher.grammar_from_json_schema(
            json_schema, defaults={"whitespace_flexible": False}
        )
    except ValueError as e:
        raise UserError(f"the JSON schema cannot be read: {describe_error(e)}") from e


@lru_cache(maxsize=1)
def _tokens_of(tokenizer: Any) -> Any:
    """The tokenizer as llguidance reads it; kept, as its table takes long to build."""
    import llguidance

    return llguidance.LLTokenizer(_wrapped(tokenizer, llguidance))


def _wrapped(tokenizer: Any, llguidance: Any) -> Any:
    """Wrap the tokenizer for llguidance, with the bytes of every token."""
    try:
        eot = tokenizer.eot_token
    except (AttributeError, KeyError, UserError) as e:
        raise UserError(
            "this tokenizer has no end-of-text token, so a constrained text could not end;"
            " use another model",
            DATA,
        ) from e
    tokens = [
        b"" if token == eot else tokenizer.decode_bytes([token])
        for token in range(tokenizer.n_vocab)
    ]
    first, second = [token for token in range(tokenizer.n_vocab) if token != eot][:2]
    if tokenizer.decode_bytes([first, second]) != tokens[first] + tokens[second]:
        raise UserError(
            "this tokenizer joins words with spaces, so its tokens have no bytes of their own;"
            " use a model of bytes or BPE",
            DATA,
        )

    def encode(text: bytes | str) -> list[int]:
        return encode_continuation(
            tokenizer, text.decode(errors="replace") if isinstance(text, bytes) else text
        )

    class Wrapped(SimpleNamespace):
        __call__ = staticmethod(encode)

    return llguidance.TokenizerWrapper(
        Wrapped(eos_token_id=eot, bos_token_id=None, tokens=tokens, special_token_ids=[eot])
    )
