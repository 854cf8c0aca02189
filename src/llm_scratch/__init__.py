"""LLM_Scratch: understand, build, train and look inside a GPT; the code that a lesson explains is the code that runs.

Read the folders in order and they are one sentence: text -> tokens -> batches -> model -> loss -> checkpoint -> text.
The names below are loaded when they are first used, so that `import llm_scratch` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "UserError": "errors",
    "ModelConfig": "config",
    "DataConfig": "config",
    "TrainConfig": "config",
    "SystemConfig": "config",
    "RunConfig": "config",
    "PRESETS": "presets",
    "MODELS": "model",
    "TOKENIZERS": "tokenizers",
    "SOURCES": "data.sources",
    "OPTIMIZERS": "training.optim",
    "SCHEDULES": "training.schedule",
    "GPTModel": "model.gpt",
    "ByteBPE": "tokenizers.bpe",
    "load": "loading",
    "stream": "generation.decode",
    "generate": "generation.decode",
    "train": "training.loop",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
