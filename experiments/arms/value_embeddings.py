"""Value embeddings: each token adds a learned vector to its values, a table for each layer.

The tables start at 0, which is the plain GPT. They are as large as the token embedding, but cost
no matrix product.
Source: https://github.com/KellerJordan/modded-nanogpt (`value_embeds`); nanochat has them too.
"""

from torch import Tensor, nn

from llm_scratch.config import GPTConfig
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.attention import MultiHeadAttention, attend, qkv_projections
from llm_scratch.model.gpt import GPTModel


class ValueEmbeddingAttention(MultiHeadAttention):
    """Attention with a tensor added to its values."""

    def forward(self, x: Tensor, cache=None, added: Tensor | None = None) -> Tensor:
        """[B, T, C] -> [B, T, C]; `added` has that shape too."""
        B, T, _ = x.shape
        q, k, v = qkv_projections(self, x)
        v = v + added.view(B, T, self.num_heads, self.head_dim).transpose(1, 2)
        mask = None
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
            mask = cache.mask(T)
        return self.out_proj(attend(q, k, v, mask, self.dropout).transpose(1, 2).reshape(B, T, -1))


class ValueEmbeddingsGPT(GPTModel):
    """A GPT with `ValueEmbeddingAttention`; its other initial weights are those of the GPT."""

    def __init__(self, cfg):
        super().__init__(cfg)
        cfg, C = self.cfg, self.cfg.emb_dim
        tables = [nn.Embedding(cfg.vocab_size, C) for _ in self.trf_blocks]
        self.value_embs = nn.ModuleList(tables)
        for layer, (block, table) in enumerate(zip(self.trf_blocks, tables, strict=True)):
            nn.init.zeros_(table.weight)
            sizes = C, C, cfg.context_length, cfg.drop_rate, cfg.n_heads, cfg.qkv_bias
            att = ValueEmbeddingAttention(*sizes, layer=layer)
            att.load_state_dict(block.att.state_dict())
            block.att = att

    def hidden(self, in_idx: Tensor, cache=None) -> Tensor:
        """[B, T] -> [B, T, C], as in `GPTModel`."""
        x = self.drop_emb(self.tok_emb(in_idx) + self.pos_emb(self.positions(in_idx, cache)))
        for block, table in zip(self.trf_blocks, self.value_embs, strict=True):
            x = x + block.drop_shortcut(block.att(block.norm1(x), cache, table(in_idx)))
            x = x + block.drop_shortcut(block.ff(block.norm2(x)))
        if cache is not None:
            cache.advance(in_idx.shape[1])
        return self.final_norm(x)


ARCHITECTURES["value-embeddings"] = Architecture(GPTConfig, ValueEmbeddingsGPT)
