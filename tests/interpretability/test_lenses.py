"""Lenses equal the formulas, parts of a logit sum to it, and surprise is the loss."""

import pytest
import torch
from torch import nn

from llm_scratch.errors import UserError
from llm_scratch.interpretability.lenses import (
    direct_logit_attribution,
    kl_to_final_bits,
    logit_lens,
    residual_stream,
    surprise_bits,
)
from llm_scratch.interpretability.linear_norm import linear_norm
from llm_scratch.interpretability.patching import ablate, head
from llm_scratch.model.layers import LayerNorm, layer_norm
from llm_scratch.model.nanochat import rms_norm


@torch.inference_mode()
def test_logit_lens_ends_with_the_models_output(model, ids):
    lens = logit_lens(model, ids)
    assert lens.shape == (3, 2, 7, 19)
    assert torch.equal(lens[-1], model(ids))
    stream = residual_stream(model, ids)
    assert torch.equal(lens[1], model.out_head(model.final_norm(stream[1])))
    assert torch.equal(logit_lens(model, ids, normalize=False)[0], model.out_head(stream[0]))


@torch.inference_mode()
def test_logit_lens_of_a_layer_is_a_model_without_the_blocks_after_it(gpt, ids):
    lens = logit_lens(gpt, ids)
    gpt.trf_blocks = gpt.trf_blocks[:1]
    torch.testing.assert_close(lens[1], gpt(ids))
    x = gpt.tok_emb(ids) + gpt.pos_emb.weight[:7]
    torch.testing.assert_close(
        lens[0], layer_norm(x, gpt.final_norm.scale, gpt.final_norm.shift) @ gpt.out_head.weight.T
    )


def test_kl_is_torchs_in_bits_and_zero_at_the_end(gpt, ids):
    lens = logit_lens(gpt, ids)
    kl = kl_to_final_bits(lens)
    p, q = lens[-1].log_softmax(-1), lens[0].log_softmax(-1)
    expected = (
        nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
        / torch.tensor(2.0).log()
    )
    torch.testing.assert_close(kl[0], expected)
    assert not kl[-1].any()
    assert (kl[:-1] > 0).all()


def test_surprise_is_the_loss_in_bits(model, ids):
    bits = surprise_bits(model, ids)
    probabilities = model(ids).softmax(-1)
    for row, position in ((0, 1), (1, 6)):
        torch.testing.assert_close(
            2 ** -bits[row, position - 1], probabilities[row, position - 1, ids[row, position]]
        )


def test_attributions_sum_to_the_logit(model, ids):
    targets = ids.roll(-1, 1)
    attribution = direct_logit_attribution(model, ids, targets)
    logits = model(ids).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(attribution.values.sum(0), logits, rtol=0, atol=1e-4)
    assert {"embedding", "0.0", "1.2", "0.mlp", "1.mlp", "bias"} <= set(attribution.names)
    assert len(attribution.names) == len(attribution.values)


def test_attribution_of_a_last_head_is_its_ablation_at_a_fixed_scale(gpt, ids):
    """Without a head of the last block, only the input of the final norm lacks its part."""
    nn.init.zeros_(gpt.trf_blocks[1].ff.layers[-1].weight)  # nothing reads the head but the output
    attribution = direct_logit_attribution(gpt, ids, ids)
    before = residual_stream(gpt, ids)[-1]
    with ablate(gpt, head(1, 2)):
        after = residual_stream(gpt, ids)[-1]
    centered = (before - after) - (before - after).mean(-1, keepdim=True)
    normalized = (
        centered
        / (before.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        * gpt.final_norm.scale
    )
    expected = (normalized * gpt.out_head.weight[ids]).sum(-1)
    torch.testing.assert_close(
        attribution.values[attribution.names.index("1.2")], expected, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    "norm",
    [LayerNorm(9), nn.RMSNorm(9), rms_norm, nn.LayerNorm(9), lambda x: x],
    ids=["ours", "RMSNorm", "rms_norm", "LayerNorm", "identity"],
)
def test_norm_is_found_as_a_linear_map(norm):
    torch.manual_seed(0)
    for weight in norm.parameters() if isinstance(norm, nn.Module) else ():
        nn.init.normal_(weight)
    x, y = torch.randn(2, 4, 9), torch.randn(2, 4, 9)
    linear = linear_norm(norm, x)
    torch.testing.assert_close(linear.scaled(x) + linear.shift, norm(x))
    torch.testing.assert_close(linear.scaled(x - 2 * y), linear.scaled(x) - 2 * linear.scaled(y))


def test_other_norms_are_refused():
    with pytest.raises(UserError, match="not a scaled projection"):
        linear_norm(torch.tanh, torch.randn(3, 8))
