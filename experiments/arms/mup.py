"""muP, the maximal update parametrization: one learning rate is the best at every width.

With m = width / BASE_WIDTH, and the number of heads the same at every width:
  matrices of the blocks   initial deviation / sqrt(m), learning rate / m, weight decay * m
  attention scores         divided by sqrt(m) once more, so by the size of a head, not by its root
  logits                   divided by m
Embeddings, the output matrix, norms and biases stay as they are.

Source: Yang et al. 2022, https://arxiv.org/abs/2203.03466, table 8, the column of Adam.
"""

import torch
from torch import Tensor, nn

from llm_scratch.config import GPTConfig, TrainConfig
from llm_scratch.errors import UserError
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.gpt import GPTModel
from llm_scratch.training.optim import OPTIMIZERS

BASE_WIDTH = 64
"""Width at which the model is an ordinary GPT."""


class MuGPT(GPTModel):
    """A GPT whose updates have the same size at every width."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.width_factor = self.cfg.emb_dim / BASE_WIDTH
        for block in self.trf_blocks:
            block.att.score_divisor = self.width_factor**0.5
            for matrix in (part for part in block.modules() if isinstance(part, nn.Linear)):
                matrix.weight.data /= self.width_factor**0.5

    def hidden(self, in_idx: Tensor, cache=None) -> Tensor:
        """As in `GPTModel`, divided by m, which divides the logits by m."""
        return super().hidden(in_idx, cache) / self.width_factor


def mup_adamw(model: nn.Module, cfg: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with a rate that decreases with the width for the matrices of the blocks."""
    if not isinstance(model, MuGPT):
        raise UserError("mup-adamw: needs the architecture 'mup-gpt'; set model.architecture")
    factor = model.width_factor
    inside = [p for p in model.trf_blocks.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if all(p is not q for q in inside)]
    groups = [
        {"params": inside, "lr_scale": 1 / factor, "weight_decay": cfg.weight_decay * factor},
        {"params": [p for p in others if p.ndim == 2], "weight_decay": cfg.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=cfg.betas)


ARCHITECTURES["mup-gpt"] = Architecture(GPTConfig, MuGPT)
OPTIMIZERS["mup-adamw"] = mup_adamw
