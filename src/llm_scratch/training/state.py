"""Everything that the next step depends on, as tensors with names and plain numbers: nothing is pickled.

Proof: tests/training/test_loop.py (a run that was stopped and resumed ends with the same bits as one that was not).
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llm_scratch.hardware.rounding import rounding_fingerprint
from llm_scratch.training.distributed import shard_like
from llm_scratch.training.model_with_loss import ModelWithLoss


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory under names such as `tok_emb.weight/exp_avg`."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    return {f"{names[p]}/{key}": value for p, slots in optimizer.state.items() for key, value in slots.items()}


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    params = dict(model.named_parameters())
    for full, value in tensors.items():
        name, key = full.rsplit("/", 1)
        optimizer.state[params[name]][key] = shard_like(params[name], value.clone().to(params[name].device))


def seed_everything(seed: int) -> None:
    """Begin the random numbers of torch, Python and numpy anew, the same ones for the same seed."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def rng_state() -> dict[str, Any]:
    """Where the random generators of torch, Python and numpy stand, as JSON.

    Dropout is the only user of ours, the data order needs none; the other two are for parts that somebody adds.
    """
    _, words, gauss = random.getstate()
    name, key, place, has_gauss, cached = np.random.get_state()
    states: dict[str, Any] = {
        "cpu": torch.get_rng_state().numpy().tobytes().hex(),
        "python": {"words": np.array(words, dtype=np.uint32).tobytes().hex(), "gauss": gauss},
        "numpy": {"words": np.asarray(key).tobytes().hex(), "place": place, "has_gauss": has_gauss, "gauss": cached},
    }
    if torch.cuda.is_initialized():  # asking would initialize it, and take half a gigabyte of GPU memory for a run on the CPU
        states["cuda"] = torch.cuda.get_rng_state().numpy().tobytes().hex()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state().numpy().tobytes().hex()
    return states


def restore_random(states: dict[str, Any]) -> None:
    """Put the generators back to where `random_state` saw them; one that it did not tell of stays."""
    torch.set_rng_state(_as_tensor(states["cpu"]))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(_as_tensor(states["cuda"]))
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(_as_tensor(states["mps"]))
    if "python" in states:
        random.setstate((3, tuple(_words(states["python"]).tolist()), states["python"]["gauss"]))
    if "numpy" in states:
        said = states["numpy"]
        np.random.set_state(("MT19937", _words(said), said["place"], said["has_gauss"], said["gauss"]))


def numerics(trainee: ModelWithLoss, device: torch.device) -> dict[str, Any]:
    """What decides how a run's sums and products round, as JSON: stored with it and compared when it resumes."""
    rounding = rounding_fingerprint(device, trainee.matmul_backend)
    here: dict[str, Any] = {"torch": torch.__version__, "device": device.type, "rounding": rounding}
    if device.type == "cpu":
        here["threads"] = torch.get_num_threads()
    return here | trainee.choices()


def environment_diff(stored: dict[str, Any], here: dict[str, Any]) -> str:
    """In words, what rounds otherwise here than where a checkpoint was written; "" if nothing does that is known.

    Args:
        stored: the checkpoint's state; values that an older version did not store are not compared.
        here: as `numerics` returns it.
    """
    elsewhere = stored.get("device", here.get("device")) != here.get("device")
    names = ("torch", "device", "precision") if elsewhere else [n for n in here if n != "rounding"]
    changed = [
        f"{name} was {_in_words(stored[name])} and is {_in_words(here[name])}"
        for name in names
        if name in here and stored.get(name, here[name]) != here[name]
    ]
    if not changed and stored.get("rounding", here.get("rounding")) != here.get("rounding"):
        changed = ["this processor rounds differently from the one of the checkpoint"]
    if not changed:
        return ""
    return f"{', '.join(changed)}: sums may round otherwise, so the last bits may differ from now on"


def _in_words(value: Any) -> str:
    return (" and ".join(value) or "none") if isinstance(value, list) else str(value)


def _as_tensor(digits: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(digits), dtype=torch.uint8)


def _words(said: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(said["words"]), dtype=np.uint32)


def unique_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights by name, a shared one (a tied head) once, as safetensors wants them."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            weights[name] = tensor.detach()
    return weights
