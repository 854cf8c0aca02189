"""A Llama with one part of another family; each variant is a separate architecture.

Sources: the docstrings of the families in `src/llm_scratch/model/`.
"""

from functools import partial

from llm_scratch.architectures.llama import LlamaConfig
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.decoder import DecoderBlock, DecoderModel, grouped
from llm_scratch.model.gated_ff import GatedFeedForward
from llm_scratch.model.layers import FeedForward, LayerNorm
from llm_scratch.model.llama import LlamaModel
from llm_scratch.model.mixture import MixtureOfExperts, Routing
from llm_scratch.model.norms import RMSNorm


def gated(cfg, width=1.0):
    """The feed-forward network of a Llama, `width` times as wide."""
    return GatedFeedForward(cfg.emb_dim, round(width * cfg.ff_size))


def experts(cfg):
    """Eight networks of half the width, of which each token uses two."""
    routing = Routing(8, 2, balance_loss=0.01)
    return MixtureOfExperts(cfg.emb_dim, routing, partial(gated, cfg, 0.5))


def register(name, norm=RMSNorm, feed_forward=gated, placement="before", **attention):
    """Register an architecture with these parts; `attention` are options of `GroupedAttention`."""

    def block(cfg, layer):
        att = grouped(cfg, layer, **attention)
        new_norm = partial(norm, cfg.emb_dim, cfg.norm_eps)
        return DecoderBlock(att, feed_forward(cfg), new_norm, placement, cfg.drop_rate)

    class Variant(LlamaModel):
        has_static_steps = feed_forward is not experts

        def __init__(self, cfg):
            cfg = LlamaConfig.of(cfg)
            blocks = (block(cfg, layer) for layer in range(cfg.n_layers))
            DecoderModel.__init__(self, cfg, blocks, norm(cfg.emb_dim, cfg.norm_eps))

    ARCHITECTURES[name] = Architecture(LlamaConfig, Variant)


register("llama-layer-norm", norm=LayerNorm)
register("llama-gelu", feed_forward=FeedForward)
register("llama-experts", feed_forward=experts)
register("llama-post-norm", placement="after")
register("llama-sandwich-norm", placement="both")
register("llama-soft-cap", softcap=50.0)
register("llama-sinks", sinks=True)
register("llama-output-gate", output_gate=True)
