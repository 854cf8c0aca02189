"""Everything that the next step depends on, as tensors with names and plain numbers: nothing is pickled.

Proof: tests/training/test_loop.py (a run that was stopped and resumed ends with the same bits as one that was not).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory under names such as `tok_emb.weight/exp_avg`."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    return {f"{names[p]}/{key}": value for p, slots in optimizer.state.items() for key, value in slots.items()}


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    params = dict(model.named_parameters())
    for full, value in tensors.items():
        name, key = full.rsplit("/", 1)
        device = params[name].device
        optimizer.state[params[name]][key] = value.clone().to(device)


def random_state() -> dict[str, Any]:
    """Where torch's random generators stand, as JSON: dropout is the only user, the data order needs none."""
    states = {"cpu": torch.get_rng_state().numpy().tobytes().hex()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state().numpy().tobytes().hex()
    return states


def restore_random(states: dict[str, str]) -> None:
    """Put torch's random generators back to where `random_state` saw them."""
    as_tensor = {k: torch.frombuffer(bytearray.fromhex(v), dtype=torch.uint8) for k, v in states.items()}
    torch.set_rng_state(as_tensor["cpu"])
    if "cuda" in as_tensor and torch.cuda.is_available():
        torch.cuda.set_rng_state(as_tensor["cuda"])


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights by name, a shared one (a tied head) once, as safetensors wants them."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            weights[name] = tensor
    return weights
