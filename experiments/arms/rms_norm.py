"""RMSNorm in place of layer norm: no mean is subtracted, and no shift is added.

Source: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467.
"""

from llm_scratch.config import GPTConfig
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.norms import RMSNorm


class RMSNormGPT(GPTModel):
    """A GPT with `RMSNorm`; its other initial weights are those of the GPT."""

    def __init__(self, cfg):
        super().__init__(cfg)
        size, eps = self.cfg.emb_dim, self.cfg.norm_eps
        for block in self.trf_blocks:
            block.norm1, block.norm2 = RMSNorm(size, eps), RMSNorm(size, eps)
        self.final_norm = RMSNorm(size, eps)


ARCHITECTURES["rms-norm"] = Architecture(GPTConfig, RMSNormGPT)
