"""The exact GELU: the formula by torch.special, and everything else of the model as it was."""

import torch

from llm_scratch.model import MODELS, build
from llm_scratch.model.exact_gelu import ExactGELU, ExactGELUGPT
from llm_scratch.model.gpt import GPTModel

CFG = {
    "vocab_size": 31,
    "context_length": 8,
    "emb_dim": 12,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.0,
}


def test_the_bend_is_x_times_the_normal_distribution():
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    torch.testing.assert_close(ExactGELU()(x), x * torch.special.ndtr(x), rtol=1e-12, atol=1e-12)


def test_only_the_bend_differs():
    torch.manual_seed(1)
    plain = GPTModel(CFG)
    torch.manual_seed(1)
    exact = build(CFG | {"architecture": "gpt-exact-gelu"})
    assert MODELS["gpt-exact-gelu"] is ExactGELUGPT
    assert isinstance(exact, GPTModel)
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), exact.state_dict().values(), strict=True))
    ids = torch.arange(8)[None]
    assert not torch.equal(plain(ids), exact(ids))
    for block in plain.trf_blocks:
        block.ff.layers[1] = ExactGELU()
    assert torch.equal(plain(ids), exact(ids))
