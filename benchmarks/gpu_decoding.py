"""Part of gpu.py: the speed of generation by batch size and precision, beside transformers."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import chain

import torch
from gpu_setup import Emit, Setup, gpt2_config, is_installed, reason, synchronize
from interleaved import ratio
from torch import Tensor, nn

from llm_scratch.generation.sampling import greedy
from llm_scratch.generation.steps import steps
from llm_scratch.hardware.benchmark import read_bandwidth
from llm_scratch.model import build
from llm_scratch.model.quantized import quantize

BATCH_SIZES = (1, 8, 64)
PROMPT_TOKENS = 16
NEW_TOKENS = 128
BATCH_SECONDS = 15.0  # that must be left before another batch size is measured

Generate = Callable[[Tensor, int], tuple[float, float]]
"""(prompts [B, T], new tokens) -> seconds to the first one, seconds for the others"""
Times = dict[str, list[tuple[float, float]]]
"""What `Generate` returned in each round, by contender"""


def decoding(setup: Setup, emit: Emit) -> None:
    """Greedy generation with random weights of the 124M shape and a key/value cache.

    Contenders alternate. Tokens/s exclude the first token. At batch size 1, `of_bandwidth` is the
    share of the read bandwidth at which the weights are read, each one once per token.
    """
    bandwidth = read_bandwidth(setup.device, 0.05 if setup.tiny else 0.3)
    emit({"name": "read bandwidth", "gb_per_second": bandwidth / 1e9})
    generators, weights = contenders(setup, emit)
    n_others = n_new_tokens(setup) - 1
    for batch in BATCH_SIZES:
        if not setup.tiny and setup.left() < BATCH_SECONDS:
            emit({"name": f"batch {batch}", "skipped": f"{setup.left():.0f} s are left"})
            continue
        times = measure(setup, batch, generators, emit)
        for name, pairs in times.items():
            first, others = (statistics.median(column) for column in zip(*pairs))
            row = {"name": name, "batch": batch, "tokens_per_second": batch * n_others / others}
            row["first_token_seconds"] = first
            if batch == 1 and name in weights:
                row["of_bandwidth"] = weights[name] * n_others / others / bandwidth
            emit(row)
        for kind in ("float32", "bfloat16"):
            slow, fast = (times.get(f"{who}, {kind}") for who in ("transformers", "ours"))
            if slow and fast:
                middle, spread = ratio([pair[1] for pair in slow], [pair[1] for pair in fast])
                row = {"name": f"ours / transformers, {kind}", "batch": batch}
                emit(row | {"speed_ratio": middle, "lowest": spread[0], "highest": spread[1]})


def n_new_tokens(setup: Setup) -> int:
    """Number of tokens to generate per call."""
    return 6 if setup.tiny else NEW_TOKENS


def contenders(setup: Setup, emit: Emit) -> tuple[dict[str, Generate], dict[str, int]]:
    """The contenders by name; of ours the bytes of weights that a token reads."""
    torch.manual_seed(0)
    with torch.device(setup.device):
        model = build(setup.model).eval()
    conversions: dict[str, Callable[[nn.Module], nn.Module]] = {
        "float32": lambda model: model,
        "bfloat16": lambda model: model.bfloat16(),
        "8 bits": lambda model: quantize(model, 8),
    }
    generators: dict[str, Generate] = {}
    weights: dict[str, int] = {}
    for kind, convert in conversions.items():
        name = f"ours, {kind}"
        try:
            converted = convert(copy.deepcopy(model))
        except Exception as error:  # the others are measured nevertheless
            emit({"name": name, "failed": reason(error)})
            continue
        generators[name] = partial(generate_ours, converted)
        weights[name] = bytes_per_token(converted)
    if not is_installed("transformers"):
        emit({"name": "transformers", "skipped": "not installed: transformers"})
        return generators, weights
    for dtype in (torch.float32, torch.bfloat16):
        name = f"transformers, {str(dtype).removeprefix('torch.')}"
        generators[name] = partial(generate_theirs, transformers_model(setup).to(dtype))
    return generators, weights


def bytes_per_token(model: nn.Module) -> int:
    """Bytes of the weights that are read for a token: all but the table of positions."""
    weights = chain(model.parameters(), model.buffers())
    sizes = {tensor.data_ptr(): tensor.nbytes for tensor in weights}  # a tied head once
    return sum(sizes.values()) - model.pos_emb.weight.nbytes  # type: ignore[union-attr, operator]


def transformers_model(setup: Setup) -> nn.Module:
    """transformers' GPT-2 of the same shape."""
    from transformers import GPT2LMHeadModel

    return GPT2LMHeadModel(gpt2_config(setup.model)).to(setup.device).eval()


@torch.inference_mode()
def generate_ours(model: nn.Module, ids: Tensor, n_new: int) -> tuple[float, float]:
    """Our loop, as `Generate`."""
    synchronize(ids.device)
    start = time.perf_counter()
    tokens = steps(model, ids, lambda logits, _: greedy(logits))
    next(tokens)
    synchronize(ids.device)
    first = time.perf_counter()
    for _ in range(n_new - 1):
        next(tokens)
    synchronize(ids.device)
    return first - start, time.perf_counter() - first


@torch.inference_mode()
def generate_theirs(model: nn.Module, ids: Tensor, n_new: int) -> tuple[float, float]:
    """transformers' generate, as `Generate`; one call for the first token, one for all."""
    mask = torch.ones_like(ids)
    options = {"do_sample": False, "pad_token_id": 0, "disable_compile": True}

    def seconds(n: int) -> float:
        synchronize(ids.device)
        start = time.perf_counter()
        length = {"max_new_tokens": n, "min_new_tokens": n}
        model.generate(ids, attention_mask=mask, **length, **options)  # type: ignore[operator]
        synchronize(ids.device)
        return time.perf_counter() - start

    first = seconds(1)
    return first, max(seconds(n_new) - first, 1e-9)


def measure(setup: Setup, batch: int, generators: dict[str, Generate], emit: Emit) -> Times:
    """Time the contenders, interleaved. One that fails is reported and left out."""
    generator = torch.Generator().manual_seed(1)
    size = (batch, PROMPT_TOKENS)
    ids = torch.randint(0, setup.model.vocab_size, size, generator=generator).to(setup.device)
    times: Times = {name: [] for name in generators}
    for turn in range(setup.rounds(4) + 1):
        for name in list(times):
            try:
                pair = generators[name](ids, n_new_tokens(setup) if turn else 4)
            except Exception as error:
                emit({"name": name, "batch": batch, "failed": reason(error)})
                del times[name]
                continue
            if turn:  # the first round is a warm-up
                times[name].append(pair)
    return times
