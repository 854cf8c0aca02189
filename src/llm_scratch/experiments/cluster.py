"""Train several runs of an experiment in parallel: in local processes, or as Slurm jobs.

Each run is a job that trains, and writes its result into the experiment's folder as JSON.
The process that submitted the jobs collects those files. It may be killed at any moment; the same
command later collects what has finished meanwhile. A job that is submitted a second time waits for
the lock of its folder, and finds the result of the first.
Tests: tests/experiments/test_cluster.py (submitit's executor for one machine).
Source: submitit, https://github.com/facebookincubator/submitit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import sleep
from typing import Any

import torch

from llm_scratch.config import dump_config, load_config
from llm_scratch.errors import DATA, RESOURCES, USAGE, UserError, describe_error, unknown
from llm_scratch.experiments.arms import Corpora
from llm_scratch.experiments.concurrency import choose_concurrency
from llm_scratch.experiments.metrics import find_metric
from llm_scratch.experiments.results import RunResult, parse_result
from llm_scratch.experiments.runner import Job, Session, SilentCallback, run_once
from llm_scratch.extras import install_command
from llm_scratch.hardware.device import choose_device
from llm_scratch.storage.file_lock import wait_for_lock
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.safe_parse import parse_yaml_value, read_json
from llm_scratch.storage.user_code import run_user_file

SYSTEMS = ("local", "slurm")
JOBS_FOLDER = "jobs"
"""Inside the experiment's folder: settings and result of each job, and the scripts and logs."""
LOCK_FILE = "job.lock"
RESULT_FILE = "result.json"
SETTINGS_FILE = "settings.yaml"
AT_ONCE_FILE = "at-once.json"
"""How many runs are made at a time, where that was measured."""
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.2
SLURM_POLL_SECONDS = 10.0
DEFAULT_MINUTES = 24 * 60
DEFAULT_SLURM_JOBS = 2


@dataclass(frozen=True)
class Limits:
    """The resources of a job: a number of threads (None: all), a GPU by its CUDA name ("": any)."""

    threads: int | None = None
    gpu: str = ""


@dataclass(frozen=True)
class JobSpec:
    """What a separate process needs to make a run, in addition to its settings.

    Attributes:
        arm, seed, folder, for_search: as in `runner.Job`.
        metric: its name in `metrics.METRICS`, with its argument.
        halve_validation: as in `arms.Corpora`.
        files: Python files to run first.
    """

    arm: str
    seed: int
    folder: str
    for_search: bool
    metric: str
    halve_validation: bool
    files: tuple[str, ...]


