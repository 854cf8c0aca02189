"""Load a model for a command: on its device, in its data type, with a line that describes both.

Tests: tests/cli/test_quantize.py, tests/cli/test_generate.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from llm_scratch.model import LanguageModel
    from llm_scratch.tokenizers import Tokenizer

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""values of `--dtype`; `generation.dtype.Dtype` without importing torch"""


def load_model(
    path: str | Path, device: str, dtype: Dtype = "float32", **options: Any
) -> tuple[LanguageModel, Tokenizer, str]:
    """Load a model by `loading.load_for_inference`, and announce a compilation.

    Args:
        path, device, dtype: of `--device` and `--dtype`.
        options: as in `load_for_inference`.
    Returns:
        The model, its tokenizer, and a line that describes device and data type, and why.
    """
    from llm_scratch.cli.terminal import print_note
    from llm_scratch.loading import load_for_inference

    def announce() -> None:
        print_note("Compiling the generation step takes 0.5 to 3 minutes, once per model shape.")

    loaded = load_for_inference(path, device, dtype, on_compile=announce, **options)
    return loaded.model, loaded.tokenizer, str(loaded)
