"""How the byte-level BPE of today's model families splits text into pieces, by llama.cpp's names.

A pattern decides what can never be one token: GPT-2 keeps a space with the next word; Llama 3 and
gpt-oss cut numbers every three digits, Qwen and SmolLM after each; gpt-oss also cuts a word where
upper case follows lower case. Several patterns are applied one after the other.
Tests: tests/tokenizers/test_tokenizer_json.py (equal to the `tokenizers` library),
tests/interop/test_llama_cpp.py (equal to llama.cpp).
Source: the tokenizer.json of each family; https://github.com/ggml-org/llama.cpp
(src/llama-vocab.cpp).
"""

from __future__ import annotations

from llm_scratch.tokenizers.pretokens import GPT2_PATTERN

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def _words_and_numbers(numbers: str) -> str:
    """A word with at most one other character before it, numbers, marks with line ends, spaces."""
    marks = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
    return rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}|{marks}|{_SPACES}"


def _words_by_case(numbers: str, contraction: str) -> str:
    """As `_words_and_numbers`, with a cut before upper case that follows lower case."""
    before = r"[^\r\n\p{L}\p{N}]?"
    words = (
        rf"{before}[{_UPPER}]*[{_LOWER}]+{contraction}|{before}[{_UPPER}]+[{_LOWER}]*{contraction}"
    )
    return rf"{words}|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"


PATTERNS: dict[str, str | tuple[str, ...]] = {
    "gpt-2": GPT2_PATTERN,
    "olmo": GPT2_PATTERN,
    "llama-bpe": _words_and_numbers(r"\p{N}{1,3}"),
    "dbrx": _words_and_numbers(r"\p{N}{1,3}"),
    "qwen2": _words_and_numbers(r"\p{N}"),
    "gpt-4o": _words_by_case(r"\p{N}{1,3}", rf"{_CONTRACTION}?"),
    "tekken": _words_by_case(r"\p{N}", ""),
    "smollm": (r"\p{N}", GPT2_PATTERN),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"""
        r"\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
"""Name of a pattern -> the pattern; of several names for one, the first is written."""
