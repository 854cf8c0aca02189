"""Choose a run's settings for a text, this machine and a time budget: measure, apply `rules.py`.

Tests: tests/planning/test_choose_run.py.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from llm_scratch.config import ModelConfig, RunConfig, from_dict
from llm_scratch.data.corpus import Corpus, read_corpus
from llm_scratch.data.fit import check_fit, possible_order
from llm_scratch.data.shards import open_shards
from llm_scratch.data.sources import expand_pattern, files_in, path_list, read
from llm_scratch.errors import DATA, UserError
from llm_scratch.formatting import format_bytes
from llm_scratch.hardware.benchmark import matmul_flops
from llm_scratch.hardware.memory import free_memory
from llm_scratch.planning import rules
from llm_scratch.planning.choice import Choice
from llm_scratch.planning.describe import describe
from llm_scratch.planning.plan import Plan, make_plan
from llm_scratch.planning.step_timing import estimate_step_time
from llm_scratch.planning.text_facts import TextFacts, beginnings, text_facts
from llm_scratch.tokenizers import Tokenizer
from llm_scratch.tokenizers.special import end_of_text
from llm_scratch.training.run_data import text_loaders
from llm_scratch.training.samples import SAMPLE_TOKENS

CLOSING_SECONDS = 4.0  # for the loss plot and the last samples
READ_RATE = (
    2e6  # largest text in bytes per second of the run: reading it takes at most a third of the time
)
MEMORY_PER_BYTE = 10  # largest memory per byte of text, as characters and as tokens
SAVE_RATE = 300e6  # approximate bytes per second at which checkpoints are written
SHARD_SAMPLE = 50_000  # tokens of shards to measure
PROMPTS = 3
TRIAL_SECONDS = 0.6
PLAN_SECONDS = 2.0
TOKEN_SECONDS = 0.002  # least time to generate a token of a sample
STEP_OVERHEAD = 0.0015  # seconds of a step for its batch, its row of metrics and the progress bar
MAX_EPOCHS_FROM_MODEL = 5.0  # for a pretrained model
MIN_SPEED, MAX_SPEED = 0.02, 0.6  # range of the share of the matmul rate that a step reaches


@dataclass
class _Chooser:
    """The settings so far; `fixed` names the ones that the user chose."""

    config: RunConfig
    fixed: frozenset[str]
    reasons: dict[str, str] = field(default_factory=dict)

    def with_settings(self, settings: Mapping[str, Any]) -> RunConfig:
        """The settings updated with others, such as {"model.n_layers": 4}, except fixed ones."""
        values: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            part, _, key = name.partition(".")
            if name not in self.fixed:
                values.setdefault(part, {})[key] = value
        if "model" in values:
            values["model"] |= self._heads(values["model"])
        return from_dict(RunConfig, values, self.config)

    def _heads(self, model: Mapping[str, Any]) -> dict[str, int]:
        """Fit the width to a fixed number of heads, or heads to the width, of an even head size."""
        if "emb_dim" not in model and "n_heads" not in model:
            return {}
        old = self.config.model
        if "model.n_heads" in self.fixed and "model.emb_dim" not in self.fixed:
            unit = 2 * old.n_heads
            return {"emb_dim": unit * -(-model["emb_dim"] // unit)}
        width = model.get("emb_dim", old.emb_dim)
        wanted = max(1, width // rules.HEAD_WIDTH)
        heads = next((h for h in range(wanted, 0, -1) if width % h == 0 and width // h % 2 == 0), 1)
        return {} if "model.n_heads" in self.fixed else {"n_heads": heads}

    def take(self, subject: str, decision: rules.Decision) -> None:
        """Apply a rule's settings, and keep its reason unless all of them are fixed."""
        self.config = self.with_settings(decision.settings)
        all_fixed = bool(decision.settings) and all(
            name in self.fixed for name in decision.settings
        )
        self.reasons[subject] = "as requested" if all_fixed else decision.reason


