"""Run an experiment: seed by seed, each arm once; the same call continues after a stop or a kill.

All arms of a seed are trained before the next seed begins, so a stop leaves complete pairs, and
whatever slows the machine down affects all arms equally. A run is resumed by `train` itself; a
finished one is in results.json, which is replaced as a whole, so nothing is lost or counted twice.

By default one run at a time: a run already uses all cores or the whole GPU. `cluster.py` runs
several at once, in separate processes or on a cluster.
Tests: tests/experiments/test_runner.py.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from llm_scratch.config import RunConfig, dump_config, load_config
from llm_scratch.data.corpus import Corpus
from llm_scratch.errors import DIVERGED, INTERRUPTED, RESOURCES, USAGE, UserError, describe_error
from llm_scratch.experiments.arms import Corpora, ResolvedArm, resolve_arms
from llm_scratch.experiments.experiment import Experiment, dump_experiment, from_dict
from llm_scratch.experiments.metrics import Metric, find_metric
from llm_scratch.experiments.results import Results, RunResult, State
from llm_scratch.experiments.run_folders import (
    check_folder_names,
    folder_name,
    run_folder,
    settings_file,
)
from llm_scratch.experiments.search import SEARCH_SEED, search, tuned_arms
from llm_scratch.experiments.statistics import distributions
from llm_scratch.experiments.verdict import Comparison, compare_arms
from llm_scratch.model.flops import flops_per_token
from llm_scratch.run_directory import iter_metrics
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.safe_parse import read_yaml
from llm_scratch.storage.user_code import run_user_file
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.fault_injection import inject_requested
from llm_scratch.training.lock import exclusive_writer
from llm_scratch.training.loop import train

EXPERIMENT_FILE = "experiment.yaml"
STOPPED = (RESOURCES, INTERRUPTED, 129, 143)
"""Exit codes of errors that are unrelated to the arm: they stop the experiment."""


class ExperimentCallback:
    """Callbacks for an experiment; the base class does nothing."""

    def started(self, n_runs: int, n_done: int) -> None:
        """Called once everything is checked, with the numbers of runs and of finished ones."""

    def note(self, message: str) -> None:
        """Called with a decision, such as the number of runs at a time."""

    def run_started(self, arm: str, seed: int) -> Callback:
        """Called before a run; the returned callbacks watch its training."""
        return SilentCallback()

    def candidate_finished(self, result: RunResult) -> None:
        """Called after a run of a search, which is not one of the runs that `started` counts."""

    def run_finished(self, result: RunResult, comparisons: Sequence[Comparison]) -> None:
        """Called after a run, with the comparisons so far."""


class SilentCallback(Callback):
    """Callbacks of a run that print nothing."""

    def note(self, message: str) -> None:
        """Print nothing."""

    def warn(self, message: str) -> None:
        """Print nothing."""


@dataclass(frozen=True)
class Job:
    """One run of an experiment: its arm and seed, its settings and its run directory.

    Attributes:
        arm, seed: of the result; a candidate of a search has its own name and `SEARCH_SEED`.
        config: all settings.
        folder: the run directory.
        for_search: validate on the part of the text that only a search sees.
    """

    arm: str
    seed: int
    config: RunConfig
    folder: Path
    for_search: bool = False


def load_experiment(folder: str | Path) -> Experiment:
    """The experiment of a folder that `run_experiment` has made.

    Raises:
        UserError: there is none.
    """
    return from_dict(read_yaml(Path(folder) / EXPERIMENT_FILE, USAGE))


def run_experiment(
    experiment: Experiment,
    folder: str | Path,
    *,
    device: str = "cpu",
    callback: ExperimentCallback | None = None,
    max_seeds: int | None = None,
    run_jobs: RunJobs | None = None,
) -> list[Comparison]:
    """Run what is left of an experiment; returns the comparison of each arm with the reference.

    Args:
        experiment: what to run.
        folder: of the experiment: its runs are SEED/ARM, its results results.json.
        device: "cpu", "cuda" or "mps".
        callback: callbacks.
        max_seeds: seeds after which to pause, as for a pilot (default: all).
        run_jobs: runs jobs and yields their results, such as a `cluster.Cluster` (default: one
            after the other, in this process).
    Raises:
        UserError: an invalid setting, found before the first run; another experiment in `folder`;
            full disk; stopped by Ctrl-C (the same call continues).
    """
    folder = Path(folder)
    corpora = Corpora(halve_validation=bool(experiment.search))
    session = Session(
        folder,
        prepare(experiment),
        corpora,
        device,
        callback or ExperimentCallback(),
        run_jobs or one_by_one,
        experiment.metric,
        experiment.files,
    )
    arms = [
        replace(arm, config=corpora.fit(arm.config)) for arm in resolve_arms(experiment, device)
    ]
    check_folder_names(arm.name for arm in arms)
    _claim(folder, experiment)
    reference = arms[0].config
    arms = [_settled(folder, arm) for arm in arms]
    tuned = tuned_arms(experiment, arms, reference) if experiment.search else {}
    for config in tuned.values():
        corpora.of(config, for_search=True)
    with exclusive_writer(folder, lambda message: None):
        if tuned:
            arms = search(
                experiment,
                arms,
                tuned,
                folder,
                session.run_candidates,
                session.metric.higher_is_better,
            )
        for arm in arms:
            atomic_write(settings_file(folder, arm.name), dump_config(arm.config))
        return _run_seeds(experiment, arms, session, max_seeds)


@dataclass(frozen=True)
class Session:
    """What the runs of an experiment share.

    Attributes:
        folder, device, callback, run_jobs: as in `run_experiment`.
        metric: of every run.
        corpora: the texts.
        metric_name: of the metric, for separate processes.
        files: Python files that such a process runs first.
    """

    folder: Path
    metric: Metric
    corpora: Corpora
    device: str
    callback: ExperimentCallback
    run_jobs: RunJobs
    metric_name: str = "bits_per_byte"
    files: tuple[str, ...] = ()

    def run(self, job: Job) -> RunResult:
        """Train and measure one run in this process."""
        corpus = self.corpora.of(job.config, job.for_search)
        return run_once(
            job, corpus, self.metric, self.device, self.callback.run_started(job.arm, job.seed)
        )

    def run_candidates(self, candidates: Iterable[tuple[str, RunConfig]]) -> Iterator[RunResult]:
        """Train and measure candidates of a search, given by name and settings."""
        jobs = [
            Job(
                name,
                SEARCH_SEED,
                replace(config, train=replace(config.train, seed=SEARCH_SEED)),
                self.folder / "search" / folder_name(name),
                for_search=True,
            )
            for name, config in candidates
        ]
        for result in self.run_jobs(self, jobs):
            self.callback.candidate_finished(result)
            yield result


RunJobs = Callable[[Session, Sequence[Job]], Generator[RunResult]]
"""Runs jobs, and yields the result of each as soon as it is known."""


def one_by_one(session: Session, jobs: Sequence[Job]) -> Generator[RunResult]:
    """Run jobs one after the other in this process."""
    for job in jobs:
        yield session.run(job)


def _run_seeds(
    experiment: Experiment, arms: Sequence[ResolvedArm], session: Session, max_seeds: int | None
) -> list[Comparison]:
    """Run every arm with every seed that is not done, seed by seed."""
    seeds = experiment.seeds[:max_seeds]
    results = Results(
        session.folder, [(arm.name, seed) for seed in experiment.seeds for arm in arms]
    )

    def is_done(arm: ResolvedArm, seed: int) -> bool:
        result = results.get(arm.name, seed)
        return result is not None and result.state != "failed"

    session.callback.started(len(experiment.seeds) * len(arms), len(results.all()))
    comparisons = compare_arms(experiment, session.metric, results.all())
    if experiment.stop_early and all(comparison.is_decided for comparison in comparisons):
        return comparisons
    jobs = [
        Job(
            arm.name,
            seed,
            arm.run_config(seed),
            run_folder(session.folder, arm.name, seed),
        )
        for number, seed in enumerate(seeds)
        for arm in rotated(arms, number)
        if not is_done(arm, seed)
    ]
    finished = session.run_jobs(session, jobs)
    with closing(finished):
        for result in finished:
            results.add(result)
            comparisons = compare_arms(experiment, session.metric, results.all())
            session.callback.run_finished(result, comparisons)
            seed_is_complete = all(results.get(arm.name, result.seed) for arm in arms)
            is_decided = all(comparison.is_decided for comparison in comparisons)
            if experiment.stop_early and seed_is_complete and is_decided:
                break
    return comparisons


def prepare(experiment: Experiment) -> Metric:
    """Check what an experiment needs in addition to its arms, and return its metric.

    Raises:
        UserError: scipy is missing; an error in the experiment's Python file; an invalid metric.
    """
    distributions()
    if experiment.file:
        run_user_file(Path(experiment.file), f"file: {experiment.file}")
    metric = find_metric(experiment.metric)
    if experiment.smallest_effect is not None:
        return replace(metric, smallest_effect=experiment.smallest_effect)
    if metric.smallest_effect is None:
        raise UserError(
            f"metric {experiment.metric}: the smallest effect that matters is not set;"
            " set smallest_effect"
        )
    return metric


def run_arm_files(experiment: Experiment) -> None:
    """Run the arms' Python files, whose architectures are needed to read the arms' settings."""
    for arm in experiment.arms:
        if arm.file:
            run_user_file(Path(arm.file), f"arm {arm.name}: {arm.file}")


def rotated(arms: Sequence[ResolvedArm], shift: int) -> list[ResolvedArm]:
    """The arms, rotated by the number of the seed so that none always runs first."""
    shift %= len(arms)
    return [*arms[shift:], *arms[:shift]]


def run_once(
    job: Job, corpus: Corpus, metric: Metric, device: str, callback: Callback
) -> RunResult:
    """Train one run, or what is left of it, and measure it. A divergence or an error is a result.

    Raises:
        UserError: full disk or memory, or stopped.
    """
    state: State = "finished"
    reason, value = "", None
    try:
        train(
            job.config,
            job.folder,
            device=device,
            callbacks=[callback],
            corpus=corpus,
            inject_fault=inject_requested,
        )
        value = metric.measure(job.folder)
        if value is None or not math.isfinite(value):
            state, reason, value = "failed", f"the run has no {metric.name}", None
    except UserError as e:
        if e.code in STOPPED:
            raise
        state, reason = ("diverged" if e.code == DIVERGED else "failed"), str(e)
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as e:
        state, reason = "failed", describe_error(e, named=True)
    gc.collect()  # the model and its optimizer, before the next run makes its own
    last: dict[str, float] = {}
    for row in iter_metrics(job.folder / "metrics.jsonl"):
        last |= row
    tokens = int(last.get("tokens", 0))
    return RunResult(
        job.arm,
        job.seed,
        state,
        value,
        reason,
        int(last.get("step", 0)),
        tokens,
        float(tokens * flops_per_token(job.config.model)),
        float(last.get("elapsed", 0.0)),
    )


def _claim(folder: Path, experiment: Experiment) -> None:
    """Write the experiment into its folder, or check that it is the one that is there.

    Raises:
        UserError: the folder holds another experiment, or other files.
    """
    path = folder / EXPERIMENT_FILE
    heading = f"# experiment {experiment.fingerprint}\n"
    if path.is_file():
        if not path.read_text(encoding="utf-8").startswith(heading):
            raise UserError(
                f"{folder}: holds another experiment ({path});"
                " more seeds or other arms are a new one: choose another --out"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds other files; choose a new or empty folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(path, heading + dump_experiment(experiment))


def _settled(folder: Path, arm: ResolvedArm) -> ResolvedArm:
    """The arm with the settings of its first runs: a budget in seconds is measured once."""
    path = settings_file(folder, arm.name)
    if path.is_file():
        return replace(arm, config=load_config(path))
    atomic_write(path, dump_config(arm.config))
    return arm
