"""A config.json of any family with a wrong value is one line that names the setting."""

from pathlib import Path

import pytest
import transformers
from family_checks import SIZES, assert_refused

from llm_scratch.errors import UserError
from llm_scratch.interop.hf import config_of

CONFIGS = {
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "smollm3": "SmolLM3Config",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
    "olmo2": "Olmo2Config",
    "olmo3": "Olmo3Config",
    "gemma2": "Gemma2Config",
    "gemma3_text": "Gemma3TextConfig",
}
VALUES = [None, True, -1, 0, 10**400, 1e300, float("nan"), "x", [], [1], [{}], {}, {"a": [1]}]
LLAMA = transformers.LlamaConfig(**SIZES).to_dict()
YARN = {"rope_type": "yarn", "factor": 2.0}


@pytest.mark.parametrize("model_type", CONFIGS)
def test_hf_settings_are_read_or_refused_in_one_line(model_type):
    config = getattr(transformers, CONFIGS[model_type])(**SIZES).to_dict()
    assert config["model_type"] == model_type
    refused = []
    for name in config.keys() - {"model_type"}:
        for value in VALUES:
            try:
                config_of({**config, name: value}, Path("config.json"))
            except UserError as e:
                refused.append(str(e))
    assert len(refused) > 50
    assert all(line.startswith("config.json: ") and "\n" not in line for line in refused)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**11}, "num_hidden_layers is '100000000000'; expected a whole"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is 'nan'; expected a number below 1e"),
        ({"rope_parameters": {"rope_type": ["yarn"]}}, "rope_type is"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor is 'None'; expected a number"),
        (
            {"rope_parameters": YARN | {"original_max_position_embeddings": float("inf")}},
            "original_max_position_embeddings is 'inf'; expected a positive integer",
        ),
        ({"num_key_value_heads": 5}, "n_kv_heads=5 does not divide n_heads=6"),
        ({"head_dim": 5}, "a head size of 5 is odd"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_invalid_hf_setting_is_named(changes, message):
    assert_refused(LLAMA | changes, message)
