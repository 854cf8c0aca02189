"""What the families after GPT-2 share: a block with norms before or after each part, and a model.

A family's file says which attention and which feed-forward network each layer has, where the norms
are, and what happens to embeddings and logits; `DecoderModel` does the rest.
Tests: those of each family, such as tests/model/test_llama.py.
Source: norms before a part, Xiong et al. 2020, https://arxiv.org/abs/2002.04745; after it, OLMo 2,
https://arxiv.org/abs/2501.00656, section 3.3; both, Gemma 2, https://arxiv.org/abs/2408.00118.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import Tensor, nn

from llm_scratch.architectures.decoder import DecoderConfig
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.grouped_attention import GroupedAttention
from llm_scratch.model.initialization import initialize
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.language_model import LanguageModel
from llm_scratch.model.norms import RMSNorm
from llm_scratch.model.rope import Rotary, RotaryAngles

NormPlacement = Literal["before", "after", "both"]


class DecoderBlock(nn.Module):
    """Transformer block: attention, then feed-forward, each with a residual connection.

    [B, T, C] -> [B, T, C]. With P a part, the block adds P(norm(x)), norm(P(x)) or
    norm(P(norm(x))) to x.

    Args:
        att: called with (x, angles, cache), as `GroupedAttention`.
        ff: the feed-forward network.
        norm: makes a norm of size C.
        placement: norms before each part (pre-norm), after it (post-norm), or both (sandwich).
        drop_rate: dropout on what each part adds.
    """

    def __init__(
        self,
        att: nn.Module,
        ff: nn.Module,
        norm: Callable[[], nn.Module],
        placement: NormPlacement = "before",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        before, after = placement != "after", placement != "before"
        self.att = att
        self.ff = ff
        self.norm1 = norm() if before else nn.Identity()
        self.post_norm1 = norm() if after else nn.Identity()
        self.norm2 = norm() if before else nn.Identity()
        self.post_norm2 = norm() if after else nn.Identity()
        self.drop_shortcut = Dropout(drop_rate)

    def forward(
        self, x: Tensor, angles: RotaryAngles | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Add attention, then the feed-forward network."""
        x = x + self.drop_shortcut(self.post_norm1(self.att(self.norm1(x), angles, cache)))
        return x + self.drop_shortcut(self.post_norm2(self.ff(self.norm2(x))))  # [B, T, C]


def grouped(cfg: DecoderConfig, layer: int, **options: Any) -> GroupedAttention:
    """The attention of a layer, of the sizes and with the window that the settings say.

    Args:
        cfg: the model's settings.
        layer: its index.
        options: of the family, as in `GroupedAttention`.
    """
    return GroupedAttention(
        cfg.emb_dim,
        cfg.n_heads,
        cfg.kv_heads,
        cfg.head_size,
        layer=layer,
        drop_rate=cfg.drop_rate,
        norm_eps=cfg.norm_eps,
        window=cfg.windows[layer],
        **options,
    )


class DecoderModel(LanguageModel):
    """Embedding, blocks, final norm, head; a family gives the blocks.

    Args:
        cfg: its settings.
        blocks: one for each layer, called with (x, angles, cache).
        final_norm: the norm before the head; None: `RMSNorm`.
    """

    cfg: DecoderConfig

    def __init__(
        self,
        cfg: DecoderConfig,
        blocks: Iterable[nn.Module],
        final_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.cfg = cfg
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.drop_emb = Dropout(cfg.drop_rate)
        self.trf_blocks = nn.Sequential(*blocks)
        self.final_norm = final_norm or RMSNorm(cfg.emb_dim, cfg.norm_eps)
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)
        initialize(self, cfg.init)
        if cfg.tie_embeddings:
            self.out_head.weight = self.tok_emb.weight

    def embed(self, in_idx: Tensor) -> Tensor:
        """Token ids [B, T] -> what the first block reads, [B, T, C]."""
        return self.tok_emb(in_idx)  # [B, T, C]

    def layer_angles(self, positions: Tensor) -> list[RotaryAngles | None]:
        """The rotary angles of every layer for these positions; None for one without positions."""
        return [Rotary.of(self.cfg, self.cfg.rotated_size).angles(positions)] * self.cfg.n_layers

    def hidden(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Hidden states after the final norm, before the output head: [B, T] -> [B, T, C]."""
        angles = self.layer_angles(self.positions(in_idx, cache))
        x = self.drop_emb(self.embed(in_idx))  # [B, T, C]
        for block, own_angles in zip(self.trf_blocks, angles):
            x = block(x, own_angles, cache)  # [B, T, C]
        if cache is not None:
            cache.advance(in_idx.shape[1])
        return self.final_norm(x)  # [B, T, C]

    def cache_shape(self, batch_size: int) -> tuple[int, int, int, int, int]:
        """Shape of the cache: key/value heads only."""
        cfg = self.cfg
        return cfg.n_layers, batch_size, cfg.kv_heads, cfg.context_length, cfg.head_size
