"""Which device a verb computes on, and why. Proof: tests/cli/test_device.py."""

from __future__ import annotations

from llm_scratch.errors import UserError


def choose(wanted: str) -> tuple[str, str]:
    """The device for `--device`, and a line that says why.

    Args:
        wanted: "auto" (a CUDA device, else Apple's MPS, else the CPU), or a name of torch's such as "cpu", "cuda:1", "mps".
    Raises:
        UserError: no such device in this machine or this build of torch.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    name = wanted if wanted != "auto" else "cuda" if cuda else "mps" if mps else "cpu"
    try:
        kind, index = torch.device(name).type, torch.device(name).index or 0
    except RuntimeError as e:
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:1, mps") from e
    here = {"cpu": True, "cuda": cuda and index < torch.cuda.device_count(), "mps": mps}
    if not here.get(kind, False):
        raise UserError(
            f"no device {name!r} here (torch {torch.__version__}); --device auto takes what there is, `llm-scratch doctor` lists it"
        )
    if kind == "cpu":
        threads = torch.get_num_threads()
        why = "as asked" if wanted != "auto" else "no CUDA or MPS device here"
        return name, f"cpu, {threads} thread{'s' * (threads != 1)}, float32 ({why})"
    model = torch.cuda.get_device_name(index) if kind == "cuda" else "Apple GPU"
    return name, f"{name}, {model}, float32 ({'as asked' if wanted != 'auto' else 'the fastest here'})"
