"""transformers reads our export with bit-equal tensors, equal logits and equal ids.

A folder that would differ is not written.
"""

import json
import shutil
import sys
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.errors import CHECKPOINT, RESOURCES, USAGE, UserError
from llm_scratch.generation.decode import encode_prompt, generate
from llm_scratch.interop import hf_export
from llm_scratch.interop.hf import EXTRA_KEY
from llm_scratch.interop.hf_export import Checked, export_hf, sample_texts
from llm_scratch.interop.hf_tokenizer import read_start_id
from llm_scratch.loading import load
from llm_scratch.model import build
from llm_scratch.model.quantized import quantize
from llm_scratch.storage import files
from llm_scratch.tokenizers import TOKENIZERS, CharTokenizer
from llm_scratch.tokenizers.locate import open_tokenizer

tokenizers = pytest.importorskip(
    "tokenizers", reason="comes with transformers; install the hf extra"
)
transformers = pytest.importorskip(
    "transformers", reason="transformers reads what is written; install the hf extra"
)
TEXTS = ["the cat sat on the mat, and the hat — naïve 😀\n\t" * 20]
CFG = GPTConfig(vocab_size=300, context_length=24, emb_dim=24, n_heads=3, n_layers=2, drop_rate=0.0)
KINDS = {
    "as the notebooks have it": {},
    "as GPT-2 has it": {"qkv_bias": True, "tie_embeddings": True, "init": "gpt2"},
    "tied, without biases": {"tie_embeddings": True, "init": "mimetic", "drop_rate": 0.1},
    "the exact GELU": {"activation": "gelu", "qkv_bias": True},
}


