"""llama.cpp reads our GGUF files as the same model: ids of texts, logits of a prompt, 64 ids; and
writes the same 64 tokens as we and transformers.

llama-cpp-python is compiled when it is installed (`pip install llama-cpp-python`, ten minutes).
"""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from gguf_models import CFG, FAMILIES, TEXT, random_model
from sentencepiece_style import sentencepiece, texts

from llm_scratch.generation.decode import generate
from llm_scratch.interop.gguf_export import export_gguf
from llm_scratch.interop.hf_export import export_hf, sample_texts
from llm_scratch.loading import load
from llm_scratch.presets import preset
from llm_scratch.tokenizers import LibraryTokenizer
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.training.loop import train

pytest.importorskip("gguf", reason="writes the files; install the gguf extra")
llama_cpp = pytest.importorskip("llama_cpp", reason="the reference: pip install llama-cpp-python")
pytestmark = pytest.mark.slow
WIDE = replace(CFG, emb_dim=64, n_heads=4, n_layers=3, ff_dim=None, context_length=128)
PROMPT = "the cat sat on the mat"
N_NEW = 64
TOLERANCE = 5e-3
"""of the logits, relative to the largest: llama.cpp rounds activations to 16 bits in its GELU table
and, for quantized matrices, the activations to 8 bits"""


def theirs_of(path):
    return llama_cpp.Llama(str(path), n_ctx=128, n_batch=128, logits_all=True, verbose=False)


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE.train([TEXT], 280)


@pytest.mark.parametrize("format", ["f32", "f16", "q8_0", "q4_0"])
def test_llama_cpp_reads_the_same_model(format, tokenizer, tmp_path):
    model, path = random_model(WIDE), tmp_path / "out.gguf"
    model.start_id = tokenizer.eot_token
    export_gguf(model, tokenizer, path, format)
    back, theirs = load(path)[0], theirs_of(path)
    for text in (PROMPT, *sample_texts(tokenizer, 200)):
        own = [tokenizer.eot_token, *tokenizer.encode(text, allowed_special="all")]
        assert theirs.tokenize(text.encode(), add_bos=True, special=True) == own, text
    ids = theirs.tokenize(PROMPT.encode(), add_bos=True)
    theirs.eval(ids)
    want = np.array(theirs.scores[: len(ids)])
    got = back(torch.tensor([ids]))[0].detach().numpy()
    assert np.abs(got - want).max() / np.abs(want).max() <= (
        TOLERANCE if format in ("f32", "f16") else 10 * TOLERANCE
    )


@pytest.mark.parametrize("kind", ["Llama", "Gemma"])
def test_llama_cpp_encodes_the_same_sentencepiece_ids(kind, tmp_path):
    """Special tokens are compared alone: after one, llama.cpp puts another space."""
    pytest.importorskip("tokenizers", reason="runs these tokenizers; install the hf extra")
    tokenizer = LibraryTokenizer(sentencepiece(kind), end_of_text="</s>")
    model = random_model(replace(FAMILIES["llama"], vocab_size=tokenizer.n_vocab, n_layers=1))
    export_gguf(model, tokenizer, tmp_path / "out.gguf")
    theirs = theirs_of(tmp_path / "out.gguf")
    for text in texts():
        own = tokenizer.encode(text)
        assert theirs.tokenize(text.encode(), add_bos=False, special=False) == own, text
    assert theirs.tokenize(b"</s>", add_bos=False, special=True) == [2]


@pytest.mark.parametrize("name", FAMILIES)
def test_llama_cpp_computes_the_same_logits_in_every_family(name, tokenizer, tmp_path):
    """Past two sliding windows."""
    model, path = random_model(FAMILIES[name]), tmp_path / "out.gguf"
    export_gguf(model, tokenizer, path, "f32")
    theirs, ids = theirs_of(path), torch.randint(290, (40,)).tolist()
    theirs.eval(ids)
    want = np.array(theirs.scores[: len(ids)])
    got = model(torch.tensor([ids]))[0].detach().numpy()
    assert np.abs(got - want).max() / np.abs(want).max() <= TOLERANCE


@pytest.mark.parametrize("cfg", [WIDE, FAMILIES["llama"], FAMILIES["qwen3"]])
def test_llama_cpp_generates_the_same_64_ids(cfg, tokenizer, tmp_path):
    model, path = random_model(cfg), tmp_path / "out.gguf"
    with torch.no_grad():
        model.out_head.weight.mul_(8)  # clear winners, so that rounding decides nothing
    export_gguf(model, tokenizer, path, "f32")
    ids = tokenizer.encode(PROMPT)
    want = generate(model, torch.tensor([ids]), N_NEW, temperature=0)[0].tolist()
    assert ids + continuation(path, ids) == want


def continuation(path, ids):
    """The next 64 ids of a file's model by llama.cpp, greedy."""
    written = theirs_of(path).generate(ids, temp=0.0, repeat_penalty=1.0)
    return list(islice(written, N_NEW))


def test_llama_tiny_generates_the_same_64_tokens_as_transformers_and_llama_cpp(tmp_path):
    """A short training: sentences have begun, and no two tokens are close."""
    transformers = pytest.importorskip(
        "transformers", reason="reads a folder; install the hf extra"
    )
    config = preset("llama-tiny")
    short = replace(config.train, steps=120, eval_every=120, save_every=120, sample_every=0)
    train(replace(config, train=short), tmp_path / "run")
    model, tokenizer = load(tmp_path / "run")
    export_hf(model, tokenizer, tmp_path / "hf")
    export_gguf(model, tokenizer, tmp_path / "out.gguf", "f32")
    prompt = [model.start_id, *tokenizer.encode("Once upon a time")]
    ours = generate(model, torch.tensor([prompt]), N_NEW, temperature=0)[0].tolist()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    theirs.generation_config.eos_token_id = None  # to continue after the end of a story
    written = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=N_NEW, do_sample=False, pad_token_id=0
    )
    assert written[0].tolist() == ours
    assert prompt + continuation(tmp_path / "out.gguf", prompt) == ours
