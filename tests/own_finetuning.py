"""A fine-tuning method as a user would write it, with the package's public API only.

A frozen model gets a small trainable part (LoRA, Hu et al. 2021, https://arxiv.org/abs/2106.09685).
Each row is a question with its answer, and only the targets of the answer count.

    python own_finetuning.py OUT STEP     # trains into OUT, and kills itself after STEP
"""

from __future__ import annotations

import os
import signal
import sys

import torch
from torch import nn

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, SystemConfig, TrainConfig
from llm_scratch.model import build
from llm_scratch.model.loss import IGNORE
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.loop import train

N_DIGITS, LENGTH = 10, 4
CONFIG = RunConfig(
    GPTConfig(
        vocab_size=N_DIGITS + 1,
        context_length=2 * LENGTH,
        emb_dim=12,
        n_heads=3,
        n_layers=2,
        drop_rate=0.2,
    ),
    DataConfig(),
    TrainConfig(
        steps=12,
        batch_size=8,
        micro_batches=2,
        lr=0.05,
        warmup_steps=2,
        eval_every=4,
        save_every=5,
        log_every=1,
        sample_every=0,
    ),
    SystemConfig(precision="float32", compile="no"),
)


class Reversal:
    """Rows `d1 d2 d3 d4 = d4 d3 d2 d1`, where targets before the answer are masked.

    The step decides the batch.
    """

    def __init__(self, seed: int, batches: int, rows: int = 8) -> None:
        self.seed = seed
        self.batches = batches
        self.rows = rows

    def __len__(self) -> int:
        return self.batches

    def batch(self, step, rank=0, world=1):
        generator = torch.Generator().manual_seed(1000 * self.seed + step % self.batches)
        digits = torch.randint(N_DIGITS, (self.rows, LENGTH), generator=generator)
        equals = torch.full((self.rows, 1), N_DIGITS)
        row = torch.cat([digits, equals, digits.flip(1)], dim=1)  # [B, 2 * LENGTH + 1]
        targets = row[:, 1:].clone()
        targets[:, :LENGTH] = IGNORE
        mine = slice(rank * self.rows // world, (rank + 1) * self.rows // world)
        return row[mine, :-1], targets[mine]


class LowRank(nn.Module):
    """A frozen linear layer, plus the product of two small trainable matrices."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def adapted_model(seed: int = 3, cfg: GPTConfig = CONFIG.model) -> nn.Module:
    """Return a frozen model with a trainable part at each query and value projection."""
    torch.manual_seed(seed)
    model = build(cfg).requires_grad_(False)
    for block in model.trf_blocks:
        block.att.W_query = LowRank(block.att.W_query)
        block.att.W_value = LowRank(block.att.W_value)
    return model


class KillAfter(Callback):
    """Kill this process after a step, as a power cut would."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, state, row):
        if state.step == self.at:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def finetune(out, callbacks=(), model=None, config=CONFIG):
    """Train, or resume."""
    return train(
        config,
        out,
        data=Reversal(1, 6),
        val=Reversal(2, 2),
        model=model or adapted_model(cfg=config.model),
        callbacks=callbacks,
    )


if __name__ == "__main__":
    finetune(sys.argv[1], [KillAfter(int(sys.argv[2]))])
