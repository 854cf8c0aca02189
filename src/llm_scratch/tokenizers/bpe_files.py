"""Read and write BPE vocabularies: `tokenizer.json`, GPT-2's two files, tiktoken's ranks.

The `tokenizers` library and GPT-2 write a token's bytes as printable characters: "Ġ" is the space.
Files are untrusted: oversized, circular or duplicate content is rejected with its position. In a
`tokenizer.json` ids may have gaps, as in tiktoken's cl100k_base and o200k_base.
Tests: tests/tokenizers/test_bpe_files.py.
Source: https://github.com/openai/gpt-2 (src/encoder.py, `bytes_to_unicode`);
https://huggingface.co/docs/tokenizers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.safe_parse import parse_json
from llm_scratch.tokenizers.merging import BYTES, merge_piece, symbols
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN
from llm_scratch.tokenizers.vocabulary import Vocabulary, bad_vocabulary, printable, unprintable

if TYPE_CHECKING:
    import tiktoken

Merge = tuple[bytes, bytes]
MAX_BYTES = 48 << 20  # of a file
MAX_TOKENS = 1_000_000
GPT2_SHA256 = (
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
)
"""sha256 of OpenAI's vocab.bpe and encoder.json."""


def read_gpt2(
    vocab_bpe: str | Path, encoder_json: str | Path, sha256: tuple[str, str] | None
) -> dict[str, Any]:
    """Read GPT-2's two files; returns the arguments of ByteBPE."""
    rows = _read(vocab_bpe, sha256 and sha256[0])
    if (n := rows.count(b"\n")) > MAX_TOKENS:
        raise bad_vocabulary(
            f"{vocab_bpe} has {n:,} lines; a vocabulary has at most {MAX_TOKENS:,} tokens"
        )
    vocab = parse_json(_read(encoder_json, sha256 and sha256[1]), encoder_json, DATA)
    first, *lines = rows.decode("utf-8", "replace").split("\n")
    lines = lines if first.startswith("#version") else [first, *lines]
    return checked_parts(vocab, [line.split(" ") for line in lines if line], specials=None)


