"""Rules that choose tokenizer, rows, model and steps for a text and a time budget, with reasons.

Each rule is a pure function of facts (of the text, and of the speed of this machine) and returns
settings with the reason in words. `choose_run.py` measures the facts and applies the rules in
order.

Sources of the constants:

- Model size. Hoffmann et al. 2022 (https://arxiv.org/abs/2203.15556) find about 20 tokens per
  parameter optimal for a given compute. `TOKENS_PER_PARAMETER` is lower, since runs here last
  minutes and Muon learns fast: 2 MB of English and 60 s of one core give 2.22 bits per byte at 2
  tokens per parameter, 2.24 at 9, 2.27 at 0.7 and 2.36 at 0.2.
- Repetition. Muennighoff et al. 2023 (https://arxiv.org/abs/2305.16264): up to 4 epochs are almost
  as good as new text; after 40, more epochs gain nothing. So dropout rises with the epochs, and
  steps end at `MAX_EPOCHS`.
- Small texts. A story of 20 kB: characters reach 2.45 bits per byte, a vocabulary of 512 tokens
  2.65. Without dropout the loss rises after 7 to 13 epochs; with 0.2 it still falls after 40, and a
  model of four times the parameters gains nothing.
- Vocabulary. Tao et al. 2024 (https://arxiv.org/abs/2407.13623): larger models deserve larger
  vocabularies. Here a token should also
  occur often enough to be learned: `CHARACTERS_PER_TOKEN` characters of text for each. Chinese news
  is learned as well in characters as in byte pairs (100,000 characters: 2.87 and 2.85; 1.9 M
  characters: 2.27 and 2.26), so the same limit holds there; 4096 tokens have 1.3 of its characters
  each.

Tests: tests/planning/test_rules.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from llm_scratch.planning.text_facts import TextFacts

SMALL_TEXT = 150_000
"""characters up to which a text is tokenized by character"""
MANY_DISTINCT, MANY_BYTES = 500, 2.0
"""distinct characters and bytes per character of scripts such as Chinese, at least"""
MAX_ALPHABET = 8192
"""distinct characters up to which each can have its own token"""
CHARACTERS_PER_TOKEN = 400
MIN_VOCABULARY, MIN_VOCABULARY_MANY, MAX_VOCABULARY = 512, 2048, 32_768
SAMPLE_ALPHABET = 16_000_000
"""characters to train a tokenizer on: 2 seconds for a script with spaces"""
SAMPLE_MANY_PER_SECOND = 4000
"""the same for scripts without spaces, per second of the run:
long pieces hardly repeat, and 1 M characters take 7 seconds
"""
TOKENS_PER_PARAMETER = 2.0
MAX_PARAMETERS_PER_TOKEN = 10.0
"""of distinct training text; a larger model only memorizes it"""
MAX_EPOCHS = 40.0
SIZES = ((2, 64), (3, 96), (4, 128), (4, 192), (6, 256), (6, 384), (8, 512), (12, 768))
"""(layers, width) of the models, from small to GPT-2's"""
HEAD_WIDTH = 32
MIN_CONTEXT = 8
ANYWHERE = "they begin anywhere in a document"
MIN_VAL_DOCUMENTS = 5
"""validation documents from which they represent the rest"""
STEPS, MIN_STEPS = 1500, 100
"""optimizer steps of a run: target, if batches can be chosen freely, and minimum"""
MIN_BATCH_TOKENS, MAX_BATCH_TOKENS = 1024, 65_536
EVALUATIONS, EVALUATION_SHARE, FORWARD_COST = 12, 0.06, 3
"""evaluations of a run, the share of the time for them,
and how many evaluated batches cost as much as a step
"""
SAMPLES = 4
"""samples generated during a run"""


class Decision(NamedTuple):
    """Settings, such as {"model.n_layers": 4}, and the reason for them."""

    settings: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class Budget:
    """The time for a run, and the matmul speed of this machine."""

    seconds: float
    flops: float
    """FLOP/s of a large matrix product"""

    @property
    def total_flops(self) -> float:
        """FLOPs for training: an ordinary step reaches a third of the rate."""
        return self.seconds * self.flops / 3


def has_many_characters(facts: TextFacts) -> bool:
    """Whether the script of a text has thousands of characters; a few rare ones do not count."""
    return facts.n_distinct > MANY_DISTINCT and facts.bytes_per_character > MANY_BYTES


