"""The families after GPT-2, and their parts: rows of docs/equivalence.md."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from equivalence import max_difference, row
from llm_scratch.interop import hf
from llm_scratch.interop.safetensors import files_of
from llm_scratch.model.grouped_attention import GroupedAttention
from llm_scratch.model.norms import RMSNorm

SIZES = {
    "vocab_size": 97,
    "max_position_embeddings": 32,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def against_transformers(name: str, **changes: Any) -> float:
    """The largest difference of logits to a model that transformers made and saved.

    Args:
        name: of their class, such as "LlamaForCausalLM".
        changes: settings of its config, in addition to `SIZES`.
    """
    import transformers

    config = getattr(transformers, name).config_class(**SIZES | changes)
    plain = {"attn_implementation": "eager", "experts_implementation": "eager"}
    theirs = transformers.AutoModelForCausalLM.from_config(config, **plain)
    for parameter in theirs.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        theirs.eval().save_pretrained(folder)
        settings = json.loads((folder / "config.json").read_text())
        cfg = hf.config_of(settings, folder / "config.json")
        ours = hf.load_weights(cfg, files_of(folder), folder, "config.json").eval()
    ids = torch.randint(0, 97, (2, 32))
    return max_difference(ours(ids), theirs(ids).logits)


def _family(component: str, model: str, theirs: str, **changes: Any) -> None:
    """A row for a family: `model` as "llama.LlamaModel"."""
    name = model.partition(".")[0]

    def measure() -> float:
        return against_transformers(theirs, **changes)

    test = f"model/test_{name}.py::test_{name}_equals_transformers"
    add: Callable[..., Any] = row(
        component,
        f"model/{model}",
        f"transformers' {theirs}",
        test,
        1e-4,
        covers=f"ARCHITECTURES.{name}",
    )
    add(measure)


_family("Llama, and its weights in", "llama.LlamaModel", "LlamaForCausalLM")
_family("Mistral: a sliding window", "llama.LlamaModel", "MistralForCausalLM", sliding_window=9)
_family("SmolLM3: layers without positions", "llama.LlamaModel", "SmolLM3ForCausalLM")
_family("Qwen2: biases", "qwen.QwenModel", "Qwen2ForCausalLM")
_family("Qwen3: QK-norm by head", "qwen.QwenModel", "Qwen3ForCausalLM")
_family("OLMo 2: norms after each part", "olmo.OlmoModel", "Olmo2ForCausalLM")
_family("OLMo 3: windows", "olmo.OlmoModel", "Olmo3ForCausalLM", sliding_window=9)
_family("Gemma 2: soft-caps", "gemma.GemmaModel", "Gemma2ForCausalLM", sliding_window=9)
_family(
    "Gemma 3: two rotary bases",
    "gemma.GemmaModel",
    "Gemma3ForCausalLM",
    sliding_window=9,
    layer_types=["sliding_attention", "full_attention"] * 2,
)
MIXTURE = {"moe_intermediate_size": 14, "num_experts": 6, "num_experts_per_tok": 2}
_family("Qwen3-MoE: mixtures of experts", "qwen_moe.QwenMoEModel", "Qwen3MoeForCausalLM", **MIXTURE)
_family(
    "gpt-oss: sinks, and experts with limits",
    "gpt_oss.GPTOSSModel",
    "GptOssForCausalLM",
    num_local_experts=6,
    num_experts_per_tok=2,
    sliding_window=9,
    rope_parameters={"rope_type": "default", "rope_theta": 500.0},
)
_family(
    "DeepSeek-V3: latent attention",
    "deepseek.DeepSeekModel",
    "DeepseekV3ForCausalLM",
    moe_intermediate_size=14,
    n_routed_experts=6,
    num_experts_per_tok=2,
    n_group=3,
    topk_group=2,
    first_k_dense_replace=1,
    kv_lora_rank=10,
    q_lora_rank=9,
    qk_nope_head_dim=8,
    qk_rope_head_dim=4,
    v_head_dim=7,
    num_key_value_heads=6,
)
_family(
    "Qwen3-Next: gated delta rule",
    "qwen_next.QwenNextModel",
    "Qwen3NextForCausalLM",
    **MIXTURE,
    shared_expert_intermediate_size=10,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_key_head_dim=4,
    linear_value_head_dim=6,
    head_dim=8,
)


@row(
    "RMSNorm",
    "model/norms.RMSNorm",
    "its formula",
    "model/test_norms.py::test_rms_norm_equals_its_formula_and_transformers",
    1e-5,
)
def _rms_norm() -> float:
    x, norm = torch.randn(2, 7, 24), RMSNorm(24)
    return max_difference(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt())


@row(
    "grouped-query attention",
    "model/grouped_attention.GroupedAttention",
    "every query head with a copy of its keys and values",
    "model/test_grouped_attention.py::test_one_shared_head_equals_copies_of_it",
    1e-5,
)
def _grouped() -> float:
    shared, copies = GroupedAttention(24, 6, 1, 4), GroupedAttention(24, 6, 6, 4)
    state = shared.state_dict()
    for name in ("W_key.weight", "W_value.weight"):
        state[name] = state[name].repeat(6, 1)
    copies.load_state_dict(state)
    x = torch.randn(2, 7, 24)
    return max_difference(shared(x), copies(x))
