"""Read and write tokenizers in transformers' format.

BPE tokenizers have the same tokenizer.json in both projects, and character tokenizers have one in
`tokenizers.char_files`. Word tokenizers cannot be exported: the `tokenizers` library restores other
spaces.
Tests: tests/interop/test_hf_export.py (equal ids and equal texts, both ways).
Source: https://huggingface.co/docs/tokenizers; the fields of tokenizer_config.json are
transformers' PreTrainedTokenizerFast's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm_scratch.errors import UserError, describe_error
from llm_scratch.storage.files import atomic_write
from llm_scratch.tokenizers import (
    CharTokenizer,
    LibraryTokenizer,
    SimpleTokenizerV1,
    Tokenizer,
    save_tokenizer,
)
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.bpe_files import is_tiktoken
from llm_scratch.tokenizers.char_files import word_level_json
from llm_scratch.tokenizers.companion import CONFIG, TEMPLATE
from llm_scratch.tokenizers.special import end_of_text
from llm_scratch.tokenizers.tokenizer_json import (
    prefix_id,
    read_tokenizer_json,
    write_tokenizer_json,
)


def check_exportable(tokenizer: Tokenizer) -> None:
    """Reject a tokenizer that the `tokenizers` library cannot express, before anything is written.

    Raises:
        UserError: it is neither byte-level BPE nor characters (code 2).
    """
    if isinstance(tokenizer, (CharTokenizer, ByteBPE, LibraryTokenizer)):
        return
    if isinstance(tokenizer, SimpleTokenizerV1):
        raise UserError(
            "transformers has no tokenizer of words that keeps spaces as ours does;"
            " train with --data.tokenizer bpe or chars"
        )
    name, kind = getattr(tokenizer, "name", ""), type(tokenizer).__name__
    if isinstance(name, str) and name:
        subject = f"the tokenizer {name!r} ({kind})"
    else:
        subject = f"a tokenizer of the class {kind}"
    reason = "it is neither byte-level BPE nor characters"
    if is_tiktoken(tokenizer):
        try:
            ByteBPE.from_tiktoken(tokenizer)
        except Exception as e:  # an unsupported vocabulary can fail in any way
            reason = (
                "its vocabulary is not a byte-level BPE that can be written as merges"
                f" ({describe_error(e, named=True)})"
            )
        else:
            return
    raise UserError(
        f"{subject} cannot be exported to transformers: {reason};"
        " train with --data.tokenizer bpe, gpt2 or chars"
    )


def write_tokenizer(
    tokenizer: Tokenizer, folder: str | Path, context_length: int, start_id: int | None = None
) -> None:
    """Write tokenizer.json and tokenizer_config.json, which AutoTokenizer reads.

    Args:
        tokenizer: the tokenizer.
        folder: the target folder.
        context_length: the model's context length.
        start_id: the token before each text (`model.start_id`),
            which AutoTokenizer adds to prompts.
    Raises:
        UserError: the `tokenizers` library cannot express it (code 2).
    """
    check_exportable(tokenizer)
    folder = Path(folder)
    if isinstance(tokenizer, CharTokenizer):
        write_tokenizer_json(folder, word_level_json(tokenizer))
    else:
        save_tokenizer(tokenizer, folder)
    if isinstance(tokenizer, (ByteBPE, LibraryTokenizer)) and tokenizer.chat_template is not None:
        atomic_write(folder / TEMPLATE, tokenizer.chat_template)
    if start_id is not None:
        data, path = read_tokenizer_json(folder)
        write_tokenizer_json(path, data | {"post_processor": _starts_with(tokenizer, start_id)})
    eot = end_of_text(tokenizer)
    special = None if eot is None else tokenizer.decode([eot])
    first = special if start_id is None else tokenizer.decode([start_id])
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": first,
        "eos_token": special,
        "unk_token": None if isinstance(tokenizer, CharTokenizer) else special,
    }
    set_values = {name: value for name, value in config.items() if value is not None}
    atomic_write(folder / CONFIG, json.dumps(set_values, indent=1) + "\n")


def _starts_with(tokenizer: Tokenizer, start_id: int) -> dict[str, Any]:
    """Make the post_processor that prepends a token to each text or pair of texts."""
    name = tokenizer.decode([start_id])
    first = {"SpecialToken": {"id": name, "type_id": 0}}
    texts = [{"Sequence": {"id": letter, "type_id": number}} for number, letter in enumerate("AB")]
    return {
        "type": "TemplateProcessing",
        "single": [first, texts[0]],
        "pair": [first, *texts],
        "special_tokens": {name: {"id": name, "ids": [start_id], "tokens": [name]}},
    }


def read_start_id(folder: str | Path) -> int | None:
    """The token that the tokenizer.json of a folder prepends to each text, or None.

    Raises:
        UserError: it adds other tokens to each text (code 3).
    """
    if not (Path(folder) / "tokenizer.json").is_file():
        return None
    return prefix_id(*read_tokenizer_json(folder))
