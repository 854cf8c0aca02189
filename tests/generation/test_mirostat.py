"""Mirostat: the algorithm written out for one row, the target surprise, errors."""

from __future__ import annotations

from math import log2

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.generation.mirostat import Mirostat
from llm_scratch.generation.sampling import sample
from llm_scratch.generation.steps import build_sampler

V = 500


def zipf(sharpness):
    """Logits of a vocabulary whose i-th token has a probability proportional to 1 / i^sharpness."""
    return -sharpness * torch.arange(1, V + 1).float().log()[None]


def test_mirostat_bound_follows_the_paper():
    """Algorithm 2 starts with mu = 2 tau and keeps tokens whose surprise is at most mu.

    Then mu -= eta (surprise - tau). The most likely token is always kept.
    """
    steer, mu, ids = Mirostat(3.0, 0.5), 6.0, torch.tensor([[0]])
    for number, token in enumerate([3, 0, 40, 7]):
        logits = torch.randn(1, V, generator=torch.Generator().manual_seed(number)) * 2
        surprise = [-log2(p) for p in logits[0].softmax(-1).tolist()]
        kept = steer(logits, ids).isfinite()[0].tolist()
        assert [i for i in range(V) if kept[i]] == [
            i for i in range(V) if surprise[i] <= max(mu, min(surprise))
        ]
        mu -= 0.5 * (surprise[token] - 3.0)
        ids = torch.cat([ids, torch.tensor([[token]])], 1)


@pytest.mark.parametrize("target", [3.0, 4.0])
@pytest.mark.parametrize("sharpness", [1.0, 1.3])
def test_mirostat_mean_surprise_equals_the_target(target, sharpness):
    """Two distributions, one flatter than the other, give the same number of bits."""
    logits, generator = zipf(sharpness).expand(20, V), torch.Generator().manual_seed(1)
    steer, ids, surprise = Mirostat(target), torch.zeros(20, 1, dtype=torch.long), []
    for _ in range(400):
        new = sample(steer(logits, ids), generator)
        surprise.append(-logits.log_softmax(-1).gather(1, new) / torch.tensor(2.0).log())
        ids = torch.cat([ids, new], 1)
    assert torch.cat(surprise[100:], 1).mean().item() == pytest.approx(target, abs=0.1)


def test_mirostat_always_keeps_the_most_likely_token():
    steer = Mirostat(0.01)
    assert steer(
        torch.zeros(1, 8).index_fill(1, torch.tensor([5]), 0.1), torch.tensor([[0]])
    ).isfinite().nonzero().tolist() == [[0, 5]]


def test_mirostat_rejects_invalid_arguments():
    for wrong in ({"target": 0}, {"target": 1.0, "rate": -1}):
        with pytest.raises(UserError, match="is out of range; give 1e-12 to 1000"):
            Mirostat(**wrong)
    with pytest.raises(UserError, match="temperature=0"):
        build_sampler(mirostat=5.0, temperature=0)
