"""Speed of our byte-pair encoding beside libraries written in Rust.

    python benchmarks/tokenizer.py [--rounds 5] [--quick]

Training: tiny Shakespeare to 4,096 tokens and 5 MB of the standard library's sources to 10,000.
Ours is compared with `tokenizers` (and rustbpe where it is installed). Each gets the text as one
string and as paragraphs, which `tokenizers` spreads over all cores.

Encoding: one string, by a trained vocabulary and by GPT-2's. Ours runs by tiktoken's engine (the
default) and in Python (cold: an empty cache; warm: the second time). It is compared with tiktoken,
`tokenizers`, and rustbpe, which cannot load a vocabulary and so uses one that it trained on the
same text to the same size.

Worst inputs (row T3): 1 MB each, by each contender.

Contenders run interleaved in one process. The table has medians of seconds or MB/s, ratios of
medians, and processor seconds of all threads together (on a busy machine the steadier number). The
last line is JSON. LLM_SCRATCH_DATA names the folder of the texts, TIKTOKEN_CACHE_DIR that of
GPT-2's vocabulary.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from llm_scratch.storage.download import FILES, fetch
from llm_scratch.tokenizers import TOKENIZERS, ByteBPE
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN

RUST = importlib.util.find_spec("rustbpe") is not None


def library_source(n_bytes: int) -> str:
    """The first bytes of Python's standard library, with its files sorted by name."""
    text = ""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts and "test" not in path.parts:
            text += path.read_text(encoding="utf-8", errors="replace")
            if len(text) >= n_bytes:
                break
    return text[:n_bytes]


