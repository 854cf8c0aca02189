"""Every family of llama.cpp round-trips through a GGUF file; unsupported settings are named."""

from dataclasses import replace

import pytest
import torch
from gguf_bytes import gguf_bytes
from gguf_models import FAMILIES, TEXT, random_model

from llm_scratch.errors import CHECKPOINT, USAGE, UserError
from llm_scratch.interop.gguf import GGUF_FAMILIES
from llm_scratch.interop.gguf_decoder import interleaved
from llm_scratch.interop.gguf_export import export_gguf, family_of
from llm_scratch.interop.gguf_family import GGUFSettings
from llm_scratch.interop.gguf_file import GGUFFile
from llm_scratch.loading import load
from llm_scratch.tokenizers.bpe import ByteBPE


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE.train([TEXT], 280)


@pytest.mark.parametrize("name", FAMILIES)
def test_gguf_family_survives_a_round_trip(name, tokenizer, tmp_path):
    pytest.importorskip("gguf", reason="writes the files; install the gguf extra")
    model, path = random_model(FAMILIES[name]), tmp_path / "out.gguf"
    checked = export_gguf(model, tokenizer, path, "f32")
    assert checked.weight_error == 0
    assert checked.logits_difference < 1e-5
    back, _ = load(path)
    assert back.cfg == model.cfg
    assert GGUFFile(path).metadata["general.architecture"] == name.partition(",")[0]
    own = dict(back.named_parameters())
    for key, value in model.named_parameters():
        stored = 1 if "gemma" in name and "norm" in key else 0  # files have 1 more, rounded
        assert torch.equal(own[key] + stored, value + stored), key


def test_gguf_tests_cover_every_family():
    assert {name.partition(",")[0] for name in FAMILIES} | {"gpt2"} == set(GGUF_FAMILIES)


def test_rows_of_rotary_pairs_are_permuted_and_restored():
    rows = torch.arange(12)
    theirs = interleaved(2).to_theirs(rows)
    assert theirs.tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert torch.equal(interleaved(2).to_ours(theirs), rows)


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("llama", {"window": 8}, "llama of llama.cpp have no such settings"),
        ("llama", {"no_rope_every": 2}, "no such settings"),
        ("qwen3", {"qkv_bias": True}, "qwen2 and qwen3 of llama.cpp have no such settings"),
        ("gemma3", {"attention_softcap": 9.0}, "gemma2 and gemma3 of llama.cpp"),
        ("gemma3", {"rope_scaling": "yarn", "rope_factor": 2.0}, "gemma2 and gemma3"),
        ("qwen3", {"rope_scaling": "llama3", "rope_factor": 2.0}, "qwen2 and qwen3"),
    ],
)
def test_feature_unsupported_by_llama_cpp_is_refused(name, change, why):
    with pytest.raises(UserError, match=why) as caught:
        family_of(random_model(replace(FAMILIES[name], **change)))
    assert caught.value.code == USAGE


@pytest.mark.parametrize(("name", "n_layers"), [("gemma2", 46), ("gemma3", 62)])
def test_attention_of_gemma_27b_is_scaled_as_llama_cpp_scales_it(name, n_layers):
    from types import SimpleNamespace

    family = GGUF_FAMILIES[name]
    cfg = replace(FAMILIES[name], n_layers=n_layers, head_dim=32)
    assert not family.expresses(cfg)
    cfg = replace(cfg, query_size=64 // 4)
    assert family.expresses(cfg)
    assert not family.expresses(replace(cfg, n_layers=3))
    metadata = {f"{name}.{key}": value for key, value in family.config_to(cfg).items()}
    embedding = SimpleNamespace(shape=(cfg.vocab_size, cfg.emb_dim))
    tensors = {"token_embd.weight": embedding, "output.weight": embedding}
    file = SimpleNamespace(path="x.gguf", metadata=metadata, tensors=tensors)
    assert family.config_from(GGUFSettings(file, name)).query_size == 16


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("llama.expert_count", 8, "llama.expert_count is '8'; expected 0"),
        ("llama.rope.dimension_count", 8, "rope.dimension_count is '8'; expected 16"),
        ("llama.rope.scaling.type", "longrope", "type is 'longrope'; expected none or linear or"),
        ("llama.attention.head_count_kv", 3, "n_kv_heads=3 does not divide n_heads=4"),
        (
            "llama.attention.head_count_kv",
            [2, 4],
            r"head_count_kv is '\[2, 4\]'; expected a positive",
        ),
        ("llama.rope.freq_base", -1.0, "rope.freq_base is '-1.0'; expected a number of at least 0"),
    ],
)
def test_gguf_settings_without_a_counterpart_are_refused(key, value, why, tmp_path):
    from gguf_bytes import T

    cfg = FAMILIES["llama"]
    metadata = {
        f"llama.{name}": item for name, item in GGUF_FAMILIES["llama"].config_to(cfg).items()
    }
    metadata |= {"general.architecture": "llama", key: value}
    path = tmp_path / "other.gguf"
    path.write_bytes(
        gguf_bytes(metadata, [T("token_embd.weight", (290, 64), data=bytes(290 * 256))])
    )
    with pytest.raises(UserError, match=why) as caught:
        load(path)
    assert caught.value.code == CHECKPOINT
