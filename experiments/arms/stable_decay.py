"""Stay at the highest rate, then fall linearly (warm-up, stable, decay).

Source: Hu et al. 2024, https://arxiv.org/abs/2404.06395.
"""

from llm_scratch.training.schedule import SCHEDULES

DECAY_SHARE = 0.2


def stable_decay(done: float) -> float:
    """Fall over the last fifth."""
    return min(1.0, (1 - done) / DECAY_SHARE)


SCHEDULES["stable-decay"] = stable_decay