def choose_run(
    base: RunConfig,
    fixed: frozenset[str],
    seconds: float,
    device: torch.device,
    *,
    request: dict[str, Any],
    tokenizer: Tokenizer | None = None,
    spent: Callable[[], float] = lambda: 0.0,
    report: Callable[[str], object] = lambda line: None,
) -> tuple[Choice, Plan, Corpus]:
    """Choose a run's settings for its text, this machine and a time budget.

    Args:
        base: the initial settings, `data.source` among them.
        fixed: names of settings that the user chose, such as "model.n_layers".
        seconds: for everything: reading, this choice, training, the last samples.
        device: to train on.
        request: what the user requested; stored with the choice.
        tokenizer: that of an existing model (default: choose one).
        spent: seconds since the command began.
        report: called with progress messages.
    Returns:
        The choice, the plan of the run, and the encoded text.
    Raises:
        UserError: no text, or one too short for a single row (exit code 3).
    """
    chooser = _Chooser(
        base, fixed | ({"data.tokenizer", "model.vocab_size"} if tokenizer is not None else set())
    )
    chooser.take("optimizer", rules.choose_optimizer(base.train.optimizer, bool(base.init_from)))
    report(f"reading {base.data.source[:60]} …")
    budget = rules.Budget(seconds, matmul_flops(device))
    _check_size(base.data.source, seconds)
    if base.data.source.startswith("shards:"):
        corpus, facts, documents = _open_shards(chooser)
    else:
        documents = read(base.data.source)
        facts = text_facts(documents)
        report(f"training a tokenizer, encoding {format_bytes(facts.n_bytes)} …")
        corpus = _encode(chooser, documents, facts, budget, tokenizer)
    n_train, n_val = len(corpus.train), len(corpus.val)
    _choose_rows(chooser, corpus, facts, budget)
    prompts = beginnings(documents, PROMPTS)
    chooser.take("prompt", rules.Decision({"train.prompt": prompts[0]}, ""))
    report("timing a few steps …")
    row_tokens = min(chooser.config.model.context_length, n_train / facts.n_documents)
    _choose_model(chooser, n_train, row_tokens, seconds - spent(), budget, device)
    plan = _choose_steps(chooser, corpus, lambda: seconds - spent() - CLOSING_SECONDS, device)
    left_out = text_loaders(chooser.config, corpus)[0].left_out
    lines = describe(chooser.config, facts, plan, chooser.reasons, n_train, n_val, left_out)
    is_shards = base.data.source.startswith("shards:")
    fingerprint = "" if is_shards or corpus.text is None else corpus.text.sha256
    return Choice(request, chooser.config, lines, tuple(prompts), facts, fingerprint), plan, corpus


def _choose_rows(chooser: _Chooser, corpus: Corpus, facts: TextFacts, budget: rules.Budget) -> None:
    """Choose the context and the order of the rows, and check that the text fills them.

    Raises:
        UserError: the text is too short for a single row (exit code 3).
    """
    n_val = len(corpus.val)
    rows = rules.choose_rows(facts, len(corpus.train) + n_val, n_val, budget)
    if chooser.config.init_from:  # later positions of the model are untrained
        trained = chooser.config.model.context_length
        rows.settings["model.context_length"] = min(rows.settings["model.context_length"], trained)
    chooser.take("rows", rows)
    end = end_of_text(corpus.tokenizer)
    chooser.config, note = possible_order(chooser.config, corpus.train, corpus.val, end)
    if note:
        chooser.reasons["rows"] = rules.ANYWHERE
    check_fit(chooser.config, corpus.train, corpus.val, end)


