"""A GGUF export is read back by us and by the `gguf` package; one that differs is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gguf_models import CFG, TEXT, random_model

from llm_scratch.architectures import NanoChatConfig
from llm_scratch.errors import CHECKPOINT, USAGE, UserError
from llm_scratch.interop import gguf_export
from llm_scratch.interop.gguf_export import FORMATS, export_gguf, modelfile
from llm_scratch.loading import load
from llm_scratch.model.quantized import quantize
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.tokenizers.bpe import ByteBPE

gguf = pytest.importorskip("gguf", reason="writes the files; install the gguf extra")
SIZES = {"vocab_size": 290, "context_length": 8, "emb_dim": 8, "n_layers": 1}
WIDE = replace(CFG, emb_dim=32, ff_dim=None, n_layers=2)


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE.train([TEXT], 280)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", [{}, {"tie_embeddings": True, "qkv_bias": True}])
def test_exported_gguf_model_survives_a_round_trip(kind, format, tokenizer, tmp_path):
    model, path = random_model(replace(WIDE, **kind)), tmp_path / "out.gguf"
    checked = export_gguf(model, tokenizer, path, format)
    assert checked.equal_texts == 1000
    back, _ = load(path)
    assert back.cfg == model.cfg
    theirs = {each.name: each for each in gguf.GGUFReader(path).tensors}
    matrix = theirs["blk.1.ffn_up.weight"]
    assert matrix.tensor_type.name.lower() == format
    want = gguf.dequantize(matrix.data, matrix.tensor_type)
    assert (back.trf_blocks[1].ff.layers[0].weight.detach().numpy() == want).all()
    assert theirs["position_embd.weight"].tensor_type.name == "F32"
    assert ("output.weight" in theirs) == (not kind)
    if format == "f32":
        own = dict(back.named_parameters())
        assert all(torch.equal(own[name], value) for name, value in model.named_parameters())
        assert (checked.weight_error, checked.logits_difference) == (0, 0)


def test_gguf_rows_that_do_not_fill_blocks_are_float16(tokenizer, tmp_path):
    export_gguf(random_model(CFG), tokenizer, tmp_path / "out.gguf", "q4_0")
    kinds = {
        each.name: each.tensor_type.name for each in gguf.GGUFReader(tmp_path / "out.gguf").tensors
    }
    assert kinds["token_embd.weight"] == kinds["blk.0.ffn_down.weight"] == "F16"


def test_gguf_export_writes_a_modelfile_for_ollama(tokenizer, tmp_path):
    export_gguf(random_model(CFG), tokenizer, tmp_path / "my model.gguf")
    lines = (tmp_path / "my model.Modelfile").read_text().splitlines()
    assert lines == [
        "FROM ./my model.gguf",
        'TEMPLATE """{{ .Prompt }}"""',
        "PARAMETER num_ctx 16",
        'PARAMETER stop "<|endoftext|>"',
    ]


def test_modelfile_has_the_stop_string_unchanged():
    """ollama reads no escapes."""
    name = "<｜end▁of▁sentence｜>"
    tokenizer = ByteBPE([], special_tokens=(name, "<|eot|>"), end_of_text=name)
    tokenizer.other_ends = ("<|eot|>",)
    lines = modelfile(Path("a.gguf"), random_model(CFG), tokenizer).splitlines()
    assert lines[-2:] == [f'PARAMETER stop "{name}"', 'PARAMETER stop "<|eot|>"']


def test_modelfile_of_the_user_is_not_replaced(tokenizer, tmp_path):
    mine = tmp_path / "out.Modelfile"
    mine.write_text("mine")
    with pytest.raises(UserError, match=r"out\.Modelfile exists; choose another name"):
        export_gguf(random_model(CFG), tokenizer, tmp_path / "out.gguf")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_model_unsupported_by_llama_cpp_is_refused_before_writing(tokenizer, tmp_path):
    path = tmp_path / "out.gguf"
    chars = TOKENIZERS["chars"](["abc"])
    for cfg, known, reason in (
        (replace(CFG, activation="gelu"), tokenizer, "activation=gelu: llama.cpp computes"),
        (replace(CFG, scale_attention_by_layer=True), tokenizer, "scale_attention_by_layer=True"),
        (CFG, chars, "CharTokenizer cannot be exported to GGUF"),
        (CFG, ByteBPE([(b"a", b"b")], pattern="a+"), "llama.cpp has no name for it"),
        (CFG, ByteBPE([]), "a tokenizer without merges cannot be exported to GGUF"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            export_gguf(random_model(cfg), known, path)
        assert caught.value.code == USAGE
    nanochat = random_model(NanoChatConfig(**SIZES, n_heads=2))
    with pytest.raises(UserError, match="architecture 'nanochat' cannot be exported to GGUF"):
        export_gguf(nanochat, tokenizer, path)
    quantized = random_model(WIDE)
    quantize(quantized, 8)
    with pytest.raises(UserError, match="quantized to 8 bits and cannot be exported"):
        export_gguf(quantized, tokenizer, path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("mine")
    with pytest.raises(UserError, match="out.gguf exists"):
        export_gguf(random_model(CFG), tokenizer, path)
    assert path.read_text() == "mine"


def test_gguf_export_leaves_no_file_when_the_written_one_would_differ(
    tokenizer, tmp_path, monkeypatch
):
    write = gguf_export.write

    def other_weights(model, *rest):
        changed = random_model(model.cfg)
        with torch.no_grad():
            changed.final_norm.shift[3] += 0.001
        write(changed, *rest)

    monkeypatch.setattr(gguf_export, "write", other_weights)
    with pytest.raises(UserError, match="output_norm.bias was read back with an error") as caught:
        export_gguf(random_model(CFG), tokenizer, tmp_path / "out.gguf")
    assert caught.value.code == CHECKPOINT

    def other_settings(model, family, path, name, metadata, format):
        metadata["gpt2.attention.layer_norm_epsilon"] = 0.5
        write(model, family, path, name, metadata, format)

    monkeypatch.setattr(gguf_export, "write", other_settings)
    with pytest.raises(UserError, match="read back differs: its logits by"):
        export_gguf(random_model(CFG), tokenizer, tmp_path / "out.gguf")

    def other_tokens(model, family, path, name, metadata, format):
        metadata["tokenizer.ggml.merges"] = metadata["tokenizer.ggml.merges"][:-1]
        metadata["tokenizer.ggml.token_type"] = [
            5 if i == 278 else kind for i, kind in enumerate(metadata["tokenizer.ggml.token_type"])
        ]
        write(model, family, path, name, metadata, format)

    monkeypatch.setattr(gguf_export, "write", other_tokens)
    with pytest.raises(UserError, match="tokenizer that was read back differs"):
        export_gguf(random_model(CFG), tokenizer, tmp_path / "out.gguf")
    assert list(tmp_path.iterdir()) == []


def test_gguf_export_without_the_package_names_the_install_command(
    tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(gguf_export, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="`pip install gguf`"):
        export_gguf(random_model(CFG), tokenizer, tmp_path / "out.gguf")
