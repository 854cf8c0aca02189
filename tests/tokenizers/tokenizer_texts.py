"""Difficult texts: many scripts, code, controls, random Unicode, very long words."""

from __future__ import annotations

import inspect
import json
import random
import sysconfig
import textwrap
from pathlib import Path

SCRIPTS = [
    "The quick brown fox can't, won't; they'll've said I'm 'tis O'Neill's 100%!",
    "Größe, naïve, Œuvre, Ångström, ﬁne, İstanbul, ẞ",
    "Быстрая коричневая лиса перепрыгивает через ленивую собаку 123",
    "Η γρήγορη καφέ αλεπού ΐ ς",
    "快速的棕色狐狸跳过了懒狗。一二三１２３",
    "素早い茶色の狐がのろまな犬を飛び越える ｶﾀｶﾅ が",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다",
    "الثعلب البني السريع ١٢٣ يقفز فوق الكلب الكسول",
    "השועל החום המהיר שָׁלוֹם",
    "तेज भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है १२३",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ",
    "ᚠᛇᚻ ᛒᛦᚦ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 Ⅷ ½ ² ₃ ⑳",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇺🇳 ☺️ e\u0301\u0302\u0303 z̸̢͎a̷l̶g̴o̵",
    "\ufeffBOM \x00NUL \x1b[31mred\x1b[0m \x7f\x80\x9f\u2028\u2029\u200b\u202e\ufffd\uffff",
    "a\tb\r\nc\r\n\r\n  d   \n\n\n   e \u3000 f\xa0\xa0g\x85h\x1c\x1d\x1e\x1fi ",
    "x = {'a': [1, 2.5e-3], \"b\": None}  # !!! ??? --- ___ ===>>",
    "    if (a&&b) {\n\t\treturn c[i++]->d;  \n\t}\n",
    "' 's 'S 'll 'LL 're' ''ve '''t 'd'm '",
    "<|endoftext|> <|endoftext <|unk|> ＜｜endoftext｜＞",
    "١٢٣٤ ৪৫৬ 1234567890 0x1F600 3.14159 1,000,000",
    "",
    " ",
    "\n",
    "a",
]


def random_texts(n: int, seed: int = 0) -> list[str]:
    """Return texts of up to 60 characters from all of Unicode and from the scripts above."""
    rng = random.Random(seed)
    pool = [character for text in SCRIPTS for character in text]
    common = list(" \n\t'.,aeiotnsrl0159AEST")
    pools = [
        lambda: chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])),
        lambda: chr(rng.randrange(128)),
        lambda: chr(rng.randrange(0x3000)),
        lambda: rng.choice(pool),
        lambda: rng.choice(common),
    ]
    texts = []
    for _ in range(n):
        draw = rng.sample(pools, 2)
        texts.append("".join(rng.choice(draw)() for _ in range(rng.randrange(60))))
    return texts


def code_texts() -> list[str]:
    """Functions and lines of the standard library."""
    source = "\n".join(map(inspect.getsource, (json.decoder, textwrap, random)))
    return source.split("\ndef ") + source.splitlines()


def library_source(n: int) -> str:
    """The first `n` characters of Python's standard library."""
    text = ""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts and len(text) < n:
            text += path.read_text(encoding="utf-8", errors="replace")
    return text[:n]


def worst(name: str, n: int) -> str:
    """About `n` bytes of an input that is slow where time grows with the square of something."""
    rng = random.Random(2)
    unit = {
        "a": "a",
        "caret": "^",
        "spaces": " ",
        "newlines": "\n",
        "digits": "7",
        "emoji": "👩‍👩‍👧‍👦",
        "combining": "e" + "\u0301" * 1000,
        "spaces-then-word": " " * (n - 1) + "a",
        "word": "",
    }[name]
    if name == "word":
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=n))
    return unit * (n // len(unit.encode()))


WORST = [
    "a",
    "caret",
    "spaces",
    "newlines",
    "digits",
    "emoji",
    "combining",
    "spaces-then-word",
    "word",
]
