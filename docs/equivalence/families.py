"""The families after GPT-2, and their parts: rows of docs/equivalence.md."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from equivalence import CONFIG, max_difference, row, transformers_twin
from llm_scratch.interop import hf
from llm_scratch.interop.safetensors import files_of
from llm_scratch.model import build
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
        name: of their config class.
        changes: its settings, beside `SIZES`.
    """
    import transformers

    config = getattr(transformers, name)(**SIZES | changes)
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
        return against_transformers(theirs.replace("ForCausalLM", "Config"), **changes)

    test = f"model/test_{name}.py::test_equals_transformers"
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
MIXTURE = {"moe_intermediate_size": 14, "num_experts": 6, "num_experts_per_tok": 2}
_family("Qwen3-MoE: mixtures of experts", "qwen_moe.QwenMoEModel", "Qwen3MoeForCausalLM", **MIXTURE)


@row(
    "gpt-oss: sinks, and experts with limits", "model/gpt_oss.GPTOSSModel",
    "transformers' GptOssForCausalLM", "model/test_gpt_oss.py::test_equals_transformers", 1e-4,
    covers="ARCHITECTURES.gpt_oss",
)  # fmt: skip
def _gpt_oss() -> float:
    rope = {"rope_type": "default", "rope_theta": 500.0}
    experts = {"num_local_experts": 6, "num_experts_per_tok": 2}
    return against_transformers("GptOssConfig", sliding_window=9, rope_parameters=rope, **experts)


@row(
    "DeepSeek-V3: latent attention", "model/deepseek.DeepSeekModel",
    "transformers' DeepseekV3ForCausalLM", "model/test_deepseek.py::test_equals_transformers",
    1e-4, covers="ARCHITECTURES.deepseek",
)  # fmt: skip
def _deepseek() -> float:
    latents = {"kv_lora_rank": 10, "q_lora_rank": 9, "qk_nope_head_dim": 8, "v_head_dim": 7}
    groups = {"n_group": 3, "topk_group": 2, "n_routed_experts": 6, "num_experts_per_tok": 2}
    more = {"qk_rope_head_dim": 4, "num_key_value_heads": 6, "first_k_dense_replace": 1}
    return against_transformers(
        "DeepseekV3Config", moe_intermediate_size=14, **latents, **groups, **more
    )


@row(
    "Qwen3-Next: gated delta rule", "model/qwen_next.QwenNextModel",
    "transformers' Qwen3NextForCausalLM", "model/test_qwen_next.py::test_equals_transformers",
    1e-4, covers="ARCHITECTURES.qwen_next",
)  # fmt: skip
def _qwen_next() -> float:
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    sizes = {"linear_key_head_dim": 4, "linear_value_head_dim": 6, "head_dim": 8}
    return against_transformers(
        "Qwen3NextConfig", shared_expert_intermediate_size=10, **MIXTURE, **linear, **sizes
    )


@row(
    "Gemma 3: two rotary bases",
    "model/gemma.GemmaModel",
    "transformers' Gemma3ForCausalLM",
    "model/test_gemma.py::test_equals_transformers",
    1e-4,
)
def _gemma3() -> float:
    kinds = ["sliding_attention", "full_attention"] * 2
    return against_transformers("Gemma3TextConfig", sliding_window=9, layer_types=kinds)


@row(
    "RMSNorm",
    "model/norms.RMSNorm",
    "its formula",
    "model/test_norms.py::test_equals_its_formula_and_transformers",
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


def against_export(architecture: str, **settings: Any) -> float:
    """The difference of a tiny model's logits from those of transformers, which reads its files."""
    shape = {name: value for name, value in CONFIG.items() if name != "qkv_bias"}
    ours = build(shape | {"architecture": architecture} | settings).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(0, 97, (2, 32))
    return max_difference(ours(ids), transformers_twin(ours)(ids).logits)


@row(
    "mixture of experts",
    "model/qwen_moe.QwenMoEModel",
    "transformers' Qwen3MoeForCausalLM",
    "model/test_qwen_moe.py::test_equals_transformers",
    1e-4,
    covers="ARCHITECTURES.qwen_moe",
)
def _qwen_moe() -> float:
    return against_export("qwen_moe")


@row(
    "sinks and windows",
    "model/gpt_oss.GPTOSSModel",
    "transformers' GptOssForCausalLM",
    "model/test_gpt_oss.py::test_equals_transformers",
    1e-4,
    covers="ARCHITECTURES.gpt_oss",
)
def _gpt_oss() -> float:
    return against_export("gpt_oss", window=9)


@row(
    "latent attention",
    "model/deepseek.DeepSeekModel",
    "transformers' DeepseekV3ForCausalLM",
    "model/test_deepseek.py::test_equals_transformers",
    1e-4,
    covers="ARCHITECTURES.deepseek",
)
def _deepseek() -> float:
    return against_export("deepseek", query_latent_dim=10, n_groups=2, groups_per_token=1)


@row(
    "gated delta rule",
    "model/qwen_next.QwenNextModel",
    "transformers' Qwen3NextForCausalLM",
    "model/test_qwen_next.py::test_equals_transformers",
    1e-4,
    covers="ARCHITECTURES.qwen_next",
)
def _qwen_next() -> float:
    return against_export("qwen_next", full_every=2)
