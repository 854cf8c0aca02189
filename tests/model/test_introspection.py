"""Using a model that is not being trained: modes, context, device, ids."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from llm_scratch.errors import DATA, UserError
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.introspection import (
    check_ids,
    context_length,
    device_of,
    eval_mode,
    n_start_tokens,
    start_id,
)

CFG = {
    "vocab_size": 11,
    "context_length": 7,
    "emb_dim": 8,
    "n_heads": 2,
    "n_layers": 2,
    "drop_rate": 0.5,
    "qkv_bias": False,
}


@pytest.fixture
def model():
    return GPTModel(CFG)


def test_eval_mode_switches_every_module_and_restores_each(model):
    model.trf_blocks[1].eval()
    before = [part.training for part in model.modules()]
    with eval_mode(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == before


def test_eval_mode_restores_after_an_error(model):
    with pytest.raises(ZeroDivisionError), eval_mode(model):
        _ = 1 / 0
    assert all(part.training for part in model.modules())


def test_context_length_is_read_from_every_kind_of_model(model):
    assert context_length(model) == 7
    notebook = nn.Module()
    notebook.pos_emb = nn.Embedding(7, 2)
    assert context_length(notebook) == 7
    assert context_length(nn.Linear(2, 2)) is None


def test_device_of_a_model_is_that_of_its_parameters(model):
    assert device_of(model) == torch.device("cpu")
    assert device_of(model.to("meta")) == torch.device("meta")
    assert device_of(nn.Identity()) == torch.device("cpu")


@pytest.mark.parametrize("ids", [[[0, 11]], [[-1, 3]]])
def test_check_ids_names_ids_without_an_embedding(model, ids):
    with pytest.raises(UserError, match="vocabulary of 11") as error:
        check_ids(model, torch.tensor(ids))
    assert error.value.code == DATA


def test_check_ids_accepts_ids_with_an_embedding(model):
    assert check_ids(model, torch.tensor([[0, 10]])) is None
    assert check_ids(model, torch.empty(1, 0, dtype=torch.long)) is None
    assert check_ids(nn.Linear(2, 2), torch.tensor([[99]])) is None


def test_start_tokens_are_counted_for_every_kind_of_model(model):
    assert start_id(model) is None
    assert n_start_tokens(model, [3, 4]) == 0
    model.start_id = 3
    assert start_id(model) == 3
    assert n_start_tokens(model, [3, 3, 4]) == 1
    assert n_start_tokens(model, [4, 3]) == 0
    assert n_start_tokens(model, []) == 0
    assert n_start_tokens(nn.Linear(2, 2), [3]) == 0
