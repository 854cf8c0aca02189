"""The registry of tokenizers: saving, loading, GPT-2's without a network, a custom one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import llm_scratch.tokenizers as tokenizers
from llm_scratch.errors import UserError
from llm_scratch.tokenizers import (
    TOKENIZERS,
    ByteBPE,
    SimpleTokenizerV1,
    load_tokenizer,
    save_tokenizer,
)

TEXT = "the more the merrier, said the painter. "


@pytest.mark.parametrize("name", ["words", "chars", "bpe", "gpt2"])
def test_every_tokenizer_is_equal_after_saving_and_loading(name, gpt2, tmp_path):
    tokenizer = TOKENIZERS[name]([TEXT * 20], 260 if name == "bpe" else None)
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    ids = tokenizer.encode(
        TEXT + "<|endoftext|>", allowed_special={"<|endoftext|>"}, disallowed_special=()
    )
    assert ids[-1] == tokenizer.eot_token == again.eot_token
    assert again.encode(TEXT + "<|endoftext|>", allowed_special={"<|endoftext|>"}) == ids
    assert again.n_vocab == tokenizer.n_vocab > max(ids)
    assert again.decode(ids[:-1]) == tokenizer.decode(ids[:-1])
    assert again.decode_bytes(ids[:-1]).decode() == again.decode(ids[:-1])
    assert name == "words" or again.decode(ids[:-1]) == TEXT
    assert load_tokenizer(tmp_path / "tokenizer.json").n_vocab == tokenizer.n_vocab


def test_simple_tokenizer_v1_keeps_its_unknown_word_policy(tmp_path):
    save_tokenizer(SimpleTokenizerV1({"a": 0}, unknown="drop"), tmp_path)
    assert load_tokenizer(tmp_path).encode("a b") == [0]


def test_vocab_size_without_effect_is_an_error(gpt2):
    assert TOKENIZERS["chars"](["ab"], 3).n_vocab == 3
    with pytest.raises(UserError, match="no effect with chars, whose size for this text is 3"):
        TOKENIZERS["chars"](["ab"], 4096)
    assert TOKENIZERS["gpt2"]([], 50257) is gpt2
    with pytest.raises(UserError, match="no effect with gpt2, which has 50257"):
        TOKENIZERS["gpt2"]([], 4096)


def test_bpe_vocabulary_size_is_4096_by_default():
    with pytest.warns(UserWarning, match="vocab_size=4096: the text has pairs"):
        assert TOKENIZERS["bpe"]([TEXT]).n_vocab < 4096


def test_custom_tokenizer_is_registered_by_one_line(monkeypatch, tmp_path):
    class Upper(ByteBPE):
        """A tokenizer that decodes to capital letters."""

        def decode(self, ids, errors="replace"):
            return super().decode(ids, errors).upper()

    monkeypatch.setitem(
        TOKENIZERS, "upper", lambda texts, vocab_size=None: Upper.train(texts, vocab_size)
    )
    tokenizer = TOKENIZERS["upper"]([TEXT], 260)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT.upper()
    save_tokenizer(tokenizer, tmp_path)
    assert load_tokenizer(tmp_path).decode(tokenizer.encode(TEXT)) == TEXT

    class Mine:
        def save(self, folder):
            tokenizers.tokenizer_json.write_tokenizer_json(folder, {"model": {"type": "mine"}})

    save_tokenizer(Mine(), tmp_path)
    monkeypatch.setitem(tokenizers.MODEL_TYPES, "mine", lambda data, path: Mine())
    assert isinstance(load_tokenizer(tmp_path), Mine)


def test_tokenizer_error_names_what_cannot_be_saved_or_loaded(tmp_path):
    with pytest.raises(UserError, match="cannot save a object"):
        save_tokenizer(object(), tmp_path)
    with pytest.raises(UserError, match="No such file.*expected a tokenizer file") as caught:
        load_tokenizer(tmp_path)
    assert caught.value.code == 3
    for text, reason in {
        '{"model": {"type": "wrods"}}': (
            "unknown tokenizer model in .*'wrods'; did you mean 'words'"
        ),
        '{"model": {"type": "words", "unknown": "unk", "vocab": {"a": "0"}}}': "is damaged",
        '{"model": {"type": "chars"}}': "is damaged .KeyError: 'characters'",
        '{"model": {"type": "chars", "characters": 5}}': "is damaged",
    }.items():
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(UserError, match=reason):
            load_tokenizer(tmp_path)


def gpt2_elsewhere(tmp_path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Request GPT-2's tokenizer in a process with its own home, without this machine's caches."""
    code = (
        "from llm_scratch.tokenizers import TOKENIZERS;"
        " print(TOKENIZERS['gpt2']().encode('hello world'))"
    )
    keep = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("TIKTOKEN", "LLM_SCRATCH", "DATA_GYM"))
    }
    keep |= {
        "LLM_SCRATCH_CACHE": str(tmp_path / "cache"),
        "DATA_GYM_CACHE_DIR": str(tmp_path / "gym"),
        "LLM_SCRATCH_OFFLINE": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env=keep | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_gpt2_without_network_and_cache_suggests_a_fix(tmp_path):
    done = gpt2_elsewhere(tmp_path)
    assert "UserError: GPT-2's vocabulary is not on this machine" in done.stderr
    assert "set TIKTOKEN_CACHE_DIR" in done.stderr
    assert "LLM_SCRATCH_DATA" in done.stderr


def test_gpt2_is_found_in_the_data_folder(tmp_path, data_dir, gpt2):
    done = gpt2_elsewhere(tmp_path, LLM_SCRATCH_DATA=str(data_dir))
    assert done.stdout == "[31373, 995]\n", done.stderr


def test_importing_tokenizers_is_light():
    code = (
        "import sys, llm_scratch.tokenizers; print([m for m in ('torch', 'tiktoken', 'regex',"
        " 'rich', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
