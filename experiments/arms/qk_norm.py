"""QK-norm: normalize queries and keys, so that attention logits stay bounded.

Source: Henry et al. 2020, https://arxiv.org/abs/2010.04245.
"""

from torch import Tensor
from torch.nn import functional as F

from llm_scratch.config import GPTConfig
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.attention import MultiHeadAttention, attend, qkv_projections
from llm_scratch.model.gpt import GPTModel


class QKNormAttention(MultiHeadAttention):
    """Attention with queries and keys of root mean square 1."""

    def forward(self, x: Tensor, cache=None) -> Tensor:
        """[B, T, C] -> [B, T, C], as in `MultiHeadAttention`."""
        B, T, _ = x.shape
        q, k, v = qkv_projections(self, x)
        q, k = (F.rms_norm(each, each.shape[-1:]) for each in (q, k))
        mask = None
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
            mask = cache.mask(T)
        return self.out_proj(attend(q, k, v, mask, self.dropout).transpose(1, 2).reshape(B, T, -1))


class QKNormGPT(GPTModel):
    """A GPT with `QKNormAttention`; its initial weights are those of the GPT."""

    def __init__(self, cfg):
        super().__init__(cfg)
        for layer, block in enumerate(self.trf_blocks):
            att = QKNormAttention(
                self.cfg.emb_dim,
                self.cfg.emb_dim,
                self.cfg.context_length,
                self.cfg.drop_rate,
                self.cfg.n_heads,
                self.cfg.qkv_bias,
                layer=layer,
            )
            att.load_state_dict(block.att.state_dict())
            block.att = att


ARCHITECTURES["qk-norm"] = Architecture(GPTConfig, QKNormGPT)
