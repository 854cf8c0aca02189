"""Import what commands and lessons need, before a process forks itself for each of them.

Importing takes several seconds. Two of them are for torch's compiler, which torch's optimizers
import at their first step, even if nothing is compiled.
"""

from __future__ import annotations

import gc
from importlib import import_module

NEEDED = """
    llm_scratch.cli.commands.train llm_scratch.hardware.device llm_scratch.cli.progress
    llm_scratch.training.loop torch._dynamo torch.distributed.fsdp torch.nn.parallel yaml
    matplotlib.pyplot matplotlib.backends.backend_agg matplotlib.backends.backend_pdf"""


def import_everything() -> None:
    """Import it, and keep the garbage collector of forked processes from copying its memory."""
    for name in NEEDED.split():
        import_module(name)
    gc.collect()
    gc.freeze()