def choose_tokenizer(facts: TextFacts, budget: Budget, wanted: str = "") -> Decision:
    """Characters for small texts, byte-pair encoding for larger ones.

    The vocabulary fits text and time.

    Args:
        facts: of the text.
        budget: of the run.
        wanted: "bpe" or "chars" if that is decided already.
    """
    many = has_many_characters(facts)
    small = facts.n_characters <= SMALL_TEXT and facts.n_distinct < MAX_ALPHABET
    if wanted == "chars" or (small and not wanted):
        reason = "the text is too small for larger pieces"
        return Decision(
            {"data.tokenizer": "chars", "model.vocab_size": facts.n_distinct + 1}, reason
        )
    affordable = max(2 * MIN_VOCABULARY, math.sqrt(budget.total_flops) / 500)
    size = _power_of_two(min(facts.n_characters / CHARACTERS_PER_TOKEN, affordable, MAX_VOCABULARY))
    if many:  # with fewer tokens, common characters would take two or three byte tokens
        size = max(size, MIN_VOCABULARY_MANY)
    sample = round(SAMPLE_MANY_PER_SECOND * budget.seconds) if many else SAMPLE_ALPHABET
    settings = {"data.tokenizer": "bpe", "model.vocab_size": max(size, MIN_VOCABULARY)}
    if sample < facts.n_characters:
        settings["data.tokenizer_sample"] = sample
    return Decision(settings, "frequent pieces of words")


def choose_optimizer(optimizer: str, from_model: bool) -> Decision:
    """Muon for new models, AdamW for pretrained ones.

    At a low learning rate the model keeps what it has learned.
    """
    if from_model:
        settings = {"train.optimizer": "adamw", "train.lr": 1e-4, "train.weight_decay": 0.1}
    elif optimizer == "muon":
        settings = {"train.lr": 0.05, "train.weight_decay": 0.0}
    else:
        settings = {"train.lr": 1e-3, "train.weight_decay": 0.1}
    return Decision(settings, "")


def choose_split(n_documents: int, n_tokens: float) -> Decision:
    """The share of validation text, and whether it is whole documents from all over the text.

    Args:
        n_documents, n_tokens: of the whole text; tokens may be estimated.
    """
    fraction = 0.1 if n_tokens < 2e6 else max(0.005, round(2e5 / n_tokens, 4))
    split = "documents" if n_documents * fraction >= MIN_VAL_DOCUMENTS else "tokens"
    reason = "spread over the text" if split == "documents" else "the end of the text"
    return Decision({"data.val_fraction": fraction, "data.split": split}, reason)


def choose_rows(facts: TextFacts, n_tokens: float, n_val: float, budget: Budget) -> Decision:
    """The row length, and whether a row is a document.

    Args:
        facts: of the text.
        n_tokens, n_val: of the whole text and of its validation part.
        budget: of the run.
    """
    context = next(
        size
        for limit, size in ((1e14, 128), (1e15, 256), (math.inf, 1024))
        if budget.total_flops < limit
    )
    typical = facts.typical_document * n_tokens / facts.n_characters
    if facts.n_documents >= 10 * MIN_VAL_DOCUMENTS and typical <= 2 * context:
        settings = {
            "data.order": "documents",
            "model.context_length": 16 * math.ceil((typical + 2) / 16),
        }
        return Decision(settings, "each is one document")
    context = max(MIN_CONTEXT, min(context, _power_of_two(n_val / 4)))
    return Decision({"data.order": "shuffled", "model.context_length": context}, ANYWHERE)


