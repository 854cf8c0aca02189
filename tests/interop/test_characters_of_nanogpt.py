"""Import a character model of nanoGPT and train on; its tokenizer has no end of text."""

import numpy as np
import pytest
import torch

from llm_scratch.cli import main
from llm_scratch.config import DataConfig, GPTConfig, RunConfig
from llm_scratch.data.corpus import encode_documents, prepare, start_id
from llm_scratch.errors import UserError
from llm_scratch.loading import load
from llm_scratch.tokenizers import CharTokenizer

TEXT = "the hen sat on the red mat, and the fox ran off.\n" * 20
V, T, C = len(set(TEXT)), 8, 12
WORDS = """--data.val-fraction 0.2 --train.steps 2 --train.batch-size 2 --train.eval-every 2
    --train.eval-batches 1 --train.sample-every 2 --train.prompt XYZ --train.warmup-steps 0
    --device cpu"""


@pytest.fixture
def nano(tmp_path, monkeypatch):
    """Return a folder with nanoGPT's input.txt and the ckpt.pt of a compiled model in DDP."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input.txt").write_text(TEXT)
    block = {"ln_1.weight": (C,), "attn.c_attn.weight": (3 * C, C), "attn.c_proj.weight": (C, C)}
    block |= {"ln_2.weight": (C,), "mlp.c_fc.weight": (4 * C, C), "mlp.c_proj.weight": (C, 4 * C)}
    sizes = {"wte.weight": (V, C), "wpe.weight": (T, C), "ln_f.weight": (C,)} | {
        f"h.0.{k}": v for k, v in block.items()
    }
    torch.manual_seed(1)
    state = {
        f"module._orig_mod.transformer.{name}": 0.1 * torch.randn(size)
        for name, size in sizes.items()
    }
    state["module._orig_mod.lm_head.weight"] = state["module._orig_mod.transformer.wte.weight"]
    args = {
        "n_layer": 1,
        "n_head": 3,
        "n_embd": C,
        "block_size": T,
        "bias": False,
        "vocab_size": V,
        "dropout": 0.0,
    }
    torch.save({"model": state, "model_args": args}, "ckpt.pt")
    return tmp_path


def test_training_continues_from_an_imported_character_model(nano, capsys):
    assert (
        main(
            [
                "import",
                "ckpt.pt",
                "--tokenizer",
                "chars:input.txt",
                "--out",
                "run",
                "--preset",
                "verdict",
            ]
        )
        == 0
    )
    source = [
        "--data.source",
        "file:input.txt",
        "--data.split",
        "tokens",
        "--data.order",
        "shuffled",
    ]
    assert (
        main(["train", "verdict", "--from", "run", "--out", "on", *source, *WORDS.split()]) == 0
    ), capsys.readouterr().err
    output = " ".join(capsys.readouterr().out.split())
    assert "samples cannot begin with 'XYZ'" in output
    assert "using 'the hen '" in output
    assert load("on")[0].cfg.n_heads == 3
    assert main(["evaluate", "on"]) == 0, capsys.readouterr().err
    assert main(["train", "--resume", "on"]) == 0, capsys.readouterr().err


CHARACTERS = CharTokenizer.train([TEXT], end_of_text=False)


def test_bytes_are_counted_without_an_end_of_text_token(nano):
    config = RunConfig(
        GPTConfig(vocab_size=V, context_length=T),
        DataConfig("file:input.txt", "chars", val_fraction=0.2),
    )
    corpus = prepare(config, CHARACTERS)
    assert corpus.val_bytes + 1 == len(corpus.val) == len(TEXT) - int(len(TEXT) * 0.8)
    assert np.array_equal(np.concatenate([corpus.train, corpus.val]), CHARACTERS.encode(TEXT))


def test_settings_that_need_an_end_of_text_token_raise():
    with pytest.raises(
        UserError,
        match=r"2 documents: this tokenizer has no <\|endoftext\|> to separate them; join them",
    ):
        encode_documents(["the", "hen"], CHARACTERS)
    with pytest.raises(
        UserError,
        match="data.order 'documents': this tokenizer has no .* use --data.order shuffled",
    ):
        start_id(DataConfig(order="documents"), CHARACTERS)