@dataclass(frozen=True)
class Cluster:
    """Runs jobs through submitit; to be passed to `run_experiment` as `run_jobs`.

    Attributes:
        system: "local", processes of this machine, or "slurm".
        at_once: the largest number of jobs at a time; None: as measured on this machine (see
            `concurrency`), and on Slurm `DEFAULT_SLURM_JOBS`.
        device: "auto", "cpu", "cuda" or "mps"; chosen by each job on its machine.
        options: of the system, as submitit names them without prefix, such as partition.
        file: a Python file that each job runs first, as `--import` does; "": none.
    Raises:
        UserError: submitit is not installed, or the system is not available here.
    """

    system: str
    at_once: int | None = None
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""

    def __post_init__(self) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError(
                f"--on {self.system}: submitit is not installed; {install_command('slurm')}"
            ) from None
        if self.system == "slurm" and not submitit.SlurmExecutor.affinity() > 0:
            raise UserError("--on slurm: srun was not found; run it where Slurm is installed")

    def __call__(self, session: Session, jobs: Sequence[Job]) -> Generator[RunResult]:
        """Submit jobs, at most `at_once` at a time; yield each result when it is there.

        If the caller stops, the jobs that run are canceled.

        Raises:
            UserError: a job ended without a result; the reason is in its log.
        """
        if not jobs:
            return
        folder = session.folder / JOBS_FOLDER
        executor = self._executor(folder)
        at_once = self._at_once(session, jobs)
        free = list(range(at_once))
        waiting = list(jobs)
        running: dict[Path, tuple[int, Any]] = {}
        try:
            while waiting or running:
                while waiting and free:
                    job, slot = waiting.pop(0), free.pop(0)
                    session.callback.run_started(job.arm, job.seed)
                    limits = self._limits(session, at_once, slot)
                    submitted = self._submit(executor, session, job, limits)
                    running[job_folder(folder, job)] = slot, submitted
                finished = [
                    place for place, (_, job) in running.items() if self._is_finished(place, job)
                ]
                for place in finished:
                    slot, submitted = running.pop(place)
                    free.append(slot)
                    yield read_result(place, submitted)
                if not finished:
                    sleep(POLL_SECONDS if self.system == "local" else SLURM_POLL_SECONDS)
        finally:
            for _, submitted in running.values():
                if submitted is not None:
                    submitted.cancel(check=False)

    def _at_once(self, session: Session, jobs: Sequence[Job]) -> int:
        """The largest number of jobs at a time, which is measured once for an experiment."""
        if self.at_once is not None:
            return self.at_once
        if self.system == "slurm":
            return DEFAULT_SLURM_JOBS
        folder = session.folder / JOBS_FOLDER
        path = folder / AT_ONCE_FILE
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            settings = folder / SETTINGS_FILE
            atomic_write(settings, dump_config(jobs[0].config))
            files = self._files(session)
            chosen = choose_concurrency(settings, files, session.device, len(jobs))
            session.callback.note(chosen.reason)
            atomic_write(path, json.dumps(asdict(chosen)) + "\n")
        return int(read_json(path, DATA)["at_once"])

    def _limits(self, session: Session, at_once: int, slot: int) -> Limits:
        """The resources of a job on this machine; on Slurm, all that the job gets there."""
        if self.system != "local":
            return Limits()
        gpus = visible_gpus() if torch.device(session.device).type == "cuda" else [""]
        return Limits(max(1, torch.get_num_threads() // at_once), gpus[slot % len(gpus)])

    def _files(self, session: Session) -> tuple[str, ...]:
        """The Python files that a job runs first, by absolute paths."""
        files = filter(None, (self.file, *session.files))
        return tuple(str(Path(file).absolute()) for file in files)

    def _executor(self, folder: Path) -> Any:
        """submitit's executor for the system, with its options."""
        import submitit

        executor = submitit.AutoExecutor(folder=folder / "logs", cluster=self.system)
        options = {f"{self.system}_{name}": value for name, value in self.options.items()}
        if self.system == "slurm" and self.device == "cuda":
            options = {"gpus_per_node": 1} | options
        try:
            executor.update_parameters(timeout_min=DEFAULT_MINUTES, **options)
        except (AssertionError, NameError, TypeError, ValueError) as e:
            raise UserError(f"--on {self.system}: {describe_error(e)}") from None
        return executor

    def _submit(self, executor: Any, session: Session, job: Job, limits: Limits) -> Any:
        """Start a job; None if its result is there already."""
        place = job_folder(session.folder / JOBS_FOLDER, job)
        if has_result(place):
            return None
        place.mkdir(parents=True, exist_ok=True)
        atomic_write(place / SETTINGS_FILE, dump_config(job.config))
        spec = JobSpec(
            job.arm,
            job.seed,
            str(job.folder.absolute()),
            job.for_search,
            session.metric_name,
            session.corpora.halve_validation,
            self._files(session),
        )
        return executor.submit(run_job, str(place.absolute()), spec, self.device, limits)

    def _is_finished(self, place: Path, submitted: Any) -> bool:
        """Whether a job has ended; Slurm reports that late, so there its result is enough."""
        has_result = self.system == "slurm" and (place / RESULT_FILE).is_file()
        return has_result or submitted is None or submitted.done()


def parse_cluster(text: str, at_once: int | None, device: str, file: str = "") -> Cluster | None:
    """Parse `--on`: where runs are trained; None: in this process, one after the other.

    Args:
        text: "here", "local", "slurm", or "slurm:partition=gpu,mem_gb=16" with options.
        at_once, device, file: as in `Cluster`.
    Raises:
        UserError: an unknown system, an invalid option, or one that would be ignored.
    """
    system, colon, options = text.partition(":")
    if system == "here" and not colon:
        if at_once is not None:
            raise UserError(f"--jobs {at_once}: has no effect here; add --on local")
        return None
    if system not in SYSTEMS:
        raise unknown("--on", system, ["here", *SYSTEMS])
    pairs = [pair.partition("=") for pair in options.split(",")] if colon else []
    if system == "local" and pairs:
        raise UserError("--on local: takes no options; leave out the part after the colon")
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise UserError(
                f"--on {text}: {name!r} is not an option with a value;"
                " give options such as slurm:partition=gpu,time=60"
            )
    parsed = {name: parse_yaml_value(value, f"--on {system}: {name}") for name, _, value in pairs}
    return Cluster(system, at_once, device, parsed, file)


def visible_gpus() -> list[str]:
    """The GPUs of this process, as CUDA names them in `VISIBLE_GPUS`."""
    names = os.environ.get(VISIBLE_GPUS, "")
    return names.split(",") if names else [str(i) for i in range(torch.cuda.device_count())]


def job_folder(folder: Path, job: Job) -> Path:
    """The folder of a job's settings and result."""
    return folder / job.folder.parent.name / job.folder.name


def has_result(place: Path) -> bool:
    """Whether a job has a result; the error of one that was stopped is removed, to run it again."""
    path = place / RESULT_FILE
    if path.is_file() and "error" in read_json(path, DATA):
        path.unlink(missing_ok=True)
    return path.is_file()


def read_result(place: Path, submitted: Any) -> RunResult:
    """The result of a finished job; its file is removed once it is read.

    Raises:
        UserError: there is none, or the job was stopped by something unrelated to the arm.
    """
    path = place / RESULT_FILE
    if not path.is_file():
        log = submitted.paths.stderr
        raise UserError(
            f"the job of {place.name} ended without a result;"
            f" see {log}, and run the same command again",
            RESOURCES,
        )
    values = read_json(path, DATA)
    if "error" in values:
        path.unlink()
        raise UserError(str(values["error"]), int(values.get("code", USAGE)))
    result = parse_result(values, path)
    path.unlink()
    return result


def run_job(place: str, spec: JobSpec, device: str, limits: Limits) -> None:
    """Train and measure one run in a separate process, and write its result.

    Args:
        place: the job's folder, with its settings.
        spec: the run.
        device: as in `Cluster`.
        limits: what it may use of this machine.
    """
    if limits.threads is not None:
        torch.set_num_threads(limits.threads)
    if limits.gpu:
        os.environ[VISIBLE_GPUS] = limits.gpu
    with _only_job(Path(place)):
        if has_result(Path(place)):
            return
        try:
            values = asdict(_train(Path(place), spec, device))
        except UserError as e:
            values = {"error": str(e), "code": e.code}
        atomic_write(Path(place) / RESULT_FILE, json.dumps(values))


def _train(place: Path, spec: JobSpec, device: str) -> RunResult:
    """Train and measure a run; arguments as of `run_job`."""
    for file in spec.files:
        run_user_file(Path(file), file)
    config = load_config(place / SETTINGS_FILE)
    job = Job(spec.arm, spec.seed, config, Path(spec.folder), spec.for_search)
    corpus = Corpora(spec.halve_validation).of(config, spec.for_search)
    metric = find_metric(spec.metric)
    return run_once(job, corpus, metric, choose_device(device).name, SilentCallback())


@contextmanager
def _only_job(place: Path) -> Iterator[None]:
    """Wait until no other process runs the same job; hold its lock inside the block.

    Where locks are not supported, as on some clusters' file systems, the job runs without one.
    """
    with (place / LOCK_FILE).open("a") as lock:
        with suppress(OSError):
            wait_for_lock(lock.fileno())
        yield
