"""Rotary positions are written under the names of transformers before 5 too, which it reads."""

from pathlib import Path

import pytest

from llm_scratch.config import ModelConfig
from llm_scratch.interop.hf import config_of, to_config

SHAPE = {"vocab_size": 97, "context_length": 64, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
ROPE = {"rope_base": 77_000.0, "rope_scaling": "linear", "rope_factor": 4.0}
FAMILIES = {
    "llama": {},
    "qwen": {},
    "olmo": {"window": 8, "full_every": 2},
    "gemma": {"qk_norm": True, "rope_local_base": 1234.0},
}


@pytest.mark.parametrize("architecture", FAMILIES)
def test_config_without_the_newer_name_is_the_same(architecture):
    own = FAMILIES[architecture]
    cfg = ModelConfig.of({"architecture": architecture, **SHAPE, **ROPE, **own})
    written = to_config(cfg, None, None)
    assert written.pop("rope_parameters")
    assert config_of(written, Path("config.json")) == cfg
