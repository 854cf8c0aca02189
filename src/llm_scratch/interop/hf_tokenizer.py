"""Tokenizers as transformers reads and writes them.

Byte-pair tokenizers have the same tokenizer.json here and there. Characters become a list of words of one letter each, which is what
the `tokenizers` library can express; words cannot be: it joins them again with other spaces.
Proof: tests/interop/test_hf_export.py (equal ids and equal texts, both ways).
Source: https://huggingface.co/docs/tokenizers; the fields of tokenizer_config.json are transformers' PreTrainedTokenizerFast's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llm_scratch.errors import DATA, UserError
from llm_scratch.files import write_whole
from llm_scratch.tokenizers import CharTokenizer, SimpleTokenizerV1, Tokenizer, load_tokenizer, save_tokenizer
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.bpe_files import read_tokenizer_json, write_tokenizer_json
from llm_scratch.tokenizers.special import END_OF_TEXT, end_of_text

if TYPE_CHECKING:
    import tiktoken


def read_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer in a folder: tokenizer.json, or GPT-2's two files under transformers' names.

    Raises:
        UserError: there is none, it is damaged, or of a kind that is not known here (code 3).
    """
    folder = Path(folder)
    if not (folder / "tokenizer.json").is_file() and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return ByteBPE.from_gpt2_files(folder / "merges.txt", folder / "vocab.json")
    data, path = read_tokenizer_json(folder)
    if data["model"].get("type") == "WordLevel":
        return _characters(data, path)
    return load_tokenizer(folder)


def check_exportable(tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer that the `tokenizers` library cannot express, before anything is written.

    Raises:
        UserError: it is neither byte-level BPE nor characters (code 2).
    """
    if isinstance(tokenizer, (CharTokenizer, ByteBPE)):
        return
    if isinstance(tokenizer, SimpleTokenizerV1):
        raise UserError("transformers has no tokenizer of words that keeps spaces as ours does; train with --data.tokenizer bpe or chars")
    name, kind = getattr(tokenizer, "name", ""), type(tokenizer).__name__
    what = f"the tokenizer {name!r} ({kind})" if isinstance(name, str) and name else f"a tokenizer of the class {kind}"
    reason = "it is neither byte-level BPE nor characters"
    if hasattr(tokenizer, "_mergeable_ranks"):
        try:
            ByteBPE.from_tiktoken(cast("tiktoken.Encoding", tokenizer))
        except Exception as e:  # whatever a vocabulary of another kind makes of the conversion
            reason = f"its vocabulary is not a byte-level BPE that can be written as merges ({type(e).__name__}: {e})"
        else:
            return
    raise UserError(f"{what} cannot be exported to transformers: {reason}; train with --data.tokenizer bpe, gpt2 or chars")


def write_tokenizer(tokenizer: Tokenizer, folder: str | Path, context_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json, so that AutoTokenizer reads the same tokenizer.

    Raises:
        UserError: the `tokenizers` library cannot express it (code 2).
    """
    check_exportable(tokenizer)
    folder = Path(folder)
    if isinstance(tokenizer, CharTokenizer):
        write_tokenizer_json(folder, _of_characters(tokenizer))
    else:
        save_tokenizer(tokenizer, folder)
    special = END_OF_TEXT if end_of_text(tokenizer) is not None else None
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": special,
        "eos_token": special,
        "unk_token": None if isinstance(tokenizer, CharTokenizer) else special,
    }
    given = {name: value for name, value in config.items() if value is not None}
    write_whole(folder / "tokenizer_config.json", json.dumps(given, indent=1) + "\n")


def _of_characters(tokenizer: CharTokenizer) -> dict[str, Any]:
    """The tokenizer.json of a CharTokenizer: every letter is cut off, and is a word."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    letters = {letter: i for i, letter in enumerate(tokenizer.characters)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **flags} for name, i in tokenizer.special_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False},
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": letters | tokenizer.special_tokens, "unk_token": "<|unk|>"},
    }


def _characters(data: Mapping[str, Any], path: Path) -> CharTokenizer:
    """The CharTokenizer in a tokenizer.json; only what `_of_characters` writes is one."""
    vocab = data["model"].get("vocab")
    if isinstance(vocab, dict) and all(type(i) is int for i in vocab.values()):
        letters = [name for name, _ in sorted(vocab.items(), key=lambda item: item[1]) if name != END_OF_TEXT]
        if all(len(letter) == 1 for letter in letters):
            tokenizer = CharTokenizer(letters, END_OF_TEXT in vocab)
            if {key: value for key, value in _of_characters(tokenizer).items() if key != "version"}.items() <= data.items():
                return tokenizer
    raise UserError(f"{path} is a list of words that is not one of single characters; known are byte-level BPE and characters", DATA)
