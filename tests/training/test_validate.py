"""Settings that cannot be trained with are rejected before any text is read."""

from __future__ import annotations

import pytest

from llm_scratch.config import RunConfig, from_dict
from llm_scratch.errors import UserError
from llm_scratch.presets import PRESETS, preset
from llm_scratch.tokenizers import ByteBPE
from llm_scratch.training.validate import validate


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(name):
    assert validate(preset(name)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"source": "storeis"}}, "unknown source 'storeis'; did you mean 'stories'"),
        ({"data": {"source": "file:nowhere.txt"}}, "cannot read nowhere.txt: no such file"),
        ({"data": {"source": "file:*.nowhere"}}, "no file matches"),
        ({"data": {"source": "shards:nowhere"}}, "no token shards in nowhere"),
        ({"data": {"tokenizer": "bep"}}, "unknown tokenizer 'bep'; did you mean 'bpe'"),
        ({"model": {"architecture": "gtp"}}, "unknown architecture 'gtp'"),
        (
            {"model": {"architecture": "nanochat", "init": "gpt2"}},
            "model.init: architecture 'nanochat' has no such setting",
        ),
        ({"model": {"bits": 8}}, "unknown setting 'model.bits'"),
        ({"train": {"optimizer": "adamz"}}, "unknown optimizer 'adamz'; did you mean 'adamw'"),
        ({"train": {"optimizer": "muon", "decay": "all"}}, "decay='all' has no effect on muon"),
        ({"train": {"schedule": "cosin"}}, "unknown schedule 'cosin'; did you mean 'cosine'"),
    ],
)
def test_validate_rejects_what_train_rejects(changes, message):
    with pytest.raises(UserError, match=message):
        validate(from_dict(RunConfig, changes))


def test_tokenizer_file_must_fit_the_model(tmp_path):
    ByteBPE.train(["the hen and the fox " * 9], 262).save(tmp_path / "class.json")
    data = {"tokenizer": str(tmp_path / "class.json")}
    validate(from_dict(RunConfig, {"data": data, "model": {"vocab_size": 262}}))
    with pytest.raises(
        UserError, match=r"has 262 tokens, but model.vocab_size=261; set --model.vocab-size 262"
    ):
        validate(from_dict(RunConfig, {"data": data, "model": {"vocab_size": 261}}))
