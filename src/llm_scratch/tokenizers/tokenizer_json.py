"""The `tokenizer.json` of Hugging Face: read and write byte-level BPE tokenizers of today's models.

Llama 3, Qwen, Olmo, SmolLM and gpt-oss have GPT-2's byte-level BPE with four differences: the
patterns that split text, one after the other; added tokens, which are found in any text before it
is split; a Unicode normalization; and vocabularies made from tiktoken's ranks, whose files list a
merge for every way to split a token. Ids may have gaps, as in tiktoken's cl100k_base.
Tests: tests/tokenizers/test_tokenizer_json.py (ids equal to the `tokenizers` library's).
Source: https://huggingface.co/docs/tokenizers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_scratch.errors import DATA, describe_error
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.safe_parse import parse_json
from llm_scratch.tokenizers.bpe_files import (
    NotOurs,
    checked_parts,
    naming,
    read_vocabulary_file,
)
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN
from llm_scratch.tokenizers.vocabulary import bad_vocabulary, printable

NFC = {"type": "NFC"}
"""The normalizer of Qwen: one spelling for characters with accents."""
DIGITS = {True: r"\p{N}", False: r"\p{N}+"}
"""Pattern of the pre-tokenizer Digits, by its individual_digits."""


def from_json(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Convert the content of a `tokenizer.json` to the arguments of ByteBPE.

    Raises:
        NotOurs: not a byte-level BPE, or one with a feature that ours does not have.
        UserError: damaged; names the file (code 3).
    """
    try:
        model, added = data["model"], data.get("added_tokens") or []
        _check_features(data, model, added)
        prefix_id(data, path)
        patterns = _patterns(data["pre_tokenizer"])
        merges = [
            merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]
        ]
        names = {token["content"]: token["id"] for token in added}
        for name in names:
            name.encode()  # an error for what is not text, or has no bytes
        plain = {token["content"] for token in added if not token.get("special")}
        with naming(path):
            parts = checked_parts({**model["vocab"], **names}, merges, names)
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise bad_vocabulary(
            f"{path} is not a tokenizer.json with byte-level BPE ({describe_error(e, named=True)})"
        ) from None
    return parts | {
        "pattern": patterns,
        "special_tokens": {name: i for name, i in names.items() if name not in plain},
        "added_tokens": {name: i for name, i in names.items() if name in plain},
        "whole_pieces": bool(model.get("ignore_merges")),
        "nfc": data.get("normalizer") == NFC,
    }


def _check_features(
    data: Mapping[str, Any], model: Mapping[str, Any], added: Sequence[Mapping[str, Any]]
) -> None:
    """Reject features that change ids and that ByteBPE does not have."""
    settings = {
        key: model.get(key)
        for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    }
    if data.get("normalizer") != NFC:
        settings["normalizer"] = data.get("normalizer")
    if model.get("type", "BPE") != "BPE" or any(settings.values()):
        raise NotOurs(
            ", ".join(f"{key}={value!r}" for key, value in settings.items() if value)
            or f"a {model.get('type')} model"
        )
    flags = (
        "single_word",
        "lstrip",
        "rstrip",
        *(("normalized",) if data.get("normalizer") else ()),
    )
    for token in added:
        if unsupported := [flag for flag in flags if token.get(flag)]:
            raise NotOurs(f"{unsupported[0]} of the added token {token['content']!r}")


def _patterns(pre_tokenizer: Mapping[str, Any]) -> tuple[str, ...]:
    """The patterns with which a `tokenizer.json` splits text, one after the other."""
    sequence = pre_tokenizer.get("type") == "Sequence"
    *splits, last = pre_tokenizer["pretokenizers"] if sequence else [pre_tokenizer]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        raise NotOurs("a pre_tokenizer that does not end with ByteLevel without add_prefix_space")
    patterns = tuple(map(_pattern, splits))
    return (*patterns, GPT2_PATTERN) if last.get("use_regex", True) else patterns or (r"[\s\S]+",)


