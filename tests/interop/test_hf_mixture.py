"""Settings of the sparse families round-trip; those without a counterpart are named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llm_scratch.architectures import DeepSeekConfig, GPTOSSConfig, QwenMoEConfig, QwenNextConfig
from llm_scratch.errors import UserError
from llm_scratch.interop.hf import config_of, family_of, load_weights, to_config
from llm_scratch.interop.hf_export import tensors
from llm_scratch.interop.hf_gpt_oss import _stacked
from llm_scratch.interop.weight_map import expand, in_groups, named_tensors
from llm_scratch.model import build

TINY = {"vocab_size": 31, "context_length": 16, "emb_dim": 16, "n_heads": 2, "n_layers": 3}
YARN = {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_trained_context": 9}
CONFIGS = [
    QwenMoEConfig(**TINY, n_experts=3, expert_dim=5, balance_loss=0.5, attention_bias=True),
    GPTOSSConfig(**TINY, window=None, gate_limit=3.0, **YARN),
    GPTOSSConfig(**TINY, window=5, full_every=3, ff_dim=20, experts_per_token=4),
    DeepSeekConfig(**TINY, latent_dim=5, query_latent_dim=6, value_dim=3, n_dense_layers=0),
    DeepSeekConfig(**TINY, **YARN, rope_attention_factor=0.9, score_scale=1.44, weight_scale=2.5),
    QwenNextConfig(**TINY, full_every=2, n_value_heads=4, key_dim=3, rotated_dim=6, conv_size=2),
    QwenNextConfig(**TINY, full_every=9, shared_dim=7),
]


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: cfg.architecture)
def test_mixture_config_survives_a_round_trip_through_transformers(cfg):
    theirs = to_config(cfg, None, None)
    back = config_of(theirs, Path("config.json"))
    for name in cfg:
        if isinstance(cfg[name], float):
            assert back[name] == pytest.approx(cfg[name]), name
    floats = {name: cfg[name] for name in cfg if isinstance(cfg[name], float)}
    same = type(cfg)(**{**back, **floats})
    if not (cfg.architecture == "qwen_next" and cfg.full_every > cfg.n_layers):
        assert same == cfg
    assert same.n_params == cfg.n_params


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: cfg.architecture)
def test_map_names_every_tensor_once_and_splits_what_it_joins(cfg):
    torch.manual_seed(0)
    own = named_tensors(build(cfg))
    _, family = family_of(cfg)
    ours, theirs = [], []
    for mapped in expand(family.rules_of(cfg), cfg.n_layers):
        if mapped.ours[0] not in own:
            continue
        parts = mapped.split(mapped.join(own))
        assert all(torch.equal(parts[name], own[name]) for name in mapped.ours), mapped.theirs
        ours += mapped.ours
        theirs.append(mapped.theirs)
    assert sorted(ours) == sorted(own)
    assert len(set(theirs)) == len(theirs)


@pytest.mark.parametrize(
    ("cfg", "wrong", "message"),
    [
        (CONFIGS[0], {"decoder_sparse_step": 2}, "decoder_sparse_step is '2'; expected 1"),
        (CONFIGS[0], {"mlp_only_layers": [1]}, "mlp_only_layers"),
        (CONFIGS[0], {"use_sliding_window": True}, "use_sliding_window"),
        (CONFIGS[0], {"num_experts_per_tok": 9}, "experts_per_token=9 is more than n_experts=3"),
        (CONFIGS[1], {"rope_parameters": {"rope_type": "yarn", "truncate": True}}, "truncate"),
        (CONFIGS[1], {"rope_parameters": {"type": "yarn", "factor": 2.0}}, "truncate is 'True'"),
        (CONFIGS[1], {"rope_parameters": "yarn"}, "rope_parameters is 'yarn'"),
        (CONFIGS[3], {"rope_parameters": 5}, "rope_parameters is '5'"),
        (CONFIGS[5], {"rope_parameters": ["yarn"]}, "rope_parameters is"),
        (CONFIGS[5], {"layer_types": 5}, "layer_types is '5'"),
        (CONFIGS[5], {"head_dim": None}, "head_dim is 'None'; expected a positive integer"),
        (CONFIGS[2], {"layer_types": ["full_attention"] * 2}, "layer_types"),
        (CONFIGS[3], {"rope_interleave": False}, "rope_interleave is 'False'; expected True"),
        (CONFIGS[3], {"num_key_value_heads": 1}, "num_key_value_heads is '1'; expected 2"),
        (CONFIGS[3], {"n_group": 3}, "n_groups=3 does not divide n_experts=8"),
        (CONFIGS[3], {"first_k_dense_replace": -1}, "first_k_dense_replace"),
        (
            CONFIGS[3],
            {"rope_parameters": {"rope_type": "default", "mscale_all_dim": 1.0}},
            "mscale_all_dim is '1.0'; expected nothing unless rope_type is yarn",
        ),
        (CONFIGS[5], {"layer_types": ["full_attention", "linear_attention"] * 2}, "layer_types"),
        (CONFIGS[5], {"linear_num_value_heads": 3}, "n_value_heads=3 is not a multiple"),
        (CONFIGS[5], {"partial_rotary_factor": 0.4, "rope_parameters": None}, "rotated_dim=3"),
    ],
)
def test_mixture_setting_without_a_counterpart_is_named(cfg, wrong, message):
    with pytest.raises(UserError, match=message) as raised:
        config_of({**to_config(cfg, None, None), **wrong}, Path("config.json"))
    assert raised.value.code == 4


@pytest.mark.parametrize("kind", [DeepSeekConfig, QwenNextConfig])
def test_ntk_base_is_raised_for_the_rotated_part_of_a_head(kind):
    size = {"head_dim": 8, "rotated_dim": 4}
    ntk = kind(**TINY, **size, rope_base=100.0, rope_scaling="ntk", rope_factor=3.0)
    back = config_of(to_config(ntk, None, None), Path("config.json"))
    positions = torch.arange(16)
    for model in (build(ntk), build(back)):
        cos, _ = model.layer_angles(positions)[0]
        # the slowest pair alone is slower, by the whole factor
        torch.testing.assert_close(cos[:, 1], (positions / 100**0.5 / 3).cos())


@pytest.mark.parametrize("n_layers", [61, 62])
def test_layer_61_is_the_published_second_head_only_if_the_model_has_61_layers(n_layers, tmp_path):
    tiny = {**TINY, "emb_dim": 4, "ff_dim": 4, "n_layers": n_layers}
    model = build(DeepSeekConfig(**tiny, n_dense_layers=n_layers))
    file = tmp_path / "model.safetensors"
    save_file(tensors(model) | {"model.layers.61.input_layernorm.weight": torch.ones(4)}, file)
    own, back = (
        named_tensors(each)
        for each in (model, load_weights(model.cfg, [file], tmp_path, "config.json"))
    )
    assert own.keys() == back.keys()
    assert all(torch.equal(own[name], back[name]) for name in own)


def test_score_scale_without_yarn_is_not_expressed():
    with pytest.raises(UserError, match="score_scale=1.5: transformers has it with rope_scaling"):
        to_config(DeepSeekConfig(**TINY, score_scale=1.5), None, None)


def test_mixture_without_a_shared_expert_has_no_counterpart():
    with pytest.raises(UserError, match="n_shared_experts=0: transformers has at least one"):
        to_config(DeepSeekConfig(**TINY, n_shared_experts=0), None, None)


def test_grouped_rows_map_to_their_parameters():
    rows = torch.arange(10)[:, None]
    first, second = in_groups(2, 2, 3).to_ours(rows)
    assert first.flatten().tolist() == [0, 1, 5, 6]
    assert second.flatten().tolist() == [2, 3, 4, 7, 8, 9]
    assert torch.equal(in_groups(2, 2, 3).to_theirs(first, second), rows)


def test_stacked_experts_take_turns_in_columns():
    theirs = torch.arange(2 * 3 * 4).view(2, 3, 4)  # 2 experts, 3 in, 2 projections of 2
    gate, up, *_ = _stacked(2).to_ours(theirs)
    assert gate.tolist() == [[0, 4, 8], [2, 6, 10]]
    assert up.tolist() == [[1, 5, 9], [3, 7, 11]]
    assert torch.equal(_stacked(2).to_theirs(*_stacked(2).to_ours(theirs)), theirs)
