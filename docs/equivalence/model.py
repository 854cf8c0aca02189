"""The model and its parts: rows of docs/equivalence.md."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from equivalence import (
    CONFIG,
    NotRun,
    max_difference,
    row,
    transformers_gpt2,
    transformers_nanochat,
)
from llm_scratch.config import ModelConfig
from llm_scratch.hardware.packed_matmul import can_pack
from llm_scratch.interop import hf
from llm_scratch.model import build
from llm_scratch.model.attention import MultiHeadAttention, attention_weights, decode_attention
from llm_scratch.model.chunked_loss import head_loss
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.kernel_choice import choose_kernel
from llm_scratch.model.layers import ACTIVATIONS, GELU, FeedForward, LayerNorm, gelu, layer_norm
from llm_scratch.model.lesson_models import DummyGPTModel
from llm_scratch.model.loss import next_token_loss
from llm_scratch.model.packed import PackedLinear
from llm_scratch.model.quantized import QuantizedLinear, from_int4, from_int8, to_int4, to_int8
from llm_scratch.model.quantized_kernels import rounded_inputs
from llm_scratch.model.rope import ROPE_BASE, apply_rotary, rotary_angles


@row(
    "attention",
    "model/attention.MultiHeadAttention",
    "its formula",
    "model/test_attention.py::test_fused_attention_equals_the_formula",
    1e-5,
)
def _attention() -> float:
    x, att = torch.randn(2, 7, 24), MultiHeadAttention(24, 24, 8, 0.0, 6)
    q, k, v = (
        part(x).view(2, 7, 6, 4).transpose(1, 2) for part in (att.W_query, att.W_key, att.W_value)
    )
    return max_difference(
        att(x), att.out_proj((attention_weights(q, k) @ v).transpose(1, 2).reshape(2, 7, 24))
    )


@row(
    "attention",
    "model/attention.MultiHeadAttention",
    "torch.nn.MultiheadAttention",
    "model/test_attention.py::test_attention_equals_torch_multihead_attention",
    1e-5,
)
def _attention_of_torch() -> float:
    x = torch.randn(2, 7, 24)
    att = MultiHeadAttention(24, 24, 8, 0.0, 6)
    theirs = nn.MultiheadAttention(24, 6, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(
            torch.cat([att.W_query.weight, att.W_key.weight, att.W_value.weight])
        )
        theirs.in_proj_bias.zero_()
    theirs.out_proj = att.out_proj
    return max_difference(
        att(x), theirs(x, x, x, attn_mask=torch.ones(7, 7).triu(1).bool(), need_weights=False)[0]
    )


@row(
    "layer norm",
    "model/layers.LayerNorm",
    "its formula",
    "model/test_layers.py::test_layer_norm_equals_its_formula",
    1e-5,
)
def _norm() -> float:
    x, part = 3 * torch.randn(5, 24) + 1, LayerNorm(24)
    nn.init.normal_(part.scale)
    return max_difference(part(x), layer_norm(x, part.scale, part.shift))


@row(
    "GELU",
    "model/layers.GELU",
    "transformers' NewGELUActivation",
    "model/test_layers.py::test_gelu_equals_its_formula_and_transformers",
    1e-5,
)
def _bend() -> float:
    from transformers.activations import NewGELUActivation

    return max_difference(GELU()(x := 3 * torch.randn(1000)), NewGELUActivation()(x))


@row(
    "feed-forward",
    "model/layers.FeedForward",
    "its formula",
    "model/test_layers.py::test_feed_forward_is_four_times_as_wide_with_one_activation",
    1e-5,
)
def _feed_forward() -> float:
    part, x = FeedForward({"emb_dim": 24}), torch.randn(5, 24)
    widen, _, narrow = part.layers
    return max_difference(
        part(x), gelu(x @ widen.weight.T + widen.bias) @ narrow.weight.T + narrow.bias
    )


def against_transformers_gpt2(ours: dict[str, Any], theirs_settings: dict[str, Any]) -> float:
    """How far a model's logits are from those of transformers' GPT-2, which saved the weights."""
    theirs = transformers_gpt2(**theirs_settings)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)  # type: ignore[operator]
        file, shape = Path(folder) / "model.safetensors", CONFIG | {"tie_embeddings": True} | ours
        model = hf.load_weights(ModelConfig.of(shape), [file], file, "config.json").eval()
    ids = torch.randint(0, 97, (2, 32))
    return max_difference(model(ids), theirs(ids).logits)


@row(
    "model, and its weights in",
    "model/gpt.GPTModel",
    "transformers' GPT2LMHeadModel, saved by it",
    "interop/test_hf.py::test_transformers_folder_loads_as_the_same_model",
    1e-4,
    covers="ARCHITECTURES.gpt",
)
def _model() -> float:
    return against_transformers_gpt2({}, {"activation_function": "gelu_new"})


@row(
    "exact GELU",
    "model/layers.ACTIVATIONS",
    "x times torch's normal distribution",
    "model/test_gpt_variants.py::test_exact_gelu_is_x_times_the_normal_distribution",
    1e-6,
)
def _exact_gelu() -> float:
    x = 3 * torch.randn(1000)
    return max_difference(ACTIVATIONS["gelu"]()(x), x * torch.special.ndtr(x))


@row(
    "GPT-2 with another activation, width, norm and scale",
    "architectures/gpt.GPTConfig",
    "transformers' GPT2LMHeadModel",
    "model/test_gpt_variants.py::test_variant_equals_transformers",
    1e-4,
)
def _variant() -> float:
    ours = {"activation": "gelu", "ff_dim": 40, "norm_eps": 1e-3, "scale_attention_by_layer": True}
    theirs = {
        "activation_function": "gelu",
        "n_inner": 40,
        "layer_norm_epsilon": 1e-3,
        "scale_attn_by_inverse_layer_idx": True,
    }
    return against_transformers_gpt2(ours, theirs)


@row(
    "modern model",
    "model/nanochat.NanoChatGPT",
    "transformers' NanoChatForCausalLM",
    "model/test_nanochat.py::test_nanochat_equals_transformers",
    1e-4,
    covers="ARCHITECTURES.nanochat",
)
def _modern() -> float:
    shape = {name: value for name, value in CONFIG.items() if name != "qkv_bias"}
    ours, ids = build(shape | {"architecture": "nanochat"}).eval(), torch.randint(0, 97, (2, 32))
    for parameter in ours.parameters():  # the zeros of the first weights would hide a mistake
        torch.nn.init.normal_(parameter, std=0.3)
    return max_difference(ours(ids), transformers_nanochat(ours)(ids).logits)


@row(
    "rotary positions",
    "model/rope.apply_rotary",
    "complex multiplication",
    "model/test_rope.py::test_rope_rotation_equals_a_complex_product",
    1e-5,
)
def _rotary() -> float:
    x, places = torch.randn(2, 3, 9, 8), torch.arange(9)
    turn = torch.polar(torch.ones(9, 4), places[:, None] * ROPE_BASE ** (-torch.arange(4) / 4))
    want = torch.complex(x[..., :4], x[..., 4:]) * turn
    return max_difference(
        apply_rotary(x, rotary_angles(places, 8)), torch.cat([want.real, want.imag], -1)
    )


@row(
    "attention of one new token",
    "model/attention.decode_attention",
    "torch's kernel",
    "model/test_attention.py::test_attention_of_one_new_token_by_sums_equals_the_kernel",
    1e-5,
)
def _look_back() -> float:
    q, k, v = torch.randn(2, 6, 1, 4), torch.randn(2, 6, 9, 4), torch.randn(2, 6, 9, 4)
    return max_difference(
        decode_attention(q, k, v, None), torch.nn.functional.scaled_dot_product_attention(q, k, v)
    )


@row(
    "packed matrix for generation",
    "model/packed.PackedLinear",
    "torch.nn.Linear",
    "model/test_packed.py::test_packed_weight_survives_a_round_trip_and_products_agree",
    1e-5,
)
def _packed() -> float:
    if not can_pack(torch.float32):
        raise NotRun("this processor or this torch cannot pack float32 matrices")
    plain = nn.Linear(64, 301)
    x = torch.randn(5, 64)
    return max_difference(PackedLinear(plain.weight.detach(), plain.bias.detach())(x), plain(x))


@row(
    "model without attention",
    "model/lesson_models.DummyGPTModel",
    "embeddings times head",
    "model/test_gpt.py::test_dummy_model_is_embeddings_and_head_alone",
)
def _dummy() -> float:
    ours, ids = DummyGPTModel(CONFIG).eval(), torch.randint(0, 97, (2, 11))
    return max_difference(
        ours(ids), ours.out_head(ours.tok_emb(ids) + ours.pos_emb(torch.arange(11)))
    )


@row(
    "cache",
    "model/kv_cache.KVCache",
    "the model without it",
    "model/test_gpt.py::test_cached_gpt_logits_in_any_chunks_equal_uncached",
    1e-5,
)
def _cached() -> float:
    ours, ids = GPTModel(CONFIG).eval(), torch.randint(0, 97, (2, 11))
    cache = ours.new_cache(2)
    return max_difference(
        torch.cat([ours(piece, cache) for piece in ids.split([4, 1, 1, 5], 1)], 1), ours(ids)
    )


@row(
    "size",
    "architectures/gpt.GPTConfig.n_params",
    "counted",
    "architectures/test_configs.py::test_n_params_equals_the_counted_parameters",
)
def _size() -> float:
    return abs(
        ModelConfig.of(CONFIG).n_params - sum(p.numel() for p in GPTModel(CONFIG).parameters())
    )


@row(
    "loss",
    "model/loss.next_token_loss",
    "its formula",
    "model/test_loss.py::test_cross_entropy_equals_the_formula",
    1e-5,
)
def _loss() -> float:
    logits, targets = torch.randn(2, 7, 97), torch.randint(0, 97, (2, 7))
    return max_difference(
        next_token_loss(logits, targets),
        -logits.softmax(-1).gather(-1, targets[..., None]).log().mean(),
    )


@row(
    "head and loss in one, its gradient",
    "model/chunked_loss.head_loss",
    "head, then loss, by autograd",
    "model/test_chunked_loss.py::test_chunked_loss_and_its_gradients_equal_the_plain_ones",
    1e-4,
)
def _head() -> float:
    x, weight, targets = torch.randn(2, 7, 24), torch.randn(97, 24), torch.randint(0, 97, (2, 7))
    slopes = []
    for way in (head_loss, lambda x, w, targets: next_token_loss(x @ w.T, targets, "sum")):
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        with torch.enable_grad():
            slopes.append(torch.autograd.grad(way(x, weight, targets), (x, weight)))
    return max(max_difference(a, b) for a, b in zip(*slopes))


def steps_apart(bits: int) -> float:
    """How far values are from the dequantized ones, in steps of their scale: 0.5 by rounding.

    Values beyond the 7 of 4 bits counts as 7.
    """
    weight = torch.randn(37, 96) * torch.logspace(-3, 3, 37)[:, None]
    numbers, scale = to_int8(weight) if bits == 8 else to_int4(weight)
    back = from_int8(numbers, scale) if bits == 8 else from_int4(numbers, scale)
    step = scale.float()[:, None] if bits == 8 else scale.float().repeat_interleave(32, 1)
    return (
        ((back - weight.div(step).clamp(max=127 if bits == 8 else 7) * step) / step)
        .abs()
        .max()
        .item()
    )


@row(
    "weights in 8 bits",
    "model/quantized.to_int8",
    "the weights: steps of the scale",
    "model/test_quantized.py::test_int8_is_within_half_a_step_and_symmetric",
    1.0,
)
def _int8() -> float:
    return steps_apart(8)


@row(
    "weights in 4 bits",
    "model/quantized.to_int4",
    "the weights: steps of the scale",
    "model/test_quantized.py::test_int4_is_within_half_a_step_and_symmetric",
    0.6,
)
def _int4() -> float:
    return steps_apart(4)


@row(
    "products with 8 and 4 bits",
    "model/quantized.QuantizedLinear",
    "torch with those weights and the inputs as the kernel rounds them, as a share of the sizes",
    "model/test_quantized.py::test_quantized_kernel_equals_the_formula",
    2**-8,
)
def _few_bits() -> float:
    weight, x = torch.randn(37, 96), torch.randn(5, 96)
    errors = []
    for layer in (QuantizedLinear(*to_int8(weight)), QuantizedLinear(*to_int4(weight))):
        kernel = choose_kernel(layer.bits, min(weight.shape)).kernel
        exact = F.linear(rounded_inputs(kernel, x), layer.weight)
        errors.append(((layer(x) - exact).abs() / (x.abs() @ layer.weight.abs().T)).max().item())
    return max(errors)
