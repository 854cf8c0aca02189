"""MXFP4 weights of gpt-oss: the values of transformers' own dequantization, in a whole folder."""

import json
from dataclasses import replace

import pytest
import torch
from family_checks import read
from safetensors.torch import load_file, save_file

from llm_scratch.architectures.gpt_oss import GPTOSSConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.hf import to_config
from llm_scratch.interop.hf_export import tensors
from llm_scratch.interop.mxfp4 import dequantize
from llm_scratch.model import build
from llm_scratch.planning.memory_estimate import AllocationTracker

CFG = GPTOSSConfig(
    vocab_size=61, emb_dim=32, n_heads=4, n_kv_heads=2, n_layers=2, n_experts=3, expert_dim=64
)
WEIGHTS = "model.safetensors"


def random_pair(*shape):
    """Blocks and scales of a tensor [*shape, 32 per block], with every value and some exponents."""
    draw = torch.Generator().manual_seed(len(shape))
    blocks = torch.randint(0, 256, (*shape, 16), generator=draw, dtype=torch.uint8)
    return blocks, torch.randint(118, 126, shape, generator=draw, dtype=torch.uint8)


def write_folder(path, cfg):
    """A folder as gpt-oss is published: experts in MXFP4, everything else in bfloat16."""
    state = {name: tensor.bfloat16() for name, tensor in tensors(build(cfg)).items()}
    for name in [name for name in state if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, size, rows = state.pop(name).shape
        blocks, scales = random_pair(experts, rows, size // 32)
        state |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    save_file(state, path / WEIGHTS)
    config = to_config(cfg, None, None) | {"quantization_config": {"quant_method": "mxfp4"}}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path, CFG)


def test_mxfp4_values_equal_transformers():
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4", reason="the reference")
    blocks, scales = random_pair(3, 5, 2)
    scales[0, 0] = torch.tensor([0, 254])
    theirs = mxfp4.convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert torch.equal(dequantize(blocks, scales).mT, theirs)


def test_mxfp4_folder_loads_as_the_dequantized_model(folder):
    stored, state = load_file(folder / WEIGHTS), read(folder).state_dict()
    name = "model.layers.1.mlp.experts"
    pairs = [f"{name}.{which}" for which in ("gate_up_proj", "down_proj")]
    gate_up, down = (dequantize(stored[f"{x}_blocks"], stored[f"{x}_scales"]) for x in pairs)
    ours = "trf_blocks.1.ff.experts.2"
    assert torch.equal(state[f"{ours}.gate_proj.weight"], gate_up[2, ::2])
    assert torch.equal(state[f"{ours}.up_proj.weight"], gate_up[2, 1::2])
    assert torch.equal(state[f"{ours}.down_proj.weight"], down[2])


def test_reading_takes_less_than_half_of_the_largest_tensor_besides_the_weights(tmp_path):
    """Counted: its values in bfloat16, while the weights are made from them."""

    class Allocations(AllocationTracker):
        def _track(self, storage):
            if storage.device.type != "meta":
                super()._track(storage)

    path = write_folder(tmp_path, replace(CFG, n_experts=8, expert_dim=256))
    with Allocations() as tracker:
        model = read(path)
    weights = sum(p.nbytes for p in model.parameters())
    largest = 8 * 2 * 256 * CFG.emb_dim * 4
    assert largest > 0.2 * weights
    assert tracker.now == weights
    assert tracker.peak - weights < largest / 2


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scales", lambda tensor: None),
        ("blocks", lambda tensor: None),
        ("scales", lambda tensor: tensor[:, 1:].contiguous()),
        ("blocks", lambda tensor: tensor[..., :8].contiguous()),
        ("scales", lambda tensor: tensor.int()),
    ],
)
def test_damaged_mxfp4_pair_is_named(name, change, folder):
    tensor = f"model.layers.0.mlp.experts.gate_up_proj_{name}"
    state = load_file(folder / WEIGHTS)
    state[tensor] = change(state[tensor])
    save_file({name: value for name, value in state.items() if value is not None}, folder / WEIGHTS)
    with pytest.raises(UserError, match=r"experts.gate_up_proj is not in MXFP4; exp") as caught:
        read(folder)
    assert caught.value.code == CHECKPOINT


@pytest.mark.parametrize(
    ("model", "method"), [("gpt_oss", "bitsandbytes"), ("gpt_oss", 4), ("llama", "mxfp4")]
)
def test_other_quantization_is_refused(model, method, folder):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"model_type": model}
    path.write_text(json.dumps(config | {"quantization_config": {"quant_method": method}}))
    with pytest.raises(UserError, match="quantization_config is .*; expected none") as caught:
        read(folder)
    assert caught.value.code == CHECKPOINT
