"""Tokenizers: rows of docs/equivalence.md."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from equivalence import TEXT, count_differences, row
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.tokenizers.bpe import ByteBPE


@row(
    "tokenizer",
    "tokenizers/bpe.ByteBPE.encode_python",
    "tiktoken: ids that differ",
    "tokenizers/test_bpe.py::test_t2_ids_of_10000_texts_equal_tiktoken",
)
def _ids_of_tiktoken() -> float:
    theirs = TOKENIZERS["gpt2"]([], None)
    return count_differences(ByteBPE.from_tiktoken(theirs).encode_python(TEXT), theirs.encode(TEXT))


@row(
    "tokenizer",
    "tokenizers/bpe.ByteBPE.decode_bytes",
    "the text: bytes that differ",
    "tokenizers/test_bpe.py::test_t1_any_text_survives_a_round_trip",
)
def _there_and_back() -> float:
    ours = ByteBPE.train([TEXT], 300)
    return count_differences(ours.decode_bytes(ours.encode(TEXT)), TEXT.encode())


@row(
    "tokenizer, by the default call",
    "tokenizers/bpe.ByteBPE.encode",
    "tiktoken: ids that differ",
    "tokenizers/test_bpe.py::test_t2_ids_of_10000_texts_equal_tiktoken",
    covers="TOKENIZERS.gpt2",
)
def _ids_by_default() -> float:
    theirs = TOKENIZERS["gpt2"]([], None)
    return count_differences(ByteBPE.from_tiktoken(theirs).encode(TEXT), theirs.encode(TEXT))


@row(
    "tokenizer, trained",
    "tokenizers/bpe.ByteBPE.train",
    "the tokenizers library: merges that differ",
    "tokenizers/test_bpe_train.py::test_trained_merges_equal_the_tokenizers_library",
    covers="TOKENIZERS.bpe",
)
def _merges() -> float:
    import tokenizers

    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    theirs.pre_tokenizer = byte_level(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    theirs.train_from_iterator([TEXT], trainer)
    with tempfile.TemporaryDirectory() as folder:
        ByteBPE.train([TEXT], 300, special_tokens=()).save(folder)
        ours = json.loads((Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    return count_differences(
        ours["model"]["merges"], json.loads(theirs.to_str())["model"]["merges"]
    )


@row(
    "words",
    "tokenizers/words.SimpleTokenizerV2",
    "the notebooks' expression and a sorted list: ids that differ",
    "tokenizers/test_words.py::test_verdict_has_the_printed_sizes",
    covers="TOKENIZERS.words",
)
def _words() -> float:
    pieces = [
        piece.strip() for piece in re.split(r"""([,.:;?_!"()']|--|\s)""", TEXT) if piece.strip()
    ]
    return count_differences(
        TOKENIZERS["words"]([TEXT], None).encode(TEXT), map(sorted(set(pieces)).index, pieces)
    )


@row(
    "characters",
    "tokenizers/chars.CharTokenizer",
    "indices in the sorted characters: ids that differ",
    "tokenizers/test_chars.py::test_shakespeare_has_the_65_characters_known_from_nanogpt",
    covers="TOKENIZERS.chars",
)
def _chars() -> float:
    return count_differences(
        TOKENIZERS["chars"]([TEXT], None).encode(TEXT), map(sorted(set(TEXT)).index, TEXT)
    )
