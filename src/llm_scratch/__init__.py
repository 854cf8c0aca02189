"""LLM_Scratch: build, train, evaluate and inspect a GPT from scratch; lessons explain its code.

The packages follow the data: text -> tokens -> batches -> model -> loss -> checkpoint -> text.
The names below are imported on first use, so that `import llm_scratch` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "UserError": "errors",
    "ModelConfig": "architectures.base",
    "GPTConfig": "architectures.gpt",
    "DataConfig": "config",
    "TrainConfig": "config",
    "SystemConfig": "config",
    "RunConfig": "config",
    "RunInfo": "run_directory",
    "open_run": "run_directory",
    "PRESETS": "presets",
    "ARCHITECTURES": "architectures.base",
    "Architecture": "architectures.base",
    "TOKENIZERS": "tokenizers",
    "SOURCES": "data.sources",
    "OPTIMIZERS": "training.optim",
    "SCHEDULES": "training.schedule",
    "LanguageModel": "model.language_model",
    "GPTModel": "model.gpt",
    "ByteBPE": "tokenizers.bpe",
    "load": "loading",
    "load_for_inference": "loading",
    "stream": "generation.decode",
    "generate": "generation.decode",
    "GenerationConfig": "generation.config",
    "Engine": "generation.engine",
    "STRATEGIES": "generation.strategies",
    "capture": "interpretability.capture",
    "patch": "interpretability.capture",
    "train": "training.loop",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