def _check_size(source: str, seconds: float) -> None:
    """Check that files can be read within the time and fit into memory.

    Raises:
        UserError: they do not; suggests token shards (exit code 3).
    """
    kind, _, argument = source.partition(":")
    if kind != "file":
        return
    files = [
        file
        for path in expand_pattern(argument)
        for file in (files_in(path) if path.is_dir() else [path])
    ]
    size = sum(file.stat().st_size for file in files if file.is_file())
    free = free_memory()
    slow = size > READ_RATE * seconds
    large = free is not None and size > free / MEMORY_PER_BYTE
    if slow or large:
        source_argument = shlex.quote(argument) if path_list(argument) is None else "FOLDER"
        prepare = f"llm-scratch data prepare {source_argument} --out shards/mine"
        limit = "memory can hold" if large else "can be read in so few --minutes"
        raise UserError(
            f"the text has {format_bytes(size)}, more than {limit}; make token shards of it once:"
            f" `{prepare} --tokenizer bpe`, then `llm-scratch train text shards/mine`",
            DATA,
        )


def _encode(
    chooser: _Chooser,
    documents: list[str],
    facts: TextFacts,
    budget: rules.Budget,
    tokenizer: Tokenizer | None,
) -> Corpus:
    """Choose the split and the tokenizer, and encode the text."""
    if tokenizer is None:
        wanted = chooser.config.data.tokenizer if "data.tokenizer" in chooser.fixed else ""
        chooser.take("tokenizer", rules.choose_tokenizer(facts, budget, wanted))
    else:
        chooser.reasons["tokenizer"] = f"that of {chooser.config.init_from}"
    by_characters = chooser.config.data.tokenizer == "chars" or rules.has_many_characters(facts)
    chooser.take(
        "split",
        rules.choose_split(facts.n_documents, facts.n_characters / (1 if by_characters else 3)),
    )
    if "model.vocab_size" in chooser.fixed:
        unlimited = chooser.config
    else:
        unlimited = _without_vocab_limit(chooser.config)
    with warnings.catch_warnings():
        # the vocabulary is as large as the text allows
        warnings.filterwarnings("ignore", message=r"vocab_size=\d+: the text has pairs for")
        corpus = read_corpus(unlimited, tokenizer, documents)
    chooser.config = chooser.with_settings({"model.vocab_size": corpus.tokenizer.n_vocab})
    return corpus


def _without_vocab_limit(config: RunConfig) -> RunConfig:
    """The settings with a vocabulary large enough for any tokenizer whose size is not trained."""
    return config if config.data.tokenizer == "bpe" else config.with_model(vocab_size=10_000_000)


def _open_shards(chooser: _Chooser) -> tuple[Corpus, TextFacts, list[str]]:
    """The corpus of token shards, the facts from their index, and their first documents."""
    folder = chooser.config.data.source.partition(":")[2]
    ids, index = open_shards(folder)
    fraction = 0.1 if index.tokens < 2e6 else max(0.001, round(2e5 / index.tokens, 4))
    chooser.config = chooser.with_settings(
        {"model.vocab_size": index.n_vocab, "data.val_fraction": fraction}
    )
    corpus = read_corpus(chooser.config)
    first = np.asarray(ids[:SHARD_SAMPLE])
    ends = np.flatnonzero(first == index.eot)
    documents = [
        corpus.tokenizer.decode(part[part != index.eot].tolist())
        for part in np.split(first, ends[1:])
    ]
    documents = [text for text in documents if text.strip()]
    sample = text_facts(documents)
    characters = round(index.done.text_bytes / sample.bytes_per_character)
    facts = replace(
        sample,
        n_bytes=index.done.text_bytes,
        n_characters=characters,
        n_documents=index.done.documents,
        n_lines=round(sample.n_lines * characters / sample.n_characters),
    )
    chooser.reasons |= {"tokenizer": "that of the shards", "split": "the end of the text"}
    return corpus, facts, documents


