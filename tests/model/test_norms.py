"""RMSNorm: equal to its formula, and to transformers' Llama and Gemma."""

import pytest
import torch
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from llm_scratch.model import norms
from llm_scratch.model.norms import RMSNorm

THEIRS = {False: LlamaRMSNorm, True: Gemma2RMSNorm}


def both(unit_offset, eps=1e-6):
    norm, theirs = RMSNorm(7, eps, unit_offset), THEIRS[unit_offset](7, eps=eps)
    with torch.no_grad():
        norm.weight.normal_()
        theirs.weight.copy_(norm.weight)
    return norm, theirs


@pytest.mark.parametrize("unit_offset", [False, True])
@pytest.mark.parametrize("eps", [1e-6, 0.3])
def test_rms_norm_equals_its_formula_and_transformers(unit_offset, eps):
    norm, theirs = both(unit_offset, eps)
    x = torch.randn(2, 5, 7)
    formula = x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * (norm.weight + unit_offset)
    torch.testing.assert_close(norm(x), formula)
    torch.testing.assert_close(norm(x), theirs(x))


@pytest.mark.parametrize("unit_offset", [False, True])
def test_new_rms_norm_has_unit_mean_square(unit_offset):
    y = RMSNorm(64, unit_offset=unit_offset)(3 * torch.randn(4, 64))
    torch.testing.assert_close(y.square().mean(-1), torch.ones(4))


def test_rms_norm_keeps_the_bfloat16_dtype():
    norm, x = RMSNorm(8), torch.randn(3, 8)
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x.bfloat16()).float(), norm(x), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("unit_offset", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)]
)
def test_new_token_by_a_layer_norm_equals_the_formula(unit_offset, dtype, tolerance, monkeypatch):
    """Also far from a mean of 0 and near one of eps."""
    used, by_layer_norm = [], norms.rms_norm_of_a_token
    monkeypatch.setattr(
        norms, "rms_norm_of_a_token", lambda *args: used.append(args) or by_layer_norm(*args)
    )
    norm, _ = both(unit_offset)
    for x in (torch.randn(3, 1, 7), 100 + torch.randn(3, 1, 7), 1e-3 * torch.randn(3, 1, 7)):
        x = x.to(dtype).float()
        formula = (
            x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (norm.weight + unit_offset)
        )
        with torch.no_grad():
            y = norm(x.to(dtype))
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), formula, rtol=tolerance, atol=tolerance)
    assert len(used) == 3
    norm(x), norm(x[:, 0])
    assert len(used) == 3, "not for gradients, nor for several tokens"
