"""The files in experiments/ are valid, and their models, optimizers and schedules work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llm_scratch.architectures.llama import LlamaConfig
from llm_scratch.config import GPTConfig
from llm_scratch.experiments.arms import resolve_arms
from llm_scratch.experiments.experiment import read_experiment
from llm_scratch.experiments.scaling_runner import read_scaling
from llm_scratch.experiments.transfer_runner import read_transfer
from llm_scratch.model import ARCHITECTURES, build
from llm_scratch.model.gpt import GPTModel
from llm_scratch.storage.user_code import run_user_file
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.schedule import SCHEDULES

FOLDER = Path(__file__).parents[2] / "experiments"
EXPERIMENTS = sorted(
    path.name for path in FOLDER.glob("*.yaml") if path.name not in ("sizes.yaml", "transfer.yaml")
)
MAX_LINES = 60
VARIANTS = "llama_variants"
ARMS = sorted({path.stem for path in FOLDER.glob("arms/*.py")} - {VARIANTS})
LLAMA = LlamaConfig(vocab_size=31, context_length=16, emb_dim=24, n_heads=3, n_layers=2)
NORMS = {"norm1", "norm2", "post_norm1", "post_norm2"}
CHANGED = {
    "llama-layer-norm": {"norm1", "norm2", "final_norm"},
    "llama-gelu": {"ff"},
    "llama-experts": {"ff"},
    "llama-post-norm": NORMS,
    "llama-sandwich-norm": {"post_norm1", "post_norm2"},
    "llama-soft-cap": {"att"},
    "llama-sinks": {"att"},
    "llama-output-gate": {"att"},
}
"""Architecture of the variants' file -> the places of a block that differ from a Llama's."""
CFG = GPTConfig(vocab_size=31, context_length=16, emb_dim=24, n_heads=3, n_layers=2, drop_rate=0.0)


@pytest.fixture(autouse=True)
def _tables():
    """Restore the registry tables afterwards."""
    before = [(table, dict(table)) for table in (ARCHITECTURES, OPTIMIZERS, SCHEDULES)]
    yield
    for table, old in before:
        table.clear()
        table.update(old)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_example_experiment_is_valid(name, monkeypatch):
    """Let the time of a step be proportional to its rows."""
    monkeypatch.setattr(
        "llm_scratch.experiments.arms.step_seconds",
        lambda configs, device: [float(config.train.batch_size) for config in configs],
    )
    experiment = read_experiment(FOLDER / name)
    assert experiment.name == Path(name).stem
    arms = resolve_arms(experiment)
    assert len({arm.config.train.steps * arm.config.train.batch_size for arm in arms}) == 1
    assert all(arm.seed_shift == 0 for arm in arms)


def test_example_grids_are_valid():
    assert len(read_scaling(FOLDER / "sizes.yaml").sizes) == 4
    transfer = read_transfer(FOLDER / "transfer.yaml")
    assert [Path(arm.file).name for arm in transfer.arms] == ["", "mup.py"]


def test_example_arms_are_short():
    for path in FOLDER.glob("arms/*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES, path.name


@pytest.mark.parametrize("arm", ARMS)
def test_example_arm_registers_one_working_entry(arm):
    before = {*ARCHITECTURES, *SCHEDULES}
    run_user_file(FOLDER / "arms" / f"{arm}.py", arm)
    (name,) = {*ARCHITECTURES, *SCHEDULES} - before
    if name in SCHEDULES:
        assert SCHEDULES[name](0.0) == 1.0
        assert SCHEDULES[name](1.0) == 0.0
        return
    torch.manual_seed(1)
    model = build(replace(CFG, architecture=name))
    ids = torch.randint(31, (2, 9))
    is_gpt = torch.equal(model(ids), plain_gpt(model)(ids))
    assert is_gpt == (name in ("zero-init", "residual-scalars", "value-embeddings"))
    check_cache_and_gradients(model, ids)


def test_variants_of_a_llama_work_and_change_one_part():
    before = set(ARCHITECTURES)
    run_user_file(FOLDER / "arms" / f"{VARIANTS}.py", VARIANTS)
    plain = parts_of(build(LLAMA))
    for name in sorted({*ARCHITECTURES} - before):
        torch.manual_seed(1)
        model = build(replace(LLAMA, architecture=name))
        check_cache_and_gradients(model, torch.randint(31, (2, 9)))
        changed = {place for place, part in parts_of(model).items() if part != plain[place]}
        assert changed == CHANGED[name], name


def parts_of(model: torch.nn.Module) -> dict[str, str]:
    """Position in a block -> module, with the options of its attention."""
    block = model.trf_blocks[0]
    parts = {name: type(part).__name__ for name, part in block.named_children()}
    att = block.att
    return parts | {
        "att": f"{att.softcap} {att.sinks is not None} {att.W_gate is not None}",
        "final_norm": type(model.final_norm).__name__,
    }


def check_cache_and_gradients(model: torch.nn.Module, ids: torch.Tensor) -> None:
    """With a cache the logits are the same, and every parameter learns."""
    whole = model(ids)
    cache = model.new_cache(2)
    cached = torch.cat([model(ids[:, :5], cache), model(ids[:, 5:], cache)], dim=1)
    assert torch.allclose(whole, cached, atol=1e-5)
    whole.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def plain_gpt(model: torch.nn.Module) -> torch.nn.Module:
    """The plain GPT with the weights that the model shares, from the same seed."""
    torch.manual_seed(1)
    plain = GPTModel(CFG)
    plain.load_state_dict(model.state_dict(), strict=False)
    return plain


def arm_model(arm: str, **changes: object) -> torch.nn.Module:
    """The model that the file of an arm registers, with reproducible weights."""
    name = arm.replace("_", "-")
    run_user_file(FOLDER / "arms" / f"{arm}.py", arm)
    torch.manual_seed(1)
    return build(replace(CFG, architecture=name, **changes))


def test_rotary_positions_do_not_change_a_text_of_one_token():
    model = arm_model("rotary")
    plain = plain_gpt(model)
    torch.nn.init.zeros_(plain.pos_emb.weight)
    ids = torch.tensor([[5], [9]])
    torch.testing.assert_close(model(ids), plain(ids))
    longer = torch.tensor([[5, 9, 7]])
    assert not torch.allclose(model(longer), plain(longer), atol=1e-3)


def test_rms_norm_of_centered_vectors_is_layer_norm():
    model = arm_model("rms_norm")
    plain = plain_gpt(model)
    x = torch.randn(2, 5, 24)
    x -= x.mean(-1, keepdim=True)
    for ours, theirs in (
        (model.trf_blocks[1].norm1, plain.trf_blocks[1].norm1),
        (model.trf_blocks[1].norm2, plain.trf_blocks[1].norm2),
        (model.final_norm, plain.final_norm),
    ):
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("init", ["torch", "gpt2"])
def test_swiglu_has_the_parameters_of_the_gpt_and_a_closed_gate_adds_nothing(init):
    model = arm_model("swiglu", init=init)
    plain = plain_gpt(model)
    ours, theirs = (sum(p.numel() for p in each.parameters()) for each in (model, plain))
    assert ours == pytest.approx(theirs, rel=0.01)
    for block, other in zip(model.trf_blocks, plain.trf_blocks, strict=True):
        torch.nn.init.zeros_(block.ff.gate_proj.weight)
        torch.nn.init.zeros_(block.ff.gate_proj.bias)
        torch.nn.init.zeros_(block.ff.down_proj.bias)
        torch.nn.init.zeros_(other.ff.layers[2].weight)
        torch.nn.init.zeros_(other.ff.layers[2].bias)
    ids = torch.randint(31, (2, 9))
    torch.testing.assert_close(model(ids), plain(ids))


@pytest.mark.parametrize(
    ("arm", "names"), [("residual_scalars", "again"), ("value_embeddings", "value_embs")]
)
def test_added_part_of_the_arm_changes_the_model_unless_zero(arm, names):
    model = arm_model(arm)
    ids = torch.randint(31, (2, 9))
    before = model(ids)
    added = [p for name, p in model.named_parameters() if name.startswith(names)]
    assert added
    for parameter in added:
        torch.nn.init.normal_(parameter)
    assert not torch.allclose(model(ids), before, atol=1e-3)


def test_zero_init_blocks_add_nothing_before_training():
    run_user_file(FOLDER / "arms" / "zero_init.py", "zero_init.py")
    model = build(replace(CFG, architecture="zero-init", init="gpt2"))
    x = torch.randn(2, 5, 24)
    for block in model.trf_blocks:
        assert torch.equal(block(x), x)
