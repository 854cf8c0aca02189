"""The files in experiments/ are valid,
and the arms in them are models, optimizers and schedules that work.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.experiments.arms import resolve_arms
from llm_scratch.experiments.experiment import read_experiment
from llm_scratch.experiments.scaling_runner import read_scaling
from llm_scratch.model import ARCHITECTURES, build
from llm_scratch.model.gpt import GPTModel
from llm_scratch.storage.user_code import run_user_file
from llm_scratch.training.schedule import SCHEDULES

FOLDER = Path(__file__).parents[2] / "experiments"
EXPERIMENTS = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "sizes.yaml")
MAX_LINES = 60
CFG = GPTConfig(vocab_size=31, context_length=16, emb_dim=24, n_heads=3, n_layers=2, drop_rate=0.0)


@pytest.fixture(autouse=True)
def _tables():
    """The tables as they were afterwards."""
    before = [(table, dict(table)) for table in (ARCHITECTURES, SCHEDULES)]
    yield
    for table, old in before:
        table.clear()
        table.update(old)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_is_valid(name):
    experiment = read_experiment(FOLDER / name)
    assert experiment.name == Path(name).stem
    arms = resolve_arms(experiment)
    assert len({arm.config.train.steps for arm in arms}) == 1
    assert all(arm.seed_shift == 0 for arm in arms)


def test_grid_is_valid():
    assert len(read_scaling(FOLDER / "sizes.yaml").sizes) == 4


@pytest.mark.parametrize("path", sorted(FOLDER.glob("arms/*.py")), ids=lambda path: path.stem)
def test_arm_is_short_and_registers_one_thing_that_works(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    before = {*ARCHITECTURES, *SCHEDULES}
    run_user_file(path, path.name)
    (name,) = {*ARCHITECTURES, *SCHEDULES} - before
    if name in SCHEDULES:
        assert SCHEDULES[name](0.0) == 1.0
        assert SCHEDULES[name](1.0) == 0.0
        return
    torch.manual_seed(1)
    model = build(replace(CFG, architecture=name))
    ids = torch.randint(31, (2, 9))
    whole = model(ids)
    assert not torch.equal(whole, gpt_with_weights_of(model)(ids)) or name == "zero-init"
    cache = model.new_cache(2)
    cached = torch.cat([model(ids[:, :5], cache), model(ids[:, 5:], cache)], dim=1)
    assert torch.allclose(whole, cached, atol=1e-5)
    whole.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def gpt_with_weights_of(model: torch.nn.Module) -> torch.nn.Module:
    """The plain GPT with the same weights: an arm that changes a part computes something else."""
    plain = GPTModel(CFG)
    plain.load_state_dict(model.state_dict())
    return plain


def test_zero_init_blocks_add_nothing_before_training():
    run_user_file(FOLDER / "arms" / "zero_init.py", "zero_init.py")
    model = build(replace(CFG, architecture="zero-init", init="gpt2"))
    x = torch.randn(2, 5, 24)
    for block in model.trf_blocks:
        assert torch.equal(block(x), x)