def theirs(texts: list[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Train by the tokenizers library."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def rust_bpe(texts: list[str], vocab_size: int) -> object:
    """Train by rustbpe."""
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter(texts), vocab_size - 1, pattern=GPT2_PATTERN)
    return tokenizer


Times = dict[str, list[tuple[float, float]]]
"""contender -> (elapsed seconds, processor seconds) of each round"""


def interleaved(contenders: dict[str, Callable[[], object]], rounds: int) -> Times:
    """Time the contenders, interleaved, after one round as warm-up."""
    times: Times = {name: [] for name in contenders}
    for n in range(rounds + 1):
        for name, run in contenders.items():
            start, worked = time.perf_counter(), time.process_time()
            run()
            if n:
                times[name].append((time.perf_counter() - start, time.process_time() - worked))
    return times


def table(title: str, times: Times, base: str, n_bytes: int | None = None) -> dict[str, float]:
    """Print medians and ratios to `base`; return the ratios.

    With `n_bytes`, speeds are in MB/s, and a ratio above 1 is faster.
    """
    print(
        f"\n{title}\n{'':34} {'median' if n_bytes is None else 'MB/s':>9} {'fastest':>9}"
        f" {'slowest':>9} {'ratio':>7} {'cpu s':>7}"
    )
    medians = {
        name: statistics.median(wall for wall, _ in values) for name, values in times.items()
    }
    ratios = {}
    for name, values in times.items():
        shown = [medians[name], min(values)[0], max(values)[0]]
        cpu = statistics.median(cpu for _, cpu in values)
        ratios[name] = (
            medians[name] / medians[base] if n_bytes is None else medians[base] / medians[name]
        )
        if n_bytes is not None:
            shown = [n_bytes / 1e6 / value for value in shown]
        print(
            f"{name:34} {shown[0]:9.3f} {shown[1]:9.3f} {shown[2]:9.3f}"
            f" {ratios[name]:7.2f} {cpu:7.3f}"
        )
    return {name: round(ratio, 3) for name, ratio in ratios.items()}


def training(name: str, text: str, vocab_size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Time training; return the seconds of each contender over those of `tokenizers`."""
    ratios: dict[str, dict[str, float]] = {}
    for form, texts in {
        "one string": [text],
        "paragraphs": [part + "\n\n" for part in text.split("\n\n")],
    }.items():
        contenders: dict[str, Callable[[], object]] = {
            "ours": lambda texts=texts: ByteBPE.train(texts, vocab_size),
            "tokenizers": lambda texts=texts: theirs(texts, vocab_size),
        }
        if RUST:
            contenders["rustbpe"] = lambda texts=texts: rust_bpe(texts, vocab_size)
        title = (
            f"training, {name}, {len(text.encode()) / 1e6:.2f} MB as {form},"
            f" vocabulary {vocab_size}: seconds"
        )
        ratios[form] = table(title, interleaved(contenders, rounds), "tokenizers")
    return ratios


def encoding(
    name: str,
    ours: ByteBPE,
    text: str,
    rounds: int,
    library: tokenizers.Tokenizer,
    rust: object = None,
) -> dict[str, float]:
    """Time encoding; return the speeds over that of `tokenizers`, and our figures with a target."""
    engine = ours._engine

    def cold() -> None:
        ours.clear_cache()
        ours.encode_python(text)

    ids = ours.encode(text)
    assert ids == ours.encode_python(text) == library.encode(text).ids, "ids differ"
    contenders: dict[str, Callable[[], object]] = {
        "ours, default": lambda: ours.encode(text),
        "ours, Python, cold": cold,
        "ours, Python, warm": lambda: ours.encode_python(text),
        "tiktoken": lambda: engine.encode_ordinary(text),
        "tokenizers": lambda: library.encode(text),
    }
    if rust:
        contenders["rustbpe, its own vocabulary"] = lambda: rust.encode(text)  # type: ignore[attr-defined]
    n_bytes = len(text.encode())
    times = interleaved(contenders, rounds)
    found = table(f"encoding, {name}, {n_bytes / 1e6:.2f} MB: MB/s", times, "tokenizers", n_bytes)
    found["ours, default / tiktoken"] = round(found["ours, default"] / found["tiktoken"], 3)
    for state in ("cold", "warm"):
        walls, cpus = zip(*times[f"ours, Python, {state}"])
        found[f"MB/s Python {state}"] = round(n_bytes / 1e6 / statistics.median(walls), 2)
        found[f"MB/s Python {state}, of processor time, best"] = round(n_bytes / 1e6 / min(cpus), 2)
    return found


def worst_inputs(
    ours: ByteBPE, library: tokenizers.Tokenizer, rust: object, n: int = 1_000_000
) -> dict[str, dict[str, float | str]]:
    """Processor seconds of each contender on each worst input.

    `growth`: time of our Python path over its time for half of the input.
    """
    rng = random.Random(2)
    units = {
        "a": "a",
        "^": "^",
        "spaces": " ",
        "newlines": "\n",
        "digits": "7",
        "emoji": "👩‍👩‍👧‍👦",
        "1000 marks": "e" + "\u0301" * 1000,
    }
    inputs = {name: unit * (n // len(unit.encode())) for name, unit in units.items()}
    inputs["one word"] = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=n))
    contenders: dict[str, Callable[[str], object]] = {
        "default": ours.encode,
        "Python": ours.encode_python,
        "tiktoken": ours._engine.encode_ordinary,
        "tokenizers": library.encode,
    }
    if rust:
        contenders["rustbpe"] = rust.encode  # type: ignore[attr-defined]
    print(
        f"\nworst inputs, {n / 1e6:.1f} MB each, GPT-2's vocabulary: seconds\n{'':12}"
        + "".join(f"{name:>11}" for name in [*contenders, "growth"])
    )
    found: dict[str, dict[str, float | str]] = {}
    for name, text in inputs.items():
        assert ours.encode(text) == ours.encode_python(text), f"ids differ on {name}"
        found[name] = {
            contender: seconds(ours, encode, text) for contender, encode in contenders.items()
        }
        half = seconds(ours, ours.encode_python, text[: len(text) // 2])
        found[name]["growth"] = round(found[name]["Python"] / half, 2) if half else math.nan  # type: ignore[operator]
        print(
            f"{name:12}"
            + "".join(
                f"{value:11.3f}" if isinstance(value, float) else f"{value:>11}"
                for value in found[name].values()
            )
        )
    return found


def seconds(ours: ByteBPE, encode: Callable[[str], object], text: str) -> float | str:
    """Processor seconds, the lower of two calls.

    Text where a library fails, or takes more than a second for a twentieth of the input.
    """
    times = []
    for part in (text[: len(text) // 20], text, text):
        ours.clear_cache()
        began = time.process_time()
        try:
            encode(part)
        except BaseException as e:
            if isinstance(e, KeyboardInterrupt):
                raise
            return "fails"
        times.append(time.process_time() - began)
        if len(times) == 1 and times[0] > 1:
            return f"{times[0]:.0f} at 1/20"
    return round(min(times[1:]), 4)


def in_the_library(ours: ByteBPE) -> tokenizers.Tokenizer:
    """The same vocabulary in `tokenizers`."""
    with tempfile.TemporaryDirectory() as folder:
        ours.save(folder)
        return tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


def encoders(shakespeare: str, verdict: str, source: str, rounds: int) -> dict[str, object]:
    """Encode with a trained vocabulary and GPT-2's, and the worst inputs."""
    result: dict[str, object] = {}
    gpt2, trained = ByteBPE.from_tiktoken(TOKENIZERS["gpt2"]()), ByteBPE.train([shakespeare], 4096)
    gpt2_library, trained_library = in_the_library(gpt2), in_the_library(trained)
    mixed = shakespeare + source[: 5_000_000 - len(shakespeare)]
    rust_small = rust_bpe([shakespeare], 4096) if RUST else None
    rust_large = rust_bpe([mixed], 50257) if RUST else None
    texts = {"verdict": verdict, "shakespeare": shakespeare}
    for name, text in texts.items():
        result[f"encode {name}, trained"] = encoding(
            f"{name}, trained vocabulary", trained, text, rounds, trained_library, rust_small
        )
    for name, text in {**texts, "shakespeare and source": mixed}.items():
        result[f"encode {name}, gpt2"] = encoding(
            f"{name}, GPT-2's vocabulary", gpt2, text, rounds, gpt2_library, rust_large
        )
    result["worst, seconds"] = worst_inputs(gpt2, gpt2_library, rust_large)
    return result


def main() -> None:
    """Run everything and print the tables and the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    rounds = "rounds to measure (default: %(default)s)"
    parser.add_argument("--rounds", type=int, default=5, help=rounds)
    parser.add_argument("--quick", action="store_true", help="use 1 MB instead of 5")
    args = parser.parse_args()
    shakespeare, verdict = (
        fetch(name, *FILES[name]).read_text(encoding="utf-8")
        for name in ("tinyshakespeare.txt", "the-verdict.txt")
    )
    source = library_source(1_000_000 if args.quick else 5_000_000)
    result: dict[str, object] = {}
    for key, title, text, size in (
        ("verdict 1000", "The Verdict", verdict, 1000),
        ("shakespeare 4096", "shakespeare", shakespeare, 4096),
        ("source 10000", "Python source", source, 10_000),
    ):
        result[f"train {key}, over tokenizers"] = training(title, text, size, args.rounds)
    result |= encoders(shakespeare, verdict, source, args.rounds)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    machine = {
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }
    libraries = ("tokenizers", "tiktoken", "regex", *(["rustbpe"] if RUST else []))
    versions = {name: version(name) for name in libraries} | {"python": sys.version.split()[0]}
    report = {"commit": commit, "machine": machine, "versions": versions, "results": result}
    print("\n" + json.dumps({"benchmark": "tokenizer", **report}))


if __name__ == "__main__":
    main()