def _pattern(split: Mapping[str, Any]) -> str:
    """The pattern of one step."""
    if split["type"] == "Digits":
        return DIGITS[bool(split.get("individual_digits"))]
    if (
        split["type"] == "Split"
        and isinstance(regex := split["pattern"].get("Regex"), str)
        and split["behavior"] == "Isolated"
        and not split.get("invert")
    ):
        return regex
    raise NotOurs(f"a pre_tokenizer with {split['type']}")


def prefix_id(data: Mapping[str, Any], path: Path) -> int | None:
    """The token that the post_processor of a `tokenizer.json` prepends to each text, or None.

    Encoding never adds the token: it belongs to the model, as `start_id`.

    Raises:
        UserError: the post_processor adds other tokens, or is damaged (code 3).
    """
    try:
        return _prefix_id(data.get("post_processor") or {"type": "ByteLevel"}, path)
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise bad_vocabulary(
            f"{path}: its post_processor is damaged ({describe_error(e, named=True)})"
        ) from None


def _prefix_id(after: Mapping[str, Any], path: Path) -> int | None:
    """`prefix_id` of a post_processor."""
    steps = after["processors"] if after["type"] == "Sequence" else [after]
    templates = [step for step in steps if step["type"] != "ByteLevel"]
    if not templates:
        return None
    if len(templates) == 1 and templates[0]["type"] == "TemplateProcessing":
        pieces = templates[0].get("single", ())
        kinds = [kind for piece in pieces for kind in piece]
        if kinds == ["Sequence"]:  # transformers 5 writes a template of the text alone
            return None
        if kinds == ["SpecialToken", "Sequence"]:
            ids = templates[0]["special_tokens"][pieces[0]["SpecialToken"]["id"]]["ids"]
            if len(ids) == 1 and type(ids[0]) is int:
                return ids[0]
    raise bad_vocabulary(
        f"{path} adds tokens to each text ({after['type']}), which is not supported"
    )


def to_json(
    merges: Sequence[tuple[bytes, bytes]],
    ids: Mapping[bytes, int],
    patterns: Sequence[str],
    *,
    special: Mapping[str, int],
    added: Mapping[str, int],
    nfc: bool,
    whole_pieces: bool,
) -> dict[str, Any]:
    """Return the content of `tokenizer.json` as the `tokenizers` library writes it.

    The arguments are those of ByteBPE.
    """
    vocab = {printable(token): i for token, i in ids.items()} | dict(special)
    *before, last = patterns
    if last != GPT2_PATTERN:
        before.append(last)
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in before
    ]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": last == GPT2_PATTERN,
    }
    options = dict.fromkeys(
        ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_token_rows(special, added),
        "normalizer": NFC if nfc else None,
        "pre_tokenizer": (
            {"type": "Sequence", "pretokenizers": [*splits, byte_level]} if splits else byte_level
        ),
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            **options,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": whole_pieces,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": [[printable(left), printable(right)] for left, right in merges],
        },
    }


def added_token_rows(
    specials: Mapping[str, int], added: Mapping[str, int] = {}
) -> list[dict[str, Any]]:
    """The "added_tokens" of a `tokenizer.json`, in the order of their ids."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": i, "content": name, **flags, "special": name in specials}
        for name, i in sorted({**added, **specials}.items(), key=lambda item: item[1])
    ]


def read_tokenizer_json(path: str | Path) -> tuple[dict[str, Any], Path]:
    """Read a `tokenizer.json`, given its path or folder; returns its content and path."""
    path = Path(path)
    path = path / "tokenizer.json" if path.is_dir() else path
    data = parse_json(read_vocabulary_file(path), path, DATA)
    if not isinstance(data.get("model"), dict):
        raise bad_vocabulary(f'{path} is not a tokenizer.json: it has no "model"')
    return data, path


def write_tokenizer_json(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write a `tokenizer.json` atomically, into a folder or to a path that ends in .json."""
    path = Path(path)
    atomic_write(
        path if path.suffix == ".json" else path / "tokenizer.json",
        json.dumps(data, ensure_ascii=False) + "\n",
    )
