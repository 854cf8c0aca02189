"""A learner's parts in the model, the optimizer and the tokenizer of a run."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from llm_scratch.config import TrainConfig
from llm_scratch.errors import UserError
from llm_scratch.model import build
from llm_scratch.own_parts.own_model import OwnGPT
from llm_scratch.own_parts.parts import open_parts
from llm_scratch.own_parts.speed import ROUNDS, step_time_ratio
from llm_scratch.own_parts.tokenizer_parts import own_bpe
from llm_scratch.own_parts.use import TABLES, parts_in_use, use_file
from llm_scratch.presets import preset
from llm_scratch.tokenizers import TOKENIZERS, load_tokenizer, save_tokenizer
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.schedule import learning_rate

EXAMPLE = Path(__file__).parents[2] / "docs" / "own_parts_example.py"
PARTS = open_parts(EXAMPLE, "example").values
TEXT = "Anna and Ben ran and ran. The cat sat on a mat, and Anna sang. " * 5
CONFIG = preset("quickstart").override(
    ["model.vocab_size=50", "model.context_length=12", "model.emb_dim=16", "train.batch_size=2"]
)


def built(parts):
    torch.manual_seed(3)
    with parts_in_use(parts):
        model = build(CONFIG.model)
    return model.eval(), torch.rand(1)


def test_own_parts_model_has_the_packages_weights_and_random_state():
    (own, drawn), (package, expected) = built(PARTS), built({})
    assert isinstance(own, OwnGPT)
    assert drawn == expected
    assert own.state_dict().keys() == package.state_dict().keys()
    for name, weight in package.state_dict().items():
        assert torch.equal(own.state_dict()[name], weight), name
    ids = torch.randint(50, (2, 12))
    torch.testing.assert_close(own(ids), package(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["LayerNorm", "GELU", "FeedForward", "MultiHeadAttention"])
def test_single_part_is_used(name):
    used = []

    class Noticed(PARTS[name]):
        def forward(self, x):
            used.append(self)
            return super().forward(x)

    model, _ = built({name: Noticed})
    package, _ = built({})
    ids = torch.randint(50, (1, 5))
    torch.testing.assert_close(model(ids), package(ids), rtol=1e-4, atol=1e-5)
    assert len(set(map(id, used))) == (5 if name == "LayerNorm" else 2)
    assert model.has_cache is (name != "MultiHeadAttention")


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_optimizer_equals_the_package_and_keeps_tensors(name):
    cfg = TrainConfig(lr=0.02)

    def trained(parts):
        model, _ = built({})
        with parts_in_use(parts):
            optimizer = OPTIMIZERS[name](model, cfg)
        for step in range(3):
            torch.manual_seed(step)
            optimizer.zero_grad()
            model(torch.randint(50, (2, 6))).square().mean().backward()
            optimizer.step()
        return model, optimizer

    own, optimizer = trained({"adamw": PARTS["adamw"], "muon": PARTS["muon"]})
    package, _ = trained({})
    for ours, theirs in zip(own.parameters(), package.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    values = [value for memory in optimizer.state.values() for value in memory.values()]
    assert values
    assert all(isinstance(value, torch.Tensor) for value in values)


def test_tokenizer_equals_the_package_and_is_saved_as_one(tmp_path):
    package = ByteBPE.train([TEXT], 280)
    with parts_in_use(PARTS):
        own = TOKENIZERS["bpe"]([TEXT], 280)
        save_tokenizer(own, tmp_path)
        again = load_tokenizer(tmp_path)
    assert type(own) is not ByteBPE
    assert type(again).__name__ == type(own).__name__
    assert type(load_tokenizer(tmp_path)) is ByteBPE
    assert own.merges == package.merges
    new = "Ben sang 猫. <|endoftext|>"
    assert own.encode(new) == again.encode(new) == package.encode(new)


def test_tokenizer_that_is_not_byte_level_is_left_to_the_library(tmp_path):
    pytest.importorskip("tokenizers")
    model = {
        "type": "BPE",
        "byte_fallback": True,
        "unk_token": "<unk>",
        "vocab": {"<unk>": 0, "a": 1, "b": 2, "ab": 3},
        "merges": ["a b"],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    with parts_in_use(PARTS):
        assert load_tokenizer(tmp_path).encode("ab") == [3]


def test_learned_encoding_is_used():
    tokenizer = own_bpe(None, lambda word, merges: list(word)).train([TEXT], 280)
    assert len(tokenizer.encode("and")) == 3
    broken = own_bpe(None, lambda word, merges: [99_999]).train([TEXT], 280)
    with pytest.raises(UserError, match="encode_word: it gives ids that are not tokens"):
        broken.encode("zebra")


def test_schedule_is_used_with_its_warm_up():
    cfg = TrainConfig(lr=2.0, warmup_steps=4, schedule="linear")
    with parts_in_use({"learning_rate": lambda step, total, peak, warmup: peak * 100 + step}):
        assert learning_rate(3, 10, cfg) == 203
    assert learning_rate(3, 10, cfg) == 2


def test_registry_tables_are_restored_after_an_error():
    before = [dict(table) for table in TABLES]
    with suppress(RuntimeError), parts_in_use(PARTS):
        assert [dict(table) for table in TABLES] != before
        raise RuntimeError
    assert [dict(table) for table in TABLES] == before


def test_use_file_leaves_unfinished_parts_to_the_package(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def temperature(logits, t): ...\ndef top_p(logits, p):\n    return logits\n")
    with parts_in_use({}):
        before = dict(TABLES[-1])
        use_file(path)
        assert {name for name, part in TABLES[-1].items() if part is not before[name]} == {"top_p"}


def test_step_time_is_measured_with_own_parts():
    used = []

    class Noticed(PARTS["GELU"]):
        def forward(self, x):
            used.append(self)
            return super().forward(x)

    assert step_time_ratio(CONFIG, {"GELU": Noticed}) > 0
    assert len(used) == CONFIG.model.n_layers * (ROUNDS + 1)
