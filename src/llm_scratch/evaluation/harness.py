"""Run lm-evaluation-harness on our models: the extra `eval`.

The harness has hundreds of tasks and its own conventions; a model joins it by answering three
kinds of requests. Tasks may be names of the harness, or local YAML files, which need no network.
A task file is a program in part (the harness runs its templates): use those that you trust.
Tests: tests/evaluation/test_harness.py (results equal to those of transformers).
Source: https://github.com/EleutherAI/lm-evaluation-harness, docs/model_guide.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate, utils
from lm_eval.api.model import TemplateLM

from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.evaluation.likelihood import score_continuations
from llm_scratch.evaluation.tasks import TaskScore
from llm_scratch.generation.decode import stream
from llm_scratch.model.introspection import context_length
from llm_scratch.storage.safe_parse import read_yaml

DEFAULT_NEW_TOKENS = 256
"""of a task that sets no limit"""

BOOTSTRAPS = 100
"""samples for the standard error of metrics that are not means; 0: no metric has an error"""


class HarnessModel(TemplateLM):
    """A model of ours as the harness sees it.

    Args:
        model, tokenizer: as from `load`.
        batch_size: texts at once.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 16) -> None:
        super().__init__()
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size

    @property
    def eot_token_id(self) -> int:
        """The token that ends a document; errors as in `tokenizer.eot_token`."""
        return self.tokenizer.eot_token

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without a context."""
        start = self.model.start_id
        return self.eot_token_id if start is None else start

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Encode a text; the model's `start_id` comes first, if `add_special_tokens` allows."""
        ids = self.tokenizer.encode(string, disallowed_special=())
        start = self.model.start_id
        return ids if start is None or add_special_tokens is False else [start, *ids]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts, in windows that do not overlap."""
        size = context_length(self.model) or 1 << 20
        totals = []
        for request in requests:
            windows = utils.get_rolling_token_windows(
                self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=size,
                context_len=1,
            )
            rows = [utils.make_disjoint_window(window) for window in windows]
            scores = score_continuations(self.model, rows, self.batch_size)
            totals.append(sum(score.nats for score in scores))
        return totals

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Continue texts greedily, or sample if the task says so, up to its stop strings."""
        return [self._continuation(*request.args) for request in requests]

    def _continuation(self, context: str, settings: dict[str, Any]) -> str:
        until = settings.get("until") or ()
        chunks = stream(
            self.model,
            self.tokenizer,
            context,
            max_new_tokens=settings.get("max_gen_toks", DEFAULT_NEW_TOKENS),
            temperature=settings.get("temperature", 0.0) if settings.get("do_sample") else 0.0,
            stop=tuple([until] if isinstance(until, str) else until),
        )
        return "".join(chunks)

    def _loglikelihood_tokens(
        self, requests: Any, disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        rows = [(context, continuation) for _, context, continuation in requests]
        scores = score_continuations(self.model, rows, self.batch_size)
        return [(score.nats, score.is_greedy) for score in scores]


def run_harness(
    model: Any, tokenizer: Any, tasks: Sequence[str], batch_size: int = 16
) -> list[TaskScore]:
    """Measure a model on tasks of the harness.

    Args:
        model, tokenizer: as from `load`.
        tasks: names of the harness, or paths of YAML files.
        batch_size: texts at once.
    Raises:
        UserError: an unknown task, a damaged file, or data that cannot be read (code 3).
    """
    wanted = [
        read_yaml(task, DATA) if Path(task).suffix in (".yaml", ".yml") else task for task in tasks
    ]
    try:
        results = simple_evaluate(
            model=HarnessModel(model, tokenizer, batch_size),
            tasks=wanted,
            bootstrap_iters=BOOTSTRAPS,
        )
    except UserError:
        raise
    except Exception as e:  # tasks read data and run templates: anything can fail
        raise UserError(
            f"lm-evaluation-harness cannot run {', '.join(tasks)}: {describe_error(e, named=True)}",
            DATA,
        ) from e
    return _scores(results)


def _scores(results: Any) -> list[TaskScore]:
    """Return the harness's results, whose metrics are "acc,none" with error "acc_stderr,none"."""
    scores = []
    for task, metrics in results["results"].items():
        n_questions = results.get("n-samples", {}).get(task, {}).get("effective", 0)
        for key, value in metrics.items():
            name, _, filtered = key.partition(",")
            if not isinstance(value, int | float) or name.endswith("_stderr"):
                continue
            error = metrics.get(f"{name}_stderr,{filtered}")
            known = isinstance(error, int | float) and math.isfinite(error)
            scores.append(
                TaskScore(task, name, float(value), float(error) if known else None, n_questions)
            )
    return scores
