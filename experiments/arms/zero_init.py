"""Zero-init: the last matrix of attention and feed-forward starts at 0.

Source: Zhang et al. 2019, https://arxiv.org/abs/1901.09321.
"""

from torch import nn

from llm_scratch.config import GPTConfig
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.gpt import GPTModel


class ZeroInitGPT(GPTModel):
    """A GPT whose blocks add nothing before training."""

    def __init__(self, cfg):
        super().__init__(cfg)
        for block in self.trf_blocks:
            nn.init.zeros_(block.att.out_proj.weight)
            nn.init.zeros_(block.ff.layers[2].weight)


ARCHITECTURES["zero-init"] = Architecture(GPTConfig, ZeroInitGPT)
