"""Every command works on weights of other programs.

They are OpenAI's release, a folder of transformers, and a .pth of the notebooks.
"""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path

import pytest
import torch

from llm_scratch.generation.chat import ASSISTANT, STOP_STRINGS, USER, Conversation
from llm_scratch.generation.decode import stream
from llm_scratch.interop.openai_export import save_gpt2
from llm_scratch.loading import load
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import TOKENIZERS, save_tokenizer

RELEASE = Path(__file__).parents[1] / "interop" / "tiny_gpt2"
TEXT = "the hen sat on the red mat, and the fox ran off: a naïve hen.\n" * 9 + "the end"
CONTEXT = 64
SHAPE = {
    "vocab_size": 261,
    "context_length": CONTEXT,
    "emb_dim": 64,
    "n_heads": 1,
    "n_layers": 2,
    "drop_rate": 0.1,
}


def random_model(**changes):
    torch.manual_seed(3)
    model = GPTModel(SHAPE | changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    return model


def openai(folder, llm):
    """A folder in the format of OpenAI's release."""
    _, tokenizer = load(RELEASE)
    save_gpt2(random_model(qkv_bias=True, tie_embeddings=True), tokenizer, folder / "release")
    return folder / "release"


def transformers_folder(folder, llm):
    """A folder that transformers wrote, the weights in several files."""
    transformers = pytest.importorskip(
        "transformers", reason="transformers writes its own folders; install the hf extra"
    )
    torch.manual_seed(3)
    config = {
        "vocab_size": 261,
        "n_positions": CONTEXT,
        "n_embd": 24,
        "n_head": 3,
        "n_layer": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**config, initializer_range=0.2)
    ).eval()
    theirs.save_pretrained(folder / "theirs", max_shard_size="10KB")
    assert len(list((folder / "theirs").glob("model-0*"))) > 2
    save_tokenizer(TOKENIZERS["bpe"]([TEXT], 261), folder / "theirs")
    return folder / "theirs"


def notebooks(folder, llm):
    """A run made of the notebooks' .pth by `import`."""
    torch.save(random_model().state_dict(), folder / "model.pth")
    save_tokenizer(TOKENIZERS["bpe"]([TEXT], 261), folder)
    assert llm("import", folder / "model.pth", "--heads", 1, "--out", folder / "imported").code == 0
    return folder / "imported"


@pytest.fixture(
    params=[openai, transformers_folder, notebooks], ids=["OpenAI", "transformers", "notebooks"]
)
def where(request, tmp_path, llm):
    """A model of another program."""
    return request.param(tmp_path, llm)


def test_generate_equals_the_library_for_loaded_models(llm, where):
    model, tokenizer = load(where)
    want = "the hen" + "".join(stream(model, tokenizer, "the hen", max_new_tokens=9, temperature=0))
    result = llm(
        "generate", where, "the hen", "--max-tokens", "9", "--temperature", "0", "--device", "cpu"
    )
    assert (result.code, result.out.rstrip("\n")) == (0, want.rstrip("\n"))


def test_chat_equals_the_library_for_loaded_models(llm, where, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("the hen\na fox\n"))
    result = llm("chat", where, "--max-tokens", "8", "--temperature", "0", "--device", "cpu")
    assert result.code == 0, result.err
    assert result.err in (
        "",
        "llm-scratch: warning: the context is full: the first turn is left out\n",
    )
    model, tokenizer = load(where)
    talk, want = Conversation(), ""
    for words in ("the hen", "a fox"):
        talk.turns.append((USER, words))
        prompt = talk.prompt(lambda text: len(tokenizer.encode(text)) <= CONTEXT - 8)
        answer = "".join(
            stream(model, tokenizer, prompt, max_new_tokens=8, temperature=0, stop=STOP_STRINGS)
        )
        talk.turns.append((ASSISTANT, answer.strip()))
        want += answer.lstrip() + "\n\n"
    assert len(want) > 8
    assert result.out.partition("commands.\n\n")[2].rstrip() == want.rstrip()


@torch.inference_mode()
def test_evaluate_equals_a_plain_computation_for_loaded_models(llm, where, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    model, tokenizer = load(where)
    ids = torch.tensor(tokenizer.encode(TEXT))
    nats = 0.0
    for start in range(
        0, len(ids) - 1, CONTEXT
    ):  # consecutive windows; the first token of the text is not predicted
        window, next_ones = ids[start : start + CONTEXT], ids[start + 1 : start + CONTEXT + 1]
        logits = model(window[None])[0, : len(next_ones)].double()
        nats -= logits.log_softmax(-1)[torch.arange(len(next_ones)), next_ones].sum().item()
    n, n_bytes = len(ids) - 1, len(TEXT.encode()) - len(tokenizer.decode_bytes([int(ids[0])]))
    result = llm("evaluate", where, "--text", tmp_path / "text.txt", "--device", "cpu")
    output = " ".join(result.out.split())
    assert f"{n:,} tokens, {n_bytes:,} bytes" in output
    assert f"loss {nats / n:.4f} nats per token" in output
    assert f"perplexity {math.exp(nats / n):,.2f} " in output
    assert f"bits per byte {nats / math.log(2) / n_bytes:.4f} ±" in output


def train(llm, where, folder, *words):
    (folder / "text.txt").write_text(TEXT * 4, encoding="utf-8")
    steps = (
        "--train.steps 2 --train.batch-size 2 --train.eval-every 2 --train.eval-batches 1"
        " --train.sample-every 0 --train.warmup-steps 0"
    )
    start = [
        "train",
        "shakespeare",
        "--from",
        where,
        "--data.source",
        f"file:{folder}/text.txt",
        "--out",
        folder / "on",
        "--device",
        "cpu",
    ]
    return llm(*start, *steps.split(), "--train.lr", "1e-9", *words)


def test_training_continues_with_a_shorter_context(llm, where, tmp_path):
    result = train(llm, where, tmp_path, "--model.context-length", "20")
    assert result.code == 0, result.err
    (old, tokenizer), (new, same) = load(where), load(tmp_path / "on")
    assert new.cfg.context_length == 20
    assert same.encode(TEXT) == tokenizer.encode(TEXT)
    weights = dict(old.named_parameters())
    weights["pos_emb.weight"] = weights["pos_emb.weight"][:20]
    for name, parameter in new.named_parameters():  # two steps with nearly zero learning rate
        torch.testing.assert_close(parameter, weights[name], rtol=1e-5, atol=1e-6, msg=name)
    rows = [
        json.loads(line) for line in (tmp_path / "on" / "metrics.jsonl").read_text().splitlines()
    ]
    assert any("loss" in row for row in rows)


def test_longer_context_is_rejected_with_the_reason(llm, where, tmp_path):
    result = train(llm, where, tmp_path, "--model.context-length", str(CONTEXT + 1))
    assert result.code == 2
    output = " ".join(result.err.split())
    assert (
        f"context_length={CONTEXT + 1} exceeds the {CONTEXT} positions that the model was trained"
        " with" in output
    )
    assert not (tmp_path / "on").exists()
