"""The GPT model of lesson 3, under the module name of the notebooks.

The code is in `llm_scratch`; importing this runs nothing.
"""

from llm_scratch.generation.decode import (
    generate,
    generate_text_simple,
    text_to_token_ids,
    token_ids_to_text,
)
from llm_scratch.model.attention import MultiHeadAttention
from llm_scratch.model.gpt import GPTModel, TransformerBlock
from llm_scratch.model.layers import GELU, FeedForward, LayerNorm
from llm_scratch.model.lesson_models import (
    DummyGPTModel,
    DummyLayerNorm,
    DummyTransformerBlock,
    ExampleDeepNeuralNetwork,
    print_gradients,
)

__all__ = [
    "DummyGPTModel",
    "DummyLayerNorm",
    "DummyTransformerBlock",
    "ExampleDeepNeuralNetwork",
    "FeedForward",
    "GELU",
    "GPTModel",
    "LayerNorm",
    "MultiHeadAttention",
    "TransformerBlock",
    "generate",
    "generate_text_simple",
    "print_gradients",
    "text_to_token_ids",
    "token_ids_to_text",
]
