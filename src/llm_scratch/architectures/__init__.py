"""Model architectures by name: the settings of each, and where its model is.

    gpt        GPT-2, and the models of the notebooks
    nanochat   NanoChat's transformer
    llama      Llama 2 and 3, Mistral, SmolLM2 and 3
    qwen       Qwen2 and Qwen3
    olmo       OLMo 2 and 3
    gemma      Gemma 2 and 3
    qwen_moe   Qwen3-MoE: mixtures of experts
    gpt_oss    gpt-oss: mixtures of experts, sinks and windows
    deepseek   DeepSeek-V3: latent attention
    qwen_next  Qwen3-Next: gated delta rule

To add one, write a config class (a frozen dataclass on `ModelConfig` with `n_params`) and a model
class (a `llm_scratch.model.LanguageModel`) in one file, then
`ARCHITECTURES["mine"] = Architecture(MyConfig, MyModel)` and train it with `--import mine.py
--model.architecture mine`; its settings are the flags `--model.NAME`. Inside the package the config
class has a file of its own, here, because help, presets and lists of runs need the settings of
every architecture at once and must not wait two seconds for torch, which a model file imports.
"""

from __future__ import annotations

from llm_scratch.architectures.base import (
    ARCHITECTURES,
    DEFAULT_ARCHITECTURE,
    NOT_IN_WEIGHTS,
    Architecture,
    ModelConfig,
    architecture,
    check_heads,
    check_setting,
    config_class,
    setting_names,
)
from llm_scratch.architectures.deepseek import DeepSeekConfig
from llm_scratch.architectures.gemma import GemmaConfig
from llm_scratch.architectures.gpt import Activation, GPTConfig
from llm_scratch.architectures.gpt_oss import GPTOSSConfig
from llm_scratch.architectures.llama import LlamaConfig
from llm_scratch.architectures.nanochat import NanoChatConfig
from llm_scratch.architectures.olmo import OlmoConfig
from llm_scratch.architectures.qwen import QwenConfig
from llm_scratch.architectures.qwen_moe import QwenMoEConfig
from llm_scratch.architectures.qwen_next import QwenNextConfig

ARCHITECTURES["gpt"] = Architecture(GPTConfig, "llm_scratch.model.gpt:GPTModel")
ARCHITECTURES["nanochat"] = Architecture(NanoChatConfig, "llm_scratch.model.nanochat:NanoChatGPT")
ARCHITECTURES["llama"] = Architecture(LlamaConfig, "llm_scratch.model.llama:LlamaModel")
ARCHITECTURES["qwen"] = Architecture(QwenConfig, "llm_scratch.model.qwen:QwenModel")
ARCHITECTURES["olmo"] = Architecture(OlmoConfig, "llm_scratch.model.olmo:OlmoModel")
ARCHITECTURES["gemma"] = Architecture(GemmaConfig, "llm_scratch.model.gemma:GemmaModel")
ARCHITECTURES["qwen_moe"] = Architecture(QwenMoEConfig, "llm_scratch.model.qwen_moe:QwenMoEModel")
ARCHITECTURES["gpt_oss"] = Architecture(GPTOSSConfig, "llm_scratch.model.gpt_oss:GPTOSSModel")
ARCHITECTURES["deepseek"] = Architecture(DeepSeekConfig, "llm_scratch.model.deepseek:DeepSeekModel")
ARCHITECTURES["qwen_next"] = Architecture(
    QwenNextConfig, "llm_scratch.model.qwen_next:QwenNextModel"
)

__all__ = [
    "ARCHITECTURES",
    "Activation",
    "Architecture",
    "DEFAULT_ARCHITECTURE",
    "DeepSeekConfig",
    "GPTConfig",
    "GPTOSSConfig",
    "GemmaConfig",
    "LlamaConfig",
    "ModelConfig",
    "NOT_IN_WEIGHTS",
    "NanoChatConfig",
    "OlmoConfig",
    "QwenConfig",
    "QwenMoEConfig",
    "QwenNextConfig",
    "architecture",
    "check_heads",
    "check_setting",
    "config_class",
    "setting_names",
]