def model_of(cfg):
    torch.manual_seed(3)
    model = build(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


@pytest.fixture(scope="module")
def bpe():
    return TOKENIZERS["bpe"](TEXTS, 280)


@pytest.fixture(scope="module")
def written(bpe, tmp_path_factory):
    """A model, its tokenizer, and their exported folder; do not change it."""
    model, folder = model_of(CFG), tmp_path_factory.mktemp("export") / "ours"
    model.start_id = bpe.eot_token
    assert export_hf(model, bpe, folder).texts == 1000
    return model, folder


@pytest.mark.parametrize("kind", KINDS)
def test_exported_model_equals_transformers_model(tmp_path, bpe, kind):
    model = model_of(replace(CFG, **KINDS[kind]))
    folder = tmp_path / "new" / "ours"
    checked = export_hf(model, bpe, folder)
    assert checked.difference <= 1e-5
    files = {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    }
    assert {path.name for path in folder.iterdir()} == files
    assert [path.name for path in folder.parent.iterdir()] == ["ours"]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(theirs) is transformers.GPT2LMHeadModel
    assert theirs.dtype == torch.float32
    assert (theirs.lm_head.weight is theirs.transformer.wte.weight) == model.cfg.tie_embeddings
    back, _ = load(folder)
    assert back.cfg == replace(model.cfg, init="torch")
    own = dict(model.named_parameters())
    assert own.keys() == dict(back.named_parameters()).keys()
    assert all(torch.equal(own[name], parameter) for name, parameter in back.named_parameters())


def test_exported_tensors_equal_those_of_save_pretrained(written, tmp_path):
    _, folder = written
    transformers.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    ours, theirs = (
        safetensors.torch.load_file(path / "model.safetensors") for path in (folder, tmp_path)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_start_id_survives_export(written, bpe):
    _, folder = written
    assert load(folder)[0].start_id == bpe.eot_token
    config = json.loads((folder / "config.json").read_text())
    assert config["bos_token_id"] == config["eos_token_id"] == bpe.eot_token


def test_exported_folder_has_a_start_token_other_than_the_end_token(bpe, tmp_path):
    model = build(CFG)
    model.start_id = 7
    (tmp_path / "out").mkdir()
    hf_export.write(model, bpe, tmp_path / "out")
    for name in ("config.json", "generation_config.json"):
        config = json.loads((tmp_path / "out" / name).read_text())
        assert (config["bos_token_id"], config["eos_token_id"]) == (7, bpe.eot_token), name


def test_transformers_generates_the_same_text(written, bpe):
    model, folder = written
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("the cat", return_tensors="pt").input_ids
    assert ids[0].tolist() == encode_prompt(model, bpe, "the cat")
    generated = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0
    )
    for position in range(ids.shape[1], generated.shape[1]):
        assert model(generated[:, :position])[0, -1].argmax() == generated[0, position]


@pytest.mark.parametrize("kind", ["bpe", "chars"])
@pytest.mark.parametrize("has_start", [True, False])
def test_transformers_pipeline_begins_a_prompt_with_the_start_id(tmp_path, bpe, kind, has_start):
    """A model that learned one document per row generates worse text without the start token."""
    tokenizer = bpe if kind == "bpe" else CharTokenizer.train(TEXTS)
    model = model_of(CFG)
    model.start_id = tokenizer.eot_token if has_start else None
    export_hf(model, tokenizer, tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    again.save_pretrained(tmp_path / "again")
    for folder in ("ours", "again"):
        their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / folder)
        pipeline = transformers.pipeline("text-generation", model=theirs, tokenizer=their_tokenizer)
        (generated,) = pipeline(
            "the cat", max_new_tokens=5, do_sample=False, pad_token_id=0, return_tensors=True
        )
        ids = encode_prompt(model, tokenizer, "the cat")
        want = list(generate(model, torch.tensor([ids]), 5, temperature=0.0)[0])
        assert generated["generated_token_ids"] == want
        assert read_start_id(tmp_path / folder) == model.start_id
        assert open_tokenizer(tmp_path / folder).encode("the cat") == tokenizer.encode("the cat")


def test_reloaded_folder_without_our_settings_starts_with_its_tokenizers_token(
    written, bpe, tmp_path
):
    _, folder = written
    shutil.copytree(folder, tmp_path / "theirs")
    config = json.loads((folder / "config.json").read_text())
    assert config.pop(EXTRA_KEY)["start_id"] == bpe.eot_token
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
    assert load(tmp_path / "theirs")[0].start_id == bpe.eot_token


@pytest.mark.parametrize("kind", ["bpe", "chars", "gpt2"])
def test_exported_tokenizer_gives_equal_ids_and_texts(tmp_path, bpe, kind, request):
    tokenizer = {
        "bpe": lambda: bpe,
        "chars": lambda: CharTokenizer.train(TEXTS),
        "gpt2": lambda: request.getfixturevalue("gpt2"),
    }[kind]()
    hf_export.write_tokenizer(tokenizer, tmp_path, 24)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = sample_texts(tokenizer, 1000)
    texts += (
        ["", "<|endoftext|>", "\n<|endoftext|> \n", " "]
        if kind != "chars"
        else ["", "a<|endoftext|>t"]
    )
    want = [tokenizer.encode(text, allowed_special="all") for text in texts]
    assert theirs(texts, verbose=False)["input_ids"] == want
    assert theirs.eos_token_id == tokenizer.eot_token
    assert theirs.batch_decode(want, clean_up_tokenization_spaces=False) == [
        tokenizer.decode(ids) for ids in want
    ]
    back = open_tokenizer(tmp_path)
    assert [back.encode(text, allowed_special="all") for text in texts] == want


def another_model(monkeypatch):
    tensors = hf_export.tensors
    monkeypatch.setattr(
        hf_export,
        "tensors",
        lambda *args: {
            k: v * 1.1 if "h.1.mlp.c_proj.w" in k else v for k, v in tensors(*args).items()
        },
    )


def another_tokenizer(monkeypatch):
    write_tokenizer = hf_export.write_tokenizer
    monkeypatch.setattr(
        hf_export,
        "write_tokenizer",
        lambda tokenizer, *rest: write_tokenizer(TOKENIZERS["bpe"](["zyx" * 99], 258), *rest[:2]),
    )


def no_start(monkeypatch):
    write_tokenizer = hf_export.write_tokenizer
    monkeypatch.setattr(
        hf_export,
        "write_tokenizer",
        lambda tokenizer, folder, length, start_id: write_tokenizer(tokenizer, folder, length),
    )


def another_prompt(monkeypatch):
    check = hf_export.check_continuation

    def without_start(model, tokenizer, pipeline, texts):
        alone = tokenizers.processors.TemplateProcessing(single="$A", pair="$A $B")
        pipeline.tokenizer.backend_tokenizer.post_processor = alone
        check(model, tokenizer, pipeline, texts)

    monkeypatch.setattr(hf_export, "check_continuation", without_start)


def another_continuation(monkeypatch):
    check = hf_export.check_continuation

    def with_another_model(model, tokenizer, pipeline, texts):
        pipeline.model.lm_head.weight.data.neg_()
        check(model, tokenizer, pipeline, texts)

    monkeypatch.setattr(hf_export, "check_continuation", with_another_model)


def full_disk(monkeypatch):
    def write(path, pieces):
        path.write_bytes(next(iter(pieces)))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.filesystem, "write", write)


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (another_model, CHECKPOINT, "transformers reads another model: logits differ by"),
        (another_tokenizer, CHECKPOINT, "transformers reads another tokenizer: the ids of"),
        (no_start, CHECKPOINT, "transformers reads another tokenizer: the ids of"),
        (another_prompt, CHECKPOINT, "transformers begins the prompt .* with other ids"),
        (
            another_continuation,
            CHECKPOINT,
            "transformers continues the prompt .* with another token",
        ),
        (full_disk, RESOURCES, "No space left on device"),
    ],
)
def test_export_leaves_no_folder_when_the_exported_model_would_differ(
    tmp_path, bpe, monkeypatch, fault, code, message
):
    fault(monkeypatch)
    model = model_of(CFG)
    model.start_id = bpe.eot_token
    with pytest.raises(UserError, match=message) as error:
        export_hf(model, bpe, tmp_path / "ours")
    assert error.value.code == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_export_leaves_existing_folder_unchanged(tmp_path, bpe, taken):
    place = tmp_path / "ours"
    if taken == "folder":
        place.mkdir()
    (place if taken == "file" else place / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; choose a new or empty folder") as error:
        export_hf(model_of(CFG), bpe, place)
    assert error.value.code == USAGE
    assert (place if taken == "file" else place / "diary.txt").read_text() == "mine"


def test_empty_folder_is_accepted(tmp_path, bpe):
    (tmp_path / "ours").mkdir()
    assert isinstance(export_hf(model_of(CFG), bpe, tmp_path / "ours"), Checked)


def test_export_rejects_unsupported_model_with_reason(tmp_path, bpe):
    with pytest.raises(UserError, match="transformers has no tokenizer of words"):
        export_hf(model_of(CFG), TOKENIZERS["words"](TEXTS, 20), tmp_path / "ours")
    model = model_of(CFG)
    model.cfg = replace(CFG, architecture="mine")
    with pytest.raises(UserError, match="architecture 'mine': transformers has no such model"):
        export_hf(model, bpe, tmp_path / "ours")
    assert list(tmp_path.iterdir()) == []


def test_missing_transformers_makes_no_claim_of_equality(tmp_path, bpe, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert export_hf(model_of(CFG), bpe, tmp_path / "ours") is None
    assert (tmp_path / "ours" / "model.safetensors").is_file()


class Bytes:
    """A custom tokenizer that works and can be saved but has no counterpart in transformers."""

    name, n_vocab, eot_token = "my bytes", 257, 256

    def encode(self, text, **more):
        return list(text.encode())

    def decode(self, ids):
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    decode_bytes = decode

    def save(self, folder):
        raise AssertionError("nothing may be written")


def tiktoken_without_bytes():
    """A tiktoken encoding whose vocabulary lacks most bytes, so that no merges make it."""
    tiktoken = pytest.importorskip("tiktoken", reason="the test exports tiktoken's encodings")
    ranks = {b"a": 0, b"b": 1, b"abab": 2}
    return tiktoken.Encoding(
        "strange", pat_str=r"\w+|\W", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 3}
    )


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (
            Bytes,
            (
                "the tokenizer 'my bytes' (Bytes) cannot be exported to transformers:"
                " it is neither byte-level BPE nor characters"
            ),
        ),
        (
            tiktoken_without_bytes,
            (
                "the tokenizer 'strange' (Encoding) cannot be exported to transformers:"
                " its vocabulary is not"
            ),
        ),
    ],
    ids=["of one's own", "tiktoken's"],
)
def test_tokenizer_unknown_to_transformers_is_refused_before_writing(
    tmp_path, tokenizer, words, monkeypatch
):
    monkeypatch.setattr(hf_export, "write", None)
    with pytest.raises(UserError) as error:
        export_hf(model_of(CFG), tokenizer(), tmp_path / "new" / "ours")
    assert str(error.value).startswith(words)
    assert str(error.value).endswith("; train with --data.tokenizer bpe, gpt2 or chars")
    assert error.value.code == USAGE
    assert not list(tmp_path.iterdir())


def test_tiktokens_gpt2_is_not_refused(gpt2):
    from llm_scratch.interop.hf_tokenizer import check_exportable

    check_exportable(gpt2)


def test_quantized_model_is_refused(bpe, tmp_path):
    model = model_of(CFG)
    quantize(model, 8)
    with pytest.raises(UserError, match="quantized to 8 bits and cannot be exported") as caught:
        export_hf(model, bpe, tmp_path / "out")
    assert caught.value.code == USAGE
    assert not (tmp_path / "out").exists()