def from_json(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Convert the content of a `tokenizer.json` to the arguments of ByteBPE."""
    try:
        model, added = data["model"], data.get("added_tokens") or []
        _check_plain(data, model, added, path)
        merges = [
            merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]
        ]
        specials = {token["content"]: token["id"] for token in added}
        pattern = _pattern(data["pre_tokenizer"], path)
        return {
            **checked_parts({**model["vocab"], **specials}, merges, specials),
            "pattern": pattern,
        }
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise bad_vocabulary(
            f"{path} is not a tokenizer.json with byte-level BPE ({describe_error(e, named=True)})"
        ) from None


def _check_plain(
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    added: Sequence[Mapping[str, Any]],
    path: Path,
) -> None:
    """Reject features that change ids: other models, normalizers, added text, other matching."""
    settings = {
        key: model.get(key)
        for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    }
    settings["normalizer"] = data.get("normalizer")
    if model.get("type", "BPE") != "BPE" or any(settings.values()):
        extra = (
            ", ".join(f"{key}={value!r}" for key, value in settings.items() if value)
            or f"a {model.get('type')} model"
        )
        raise bad_vocabulary(f"{path} is not plain byte-level BPE: it has {extra}")
    prefix_id(data, path)
    if plain := [token["content"] for token in added if not token.get("special")]:
        raise bad_vocabulary(
            f"{path} has added tokens that are not special, such as {plain[0]!r};"
            " these are not supported"
        )


def prefix_id(data: Mapping[str, Any], path: Path) -> int | None:
    """The token that the post_processor of a `tokenizer.json` prepends to each text, or None.

    Encoding never adds the token: it belongs to the model, as `start_id`.

    Raises:
        UserError: the post_processor adds other tokens (code 3).
    """
    after = data.get("post_processor") or {"type": "ByteLevel"}
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
    merges: Sequence[Merge], ids: Mapping[bytes, int], specials: Mapping[str, int], pattern: str
) -> dict[str, Any]:
    """Make the content of a `tokenizer.json` as the `tokenizers` library writes it."""
    vocab = {printable(token): i for token, i in ids.items()} | dict(specials)
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": pattern == GPT2_PATTERN,
    }
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    options = dict.fromkeys(
        ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    )
    switches = dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special_token_rows(specials),
        "normalizer": None,
        "pre_tokenizer": (
            byte_level
            if pattern == GPT2_PATTERN
            else {"type": "Sequence", "pretokenizers": [split, byte_level]}
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
            **switches,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": [[printable(left), printable(right)] for left, right in merges],
        },
    }


def from_ranks(encoding: tiktoken.Encoding) -> dict[str, Any]:
    """Convert a tiktoken encoding to the arguments of ByteBPE.

    The merge of a token is the pair that its bytes become under all earlier merges.
    """
    ranks = encoding._mergeable_ranks
    if missing := [byte for byte in BYTES if bytes([byte]) not in ranks]:
        raise bad_vocabulary(
            f"the encoding {encoding.name!r} has no token for the byte {missing[0]}"
        )
    vocabulary = Vocabulary(())
    tokens = [bytes([byte]) for byte in BYTES]
    for token in sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__):
        pair = merge_piece(symbols(token), vocabulary.joined, vocabulary.pair_of)
        if len(pair) != 2:
            raise bad_vocabulary(
                f"the token {printable(token)!r} of {encoding.name!r} is not a pair"
                " of earlier tokens"
            )
        vocabulary.add(tokens[ord(pair[0])], tokens[ord(pair[1])])
        tokens.append(token)
    return {
        "merges": vocabulary,
        "ids": ranks,
        "special_tokens": encoding._special_tokens,
        "pattern": encoding._pat_str,
    }


def special_token_rows(specials: Mapping[str, int]) -> list[dict[str, Any]]:
    """The "added_tokens" of a `tokenizer.json`, in the order of their ids."""
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return [
        {"id": i, "content": name, **flags}
        for name, i in sorted(specials.items(), key=lambda item: item[1])
    ]


def read_tokenizer_json(path: str | Path) -> tuple[dict[str, Any], Path]:
    """Read a `tokenizer.json`, given its path or folder; returns its content and path."""
    path = Path(path)
    path = path / "tokenizer.json" if path.is_dir() else path
    data = parse_json(_read(path), path, DATA)
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


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in errors about its vocabulary."""
    try:
        yield
    except UserError as e:
        raise e if str(path) in str(e) else UserError(f"{path}: {e}", e.code) from None


def checked_parts(
    vocab: Mapping[str, Any], merges: Sequence[Sequence[str]], specials: Mapping[str, int] | None
) -> dict[str, Any]:
    """Check a vocabulary against its merges; returns the arguments of ByteBPE.

    Args:
        vocab: token in GPT-2's spelling of bytes, or special token -> id.
        merges: the two halves of each, in learned order.
        specials: the special tokens; None: all that are spelled `<...>`.
    Raises:
        UserError: they disagree, or a token is neither special nor the result of a merge (code 3).
    """
    if max(len(vocab), len(merges)) > MAX_TOKENS:
        raise bad_vocabulary(
            f"{max(len(vocab), len(merges)):,} tokens exceed the limit of {MAX_TOKENS:,}"
        )
    ids = vocab.values()
    if specials is None and (
        any(type(i) is not int for i in ids) or sorted(ids) != list(range(len(vocab)))
    ):
        raise bad_vocabulary(
            f"the ids of the {len(vocab)} tokens are not 0 to {len(vocab) - 1}, each once"
        )
    if (
        any(type(i) is not int for i in ids)
        or len(set(ids)) < len(vocab)
        or not 0 <= min(ids, default=0) <= max(ids, default=0) < MAX_TOKENS
    ):
        raise bad_vocabulary(
            f"the ids of the {len(vocab)} tokens are not whole numbers from 0 to"
            f" {MAX_TOKENS - 1:,}, each once"
        )
    vocabulary = Vocabulary(())
    for n, merge in enumerate(merges):
        if len(merge) != 2:
            raise bad_vocabulary(
                f"merge {n + 1} is {' '.join(map(str, merge))[:60]!r}, expected two tokens"
            )
        vocabulary.add(unprintable(merge[0]), unprintable(merge[1]))
    known = {printable(token): token for token in vocabulary.symbol}
    if missing := [name for name in known if name not in vocab]:
        raise bad_vocabulary(f"the token {missing[0]!r} has no id")
    rest = {name: i for name, i in vocab.items() if name not in known}
    if unknown := [
        name
        for name in rest
        if (name[0] + name[-1] != "<>" if specials is None else name not in specials)
    ]:
        raise bad_vocabulary(
            f"the token {unknown[0]!r} is neither the result of a merge nor special"
        )
    by_token = {token: vocab[name] for name, token in known.items()}
    return {
        "merges": vocabulary,
        "ids": by_token,
        "special_tokens": rest if specials is None else specials,
    }


def _pattern(pre_tokenizer: Mapping[str, Any], path: Path) -> str:
    """The pattern with which a `tokenizer.json` splits text."""
    if pre_tokenizer.get("type") == "Sequence":
        steps = pre_tokenizer["pretokenizers"]
    else:
        steps = [pre_tokenizer]
    *splits, last = steps
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        raise bad_vocabulary(
            f"{path} does not end its pre_tokenizer with ByteLevel without add_prefix_space"
        )
    if not splits and last.get("use_regex", True):
        return GPT2_PATTERN
    if len(splits) == 1 and not last.get("use_regex", True):
        split = splits[0]
        if (
            split["type"] == "Split"
            and "Regex" in split["pattern"]
            and split["behavior"] == "Isolated"
            and not split.get("invert")
        ):
            return split["pattern"]["Regex"]
    raise bad_vocabulary(
        f"{path} has an unsupported pre_tokenizer;"
        " supported are ByteLevel, and Split by one Regex (Isolated)"
    )


def _read(path: str | Path, sha256: str | None = None) -> bytes:
    """Read a file of limited size, and check its hash if `sha256` is set."""
    path = Path(path)
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise bad_vocabulary(
                f"{path} has {size:,} bytes; a vocabulary has at most {MAX_BYTES:,}"
            )
        data = path.read_bytes()
    except OSError as e:
        raise UserError(
            f"cannot read {path}: {e.strerror}; expected a tokenizer file or its folder", DATA
        ) from None
    if sha256:
        actual = hashlib.sha256(data).hexdigest()
        if actual != sha256:
            raise bad_vocabulary(f"{path} has sha256 {actual}, expected {sha256}")
    return data
