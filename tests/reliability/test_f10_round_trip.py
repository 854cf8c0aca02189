"""F10: a round trip through transformers or GGUF keeps bits, logits and ids."""

import random
from dataclasses import replace

import pytest
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.interop.gguf_export import export_gguf
from llm_scratch.interop.hf_compare import logits_differ
from llm_scratch.interop.hf_export import export_hf, sample_texts
from llm_scratch.interop.hf_tokenizer import write_tokenizer
from llm_scratch.loading import load
from llm_scratch.model import build
from llm_scratch.tokenizers import CharTokenizer
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.locate import open_tokenizer

transformers = pytest.importorskip(
    "transformers", reason="transformers reads the export; install the hf extra"
)
CFG = GPTConfig(vocab_size=300, context_length=48, emb_dim=48, n_heads=4, n_layers=3, drop_rate=0.0)
KINDS = [
    replace(CFG, tie_embeddings=tied, qkv_bias=bias, activation=activation)
    for tied, bias, activation in (
        (True, True, "gelu_tanh"),
        (False, False, "gelu_tanh"),
        (True, False, "gelu"),
        (False, True, "gelu"),
    )
]
TEXT = "the cat sat on the mat, and the hat — naïve 😀\n\t" * 20
TEXTS = 10_000
"""in all, over `shares`"""


def random_model(cfg):
    torch.manual_seed(11)
    model = build(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    return model


def slices(text, n, seed):
    """n substrings of a text, of 1 to 400 characters."""
    draw = random.Random(seed)
    return [
        text[at : at + draw.randrange(1, 400)]
        for at in (draw.randrange(len(text)) for _ in range(n))
    ]


def test_f10_tensors_and_logits_survive_a_round_trip(tmp_path, measured):
    tokenizer, largest = ByteBPE.train([TEXT], 285), 0.0
    for i, cfg in enumerate(KINDS):
        model, folder = random_model(cfg), tmp_path / str(i)
        assert export_hf(model, tokenizer, folder) is not None
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        theirs.save_pretrained(tmp_path / f"theirs {i}", max_shard_size="40KB")
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / f"theirs {i}")
        for back in (load(folder)[0], load(tmp_path / f"theirs {i}")[0]):
            largest = max(largest, logits_differ(back, theirs), logits_differ(model, theirs))
            own = dict(back.named_parameters())
            assert all(
                torch.equal(own[name], parameter) for name, parameter in model.named_parameters()
            )
    assert largest <= 1e-5
    measured(
        "F10",
        f"{len(KINDS)} kinds of GPT: every tensor bit-equal, logits within {largest:.0e}",
        "tensors bit-equal, logits within 1e-5",
    )


def test_f10_ids_of_10000_texts_survive_a_round_trip(tmp_path, data_dir, gpt2, measured):
    """Compare ids of a BPE trained here, a character tokenizer and GPT-2's BPE.

    The texts are made of their tokens, of arbitrary letters, and of Shakespeare.
    """
    shakespeare = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8")
    trained = ByteBPE.train([TEXT], 285)
    chars = CharTokenizer.train([shakespeare])
    full = ByteBPE.from_tiktoken(gpt2)
    shares = (
        (trained, sample_texts(trained, 2000) + slices(shakespeare, 1000, 1)),
        (chars, sample_texts(chars, 1000) + slices(shakespeare, 1000, 2)),
        (full, sample_texts(full, 3000) + slices(shakespeare, 2000, 3)),
    )
    assert full.n_vocab == 50257
    assert sum(len(texts) for _, texts in shares) == TEXTS
    for i, (known, texts) in enumerate(shares):
        folder = tmp_path / str(i)
        folder.mkdir()
        write_tokenizer(known, folder, CFG.context_length)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        ids = [known.encode(text, allowed_special="all") for text in texts]
        assert theirs(texts, verbose=False)["input_ids"] == ids
        back = open_tokenizer(folder)
        assert [back.encode(text, allowed_special="all") for text in texts] == ids
        assert [back.decode(row) for row in ids] == texts
        if known is full:
            assert ids == [gpt2.encode(text, allowed_special="all") for text in texts]
    measured(
        "F10",
        f"ids of {TEXTS:,} texts equal: half with GPT-2's vocabulary, 4,000 from Shakespeare",
        "equal ids on 10,000 texts",
    )


def test_f10_gguf_file_survives_a_round_trip(tmp_path, measured):
    """In float32: bit-equal tensors and logits, and equal ids on 10,000 texts."""
    pytest.importorskip("gguf", reason="writes the files; install the gguf extra")
    tokenizer = ByteBPE.train([TEXT], 285)
    texts = sample_texts(tokenizer, TEXTS)
    ids = [tokenizer.encode(text, allowed_special="all") for text in texts]
    kinds = [cfg for cfg in KINDS if cfg.activation == "gelu_tanh"]
    for i, cfg in enumerate(kinds):
        model, path = random_model(cfg), tmp_path / f"{i}.gguf"
        assert export_gguf(model, tokenizer, path, "f32").logits_difference == 0
        back, back_tokenizer = load(path)
        own = dict(back.named_parameters())
        assert all(
            torch.equal(own[name], parameter) for name, parameter in model.named_parameters()
        )
        assert [back_tokenizer.encode(text, allowed_special="all") for text in texts] == ids
    measured("F10", f"GGUF: {len(kinds)} kinds bit-equal, ids of {TEXTS:,} texts", "bit-equal")
