"""Preparing a model for inference: what was chosen is returned as data."""

from __future__ import annotations

import pytest
import torch

from llm_scratch.generation import inference
from llm_scratch.generation.inference import prepare_for_inference
from llm_scratch.model import compiled
from llm_scratch.model.gpt import GPTModel

CFG = {
    "vocab_size": 61,
    "context_length": 12,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 1,
    "drop_rate": 0.0,
    "qkv_bias": True,
}


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """The steps that were taken, in order; none of them changes this process."""
    taken = []
    for module, name in (
        (inference, "pack"),
        (compiled, "compile_steps"),
        (inference, "keep_freed_memory"),
    ):
        monkeypatch.setattr(module, name, lambda *args, name=name: taken.append((name, *args[1:2])))
    return taken


@pytest.mark.parametrize(
    ("options", "kernels", "text", "taken"),
    [
        ({}, "packed", "float32 (as requested)", [("pack", False), ("keep_freed_memory",)]),
        ({"generates": False}, "plain", "float32 (for measurements)", []),
        (
            {"long_generation": True},
            "packed",
            "float32 (as requested)",
            [("pack", True), ("keep_freed_memory",)],
        ),
        (
            {"compile": True},
            "compiled",
            "float32 (as requested), compiled",
            [("compile_steps", False), ("keep_freed_memory",)],
        ),
        (
            {"compile": True, "single_sequence": False},
            "packed",
            (
                "float32 (as requested), not compiled:"
                " for several tokens at a time packed matrices are faster here"
            ),
            [("pack", False), ("keep_freed_memory",)],
        ),
    ],
)
def test_setup_prints_the_choices_with_reasons(options, kernels, text, taken, calls):
    setup = prepare_for_inference(GPTModel(CFG).eval(), "float32", **options)
    assert (setup.kernels, str(setup), setup.dtype.name) == (kernels, text, "float32")
    assert calls == taken


def test_inference_weights_have_the_chosen_dtype():
    model = GPTModel(CFG).eval()
    setup = prepare_for_inference(model, "bfloat16")
    assert setup.dtype.name == "bfloat16"
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
