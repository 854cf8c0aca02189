"""The gated feed-forward network: its formula, transformers', and without a gate its parent."""

import pytest
import torch
from torch.nn import functional as F
from transformers import Gemma2Config, LlamaConfig
from transformers.models.gemma2.modeling_gemma2 import Gemma2MLP
from transformers.models.llama.modeling_llama import LlamaMLP

from llm_scratch.model.gated_ff import GatedFeedForward

C, WIDTH = 6, 10
ACTIVATIONS = {"silu": F.silu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}
THEIRS = {
    "silu": LlamaMLP(LlamaConfig(hidden_size=C, intermediate_size=WIDTH, num_attention_heads=1)),
    "gelu_tanh": Gemma2MLP(
        Gemma2Config(hidden_size=C, intermediate_size=WIDTH, num_attention_heads=1)
    ),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gated_feed_forward_equals_its_formula_and_transformers(activation):
    ff, theirs, x = GatedFeedForward(C, WIDTH, activation), THEIRS[activation], torch.randn(2, 5, C)
    theirs.load_state_dict(ff.state_dict())
    gate = ACTIVATIONS[activation](x @ ff.gate_proj.weight.T)
    torch.testing.assert_close(ff(x), (gate * (x @ ff.up_proj.weight.T)) @ ff.down_proj.weight.T)
    torch.testing.assert_close(ff(x), theirs(x))


def test_gate_that_is_always_one_leaves_two_matrices():
    ff, x = GatedFeedForward(C, WIDTH, "relu", bias=True), torch.randn(5, C)
    with torch.no_grad():
        ff.gate_proj.weight.zero_()
        ff.gate_proj.bias.fill_(1)
    torch.testing.assert_close(ff(x), ff.down_proj(ff.up_proj(x)))
