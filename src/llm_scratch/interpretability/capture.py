"""Capture and change activations by name: `with capture(model, "blocks.*.hook_mlp_out") as acts`.

An activation is a tensor that a model computes on its way from tokens to logits. Names are
TransformerLens's; `activation_names(model)` lists them. C is the residual stream, which every block
reads and adds to:

    hook_embed, hook_pos_embed            token and position embeddings, [B, T, C] and [T, C]
    blocks.0.hook_resid_pre               residual stream before block 0, [B, T, C]
    blocks.0.ln1.hook_normalized          what attention reads, after the norm's scale and shift (in
                                          TransformerLens 4: ln1.hook_out), [B, T, C]
    blocks.0.attn.hook_q, _k, _v          queries, keys, values, [B, T, H, D]; where query heads
                                          share keys and values, these have G heads
    blocks.0.attn.hook_rot_q, _rot_k      queries and keys of the product, after rotary positions,
                                          [B, T, H, D] and [B, S, H, D], or [B, S, G, D]
    blocks.0.attn.hook_attn_scores        q k^T / sqrt(D), -inf for later positions, [B, H, T, S]
    blocks.0.attn.hook_pattern            attention weights, rows sum to 1, [B, H, T, S]
    blocks.0.attn.hook_z                  values mixed by the weights, [B, T, H, D]
    blocks.0.attn.hook_result             what each head adds to the stream, [B, T, H, C]
    blocks.0.hook_attn_out                what attention adds: the heads and a bias, [B, T, C]
    blocks.0.hook_resid_mid               hook_resid_pre + hook_attn_out, [B, T, C]
    blocks.0.ln2.hook_normalized          what the feed-forward network reads, [B, T, C]
    blocks.0.mlp.hook_pre, _post          its hidden layer around the activation, [B, T, F]
    blocks.0.mlp.hook_router_logits       of a mixture of experts, instead: the router's logit of
                                          every expert, [B, T, experts]
    blocks.0.hook_mlp_out                 what it adds, [B, T, C]
    blocks.0.hook_resid_post              residual stream after block 0, [B, T, C]
    ln_final.hook_normalized              what the output head reads, [B, T, C]

Any model works whose modules have the package's names: `tok_emb`, `trf_blocks`, `out_head` (for
`lenses`, `final_norm` too), and in a block `att` (`W_query`, `W_key`, `W_value`, `out_proj`,
`dropout`) and `ff`; where a norm follows a part, `post_norm1` and `post_norm2`. Activations are
read by PyTorch's forward hooks, so one that is not captured costs nothing. The steps inside
attention, from `rot_q` to `pattern`, exist only in the written-out formula, which is used while one
of them is captured. It is what runs anyway for whole texts of up to 512 tokens on a CPU, so the
logits are the same to the bit there; elsewhere they differ in the last bits. The hooks are on the
model itself: while it is captured or patched, use it in one thread.
Tests: tests/interpretability/test_capture.py (equal to transformers' attentions and hidden states),
tests/interop/test_transformer_lens.py (every activation equals TransformerLens's).
Source: names as in TransformerLens, Nanda and Bloom 2022,
https://transformerlensorg.github.io/TransformerLens/.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.errors import UserError, unknown
from llm_scratch.interpretability.linear_norm import linear_norm
from llm_scratch.model.fusable import Fusable
from llm_scratch.model.mixture import MixtureOfExperts
from llm_scratch.model.packed import PackedLinear
from llm_scratch.model.quantized import QuantizedLinear

Edit = Callable[[Tensor], Tensor]
"""an activation -> what the model continues with"""
Attach = Callable[[Edit], Callable[[], None]]
"""let a function see an activation at every forward pass -> a function that ends it"""


class Point(NamedTuple):
    """A place in a model where an activation can be seen, and changed if it is `editable`."""

    attach: Attach
    editable: bool = True


@contextmanager
def capture(model: nn.Module, *patterns: str) -> Iterator[dict[str, Tensor]]:
    """Store activations of the forward passes inside the block: name -> tensor.

    A later pass replaces the tensors of an earlier one. Tensors keep their gradient history; run
    the model under `torch.inference_mode()` if none is needed.

    Args:
        model: a plain model, in eval mode unless dropout is to be seen.
        patterns: names, with `*` for any characters; none: all of them.
    Raises:
        UserError: a pattern matches nothing, or the model is packed, compiled or quantized.

    Example:
        with capture(model, "blocks.*.attn.hook_pattern") as acts:
            model(ids)
        acts["blocks.0.attn.hook_pattern"]  # [B, H, T, T]
    """
    all_points = points(model)
    stored: dict[str, Tensor] = {}

    def store(name: str) -> Edit:
        def keep(x: Tensor) -> Tensor:
            stored[name] = x
            return x

        return keep

    with ExitStack() as stack:
        for name in match_names(list(all_points), patterns or ("*",)):
            stack.callback(all_points[name].attach(store(name)))
        yield stored


@contextmanager
def patch(model: nn.Module, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Change activations in the forward passes inside the block.

    Each function takes the tensor that the model computed and returns the one to continue with, of
    the same shape. A `capture` inside the block sees the changed tensors.

    Args:
        model: as for `capture`.
        edits: name or pattern -> function.
    Raises:
        UserError: as `capture`, or an activation is a sum of others and cannot be changed.

    Example:
        head = torch.tensor([3])
        with patch(model, {"blocks.1.attn.hook_z": lambda z: z.index_fill(2, head, 0)}):
            model(ids)  # without head 3 of block 1
    """
    all_points = points(model)
    with ExitStack() as stack:
        for pattern, edit in edits.items():
            for name in match_names(list(all_points), [pattern]):
                if not all_points[name].editable:
                    raise UserError(
                        f"{name}: computed from other activations, so it cannot be changed;"
                        " change one of those"
                    )
                stack.callback(all_points[name].attach(edit))
        yield


