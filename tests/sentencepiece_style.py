"""Tokenizers in SentencePiece's style, trained quickly by the `tokenizers` library."""

from __future__ import annotations

import json
import random
from typing import Any

SCRIPTS = [
    "The quick brown fox can't, won't; they'll've said I'm 100%!",
    "Größe, naïve, Œuvre, Ångström, ﬁne, İstanbul",
    "Быстрая коричневая лиса перепрыгивает через собаку 123",
    "快速的棕色狐狸跳过了懒狗。一二三１２３",
    "素早い茶色の狐がのろまな犬を飛び越える",
    "الثعلب البني السريع ١٢٣ يقفز",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 e\u0301\u0302",
    "if (a&&b) {\n\t\treturn c[i++]->d;  \n\t}\n",
    "the cat sat on the mat, and the hat was on the cat " * 4,
]
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]


def sentencepiece(kind: str) -> dict[str, Any]:
    """A tokenizer.json in the style of Llama 2 (BPE), Gemma (BPE) or T5 (Unigram)."""
    import tokenizers

    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoder = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if kind == "Unigram":
        model = tokenizers.models.Unigram()
        trainer = tokenizers.trainers.UnigramTrainer(
            vocab_size=300,
            special_tokens=[*SPECIAL, *BYTES],
            unk_token="<unk>",
            show_progress=False,
        )
    else:
        model = tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=600, special_tokens=[*SPECIAL, *BYTES], show_progress=False
        )
    library = tokenizers.Tokenizer(model)
    library.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    library.pre_tokenizer = tokenizers.pre_tokenizers.Split("\u2581", "merged_with_next")
    library.train_from_iterator(SCRIPTS * 3, trainer)
    data = json.loads(library.to_str())
    data["added_tokens"] = [row for row in data["added_tokens"] if row["content"] in SPECIAL]
    data["pre_tokenizer"] = None
    if kind == "Unigram":
        data["model"]["byte_fallback"] = True
    if kind == "Gemma":
        data |= {"normalizer": replace, "decoder": {"type": "Sequence", "decoders": decoder}}
    else:
        steps = [{"type": "Prepend", "prepend": "\u2581"}, replace]
        data["normalizer"] = {"type": "Sequence", "normalizers": steps}
        data["decoder"] = {"type": "Sequence", "decoders": [*decoder, strip]}
    start = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    data["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [start, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    return data


def texts(n: int = 200) -> list[str]:
    """Texts of many scripts, and random ones with special tokens in them."""
    draw = random.Random(3)
    letters = [*map(chr, range(0x20, 0x7F)), *"\n\t  éßжяअ中文日本😀👩‍🚀\u00a0\u0301ǅ", *SPECIAL]
    return [
        *SCRIPTS,
        *("".join(draw.choices(letters, k=draw.randrange(40))) for _ in range(n)),
    ]
