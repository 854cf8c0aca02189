"""Squared ReLU, max(x, 0) squared, in place of GELU.

Source: So et al. 2021, https://arxiv.org/abs/2109.08668.
"""

from torch import Tensor, nn

from llm_scratch.config import GPTConfig
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.gpt import GPTModel


class SquaredReLU(nn.Module):
    """max(x, 0) squared."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, F] -> [B, T, F]."""
        return x.relu().square()


class SquaredReLUGPT(GPTModel):
    """A GPT with `SquaredReLU` as its activation."""

    def __init__(self, cfg):
        super().__init__(cfg)
        for block in self.trf_blocks:
            block.ff.layers[1] = SquaredReLU()


ARCHITECTURES["squared-relu"] = Architecture(GPTConfig, SquaredReLUGPT)
