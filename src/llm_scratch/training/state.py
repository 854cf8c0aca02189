"""Save and restore what the next step depends on: optimizer, random state, numerics. No pickle.

Tests: tests/training/test_loop.py (a resumed run ends with the same bits as an uninterrupted one).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llm_scratch.hardware.rounding import rounding_fingerprint
from llm_scratch.training.distributed import shard_like
from llm_scratch.training.model_with_loss import ModelWithLoss


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer state under names such as `tok_emb.weight/exp_avg`."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    return {
        f"{names[p]}/{key}": value
        for p, slots in optimizer.state.items()
        for key, value in slots.items()
    }


def restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Iterable[tuple[str, Tensor]]
) -> None:
    """Restore the items of what `optimizer_tensors` returned, one by one."""
    params = dict(model.named_parameters())
    for full, value in tensors:
        name, key = full.rsplit("/", 1)
        optimizer.state[params[name]][key] = shard_like(
            params[name], value.clone().to(params[name].device)
        )


def seed_everything(seed: int) -> None:
    """Seed the random generators of torch, Python and numpy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def rng_state() -> dict[str, Any]:
    """The states of the random generators of torch, Python and numpy, as JSON.

    Only dropout uses one here; the data order needs none. The others are for user extensions.
    """
    _, words, gauss = random.getstate()
    name, key, position, has_gauss, cached = np.random.get_state()
    states: dict[str, Any] = {
        "cpu": torch.get_rng_state().numpy().tobytes().hex(),
        "python": {"words": np.array(words, dtype=np.uint32).tobytes().hex(), "gauss": gauss},
        "numpy": {
            "words": np.asarray(key).tobytes().hex(),
            "place": position,
            "has_gauss": has_gauss,
            "gauss": cached,
        },
    }
    # a query would initialize it: half a gigabyte of GPU memory for a CPU run
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state().numpy().tobytes().hex()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state().numpy().tobytes().hex()
    return states


def restore_random(states: dict[str, Any]) -> None:
    """Restore the random generators from `rng_state`, except those that it does not contain."""
    torch.set_rng_state(_as_tensor(states["cpu"]))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(_as_tensor(states["cuda"]))
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(_as_tensor(states["mps"]))
    if "python" in states:
        random.setstate((3, tuple(_words(states["python"]).tolist()), states["python"]["gauss"]))
    if "numpy" in states:
        stored = states["numpy"]
        np.random.set_state(
            ("MT19937", _words(stored), stored["place"], stored["has_gauss"], stored["gauss"])
        )


def numerics(model_with_loss: ModelWithLoss, device: torch.device) -> dict[str, Any]:
    """What determines the rounding of a run, as JSON; stored, and compared on resume."""
    rounding = rounding_fingerprint(device, model_with_loss.matmul_backend)
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "device": device.type,
        "rounding": rounding,
    }
    if device.type == "cpu":
        facts["threads"] = torch.get_num_threads()
    return facts | model_with_loss.choices()


def environment_diff(stored: dict[str, Any], current: dict[str, Any]) -> str:
    """How the numerics here differ from a checkpoint's, in words; "" if no difference is known.

    Args:
        stored: the checkpoint's state; values that older versions did not store are not compared.
        current: as `numerics` returns it.
    """
    elsewhere = stored.get("device", current.get("device")) != current.get("device")
    names = (
        ("torch", "device", "precision") if elsewhere else [n for n in current if n != "rounding"]
    )
    changed = [
        f"{name} was {_in_words(stored[name])} and is {_in_words(current[name])}"
        for name in names
        if name in current and stored.get(name, current[name]) != current[name]
    ]
    if not changed and stored.get("rounding", current.get("rounding")) != current.get("rounding"):
        changed = ["this processor rounds differently from that of the checkpoint"]
    if not changed:
        return ""
    return (
        f"{', '.join(changed)}: sums may round differently, so the last bits may differ from now on"
    )


def _in_words(value: Any) -> str:
    return (" and ".join(value) or "none") if isinstance(value, list) else str(value)


def _as_tensor(digits: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(digits), dtype=torch.uint8)


def _words(stored: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(stored["words"]), dtype=np.uint32)


def unique_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights by name; shared weights (a tied head) once, as safetensors requires."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            weights[name] = tensor.detach()
    return weights


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training may change of a model, by name: parameters with gradients, and buffers."""
    frozen = {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad
    }
    return {name: tensor for name, tensor in unique_state_dict(model).items() if name not in frozen}


def frozen_sha256(model: nn.Module) -> str:
    """SHA-256 of names and values of the parameters without gradients; "" if there are none."""
    frozen = [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad
    ]
    digest = hashlib.sha256()
    for name, parameter in sorted(frozen, key=lambda named: named[0]):
        values = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest() if frozen else ""
