"""Settings, test inputs and asynchronous timing shared by the parts of gpu.py."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from llm_scratch.config import GPTConfig, ModelConfig

Row = dict[str, Any]
"""One line of a table: a name, and values by column"""
Emit = Callable[[Row], None]
"""Reports a row at once, so that it is kept if the part is killed later"""

GPT2_CHOICES: dict[str, Any] = {"qkv_bias": True, "tie_embeddings": True, "init": "gpt2"}
GPT2 = GPTConfig(drop_rate=0.0, **GPT2_CHOICES)
TINY_SHAPE: dict[str, Any] = {"vocab_size": 257, "context_length": 32, "emb_dim": 64}
TINY = GPTConfig(n_heads=4, n_layers=2, drop_rate=0.0, **TINY_SHAPE, **GPT2_CHOICES)


@dataclass(frozen=True)
class Setup:
    """The settings of a part.

    Attributes:
        device: what to compute on.
        tiny: use sizes that take seconds on a CPU, to try the script itself.
        seconds: after which the part is killed.
        share: of its rounds to measure, if time is short.
        start: of the part, on the monotonic clock.
    """

    device: torch.device
    tiny: bool = False
    seconds: float = 60.0
    share: float = 1.0
    start: float = field(default_factory=time.monotonic)

    @property
    def model(self) -> ModelConfig:
        """The shape of GPT-2 124M without dropout, or a tiny one."""
        return TINY if self.tiny else GPT2

    def left(self) -> float:
        """Seconds until the part is killed."""
        return self.start + self.seconds - time.monotonic()

    def rounds(self, full: int) -> int:
        """How many of `full` rounds to measure; at least two, so that there is a spread."""
        return 2 if self.tiny else max(2, round(self.share * full))


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished everything that was enqueued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_call(work: Callable[[], object], n_calls: int, device: torch.device) -> float:
    """Mean seconds of `n_calls` calls that are enqueued back to back, as in training."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(n_calls):
        work()
    synchronize(device)
    return (time.perf_counter() - start) / n_calls


@contextmanager
def peak_bytes(device: torch.device) -> Iterator[list[int]]:
    """Peak memory of the tensors allocated inside the block: in the list when the block ends."""
    peak: list[int] = []
    if device.type == "cuda":
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.append(torch.cuda.max_memory_allocated(device) - before)
        return
    from llm_scratch.planning.memory_estimate import AllocationTracker

    with AllocationTracker() as held:
        yield peak
    peak.append(held.peak)


def free_cache(device: torch.device) -> None:
    """Return unused memory to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def random_ids(setup: Setup, rows: int) -> Tensor:
    """Token ids [B, T + 1], the same ones for every contender."""
    generator = torch.Generator().manual_seed(0)
    size = (rows, setup.model.context_length + 1)
    return torch.randint(0, setup.model.vocab_size, size, generator=generator).to(setup.device)


def gpt2_config(cfg: ModelConfig) -> Any:
    """The same shape as a config of transformers, without dropout."""
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=cfg.vocab_size,
        n_positions=cfg.context_length,
        n_embd=cfg.emb_dim,
        n_layer=cfg.n_layers,
        n_head=cfg.n_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return find_spec(package) is not None


def reason(error: BaseException, max_length: int = 200) -> str:
    """An error in one line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:max_length]


def rounded(value: Any, digits: int = 4) -> Any:
    """A float with four significant digits; NaN and infinity as text, which JSON lacks."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else str(value)
