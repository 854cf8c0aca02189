"""Initial weights: PyTorch's own, GPT-2's, or mimetic ones, with which attention can copy.

The setting `init` of a model chooses. All families share these functions, which find the parts of a
model by their classes and names.
Tests: tests/model/test_initialization.py.
Lesson: lessons/step6_run.py, section 6.5.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llm_scratch.architectures.base import Init
from llm_scratch.model.attention import MultiHeadAttention
from llm_scratch.model.grouped_attention import GroupedAttention
from llm_scratch.model.latent_attention import LatentAttention

RESIDUAL_PROJECTIONS = ("out_proj.weight", "down_proj.weight", "ff.layers.2.weight")
"""How the names of the matrices end that write to the residual stream."""


def initialize(model: nn.Module, init: Init) -> None:
    """Initialize a model whose blocks are `trf_blocks`, before its head is tied.

    Args:
        model: has PyTorch's own initial weights.
        init: "torch" keeps them; "gpt2" and "mimetic" are the functions below.
    """
    if init != "torch":
        gpt2_init(model)
    if init == "mimetic":
        mimetic_init(model)


def gpt2_init(model: nn.Module) -> None:
    """Initialize weights as GPT-2: normal(0, 0.02), biases 0, residual projections scaled down.

    Each block adds to the residual stream twice; a factor 1 / sqrt(2 layers) keeps its variance.
    Source: GPT-2, Radford et al. 2019, section 2.3.
    """
    for part in model.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
    blocks = model.get_submodule("trf_blocks")
    std = 0.02 / (2 * len(list(blocks.children()))) ** 0.5
    for name, parameter in blocks.named_parameters():
        if name.endswith(RESIDUAL_PROJECTIONS):
            nn.init.normal_(parameter, std=std)


@torch.no_grad()
def mimetic_init(model: nn.Module, share: float = 0.3) -> None:
    """Initialize attention to copy: out_proj is `share` times the inverse of the value projection.

    The value projection is a random rotation. With ordinary weights a head must learn where to
    attend and how to pass on the value at the same time. Here the second is given, and the model
    learns to recall tokens in far fewer steps. Query heads of a group pass on the same dimensions.

    A delta rule keeps its weights: its outputs are multiplied by gates whose initial signs are
    random, so no output projection turns them into a copy.
    Source: Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers",
    https://arxiv.org/abs/2305.09828, which treats queries and keys as well.
    """
    for att in model.modules():
        if isinstance(att, (MultiHeadAttention, GroupedAttention, LatentAttention)):
            heads = rotate_values(att).unflatten(0, (-1, att.head_dim))  # [G, D, C]
            heads = heads.repeat_interleave(att.num_heads // len(heads), 0)  # [H, D, C]
            att.out_proj.weight.copy_(share * heads.flatten(0, 1).mT)


def rotate_values(att: MultiHeadAttention | GroupedAttention | LatentAttention) -> Tensor:
    """Make the value projection of an attention a random rotation, and return it: [G D, C].

    Of latents, each head reads all dimensions: a head's projection is a rotation of its own.
    """
    if not isinstance(att, LatentAttention):
        return nn.init.orthogonal_(att.W_value.weight)
    nn.init.orthogonal_(att.latent_down.weight)
    for head in att.W_value.weight.split(att.head_dim):
        nn.init.orthogonal_(head)
    return att.W_value.weight @ att.latent_down.weight[: att.sizes.latent]