def _choose_model(
    chooser: _Chooser,
    n_train: int,
    row_tokens: float,
    seconds: float,
    budget: rules.Budget,
    device: torch.device,
) -> None:
    """Choose size, dropout and batch size by timing models of a few sizes."""
    start = chooser.with_settings(
        {"train.batch_size": max(1, round(rules.MIN_BATCH_TOKENS / row_tokens))}
    )
    measured: dict[ModelConfig, float] = {}

    def tokens_per_second(config: RunConfig) -> float:
        if config.model not in measured:
            timing = estimate_step_time(
                config, device, budget.flops, TRIAL_SECONDS, round(row_tokens)
            )
            measured[config.model] = config.train.batch_size * row_tokens / timing.seconds
        return measured[config.model]

    def speed(size: tuple[int, int]) -> tuple[int, float]:
        layers, width = size
        config = _Chooser(start, chooser.fixed).with_settings(
            {"model.n_layers": layers, "model.emb_dim": width}
        )
        n_params = config.model.n_params
        least, most = (share * budget.flops / (6 * n_params) for share in (MIN_SPEED, MAX_SPEED))
        needed = rules.TOKENS_PER_PARAMETER * n_params / seconds
        if least >= needed or most < needed:  # the decision does not depend on a measurement
            return n_params, least if least >= needed else most
        return n_params, tokens_per_second(config)

    chooser.take("model", rules.choose_size(n_train, speed, seconds))
    tried = replace(start, model=chooser.config.model)
    chooser.take(
        "batch", rules.choose_batch(n_train, tokens_per_second(tried) * seconds, row_tokens)
    )


def _choose_steps(
    chooser: _Chooser, corpus: Corpus, seconds_left: Callable[[], float], device: torch.device
) -> Plan:
    """Take as many steps as fit into the time; returns the plan of the run.

    The model is planned with an initial number of steps first.
    """
    is_fixed = bool({"train.steps", "train.epochs"} & chooser.fixed)
    n_train = len(corpus.train)
    max_epochs = MAX_EPOCHS_FROM_MODEL if chooser.config.init_from else rules.MAX_EPOCHS
    chooser.config = chooser.with_settings(
        {"train.steps": rules.STEPS} | rules.choose_intervals(rules.STEPS).settings
    )
    plan = make_plan(chooser.config, device, corpus, PLAN_SECONDS)
    if plan.missing_memory and plan.micro_batches is not None:
        chooser.take(
            "memory",
            rules.Decision(
                {
                    "train.micro_batches": plan.micro_batches,
                    "system.activation_checkpointing": plan.activation_checkpointing,
                },
                "",
            ),
        )
        plan = make_plan(chooser.config, device, corpus, PLAN_SECONDS)
    saves = rules.EVALUATIONS * (plan.memory.weights + plan.memory.optimizer) / SAVE_RATE
    samples = rules.SAMPLES * SAMPLE_TOKENS * TOKEN_SECONDS + plan.sample_seconds
    seconds = max(1.0, seconds_left() - saves - samples)
    step_seconds = plan.seconds_per_step + STEP_OVERHEAD
    eval_seconds = 0.0
    # evaluation time depends on the steps, and the steps on the time that evaluation leaves
    for _ in range(2):
        left = max(0.5 * seconds, seconds - eval_seconds)
        decision = rules.choose_steps(left, step_seconds, plan.tokens_per_step, n_train, max_epochs)
        steps = plan.steps if is_fixed else chooser.with_settings(decision.settings).train.steps
        intervals = rules.choose_intervals(steps)
        batches = chooser.with_settings(intervals.settings).train.eval_batches
        eval_seconds = (
            plan.eval_seconds * (batches or 1) / (chooser.config.train.eval_batches or batches or 1)
        )
    chooser.take("training", rules.Decision({}, "as requested") if is_fixed else decision)
    chooser.take("intervals", intervals)
    scale = steps / plan.steps
    return replace(
        plan,
        steps=steps,
        epochs=None if plan.epochs is None else plan.epochs * scale,
        eval_seconds=eval_seconds,
        sample_seconds=samples,
    )
