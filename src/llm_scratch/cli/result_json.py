"""The results of commands as dicts for `--json`, a function each; docs/json.md lists the keys.

Keys are snake_case, name their unit (`val_loss_nats`, `seconds`, `weights_bytes`),
and are the same in every call of a command.
Tests: tests/cli/test_json.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_scratch.config import config_hash, to_dict

if TYPE_CHECKING:
    from llm_scratch.cli.capabilities import Capability
    from llm_scratch.cli.decoding_sample import DecodingSample
    from llm_scratch.data.shards import ShardIndex
    from llm_scratch.evaluation.loss import Loss
    from llm_scratch.evaluation.memorization import Overlap
    from llm_scratch.evaluation.skill_results import SkillResults
    from llm_scratch.evaluation.tasks import TaskScore
    from llm_scratch.planning.plan import Plan
    from llm_scratch.run_directory import RunInfo
    from llm_scratch.tokenizers import Tokenizer


def evaluation_json(
    model: Path,
    device: str,
    text: str,
    loss: Loss,
    stderr: float,
    training: Mapping[str, float],
    skills: SkillResults | None,
) -> dict[str, Any]:
    """The result of `evaluate`.

    Args:
        stderr: standard error of the bits per byte.
        training: the last evaluation while training on the same text; empty if there is none.
        skills: as `--skills` measures them.
    """
    recorded = {
        "step": "step",
        "val_loss_nats": "val_loss",
        "val_bits_per_byte": "val_bits_per_byte",
    }
    return {
        "model": model,
        "device": device,
        "text": text,
        "tokens": loss.n_tokens,
        "bytes": loss.n_bytes,
        "loss_nats": loss.nats_per_token,
        "perplexity": loss.perplexity,
        "bits_per_byte": loss.bits_per_byte,
        "bits_per_byte_stderr": stderr,
        "training": (
            {key: training.get(name) for key, name in recorded.items()} if training else None
        ),
        "skills": None if skills is None else skills_json(skills),
        "tasks": None,
    }


def tasks_json(model: Path, device: str, scores: Sequence[TaskScore]) -> dict[str, Any]:
    """The result of `evaluate --tasks`, which measures no text."""
    of_text = (
        "text",
        "tokens",
        "bytes",
        "loss_nats",
        "perplexity",
        "bits_per_byte",
        "bits_per_byte_stderr",
        "training",
        "skills",
    )
    rows = [asdict(score) for score in scores]
    return {"model": model, "device": device, **dict.fromkeys(of_text), "tasks": rows}


def skills_json(results: SkillResults) -> dict[str, Any]:
    """What `evaluate --skills` measured on new stories."""
    scores = [
        {
            "skill": score.skill,
            "accuracy": score.accuracy,
            "accuracy_stderr": score.stderr,
            "chance": score.chance,
            "questions": score.n,
        }
        for score in results.scores
    ]
    return {
        "bits_per_byte": results.bits_per_byte,
        "floor_bits_per_byte": results.floor_bits_per_byte,
        "scores": scores,
    }


def memorization_json(
    model: Path,
    device: str,
    source: str,
    searched: int,
    window: int,
    rows: Iterable[tuple[str, int, Overlap]],
    longest: str,
    summary: str,
) -> dict[str, Any]:
    """The result of `memorization`.

    Args:
        searched: tokens of the training text that were searched.
        window: tokens of a run that counts as recited.
        rows: (name, number of texts, overlap) of each row of the table.
        longest: the longest run of training text that the model wrote.
    """
    entries = [
        {
            "name": name,
            "texts": texts,
            "longest_run_tokens": row.longest,
            "windows": row.n_windows,
            "windows_in_training_text": row.n_found,
            "share": row.share,
            "share_stderr": row.stderr,
        }
        for name, texts, row in rows
    ]
    return {
        "model": model,
        "device": device,
        "training_text": source,
        "searched_tokens": searched,
        "window_tokens": window,
        "rows": entries,
        "longest_run_text": longest,
        "summary": summary,
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """The result of `plan PRESET`."""
    memory = plan.memory
    return {
        "device": plan.device,
        "threads": plan.threads,
        "precision": plan.precision,
        "matrix_flops_per_second": plan.matrix_rate,
        "read_bytes_per_second": plan.read_bandwidth,
        "parameters": plan.parameters,
        "flops_per_token": plan.flops_per_token,
        "tokens_per_step": plan.tokens_per_step,
        "steps": plan.steps,
        "tokens": plan.tokens,
        "epochs": plan.epochs,
        "weights_bytes": memory.weights,
        "gradients_bytes": memory.gradients,
        "optimizer_bytes": memory.optimizer,
        "activations_bytes": memory.step,
        "process_bytes": plan.baseline_memory,
        "peak_memory_bytes": plan.peak_memory,
        "free_memory_bytes": plan.free_memory,
        "missing_memory_bytes": plan.missing_memory,
        "fitting_micro_batches": plan.micro_batches,
        "fitting_activation_checkpointing": plan.activation_checkpointing,
        "fitting_peak_memory_bytes": plan.fitting_peak,
        "seconds": plan.seconds,
        "seconds_alone": plan.seconds_alone,
        "seconds_per_step": plan.seconds_per_step,
        "eval_seconds": plan.eval_seconds,
        "sample_seconds": plan.sample_seconds,
        "mfu": plan.mfu,
        "other_load_processors": plan.other_load,
        "trial": plan.trial,
    }


def plan_comparison_json(
    run: Path, predicted: Mapping[str, float], took: Mapping[str, float], steps: int, done: int
) -> dict[str, Any]:
    """The result of `plan RUN`: predicted and measured cost under the same keys."""
    keys = {
        "peak_memory_bytes": "peak_memory",
        "seconds_per_step": "seconds_per_step",
        "seconds": "seconds",
    }
    sides = {
        side: {key: values.get(name) for key, name in keys.items()}
        for side, values in (("predicted", predicted), ("measured", took))
    }
    return {"run": run, **sides, "step": done, "steps": steps}


def run_json(run: RunInfo) -> dict[str, Any]:
    """One run of `runs list`."""
    return {
        "path": run.path,
        "architecture": run.config.model.architecture,
        "parameters": run.config.model.n_params,
        "bits": run.bits,
        "source": run.config.data.source,
        "tokenizer": run.config.data.tokenizer,
        "step": run.step,
        "steps": run.steps,
        "finished": run.finished,
        "description": run.description,
        "val_loss_nats": run.scores.get("val_loss"),
        "val_bits_per_byte": run.scores.get("val_bits_per_byte"),
        "changed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.changed)),
    }


def shown_run_json(run: RunInfo, sample: str) -> dict[str, Any]:
    """The result of `runs show`.

    Args:
        run: the run; its evaluations are the curve.
        sample: the last text that it generated, "" for none.
    """
    keys = {
        "step": "step",
        "tokens": "tokens",
        "train_loss_nats": "train_loss",
        "val_loss_nats": "val_loss",
        "val_bits_per_byte": "val_bits_per_byte",
    }
    curve = [
        {key: row[name] for key, name in keys.items()}
        for row in run.evaluations
        if set(keys.values()) <= row.keys()
    ]
    more = {
        "config_hash": config_hash(run.config),
        "config": to_dict(run.config),
        "evaluations": curve,
        "last_sample": sample,
    }
    return run_json(run) | more


def machine_json(
    checks: Sequence[Mapping[str, Any]], products: Iterable[Capability]
) -> dict[str, Any]:
    """The result of `doctor`: its checks, and what `capabilities` measured."""
    speeds = [
        {
            "name": each.name,
            "works": each.works,
            "speedup": float(each.speed) if each.speed else None,
            "used": each.used,
        }
        for each in products
    ]
    return {"checks": checks, "matrix_products": speeds}


def shards_json(source: str, index: ShardIndex, sample: str) -> dict[str, Any]:
    """The result of `data show shards:FOLDER`."""
    done = index.done
    return {
        "source": source,
        "name": index.source["name"],
        "documents": done.documents,
        "empty_documents": done.empty,
        "bytes": done.text_bytes,
        "tokens": index.tokens,
        "tokenizer": index.settings["tokenizer"],
        "vocab_size": index.n_vocab,
        "shards": len(index.shards),
        "tokens_per_shard": index.settings["shard_tokens"],
        "dtype": index.dtype,
        "sample": sample,
    }


def text_json(
    source: str, documents: Sequence[str], floor: float | None, sample: str
) -> dict[str, Any]:
    """The result of `data show`; `floor` is the entropy of stories in bits per byte."""
    return {
        "source": source,
        "documents": len(documents),
        "words": sum(len(document.split()) for document in documents),
        "characters": sum(map(len, documents)),
        "distinct_characters": len(set().union(*documents)),
        "bytes": sum(len(document.encode("utf-8", "surrogatepass")) for document in documents),
        "floor_bits_per_byte": floor,
        "sample": sample,
    }


def tokens_json(name: str, tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> dict[str, Any]:
    """The result of `tokenizer show`.

    A token's text is null if it is a part of a character; its bytes are hexadecimal.
    """
    tokens = []
    for i in ids:
        raw = tokenizer.decode_bytes([i])
        try:
            piece = raw.decode("utf-8")
        except UnicodeDecodeError:
            piece = None
        tokens.append({"id": i, "text": piece, "hex": raw.hex()})
    n_bytes = len(text.encode("utf-8", "replace"))
    size = {"bytes": n_bytes, "bytes_per_token": n_bytes / len(ids) if ids else None}
    return {"tokenizer": name, "text": text, "tokens": tokens, **size}


def decoding_json(
    model: Path, prompt: str, page: str, device: str, shown: Iterable[DecodingSample]
) -> dict[str, Any]:
    """The result of the comparison of decoding strategies: its table."""
    rows = [
        {
            "name": sample.name,
            "flags": sample.flags,
            "texts": sample.texts,
            "perplexity": sample.scores.perplexity,
            **{f"distinct_{n}": share for n, share in enumerate(sample.scores.distinct, 1)},
            "overlap_tokens": sample.scores.overlap,
            "tokens_per_second": sample.speed,
        }
        for sample in shown
    ]
    return {"model": model, "prompt": prompt, "page": page, "device": device, "strategies": rows}
