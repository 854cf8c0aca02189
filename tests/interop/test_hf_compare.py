"""When a model and its twin in transformers differ, the first part that does is named."""

import pytest
import torch
from family_checks import SIZES, Twins
from transformers import GPT2Config, LlamaConfig

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.hf_compare import check_logits, first_difference


@pytest.fixture(scope="module")
def llama():
    return Twins.of(LlamaConfig(**SIZES))


def changed(module, by):
    """Change a weight of a module until the test ends."""
    with torch.no_grad():
        module.weight.flatten()[5] += by


@pytest.mark.parametrize(
    ("part", "theirs"),
    [
        ("tok_emb", "model.embed_tokens"),
        ("trf_blocks.0.norm1", "model.layers.0.input_layernorm"),
        ("trf_blocks.0.att.W_key", "model.layers.0.self_attn.k_proj"),
        ("trf_blocks.1.att.out_proj", "model.layers.1.self_attn.o_proj"),
        ("trf_blocks.1.ff.down_proj", "model.layers.1.mlp.down_proj"),
        ("final_norm", "model.norm"),
        ("out_head", "lm_head"),
    ],
)
def test_comparison_finds_a_changed_weight(llama, part, theirs):
    ids = llama.ids()
    assert first_difference(llama.ours, llama.theirs, llama.family, ids) is None
    changed(llama.ours.get_submodule(part), 0.5)
    try:
        found = first_difference(llama.ours, llama.theirs, llama.family, ids)
        assert (found.part, found.theirs) == (part, theirs)
        assert abs(found.ours_value - found.theirs_value) > 1e-3
        with pytest.raises(UserError, match=f"the first part that differs is {part} ") as error:
            check_logits(llama.ours, llama.theirs)
        assert error.value.code == CHECKPOINT
    finally:
        changed(llama.ours.get_submodule(part), -0.5)


def test_comparison_finds_scaled_attention_at_its_output(llama):
    """A difference in a part without weights appears in the next part that has some."""
    llama.ours.trf_blocks[0].att.query_factor = 2.0
    try:
        found = first_difference(llama.ours, llama.theirs, llama.family, llama.ids())
    finally:
        llama.ours.trf_blocks[0].att.query_factor = 1.0
    assert found.part == "trf_blocks.0.att.out_proj"


def test_comparison_splits_fused_matrices_of_transformers():
    sizes = {"vocab_size": 61, "n_positions": 20, "n_embd": 24, "n_head": 3, "n_layer": 2}
    twins = Twins.of(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    assert first_difference(twins.ours, twins.theirs, twins.family, twins.ids()) is None
    changed(twins.ours.trf_blocks[1].att.W_value, 0.5)
    found = first_difference(twins.ours, twins.theirs, twins.family, twins.ids())
    assert found.theirs == "transformer.h.1.attn.c_attn"
    assert "trf_blocks.1.att.W_value" in found.part
