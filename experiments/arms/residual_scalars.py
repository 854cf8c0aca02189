"""Residual scalars: each block's input is a learned mix of the stream and of the embeddings.

The mix starts at 1 and 0, which is the plain GPT.
Source: https://github.com/KellerJordan/modded-nanogpt (`x0_lambdas`); nanochat has them too.
"""

import torch
from torch import Tensor, nn

from llm_scratch.config import GPTConfig
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.gpt import GPTModel


class ResidualScalarsGPT(GPTModel):
    """A GPT with two learned scalars before each block, initialized as the plain GPT."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.keep = nn.Parameter(torch.ones(self.cfg.n_layers))
        self.again = nn.Parameter(torch.zeros(self.cfg.n_layers))

    def hidden(self, in_idx: Tensor, cache=None) -> Tensor:
        """[B, T] -> [B, T, C], as in `GPTModel`."""
        positions = self.positions(in_idx, cache)
        x = first = self.drop_emb(self.tok_emb(in_idx) + self.pos_emb(positions))
        for layer, block in enumerate(self.trf_blocks):
            x = block(self.keep[layer] * x + self.again[layer] * first, cache)
        if cache is not None:
            cache.advance(in_idx.shape[1])
        return self.final_norm(x)


ARCHITECTURES["residual-scalars"] = Architecture(GPTConfig, ResidualScalarsGPT)
