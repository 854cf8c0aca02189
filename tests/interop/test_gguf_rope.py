"""Scaled rotary positions in GGUF files of other programs, and unsupported ones."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gguf_models import FAMILIES

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gguf_family import EXTRA_PREFIX, GGUFSettings
from llm_scratch.interop.gguf_rope import DIVISORS, read_rope, rope_tensors, written_rope
from llm_scratch.model.rope import Rotary

LLAMA3 = replace(
    FAMILIES["llama"],
    context_length=131_072,
    head_dim=64,
    rope_base=500_000.0,
    rope_scaling="llama3",
    rope_factor=32.0,
    rope_trained_context=8192,
)


def settings_of(metadata, tensors=()):
    """The settings of a file in memory."""
    tensors = dict(tensors)
    metadata = {
        name if name.startswith(EXTRA_PREFIX) else f"llama.{name}": value
        for name, value in metadata.items()
    }
    file = SimpleNamespace(
        path=Path("x.gguf"), metadata=metadata, tensors=tensors, read=tensors.__getitem__
    )
    return GGUFSettings(file, "llama")


def test_llama_3_scaling_of_another_program_has_the_published_values():
    """Its divisors by the formula of llama.cpp's converter, without our settings."""
    frequencies = 500_000.0 ** -(torch.arange(0, 64, 2) / 64)
    smooth = (8192 * frequencies / (2 * torch.pi) - 1) / 3
    divisors = 1 / ((1 - smooth) / 32 + smooth)
    divisors[smooth > 1] = 1.0
    divisors[smooth < 0] = 32.0
    metadata = {"context_length": 131_072, "rope.freq_base": 500_000.0}
    read = read_rope(settings_of(metadata, {DIVISORS: divisors}), 64)
    assert replace(FAMILIES["llama"], context_length=131_072, head_dim=64, **read) == LLAMA3
    torch.testing.assert_close(divisors, rope_tensors(LLAMA3)[DIVISORS], rtol=1e-4, atol=0)


@pytest.mark.parametrize("divisors", [torch.ones(31), torch.linspace(1, 32, 32), torch.ones(0)])
def test_divisors_that_are_not_those_of_llama_3_are_refused(divisors):
    settings = settings_of({"context_length": 131_072}, {DIVISORS: divisors})
    with pytest.raises(UserError, match=r"x.gguf: rope_freqs.weight is not that of") as caught:
        read_rope(settings, 64)
    assert caught.value.code == CHECKPOINT


@pytest.mark.parametrize(
    ("name", "value"), [("yarn_ext_factor", 0.5), ("yarn_log_multiplier", 0.1)]
)
def test_gguf_yarn_settings_without_a_counterpart_are_refused(name, value):
    metadata = {"context_length": 64, "rope.scaling.type": "yarn", f"rope.scaling.{name}": value}
    with pytest.raises(UserError, match=f"{name} is '{value}'; expected"):
        read_rope(settings_of(metadata), 16)


def test_ntk_scaling_is_written_as_the_base_that_it_raises():
    cfg = replace(FAMILIES["llama"], rope_scaling="ntk", rope_factor=4.0)
    read = read_rope(settings_of(written_rope(cfg)), cfg.head_size)
    cpu = torch.device("cpu")
    own, back = Rotary.of(cfg, 16).frequencies(cpu), Rotary(16, read["rope_base"]).frequencies(cpu)
    torch.testing.assert_close(back, own)


def test_gguf_rope_keys_equal_those_of_the_gguf_package():
    gguf = pytest.importorskip("gguf", reason="has the names; install the gguf extra")
    known = {str(name).replace("{arch}.", "") for name in vars(gguf.Keys.Rope).values()}
    cfg = replace(FAMILIES["llama, YaRN"], rope_attention_factor=2.0)
    assert written_rope(cfg).keys() <= known
    assert gguf.TENSOR_NAMES[gguf.MODEL_TENSOR.ROPE_FREQS] + ".weight" == DIVISORS