def activation_names(model: nn.Module) -> list[str]:
    """The names of all activations that `capture` can store, in the order of computation."""
    return list(points(model))


def match_names(names: list[str], patterns: Sequence[str]) -> list[str]:
    """The names that match any of the patterns, in their order.

    Raises:
        UserError: a pattern matches nothing; suggests the nearest name.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise unknown("activation", pattern, names)
    return [
        name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]


def check_plain(model: nn.Module) -> None:
    """Check that a model runs module by module, so that its activations can be seen.

    Raises:
        UserError: it is packed, compiled or quantized.
    """
    parts = list(model.modules())
    kind = None
    if any(isinstance(part, QuantizedLinear) for part in parts):
        kind, plain = "quantized", "use the run that it was made from"
    elif "hidden" in vars(model) or hasattr(model, "_orig_mod"):
        kind, plain = "compiled", "use the model as `load` returns it"
    elif any(
        isinstance(part, PackedLinear) or (isinstance(part, Fusable) and part.fused is not None)
        for part in parts
    ):
        kind, plain = "packed", "use the model as `load` returns it"
    if kind:
        raise UserError(f"activations of a {kind} model cannot be captured; {plain}")


def points(model: Any) -> dict[str, Point]:
    """Every activation of a model: name -> where it is seen.

    Raises:
        UserError: the model is not plain, or has no transformer blocks by the package's names.
    """
    check_plain(model)
    if not hasattr(model, "trf_blocks") or not all(
        hasattr(block, "att") for block in model.trf_blocks
    ):
        raise UserError(
            "activations cannot be captured: the model has no `trf_blocks` with `att` in each;"
            " name its modules so"
        )
    named = {"hook_embed": _output(model.tok_emb)}
    if hasattr(model, "pos_emb"):
        named["hook_pos_embed"] = _output(model.pos_emb)
    for i, block in enumerate(model.trf_blocks):
        named |= {f"blocks.{i}.{name}": point for name, point in _block_points(block).items()}
    return named | {"ln_final.hook_normalized": _input(model.out_head)}


def _block_points(block: Any) -> dict[str, Point]:
    """The activations of a block, in the order of computation."""
    att = block.att
    named = {"hook_resid_pre": _input(block), "ln1.hook_normalized": _input(att)}
    for letter, (name, size) in _projections(att).items():
        named[f"attn.hook_{letter}"] = _output(getattr(att, name), size)
    dropout = getattr(att, "dropout", None)
    if hasattr(dropout, "observers"):
        named |= {
            f"attn.hook_{step}": _step(dropout, step)
            for step in ("rot_q", "rot_k", "attn_scores", "pattern")
        }
    named |= {
        "attn.hook_z": _input(att.out_proj, att.head_dim),
        "attn.hook_result": _per_head(att, getattr(block, "post_norm1", None)),
        "hook_attn_out": _output(_attention_output(block)),
        "hook_resid_mid": _after_attention(block),
    }
    return named | _feed_forward_points(block) | {"hook_resid_post": _output(block)}


def _projections(att: Any) -> dict[str, tuple[str, int]]:
    """q, k and v -> the module that computes them, and the size of a head.

    An attention whose names or sizes differ says so in its attribute `projections`.
    """
    usual = {letter: (f"W_{name}", att.head_dim) for letter, name in LETTERS.items()}
    return getattr(att, "projections", usual)


LETTERS = {"q": "query", "k": "key", "v": "value"}


def _feed_forward_points(block: nn.Module) -> dict[str, Point]:
    """The activations of a block's feed-forward network; none for a block of attention alone.

    The network is the module `ff`, or the linear layers of the block itself. The first linear layer
    widens (of a gated network it is the gate), the last one narrows. A mixture of experts has no
    hidden layer that all tokens share, and a router.
    """
    ff = getattr(block, "ff", None)
    if isinstance(ff, MixtureOfExperts):
        return {
            "ln2.hook_normalized": _input(ff),
            "mlp.hook_router_logits": _output(ff.router.linear),
            "hook_mlp_out": _output(getattr(block, "post_norm2", ff)),
        }
    linears = [
        part
        for part in (block.children() if ff is None else ff.modules())
        if isinstance(part, nn.Linear)
    ]
    if not linears:
        return {}
    widen, narrow = linears[0], linears[-1]
    return {
        "ln2.hook_normalized": _input(ff or widen),
        "mlp.hook_pre": _output(widen),
        "mlp.hook_post": _input(narrow),
        "hook_mlp_out": _output(getattr(block, "post_norm2", ff or narrow)),
    }


def _split(x: Tensor, head_dim: int) -> Tensor:
    """[B, T, H x D] -> [B, T, H, D]; with a head size of 0, unchanged."""
    return x.unflatten(-1, (-1, head_dim)) if head_dim else x


def _output(module: nn.Module, head_dim: int = 0) -> Point:
    """The output of a module, split into heads if `head_dim` is not 0."""

    def attach(edit: Edit) -> Callable[[], None]:
        def after(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return edit(_split(output, head_dim)).reshape(output.shape)

        return module.register_forward_hook(after).remove

    return Point(attach)


def _input(module: nn.Module, head_dim: int = 0) -> Point:
    """The first argument of a module, split into heads if `head_dim` is not 0."""

    def attach(edit: Edit) -> Callable[[], None]:
        def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return edit(_split(args[0], head_dim)).reshape(args[0].shape), *args[1:]

        return module.register_forward_pre_hook(before).remove

    return Point(attach)


def _step(dropout: Any, step: str) -> Point:
    """A step inside attention, see `attention.observed_attention`."""
    heads_first = step.startswith("rot_")

    def attach(edit: Edit) -> Callable[[], None]:
        def observer(name: str, x: Tensor) -> Tensor:
            if name != step:
                return x
            return edit(x.transpose(1, 2)).transpose(1, 2) if heads_first else edit(x)

        def detach() -> None:
            dropout.observers = tuple(other for other in dropout.observers if other is not observer)

        dropout.observers = (*dropout.observers, observer)
        return detach

    return Point(attach)


def _attention_output(block: Any) -> nn.Module:
    """The module whose output is what attention adds: a norm after it, or attention itself."""
    return getattr(block, "post_norm1", block.att)


def _per_head(att: Any, norm: nn.Module | None) -> Point:
    """What each head adds to the residual stream: its part of z times its output columns.

    It is scaled as a norm after it scales the sum.
    """

    def attach(edit: Edit) -> Callable[[], None]:
        def after(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
            z = _split(args[0], att.head_dim)
            heads = torch.einsum("...hd,chd->...hc", z, _split(module.weight, att.head_dim))
            if norm is not None and not isinstance(norm, nn.Identity):
                plain = norm.forward  # without the hooks of other captures
                heads = linear_norm(plain, output[..., None, :]).scaled(heads)
            edit(heads)

        return att.out_proj.register_forward_hook(after).remove

    return Point(attach, editable=False)


def _after_attention(block: Any) -> Point:
    """The residual stream after attention; in eval mode, exactly the block's own sum."""

    def attach(edit: Edit) -> Callable[[], None]:
        stream: list[Tensor] = []

        def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
            stream[:] = args[:1]

        def attended(module: nn.Module, args: Any, output: Tensor) -> None:
            edit(stream.pop() + output)

        handles = [
            block.register_forward_pre_hook(enter),
            _attention_output(block).register_forward_hook(attended),
        ]

        def detach() -> None:
            for handle in handles:
                handle.remove()

        return detach

    return Point(attach, editable=False)
