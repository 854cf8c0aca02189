"""Lenses: what a model would predict at a layer, and which parts a prediction is made of.

A block only adds to the residual stream, so the stream of any layer can be read as if it were the
last one (`logit_lens`), and a logit is the sum of what each head and each feed-forward network
added (`direct_logit_attribution`). `surprise_bits` measures how unexpected each token was.
Tests: tests/interpretability/test_lenses.py (parts sum to the logit),
tests/interop/test_transformer_lens.py.
Source: logit lens, nostalgebraist 2020, "interpreting GPT: the logit lens"; KL by layer as in
Belrose et al. 2023, https://arxiv.org/abs/2303.08112; direct logit attribution, Elhage et al. 2021,
https://transformer-circuits.pub/2021/framework/index.html.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.interpretability.capture import activation_names, capture
from llm_scratch.interpretability.linear_norm import linear_norm
from llm_scratch.model.language_model import LanguageModel
from llm_scratch.model.loss import next_token_loss


def residual_stream(model: Any, ids: Tensor) -> Tensor:
    """The residual stream before the first block and after each one: [B, T] -> [L + 1, B, T, C]."""
    with (
        torch.no_grad(),
        capture(model, "blocks.0.hook_resid_pre", "blocks.*.hook_resid_post") as acts,
    ):
        model(ids)
    return torch.stack(list(acts.values()))


def read_out(model: Any, stream: Tensor, normalize: bool = True) -> Tensor:
    """Logits of a residual stream as if it were the last layer's: [..., C] -> [..., V].

    Args:
        model: with `final_norm` and `out_head`.
        stream: [..., C].
        normalize: apply the final norm, as the model does; False: the output head alone.
    """
    with torch.no_grad():
        final = model.final_norm(stream) if normalize else stream
        return model.logits(final) if isinstance(model, LanguageModel) else model.out_head(final)


def logit_lens(model: nn.Module, ids: Tensor, normalize: bool = True) -> Tensor:
    """Logit lens: logits as if the model stopped before the first block or after each block.

    Args:
        model: a plain model in eval mode.
        ids: [B, T].
        normalize: as in `read_out`.
    Returns:
        [L + 1, B, T, V]; the last row is the model's own output if `normalize`.
    """
    return read_out(model, residual_stream(model, ids), normalize)


def kl_to_final_bits(logits: Tensor) -> Tensor:
    """How far each layer's prediction is from the last: KL(last || layer) in bits, 0 at the end.

    [L + 1, B, T, V], as from `logit_lens`, -> [L + 1, B, T].
    """
    log_p = logits[-1].float().log_softmax(-1)
    log_q = logits.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1) / math.log(2)


def surprise_bits(model: nn.Module, ids: Tensor) -> Tensor:
    """Surprise of each token but the first: -log2 of the probability that the model gave it.

    [B, T] -> [B, T - 1]. The mean is the loss in bits per token.
    """
    with torch.no_grad():
        return next_token_loss(model(ids[:, :-1]), ids[:, 1:], "none") / math.log(2)


class Attribution(NamedTuple):
    """A logit split into the parts of the model that add to it.

    Attributes:
        names: "embedding", "0.2" (head 2 of block 0), "0.mlp", "0.bias" (of its attention), ...,
            "bias" (of the final norm and the output head).
        values: [N, B, T], one row a name; their sum is the logit.
    """

    names: tuple[str, ...]
    values: Tensor


def direct_logit_attribution(model: Any, ids: Tensor, targets: Tensor) -> Attribution:
    """Direct logit attribution: how much each part of the model adds to a logit.

    The parts are heads, feed-forward networks and embeddings.

    The final norm divides by a scale that depends on the whole stream. The scale is taken as it is,
    and the rest is linear. Of a model that limits its logits (`logit_softcap`), the logit before
    the limit is split. Effects through later layers are not counted; ablation measures those
    (`patching.ablate`).

    Args:
        model: a plain model in eval mode.
        ids: [B, T].
        targets: [B, T], the token at each position whose logit is split.
    """
    first, last = "blocks.0.hook_resid_pre", f"blocks.{len(model.trf_blocks) - 1}.hook_resid_post"
    added = [
        name for name in activation_names(model) if name.endswith(("hook_result", "hook_mlp_out"))
    ]
    with torch.no_grad(), capture(model, first, *added, last) as acts:
        model(ids)
    parts = {"embedding": acts[first]}
    for layer, block in enumerate(model.trf_blocks):
        heads = acts[f"blocks.{layer}.attn.hook_result"].unbind(-2)
        parts |= {f"{layer}.{head}": result for head, result in enumerate(heads)}
        if block.att.out_proj.bias is not None:
            parts[f"{layer}.bias"] = block.att.out_proj.bias.detach().expand_as(parts["embedding"])
        if f"blocks.{layer}.hook_mlp_out" in acts:
            parts[f"{layer}.mlp"] = acts[f"blocks.{layer}.hook_mlp_out"]
    norm = linear_norm(model.final_norm, acts[last])
    direction = model.out_head.weight.detach()[targets]  # [B, T, C]
    values = [(norm.scaled(part) * direction).sum(-1) for part in parts.values()]
    bias = (norm.shift * direction).sum(-1)
    if model.out_head.bias is not None:
        bias = bias + model.out_head.bias.detach()[targets]
    return Attribution((*parts, "bias"), torch.stack([*values, bias]))
