"""SwiGLU in place of the feed-forward network with GELU, at equal parameters.

Three matrices in place of two, so the hidden layer has two thirds of the width.
Source: Shazeer 2020, https://arxiv.org/abs/2002.05202.
"""

from torch import nn

from llm_scratch.config import GPTConfig
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.gated_ff import GatedFeedForward
from llm_scratch.model.gpt import GPTModel


class SwiGLUGPT(GPTModel):
    """A GPT with gated feed-forward networks, initialized as GPT-2's unless init is "torch"."""

    def __init__(self, cfg):
        super().__init__(cfg)
        C = self.cfg.emb_dim
        hidden = round(2 / 3 * (self.cfg.ff_dim or 4 * C))
        for block in self.trf_blocks:
            block.ff = GatedFeedForward(C, hidden, bias=True)
            if self.cfg.init != "torch":
                self._init(block.ff)

    def _init(self, ff):
        for matrix in (ff.gate_proj, ff.up_proj, ff.down_proj):
            nn.init.normal_(matrix.weight, std=0.02)
            nn.init.zeros_(matrix.bias)
        ff.down_proj.weight.data /= (2 * self.cfg.n_layers) ** 0.5


ARCHITECTURES["swiglu"] = Architecture(GPTConfig, SwiGLUGPT)
