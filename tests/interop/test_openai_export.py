"""The exported release has TensorFlow's bytes and reads back as the same model.

A model that the format cannot hold is refused.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.interop.openai import load_gpt2
from llm_scratch.interop.openai_export import save_gpt2
from llm_scratch.interop.tensorflow_writer import one_table, write
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers.bpe import ByteBPE

TINY = Path(__file__).parent / "tiny_gpt2"
FILES = (
    "model.ckpt.index",
    "model.ckpt.data-00000-of-00001",
    "hparams.json",
    "vocab.bpe",
    "encoder.json",
)
SMALL = {
    "vocab_size": 270,
    "context_length": 8,
    "emb_dim": 12,
    "n_heads": 3,
    "n_layers": 3,
    "tie_embeddings": True,
}
TOKENIZER = ByteBPE.train(["the theatre, the other theatre " * 20], 265)


def test_tensorflow_writer_equals_tensorflow_byte_for_byte(tmp_path):
    write(tmp_path / "model.ckpt", dict(np.load(TINY / "expected.npz")))
    for name in FILES[:2]:
        assert (tmp_path / name).read_bytes() == (TINY / name).read_bytes(), name


def test_release_read_and_written_gives_the_same_files(tmp_path):
    save_gpt2(*load_gpt2(TINY), tmp_path / "new" / "124M")
    for name in FILES:
        assert (tmp_path / "new" / "124M" / name).read_bytes() == (TINY / name).read_bytes(), name


@pytest.mark.parametrize("bias", [True, False])
def test_exported_release_loads_as_the_same_model(tmp_path, bias):
    torch.manual_seed(1)
    model = GPTModel(SMALL | {"qkv_bias": bias}).eval()
    save_gpt2(model, TOKENIZER, tmp_path)
    again, tokenizer = load_gpt2(tmp_path)
    state = again.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(state.pop(name), tensor), name
    assert not bias or not state
    assert not any(tensor.any() for tensor in state.values())  # the biases that it did not have
    ids = torch.tensor([tokenizer.encode("the other")])
    torch.testing.assert_close(again.eval()(ids), model(ids))
    text = "another theatre, 7 ħ"
    assert tokenizer.encode(text) == TOKENIZER.encode(text)
    assert tokenizer.eot_token == TOKENIZER.eot_token


@pytest.mark.parametrize("change", [{"tie_embeddings": False}, {"activation": "relu"}])
def test_openai_export_refuses_another_architecture(tmp_path, change):
    model = GPTModel(SMALL | change)
    with pytest.raises(
        UserError,
        match=(
            "OpenAI's release holds a model with (tie_embeddings=True|activation=gelu_tanh),"
            " and this one has"
        ),
    ):
        save_gpt2(model, TOKENIZER, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_save_gpt2_rejects_a_tokenizer_with_another_split_pattern(tmp_path):
    tokenizer = ByteBPE.train(["the theatre"], 257, pattern=r"\s+|\S+")
    with pytest.raises(UserError, match="needs GPT-2's split pattern"):
        save_gpt2(GPTModel(SMALL), tokenizer, tmp_path / "new")


def test_openai_export_refuses_ids_with_gaps(tmp_path):
    tokenizer = ByteBPE([], special_tokens={"<|endoftext|>": 300})
    with pytest.raises(UserError, match="without gaps"):
        save_gpt2(GPTModel(SMALL), tokenizer, tmp_path / "new")


def test_tensorflow_writer_writes_an_empty_table_and_a_key_of_255s():
    assert len(one_table([])) > 48
    assert b"\xff\xff" in one_table([(b"\xff\xff", b"")])
