"""Attention of lesson 2, under the module name of the notebooks.

The code is in `llm_scratch`; importing this runs nothing.
"""

from llm_scratch.model.attention import MultiHeadAttention, attention_weights
from llm_scratch.model.lesson_models import (
    CausalAttention,
    MultiHeadAttentionWrapper,
    SelfAttention_v1,
    SelfAttention_v2,
    softmax_naive,
    softmax_navie,
)

__all__ = [
    "CausalAttention",
    "MultiHeadAttention",
    "MultiHeadAttentionWrapper",
    "SelfAttention_v1",
    "SelfAttention_v2",
    "attention_weights",
    "softmax_naive",
    "softmax_navie",
]
