"""A prepared model gives the same results.

Sparse gradients, precision and compilation change only the speed.
"""

import copy

import pytest
import torch

from llm_scratch.config import SystemConfig
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.loss import next_token_loss
from llm_scratch.training import model_with_loss
from llm_scratch.training.model_with_loss import (
    ModelWithLoss,
    compile_problem,
    prepare_for_training,
    should_compile,
)

CPU = torch.device("cpu")
CFG = {
    "vocab_size": 50,
    "context_length": 8,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.0,
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_model_with_loss_has_the_gradient_of_the_model(tied, precision):
    torch.manual_seed(0)
    model = GPTModel(CFG | {"tie_embeddings": tied})
    plain = copy.deepcopy(model)
    ids, targets = torch.randint(0, 50, (4, 8)), torch.randint(0, 50, (4, 8))
    ready = prepare_for_training(model, SystemConfig(precision=precision), CPU)
    for _ in range(2):  # a second micro-batch adds to existing gradients
        ready(ids, targets).backward()
        next_token_loss(plain(ids), targets, "sum").backward()
    for (name, p), q in zip(model.named_parameters(), plain.parameters()):
        assert p.grad.layout == torch.strided, name
        error = (p.grad - q.grad).norm() / q.grad.norm()
        assert error < (1e-5 if precision == "float32" else 0.05), f"{name}: {error}"


def test_tied_embedding_gradient_is_sparse():
    model = GPTModel(CFG | {"tie_embeddings": True})
    prepare_for_training(model, SystemConfig(), CPU)
    assert model.tok_emb.sparse
    untied = GPTModel(CFG)
    prepare_for_training(untied, SystemConfig(), CPU)
    assert not untied.tok_emb.sparse, "an optimizer would get a gradient that it cannot read"


@pytest.mark.parametrize(
    ("device", "work", "pays"), [("cpu", 1e18, False), ("cuda", 1e15, False), ("cuda", 1e18, True)]
)
def test_compile_is_chosen_when_it_saves_time(device, work, pays, monkeypatch):
    monkeypatch.setattr(
        model_with_loss,
        "matmul_flops",
        lambda _, dtype: {torch.float32: 1e13, torch.bfloat16: 1e14}[dtype],
    )
    compiled, reason = should_compile("auto", work, torch.device(device), torch.bfloat16)
    assert compiled is pays
    assert ("s of this run" in reason) == (device == "cuda")
    assert should_compile("yes", 0, CPU) == (True, "as requested")
    assert should_compile("no", 1e18, torch.device("cuda")) == (False, "as requested")


@pytest.fixture
def backends(monkeypatch):
    """Stub a trial that finds oneDNN faster, and record the selected backends."""
    switched = []
    monkeypatch.setattr(model_with_loss, "fastest_matmul_backend", lambda: "oneDNN")
    monkeypatch.setattr(
        model_with_loss, "use_matmul_backend", lambda name: switched.append(name) or name
    )
    return switched


def test_stored_choices_replace_those_of_a_new_trial(backends, monkeypatch):
    monkeypatch.setattr(model_with_loss, "should_compile", lambda *args: (True, "as a trial says"))
    monkeypatch.setattr(model_with_loss, "compile_problem", lambda device: "")
    ready = prepare_for_training(GPTModel(CFG), SystemConfig(), CPU)
    assert "hidden" in vars(ready.model)
    stored = {
        "precision": "bfloat16",
        "matmul_backend": "MKL",
        "onednn_products": [],
        "compiled": False,
    }
    ready.restore_choices(stored, SystemConfig(), CPU)
    assert ready.choices() == stored
    assert backends == ["oneDNN", "MKL"]
    assert "hidden" not in vars(ready.model), "the method of the class again"
    as_stored = "as in the run's checkpoint"
    want = f"bfloat16: {as_stored}, products by MKL; not compiled: {as_stored}"
    assert ready.description == want


def test_explicit_settings_override_stored_choices(backends):
    system = SystemConfig(precision="float32", compile="no")
    ready = prepare_for_training(GPTModel(CFG), system, CPU)
    ready.restore_choices({"precision": "bfloat16", "compiled": True}, system, CPU)
    assert ready.choices() == {
        "precision": "float32",
        "matmul_backend": "oneDNN",
        "onednn_products": [],
        "compiled": False,
    }


def test_older_checkpoint_leaves_the_choices_of_the_trial(backends):
    ready = prepare_for_training(GPTModel(CFG), SystemConfig(), CPU)
    before = ready.choices()
    ready.restore_choices({"precision": "float32", "step": 2}, SystemConfig(), CPU)
    assert ready.choices() == before
    assert backends == ["oneDNN"]


def test_checkpoint_of_another_device_brings_its_precision_alone(backends):
    ready = prepare_for_training(GPTModel(CFG), SystemConfig(), CPU)
    stored = {"device": "cuda", "precision": "bfloat16", "matmul_backend": "", "compiled": True}
    ready.restore_choices(stored, SystemConfig(), CPU)
    assert ready.choices() == {
        "precision": "bfloat16",
        "matmul_backend": "oneDNN",
        "onednn_products": [],
        "compiled": False,
    }


@pytest.mark.parametrize("possible", [True, False])
def test_stored_products_of_linear_layers_are_kept_where_possible(possible, monkeypatch):
    monkeypatch.setattr(model_with_loss, "faster_products", lambda shapes, backend: ())
    monkeypatch.setattr(model_with_loss, "has_onednn_linear", lambda: possible)
    monkeypatch.setattr("llm_scratch.model.fast_linear.MIN_WEIGHTS", 24 * 24)
    ready = prepare_for_training(GPTModel(CFG), SystemConfig(precision="float32"), CPU)
    assert ready.choices()["onednn_products"] == []
    ready.restore_choices({"onednn_products": ["forward"]}, SystemConfig(), CPU)
    assert ready.choices()["onednn_products"] == (["forward"] if possible else [])
    assert ("forward" in vars(ready.model.trf_blocks[0].att.W_query)) is possible
    assert ("(forward of linear layers by oneDNN)" in ready.description) is possible


def test_linear_kernels_are_timed_only_in_float32(monkeypatch):
    monkeypatch.setattr(model_with_loss, "faster_products", lambda *args: pytest.fail("tried"))
    prepare_for_training(GPTModel(CFG), SystemConfig(precision="bfloat16"), CPU)


@pytest.mark.parametrize("works", [True, False])
def test_stored_compilation_is_kept_where_the_compiler_works(works, backends, monkeypatch):
    def compile_(function):
        if not works:
            raise RuntimeError("no C++ compiler")
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    ready = prepare_for_training(GPTModel(CFG), SystemConfig(), CPU)
    ready.restore_choices({"compiled": True}, SystemConfig(), CPU)
    assert ready.compiled is works
    assert ("hidden" in vars(ready.model)) is works
    assert works or ready.description.endswith("not compiled: the compiler does not work here")


def test_training_falls_back_without_a_working_compiler(monkeypatch):
    def compile(function):
        def fails(*_):
            raise RuntimeError("No working C++ compiler found in CXX\nand more")

        return fails

    monkeypatch.setattr(torch, "compile", compile)
    model = GPTModel(CFG)
    ready = prepare_for_training(model, SystemConfig(compile="yes"), CPU)
    reason = "RuntimeError: No working C++ compiler found in CXX and more"
    assert ready.description.endswith(f"not compiled: torch.compile does not work here ({reason})")
    assert "hidden" not in vars(model)
    ids = torch.zeros(1, 8, dtype=torch.long)
    assert torch.isfinite(ready(ids, ids))


def test_model_is_compiled_with_a_working_compiler(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    model = GPTModel(CFG)
    assert prepare_for_training(model, SystemConfig(compile="yes"), CPU).description.endswith(
        "; compiled: as requested"
    )
    assert "hidden" in vars(model)
    assert compile_problem(CPU) == ""


@pytest.mark.slow
def test_compiled_model_learns_the_same():
    torch.manual_seed(0)
    model = GPTModel(CFG | {"tie_embeddings": True})
    ids, targets = torch.randint(0, 50, (4, 8)), torch.randint(0, 50, (4, 8))
    want = torch.autograd.grad(ModelWithLoss(model)(ids, targets), list(model.parameters()))
    ready = prepare_for_training(model, SystemConfig(compile="yes"), CPU)
    ready(ids, targets).backward()
    torch.testing.assert_close(
        [p.grad for p in model.parameters()], list(want), rtol=1e-4, atol=1e-5
    )
