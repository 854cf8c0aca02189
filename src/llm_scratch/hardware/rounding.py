"""Fingerprint of this machine's rounding: libraries choose kernels by processor.

Tests: tests/hardware/test_rounding.py.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch.nn import functional as F

from llm_scratch.hardware.thread_timer import one_thread

SIZES = (48, 200)  # rows and columns: below and above what libraries treat as a small product


@lru_cache
def rounding_fingerprint(device: torch.device, matmul_backend: str) -> str:
    """Eight hex digits of products, sums and GELU here; other digits mean other rounding.

    Equal digits are not a proof, as a kernel for other shapes may still differ. Takes about 1 ms,
    once for each pair of arguments.

    Args:
        device: what to compute on.
        matmul_backend: the library in use on a CPU, as `use_matmul_backend` returned it.
    """
    generator = torch.Generator().manual_seed(0)
    digest = hashlib.sha256()
    with one_thread(), torch.no_grad():
        for n in SIZES:
            x = torch.randn(n, n, generator=generator).to(device)
            y = F.gelu(F.layer_norm(x @ x.T, (n,)), approximate="tanh")
            digest.update((y.softmax(-1) @ x).cpu().numpy().tobytes())
    return digest.hexdigest()[:8]
