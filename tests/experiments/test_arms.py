"""Arms have the settings of their file and the same budget.

They are checked before anything is trained.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llm_scratch.data.corpus import Corpus, count_bytes
from llm_scratch.errors import UserError
from llm_scratch.experiments.arms import (
    Corpora,
    cost_of_step,
    differing_settings,
    resolve_arms,
    validation_half,
)
from llm_scratch.experiments.experiment import Arm, Budget
from llm_scratch.model import ARCHITECTURES
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.optim import OPTIMIZERS

MODEL = """
from llm_scratch.config import GPTConfig
from llm_scratch.model import ARCHITECTURES, Architecture
from llm_scratch.model.gpt import GPTModel

class Mine(GPTModel):
    pass

ARCHITECTURES["mine"] = Architecture(GPTConfig, Mine)
"""
ADDS_ANOTHER = 'ARCHITECTURES["b"] = Architecture(GPTConfig, Mine)'


@pytest.fixture(autouse=True)
def _tables(monkeypatch):
    """Restore the registry tables afterwards."""
    monkeypatch.setattr(
        "llm_scratch.experiments.arms.REGISTRIES",
        {"model.architecture": ARCHITECTURES, "train.optimizer": OPTIMIZERS},
    )
    before = [(table, dict(table)) for table in (ARCHITECTURES, OPTIMIZERS)]
    yield
    for table, old in before:
        table.clear()
        table.update(old)


def with_arms(experiment, *arms, **more):
    return replace(experiment, arms=(experiment.arms[0], *arms), **more)


def test_arms_change_the_base_and_nothing_else(experiment):
    slow, fast = resolve_arms(experiment)
    assert (slow.config.train.lr, fast.config.train.lr) == (0.001, 0.01)
    assert differing_settings([slow, fast]) == {"train.lr": [0.001, 0.01]}
    assert fast.run_config(7).train.seed == 7
    other = replace(slow, config=slow.config.with_model(architecture="nanochat"))
    assert differing_settings([slow, other])["model.init"] == ["torch", None]
    assert fast.config.train.sample_every == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.lrr=1", "arm x: unknown setting 'train.lrr'; did you mean 'train.lr'"),
        ("train.optimizer=adamv", "did you mean 'adamw'"),
        ("model.n_heads=3", "not a multiple"),
        ("train.seed=9", "the experiment sets the seeds"),
        ("train.steps=9", "the budget sets the steps"),
        ("train.lr=0", "out of range"),
    ],
)
def test_invalid_setting_of_an_arm_is_found_before_the_first_run(experiment, setting, message):
    with pytest.raises(UserError, match=message):
        resolve_arms(with_arms(experiment, Arm("x", (setting,))))


def test_unknown_base_is_named(experiment):
    with pytest.raises(UserError, match="unknown preset 'quickstar'; did you mean 'quickstart'"):
        resolve_arms(replace(experiment, base="quickstar"))


def test_file_of_an_arm_registers_what_the_arm_uses(experiment, tmp_path):
    (tmp_path / "mine.py").write_text(MODEL)
    for _ in range(2):  # the second time the name is registered already
        arms = resolve_arms(with_arms(experiment, Arm("mine", (), str(tmp_path / "mine.py"))))
        assert arms[1].config.model.architecture == "mine"
    explicit = Arm("mine", ("model.architecture=gpt",), str(tmp_path / "mine.py"))
    assert resolve_arms(with_arms(experiment, explicit))[1].config.model.architecture == "gpt"


def test_file_of_an_arm_that_registers_nothing_or_fails_is_an_error(experiment, tmp_path):
    path = tmp_path / "mine.py"
    for code, message in (
        ("x = 1", "registers no model"),
        ("1 / 0", "ZeroDivisionError"),
        (MODEL + ADDS_ANOTHER, "choose one"),
    ):
        path.write_text(code)
        with pytest.raises(UserError, match=message):
            resolve_arms(with_arms(experiment, Arm("mine", (), str(path))))
    with pytest.raises(UserError, match="no such Python file"):
        resolve_arms(with_arms(experiment, Arm("mine", (), str(tmp_path / "none.py"))))


@pytest.mark.parametrize("unit", ["tokens", "flops"])
def test_every_arm_spends_the_budget_of_the_reference(experiment, unit):
    wide = Arm("wide", ("model.emb_dim=32", "train.batch_size=4"))
    arms = resolve_arms(with_arms(experiment, wide, budget=Budget(unit)))
    spent = [arm.config.train.steps * cost_of_step(arm.config, unit) for arm in arms]
    assert abs(spent[1] - spent[0]) <= cost_of_step(arms[1].config, unit) / 2
    assert arms[0].config.train.steps == 4


def test_steps_of_the_reference_are_the_budget_where_it_has_no_amount(experiment):
    arms = (Arm("short", ("train.steps=2",)), Arm("wide", ("train.batch_size=4",)))
    short = replace(experiment, arms=arms)
    assert [arm.config.train.steps for arm in resolve_arms(short)] == [2, 1]
    with pytest.raises(UserError, match="the budget sets the steps"):
        resolve_arms(replace(short, budget=Budget("tokens", 320)))


def test_amount_of_a_budget_sets_the_steps(experiment):
    arms = resolve_arms(replace(experiment, budget=Budget("tokens", 3200)))
    assert [arm.config.train.steps for arm in arms] == [100, 100]


def test_warmup_is_shorter_than_the_run(experiment):
    warm = Arm("warm", ("train.warmup_steps=50",))
    assert (
        resolve_arms(with_arms(experiment, warm, budget=Budget("tokens", 320)))[
            1
        ].config.train.warmup_steps
        == 9
    )


def test_without_a_budget_an_arm_has_its_own_steps(experiment):
    arms = resolve_arms(
        with_arms(experiment, Arm("long", ("train.steps=9",)), budget=Budget("none"))
    )
    assert [arm.config.train.steps for arm in arms] == [4, 9]


@pytest.mark.parametrize(("budget", "steps"), [(10, [10, 5]), (None, [4, 2])])
def test_budget_in_seconds_is_converted_by_the_time_of_a_step(
    experiment, monkeypatch, budget, steps
):
    monkeypatch.setattr(
        "llm_scratch.experiments.arms.step_seconds",
        lambda configs, device: [config.model.emb_dim / 16 for config in configs],
    )
    wide = Arm("wide", ("model.emb_dim=32",))
    arms = resolve_arms(with_arms(experiment, wide, budget=Budget("seconds", budget)))
    assert [arm.config.train.steps for arm in arms] == steps


def test_arm_with_the_settings_of_the_reference_has_seeds_of_its_own(experiment):
    same = [Arm(name, experiment.arms[0].settings) for name in ("again", "and again")]
    arms = resolve_arms(with_arms(experiment, *same))
    assert [arm.run_config(1).train.seed for arm in arms] == [1, 1_000_001, 2_000_001]


def test_text_is_read_once_for_arms_that_share_it(experiment, monkeypatch):
    arms = resolve_arms(experiment)
    corpora = Corpora()
    assert corpora.of(arms[0].config) is corpora.of(arms[1].config)
    with pytest.raises(UserError, match="validation part"):
        corpora.of(arms[0].config.with_model(context_length=600))


def test_halves_of_the_validation_text_share_nothing_but_the_separator():
    tokenizer = TOKENIZERS["chars"](["abc"])
    eot = tokenizer.eot_token
    val = np.array([eot, 0, 1, 2, eot, 1, 1, eot, 2, 2, 2, eot], dtype=np.int32)
    corpus = Corpus(tokenizer, val, val, count_bytes(val, tokenizer))
    first, second = (validation_half(corpus, first=first) for first in (True, False))
    assert first.val.tolist() == [eot, 0, 1, 2, eot, 1, 1, eot]
    assert second.val.tolist() == [eot, 2, 2, 2, eot]
    assert (first.val_bytes, second.val_bytes) == (5, 3)


def test_base_that_starts_from_other_weights_is_an_error(experiment, base):
    path = Path(base) / "config.yaml"
    path.write_text(path.read_text().replace("init_from: ''", "init_from: gpt2"))
    with pytest.raises(UserError, match="starts from the weights of gpt2"):
        resolve_arms(experiment)
