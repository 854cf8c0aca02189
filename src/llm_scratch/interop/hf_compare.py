"""Compare a model with its twin in Hugging Face transformers, and find the first part that differs.

Two models with the same weights must give the same logits. When they do not, the weight map says
which module of theirs has the weights of which module of ours; the outputs of these modules are
compared in the order of computation.
Tests: tests/interop/test_hf_compare.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.hf import family_of
from llm_scratch.interop.hf_family import Family
from llm_scratch.interop.weight_map import expand
from llm_scratch.model import LanguageModel
from llm_scratch.model.introspection import device_of

TOLERANCE = 1e-4
"""Largest allowed difference of logits, relative to the largest logit, in float32."""
N_ROWS = 2  # rows of tokens whose logits are compared
MAX_ROW_LENGTH = 256  # tokens


def read_theirs(folder: Path) -> Any:
    """The model of a folder as transformers reads it, in float32; None without transformers."""
    try:
        import transformers
    except ImportError:
        return None
    bar = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            attn_implementation="eager",  # their kernels leave out soft-caps
        )
    finally:
        if bar:
            transformers.utils.logging.enable_progress_bar()
    return theirs.float().eval()


def check_logits(model: LanguageModel, theirs: Any) -> float:
    """Check that a model and its twin give the same logits; returns the largest difference.

    Raises:
        UserError: they differ; names the first part that does (code 4).
    """
    difference = logits_differ(model, theirs)
    if not difference <= TOLERANCE:
        _, family = family_of(model.cfg)
        first = first_difference(model, theirs, family, random_ids(model))
        where = "" if first is None else f"; {first}"
        raise UserError(
            f"transformers reads another model: logits differ by {difference:.1e} of the largest,"
            f" expected at most {TOLERANCE:g}{where}",
            CHECKPOINT,
        )
    return difference


@torch.inference_mode()
def logits_differ(model: LanguageModel, theirs: Any) -> float:
    """The largest difference between two models' logits on random tokens, relative to the largest.

    Args:
        model: ours.
        theirs: a model of transformers, or another of ours, on the CPU.
    """
    ids = random_ids(model)
    ours, output = model(ids.to(device_of(model))).float().cpu(), theirs(ids)  # [B, T, V]
    want = (output if isinstance(output, Tensor) else output.logits).float()
    return ((ours - want).abs().max() / want.abs().max()).item()


def random_ids(model: LanguageModel) -> Tensor:
    """Random token ids, [B, T], the same for all models of a size."""
    cfg = model.cfg
    draw = torch.Generator().manual_seed(0)
    shape = N_ROWS, min(cfg.context_length, MAX_ROW_LENGTH)
    return torch.randint(0, cfg.vocab_size, shape, generator=draw)


class Difference(NamedTuple):
    """A part whose output differs: the element that differs most."""

    part: str
    """our name of the module"""
    theirs: str
    """their name of it"""
    position: tuple[int, ...]
    """of the element in the output, such as (row, token, feature)"""
    ours_value: float
    theirs_value: float

    def __str__(self) -> str:
        return (
            f"the first part that differs is {self.part} (theirs: {self.theirs}), at"
            f" {list(self.position)}: {self.ours_value:.6g}, in transformers"
            f" {self.theirs_value:.6g}"
        )


@torch.no_grad()
def first_difference(
    model: LanguageModel,
    theirs: nn.Module,
    family: Family,
    ids: Tensor,
    tolerance: float = TOLERANCE,
) -> Difference | None:
    """The first part whose output differs from that of its twin; None if no part does.

    Args:
        model: ours, plain, in eval mode.
        theirs: a model of transformers with the same weights.
        family: its family, which maps the names.
        ids: token ids [B, T] to run both on.
        tolerance: largest allowed difference, relative to the largest value of the output.
    """
    pairs = list(_twins(model, theirs, family))
    outputs: dict[str, Tensor] = {}
    order: list[str] = []
    with ExitStack() as stack:
        for ours, twin in pairs:
            for name in ours:
                stack.callback(_record(model.get_submodule(name), f"ours {name}", outputs, order))
            stack.callback(_record(theirs.get_submodule(twin), f"theirs {twin}", outputs, order))
        model(ids.to(device_of(model)))
        theirs(ids)
    pairs = [pair for pair in pairs if f"ours {pair[0][0]}" in outputs]
    for ours, twin in sorted(pairs, key=lambda pair: order.index(f"ours {pair[0][0]}")):
        own = torch.cat([outputs[f"ours {name}"] for name in ours], -1)
        want = outputs[f"theirs {twin}"].reshape(own.shape)
        gap = (own - want).abs()
        if not gap.max() <= tolerance * want.abs().max():
            index = gap.nan_to_num(torch.inf).argmax()
            position = tuple(int(i) for i in torch.unravel_index(index, gap.shape))
            return Difference(
                ", ".join(ours), twin, position, own[position].item(), want[position].item()
            )
    return None


def _twins(
    model: LanguageModel, theirs: nn.Module, family: Family
) -> Iterator[tuple[Sequence[str], str]]:
    """Modules of ours and the module of theirs that has their weights."""
    own, known = dict(model.named_modules()), dict(theirs.named_modules())
    for mapped in expand(family.rules_of(model.cfg), len(model.trf_blocks)):
        if mapped.transform.splits:
            continue  # their output has another shape
        names = [name.removesuffix(".weight") for name in mapped.ours]
        twin = mapped.theirs.removesuffix(".weight")
        if all(name in own for name in names) and twin in known:
            yield names, twin


def _record(module: nn.Module, key: str, outputs: dict[str, Tensor], order: list[str]) -> Any:
    """Store the output of a module at its next call; returns what ends it."""

    def after(module: nn.Module, args: Any, output: Any) -> None:
        outputs[key] = output.detach().float().cpu()
        order.append(key)

    return module.register_forward_hook(after).remove
