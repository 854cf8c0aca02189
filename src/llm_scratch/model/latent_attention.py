"""Multi-head latent attention: keys and values of all heads come from one small vector per token.

That vector, the latent c, is all that the cache keeps, with one key for rotary positions:

    c = norm(W_c x), r = rotate(W_r x)          per token: R + P numbers for all heads
    k_h = [W_key_h c; r],  v_h = W_value_h c    as in ordinary attention
    q_h = [query_h; rotate(query_r_h)]

Positions need a part of their own, because a rotation between W_key and c would differ for every
token. Without it, W_key can move to the other side of the product ("absorbed"): q_h k_h is
(W_key_h^T q_h) c, and the weighted sum of v_h is W_value_h times the weighted sum of c. A new token
then attends to the latents as they are, and no key or value of an earlier token is ever computed.

Tests: tests/model/test_latent_attention.py (absorbed equals plain; bytes of the cache).
Source: DeepSeek-V2, 2024, https://arxiv.org/abs/2405.04434, section 2.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.model.attention import attend
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.norms import RMSNorm
from llm_scratch.model.rope import apply_rotary


class LatentSizes(NamedTuple):
    """Sizes of latent attention."""

    latent: int
    """R: of the vector that keys and values come from"""
    key: int
    """of a head's queries and keys, without the rotated part"""
    rotated: int
    """P: of the part of queries and keys that is rotated; even"""
    value: int
    """D: of a head's values"""
    query_latent: int | None = None
    """of the vector that queries come from; None: they come from x itself"""


class LatentAttention(nn.Module):
    """Causal attention whose cache holds a latent vector per token. [B, T, C] -> [B, T, C].

    Args:
        emb_dim: C.
        n_heads: H.
        sizes: of its vectors.
        dropout: probability of dropping an attention weight during training.
        layer: index of this layer in the cache.
        bias: whether the first projections and the last have a bias.
        scale: factor of the scores, in addition to 1 / sqrt(size of a key).
    """

    def __init__(
        self,
        emb_dim: int,
        n_heads: int,
        sizes: LatentSizes,
        dropout: float = 0.0,
        *,
        layer: int = 0,
        bias: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_heads, self.sizes, self.layer, self.scale = n_heads, sizes, layer, scale
        self.head_dim = sizes.value  # of what the output projection reads
        self.projections = {  # for `interpretability.capture`
            "q": ("query_up", sizes.key + sizes.rotated),
            "k": ("W_key", sizes.key),
            "v": ("W_value", sizes.value),
        }
        if sizes.query_latent is None:
            query_in = emb_dim
            self.query_down: nn.Module = nn.Identity()
        else:
            query_in = sizes.query_latent
            self.query_down = nn.Sequential(
                nn.Linear(emb_dim, query_in, bias=bias), RMSNorm(query_in)
            )
        self.query_up = nn.Linear(query_in, n_heads * (sizes.key + sizes.rotated), bias=False)
        self.latent_down = nn.Linear(emb_dim, sizes.latent + sizes.rotated, bias=bias)
        self.latent_norm = RMSNorm(sizes.latent)
        self.W_key = nn.Linear(sizes.latent, n_heads * sizes.key, bias=False)
        self.W_value = nn.Linear(sizes.latent, n_heads * sizes.value, bias=False)
        self.out_proj = nn.Linear(n_heads * sizes.value, emb_dim, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], cache: KVCache | None = None
    ) -> Tensor:
        """Attend; `angles` as from `rotary_angles`, for the size of the rotated part."""
        B, T, _ = x.shape
        q, q_rotated = self._heads(self.query_up(self.query_down(x))).split(
            [self.sizes.key, self.sizes.rotated], -1
        )
        latent, rotated = self.latent_down(x).split([self.sizes.latent, self.sizes.rotated], -1)
        latent = self.latent_norm(latent)
        q_rotated, rotated = (
            apply_rotary(part, angles, interleaved=True).type_as(x)
            for part in (q_rotated, rotated[:, None])
        )
        stored, mask = torch.cat([latent[:, None], rotated], -1), None
        if cache is not None:
            stored, _ = cache.append(self.layer, stored, stored[..., :0])
            mask = cache.mask(T)
        attended = self._absorbed if self._absorbing_pays(T, cache) else self._plain
        y = attended(q * self.scale, q_rotated * self.scale, stored, mask)  # [B, H, T, D]
        return self.out_proj(y.transpose(1, 2).reshape(B, T, -1))  # [B, T, C]

    def _heads(self, x: Tensor) -> Tensor:
        """Split into heads: [B, T, H x size] -> [B, H, T, size]."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _absorbing_pays(self, T: int, cache: KVCache | None) -> bool:
        """Return whether T new tokens need fewer products in the absorbed form.

        That form has scores and sums of size R per cached token and head, but no keys and values.
        """
        R, key, _, value, _ = self.sizes
        observed = self.training or self.dropout.observers
        return cache is not None and not observed and T * (2 * R - key - value) < R * (key + value)

    def _plain(self, q: Tensor, q_rotated: Tensor, stored: Tensor, mask: Tensor | None) -> Tensor:
        """Keys and values of every head from the latents; arguments as in `_absorbed`."""
        latent, rotated = stored.split([self.sizes.latent, self.sizes.rotated], -1)
        k, v = self._heads(self.W_key(latent[:, 0])), self._heads(self.W_value(latent[:, 0]))
        k = torch.cat([k, rotated.expand(-1, self.num_heads, -1, -1)], -1)
        return attend(torch.cat([q, q_rotated], -1), k, v, mask, self.dropout)

    def _absorbed(
        self, q: Tensor, q_rotated: Tensor, stored: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Attention to the latents themselves.

        Args:
            q, q_rotated: queries, [B, H, T, size].
            stored: latents and rotated keys of all tokens, [B, 1, S, R + P].
            mask: as in `attend`.
        Returns:
            [B, H, T, D].
        """
        (B, H, T, _), S = q.shape, stored.shape[2]
        size = q.shape[-1] + q_rotated.shape[-1]
        W_key, W_value = (
            W.weight.unflatten(0, (H, -1)).to(q.dtype) for W in (self.W_key, self.W_value)
        )
        q = torch.cat([q @ W_key, q_rotated], -1) * size**-0.5
        # rows of one product, which reads the cache once for all heads
        rows = q.reshape(B, 1, H * T, -1)
        scores = (rows @ stored.mT).float().view(B, H, T, S)
        if mask is None and T > 1:
            mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))  # [B, H, T, S]
        weights = scores.softmax(-1).type_as(q).view(B, 1, H * T, S)
        mixed = weights @ stored[..., : self.sizes.latent]
        return mixed.view(B, H, T, -1) @ W_value.mT