def choose_size(
    n_train: float, speed: Callable[[tuple[int, int]], tuple[int, float]], seconds: float
) -> Decision:
    """The largest model of `SIZES` that can be trained in the time and that the text supports.

    Args:
        n_train: tokens of training text.
        speed: (layers, width) -> (parameters, tokens per second here); called for few sizes, since
            it may measure.
        seconds: for training.
    """
    best, reason = SIZES[0], "no larger one is tried"
    for size in SIZES[1:]:
        n_params, tokens_per_second = speed(size)
        if n_params > MAX_PARAMETERS_PER_TOKEN * n_train:
            reason = "larger would overfit"
            break
        if tokens_per_second * seconds < TOKENS_PER_PARAMETER * n_params:
            reason = "larger takes longer"
            break
        best = size
    layers, width = best
    settings = {
        "model.n_layers": layers,
        "model.emb_dim": width,
        "model.n_heads": max(1, width // HEAD_WIDTH),
    }
    return Decision(settings, reason)


def choose_batch(n_train: float, tokens: float, row_tokens: float) -> Decision:
    """Batch size and dropout for a run of at most `tokens` tokens.

    Args:
        n_train: tokens of training text.
        tokens: that the time allows.
        row_tokens: of one row, on average.
    """
    tokens = min(tokens, MAX_EPOCHS * n_train)
    wanted = min(
        max(tokens / STEPS, min(MIN_BATCH_TOKENS, tokens / (3 * MIN_STEPS))), MAX_BATCH_TOKENS
    )
    epochs = tokens / n_train
    settings = {
        "train.batch_size": max(1, round(wanted / row_tokens)),
        "model.drop_rate": dropout(epochs),
    }
    return Decision(
        settings,
        f"{epochs:.0f} times over the text" if epochs >= 1.5 else "hardly any text is seen twice",
    )


def dropout(epochs: float) -> float:
    """The dropout rate for a number of epochs: 0 for new text, 0.2 above 15 epochs."""
    return next(
        rate for limit, rate in ((3, 0.0), (8, 0.05), (15, 0.1), (math.inf, 0.2)) if epochs <= limit
    )


def choose_steps(
    seconds: float,
    step_seconds: float,
    tokens_per_step: float,
    n_train: float,
    max_epochs: float = MAX_EPOCHS,
) -> Decision:
    """As many steps as the time allows, up to `max_epochs`.

    Args:
        seconds: for training.
        step_seconds: of one step here, with its share of evaluations and samples.
        tokens_per_step: on average.
        n_train: tokens of training text.
        max_epochs: after which more training on the text gains nothing.
    """
    timed = int(seconds / step_seconds)
    useful = math.ceil(max_epochs * n_train / tokens_per_step)
    if useful < timed:
        return Decision({"train.steps": max(MIN_STEPS, useful)}, "more steps would gain nothing")
    return Decision({"train.steps": max(MIN_STEPS, timed)}, "the time allows no more")


def choose_intervals(steps: int) -> Decision:
    """Intervals for evaluating, saving, sampling and logging.

    Evaluations take `EVALUATION_SHARE` of the time.
    """
    every = max(1, math.ceil(steps / EVALUATIONS))
    batches = round(EVALUATION_SHARE * FORWARD_COST * steps / (2 * EVALUATIONS))
    settings = {
        "train.warmup_steps": min(50, steps // 20),
        "train.eval_every": every,
        "train.eval_batches": min(max(batches, 4), 64),
        "train.save_every": max(1, math.ceil(steps / 4)),
        "train.sample_every": max(1, math.ceil(steps / SAMPLES)),
        "train.log_every": max(1, steps // 200),
    }
    return Decision(settings, "")


def advice(losses: Sequence[Mapping[str, float]], epochs: float, minutes: float) -> list[str]:
    """Advice for a better model, most useful first.

    Args:
        losses: evaluations of the run in their order, with "step", "train_loss" and "val_loss".
        epochs: of the run.
        minutes: the time budget of the run.
    """
    if not losses:
        return []
    lowest = min(losses, key=lambda row: row["val_loss"])
    last = losses[-1]
    gap = last["val_loss"] - last["train_loss"]
    rising = lowest["step"] < 0.7 * last["step"]
    if rising or epochs >= 0.95 * MAX_EPOCHS:
        return [
            f"more text: the model has read this text {epochs:.0f} times,"
            " and longer training would only repeat it"
        ]
    if epochs > 10 and gap > 0.25 * last["val_loss"]:
        return [
            f"more text: the training loss of {last['train_loss']:.2f} is far below the validation"
            f" loss of {last['val_loss']:.2f}"
        ]
    return [
        f"more time: the validation loss was still falling; try --minutes {max(1.0, 2 * minutes):g}"
    ]


def _power_of_two(value: float) -> int:
    """The largest power of two up to a value of at least 1."""
    return 1 << max(0, int(math.log2(max(1.0, value))))
