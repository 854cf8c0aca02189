"""Jacobian lens: what a layer's residual stream leads to in the end, on average over texts.

The logit lens reads an early layer as if it spoke the last layer's language. The Jacobian lens
translates first: for each layer, the matrix J is the mean derivative of the final residual stream
by that layer's, [C, C], and the readout is softmax(head(norm(J h))). J = identity is the logit
lens. A change of a token's stream reaches later tokens too, through attention; those effects are
summed.
Tests: tests/interpretability/test_jacobian_lens.py (equal to finite differences),
tests/interop/test_transformer_lens.py (equal to TransformerLens's).
Source: Gurnee et al. 2026, "Verbalizable Representations Form a Global Workspace in Language
Models", https://transformer-circuits.pub/2026/workspace/index.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from llm_scratch.errors import DATA, UserError
from llm_scratch.interpretability.capture import capture, patch
from llm_scratch.interpretability.lenses import read_out, residual_stream
from llm_scratch.model.introspection import device_of

SKIPPED_POSITIONS = 16
"""First positions of a text that are left out: attention has little to read there."""


@dataclass(frozen=True)
class JacobianLens:
    """A fitted Jacobian lens.

    Attributes:
        jacobians: [L + 1, C, C], before the first block and after each block; the last one is the
            identity.
        n_positions: tokens that the mean was taken over.
    """

    jacobians: Tensor
    n_positions: int

    def __call__(self, model: nn.Module, ids: Tensor) -> Tensor:
        """Logits of every layer through the lens: [B, T] -> [L + 1, B, T, V]."""
        stream = residual_stream(model, ids)  # [L + 1, B, T, C]
        return read_out(model, torch.einsum("lij,lbtj->lbti", self.jacobians.to(stream), stream))


def fit_jacobian_lens(
    model: Any, texts: Iterable[Sequence[int]], skip: int = SKIPPED_POSITIONS, batch_size: int = 16
) -> JacobianLens:
    """Fit a Jacobian lens: the mean of d(final stream) / d(layer's stream) over texts.

    J = mean over positions t of the sum over t' >= t of d final[t'] / d layer[t]. The last position
    of a text, which predicts nothing, is left out too. A batch of texts takes C backward passes.

    Args:
        model: a plain model in eval mode.
        texts: token ids of each text; those with fewer than `skip` + 2 are left out. A few dozen of
            the kind that the model was trained on are enough.
        skip: first positions to leave out.
        batch_size: texts at once.
    Raises:
        UserError: no text is long enough.
    """
    rows = [torch.as_tensor(text) for text in texts if len(text) >= skip + 2]
    if not rows:
        raise UserError(
            f"Jacobian lens: no text has {skip + 2} tokens; give longer texts, or a smaller skip",
            DATA,
        )
    total: Any = 0.0
    for start in range(0, len(rows), batch_size):
        total = total + _summed_jacobians(model, rows[start : start + batch_size], skip)
    n_positions = sum(len(row) - 1 - skip for row in rows)
    return JacobianLens(total / n_positions, n_positions)


def _summed_jacobians(model: Any, rows: list[Tensor], skip: int) -> Tensor:
    """The sum over the valid positions of some texts, [L + 1, C, C]; see `fit_jacobian_lens`."""
    # no token sees the padding after it
    ids = pad_sequence(rows, batch_first=True).to(device_of(model))  # [B, T]
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)
    position = torch.arange(ids.shape[1], device=ids.device)
    valid = (position >= skip) & (position < lengths[:, None] - 1)  # [B, T]

    def begin(x: Tensor) -> Tensor:
        return x.detach().requires_grad_()  # gradients begin here, for frozen weights too

    names = ("blocks.0.hook_resid_pre", "blocks.*.hook_resid_post")
    with torch.enable_grad(), patch(model, {names[0]: begin}), capture(model, *names) as acts:
        model(ids)
    streams = list(acts.values())
    outputs = streams[-1][valid].sum(0)  # [C]
    gradients = (torch.autograd.grad(output, streams, retain_graph=True) for output in outputs)
    by_output = [
        torch.stack([gradient[valid].sum(0) for gradient in of_streams]) for of_streams in gradients
    ]
    return torch.stack(by_output, 1)  # C of [L + 1, C] -> [L + 1, C, C]
