"""Settings for a text of one's own: look at the text and the machine, apply the rules of `rules.py`, time a few steps.

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
from llm_scratch.hardware.benchmark import matmul_flops
from llm_scratch.hardware.memory import free_memory
from llm_scratch.planning import rules
from llm_scratch.planning.choice import Choice
from llm_scratch.planning.describe import describe
from llm_scratch.planning.plan import SAMPLE_TOKENS, Plan, loader_for, make_plan
from llm_scratch.planning.step_timing import estimate_step_time
from llm_scratch.planning.text_facts import TextFacts, beginnings, text_facts
from llm_scratch.tokenizers import Tokenizer
from llm_scratch.tokenizers.special import end_of_text

CLOSING_SECONDS = 4.0  # drawing the loss, the last samples
READ_RATE = 2e6  # bytes of text for each second of the run: reading it takes a third of the time at most
MEMORY_PER_BYTE = 10  # memory that a byte of text takes as characters and as tokens, at most
SAVE_RATE = 300e6  # bytes a second that a checkpoint is written with, about
SHARD_SAMPLE = 50_000  # tokens of shards that are looked at
PROMPTS = 3
TRIAL_SECONDS, PLAN_SECONDS = 0.6, 2.0
TOKEN_SECONDS = 0.002  # a token of a sample takes at least, whatever the model
STEP_OVERHEAD = 0.0015  # seconds of a step for its batch, its row of metrics and the progress bar
MAX_EPOCHS_FROM_MODEL = 5.0  # of a model that has learned to write already
MIN_SPEED, MAX_SPEED = 0.02, 0.6  # share of the matrix rate that a step reaches at least and at most


@dataclass
class _Chooser:
    """The settings so far; those in `fixed` stay as the user gave them."""

    config: RunConfig
    fixed: frozenset[str]
    reasons: dict[str, str] = field(default_factory=dict)

    def with_settings(self, settings: Mapping[str, Any]) -> RunConfig:
        """The settings with others over them, such as {"model.n_layers": 4}, but for what is fixed."""
        values: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            part, _, key = name.partition(".")
            if name not in self.fixed:
                values.setdefault(part, {})[key] = value
        if "model" in values:
            values["model"] |= self._heads(values["model"])
        return from_dict(RunConfig, values, self.config)

    def _heads(self, model: Mapping[str, Any]) -> dict[str, int]:
        """A width that is a multiple of a fixed number of heads, or heads that divide a fixed width; all with heads of even size."""
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
        """Take the settings of a rule, and remember its reason unless all of them were given."""
        self.config = self.with_settings(decision.settings)
        given = bool(decision.settings) and all(name in self.fixed for name in decision.settings)
        self.reasons[subject] = "as given" if given else decision.reason


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
    """Choose a run's settings for its text, this machine and a stated time.

    Args:
        base: settings to begin with, `data.source` among them.
        fixed: names of settings that were given and stay, such as "model.n_layers".
        seconds: for all of it: reading, this choice, training, the last samples.
        device: what will be trained on.
        request: what the user asked for; kept with the choice.
        tokenizer: the one to use, where a model is there already.
        spent: seconds since the command began.
        report: called with what is being done.
    Returns:
        The choice, the plan of the run, and the text as token ids.
    Raises:
        UserError: no text, or one too small for a single row (code 3).
    """
    chooser = _Chooser(base, fixed | ({"data.tokenizer", "model.vocab_size"} if tokenizer is not None else set()))
    chooser.take("optimizer", rules.choose_optimizer(base.train.optimizer, bool(base.start)))
    report(f"reading {base.data.source[:60]} …")
    budget = rules.Budget(seconds, matmul_flops(device))
    _check_size(base.data.source, seconds)
    if base.data.source.startswith("shards:"):
        corpus, facts, documents = _open_shards(chooser)
    else:
        documents = read(base.data.source)
        facts = text_facts(documents)
        report(f"learning a vocabulary, turning {facts.n_bytes / 1e6:.1f} MB into tokens …")
        corpus = _encode(chooser, documents, facts, budget, tokenizer)
    n_train, n_val = len(corpus.train), len(corpus.val)
    rows = rules.choose_rows(facts, n_train + n_val, n_val, budget)
    if base.start:  # positions that the model has not learned
        rows.settings["model.context_length"] = min(rows.settings["model.context_length"], base.model.context_length)
    chooser.take("rows", rows)
    chooser.config, note = possible_order(chooser.config, corpus.train, corpus.val, end_of_text(corpus.tokenizer))
    if note:
        chooser.reasons["rows"] = rules.ANYWHERE
    check_fit(chooser.config, corpus.train, corpus.val, end_of_text(corpus.tokenizer))
    prompts = beginnings(documents, PROMPTS)
    chooser.take("prompt", rules.Decision({"train.prompt": prompts[0]}, ""))
    report("timing a few steps …")
    row_tokens = min(chooser.config.model.context_length, n_train / facts.n_documents)
    _choose_model(chooser, n_train, row_tokens, seconds - spent(), budget, device)
    plan = _choose_steps(chooser, corpus, lambda: seconds - spent() - CLOSING_SECONDS, device)
    left_out = loader_for(chooser.config, corpus).left_out
    lines = describe(chooser.config, facts, plan, chooser.reasons, n_train, n_val, left_out)
    is_shards = base.data.source.startswith("shards:")
    mark = "" if is_shards or corpus.text is None else corpus.text.sha256
    return Choice(request, chooser.config, lines, tuple(prompts), facts, mark), plan, corpus


def _check_size(source: str, seconds: float) -> None:
    """See that files are not too large to be read within the time and held in memory.

    Raises:
        UserError: they are; names the way by token shards (code 3).
    """
    kind, _, argument = source.partition(":")
    if kind != "file":
        return
    files = [file for path in expand_pattern(argument) for file in (files_in(path) if path.is_dir() else [path])]
    size = sum(file.stat().st_size for file in files if file.is_file())
    free = free_memory()
    slow, large = size > READ_RATE * seconds, free is not None and size > free / MEMORY_PER_BYTE
    if slow or large:
        prepare = f"llm-scratch data prepare {shlex.quote(argument) if path_list(argument) is None else 'FOLDER'} --out shards/mine"
        raise UserError(
            f"the text has {size / 1e9:.2g} GB, more than {'memory can hold' if large else 'can be read in so few --minutes'}; make token "
            f"shards of it once: `{prepare} --tokenizer bpe`, then `llm-scratch train text shards/mine`",
            DATA,
        )


def _encode(chooser: _Chooser, documents: list[str], facts: TextFacts, budget: rules.Budget, tokenizer: Tokenizer | None) -> Corpus:
    """Choose the split and the tokenizer, and make the text token ids."""
    if tokenizer is None:
        wanted = chooser.config.data.tokenizer if "data.tokenizer" in chooser.fixed else ""
        chooser.take("tokenizer", rules.choose_tokenizer(facts, budget, wanted))
    else:
        chooser.reasons["tokenizer"] = f"that of {chooser.config.start}"
    spelled = chooser.config.data.tokenizer == "chars" or rules.has_many_characters(facts)
    chooser.take("split", rules.choose_split(facts.n_documents, facts.n_characters / (1 if spelled else 3)))
    roomy = chooser.config if "model.vocab_size" in chooser.fixed else _with_room(chooser.config)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the text has pairs for")  # the vocabulary is as large as the text allows
        corpus = read_corpus(roomy, tokenizer, documents)
    chooser.config = chooser.with_settings({"model.vocab_size": corpus.tokenizer.n_vocab})
    return corpus


def _with_room(config: RunConfig) -> RunConfig:
    """The settings with a vocabulary that takes any tokenizer that is not learned to a size."""
    return config if config.data.tokenizer == "bpe" else config.with_model(vocab_size=10_000_000)


def _open_shards(chooser: _Chooser) -> tuple[Corpus, TextFacts, list[str]]:
    """The corpus of token shards, what their index says of the text, and its first documents."""
    folder = chooser.config.data.source.partition(":")[2]
    ids, index = open_shards(folder)
    fraction = 0.1 if index.tokens < 2e6 else max(0.001, round(2e5 / index.tokens, 4))
    chooser.config = chooser.with_settings({"model.vocab_size": index.n_vocab, "data.val_fraction": fraction})
    corpus = read_corpus(chooser.config)
    head = np.asarray(ids[:SHARD_SAMPLE])
    cuts = np.flatnonzero(head == index.eot)
    documents = [corpus.tokenizer.decode(part[part != index.eot].tolist()) for part in np.split(head, cuts[1:])]
    documents = [text for text in documents if text.strip()]
    sample = text_facts(documents)
    characters = round(index.done.text_bytes / sample.bytes_per_character)
    facts = replace(
        sample, n_bytes=index.done.text_bytes, n_characters=characters, n_documents=index.done.documents,
        n_lines=round(sample.n_lines * characters / sample.n_characters),
    )  # fmt: skip
    chooser.reasons |= {"tokenizer": "that of the shards", "split": "its end"}
    return corpus, facts, documents


def _choose_model(chooser: _Chooser, n_train: int, row_tokens: float, seconds: float, budget: rules.Budget, device: torch.device) -> None:
    """Choose size, dropout and batch by timing models of a few sizes."""
    start = chooser.with_settings({"train.batch_size": max(1, round(rules.MIN_BATCH_TOKENS / row_tokens))})
    measured: dict[ModelConfig, float] = {}

    def tokens_per_second(config: RunConfig) -> float:
        if config.model not in measured:
            trial = estimate_step_time(config, device, budget.flops, TRIAL_SECONDS, round(row_tokens))
            measured[config.model] = config.train.batch_size * row_tokens / trial.seconds
        return measured[config.model]

    def speed(size: tuple[int, int]) -> tuple[int, float]:
        layers, width = size
        config = _Chooser(start, chooser.fixed).with_settings({"model.n_layers": layers, "model.emb_dim": width})
        n_params = config.model.n_params
        least, most = (share * budget.flops / (6 * n_params) for share in (MIN_SPEED, MAX_SPEED))
        needed = rules.TOKENS_PER_PARAMETER * n_params / seconds
        if least >= needed or most < needed:  # whatever a trial said, the size would be taken or not
            return n_params, least if least >= needed else most
        return n_params, tokens_per_second(config)

    chooser.take("model", rules.choose_size(n_train, speed, seconds))
    tried = replace(start, model=chooser.config.model)
    chooser.take("batch", rules.choose_batch(n_train, tokens_per_second(tried) * seconds, row_tokens))


def _choose_steps(chooser: _Chooser, corpus: Corpus, seconds_left: Callable[[], float], device: torch.device) -> Plan:
    """Plan the chosen model with a first guess of the steps, then take as many as fit; returns the plan of the run."""
    given, n_train = bool({"train.steps", "train.epochs"} & chooser.fixed), len(corpus.train)
    max_epochs = MAX_EPOCHS_FROM_MODEL if chooser.config.start else rules.MAX_EPOCHS
    chooser.config = chooser.with_settings({"train.steps": rules.STEPS} | rules.choose_intervals(rules.STEPS).settings)
    plan = make_plan(chooser.config, device, corpus, PLAN_SECONDS)
    if plan.missing_memory and plan.micro_batches is not None:
        chooser.take("memory", rules.Decision({"train.micro_batches": plan.micro_batches, "machine.recompute": plan.recompute}, ""))
        plan = make_plan(chooser.config, device, corpus, PLAN_SECONDS)
    saves = rules.EVALUATIONS * (plan.memory.weights + plan.memory.optimizer) / SAVE_RATE
    samples = rules.SAMPLES * SAMPLE_TOKENS * TOKEN_SECONDS + plan.sample_seconds
    seconds = max(1.0, seconds_left() - saves - samples)
    step_seconds, evaluating = plan.seconds_per_step + STEP_OVERHEAD, 0.0
    for _ in range(2):  # how long the evaluations take follows from the steps, and these from what the evaluations leave
        left = max(0.5 * seconds, seconds - evaluating)
        decision = rules.choose_steps(left, step_seconds, plan.tokens_per_step, n_train, max_epochs)
        steps = plan.steps if given else chooser.with_settings(decision.settings).train.steps
        intervals = rules.choose_intervals(steps)
        batches = chooser.with_settings(intervals.settings).train.eval_batches
        evaluating = plan.look_seconds * (batches or 1) / (chooser.config.train.eval_batches or batches or 1)
    chooser.take("training", rules.Decision({}, "as given") if given else decision)
    chooser.take("intervals", intervals)
    scale = steps / plan.steps
    return replace(
        plan, steps=steps, passes=None if plan.passes is None else plan.passes * scale, look_seconds=evaluating, sample_seconds=samples
    )  # fmt: skip
