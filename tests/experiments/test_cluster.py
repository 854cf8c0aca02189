"""Runs of an experiment in separate processes have the results of sequential runs."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from llm_scratch.architectures import ARCHITECTURES
from llm_scratch.config import load_config
from llm_scratch.errors import UserError
from llm_scratch.experiments import cluster
from llm_scratch.experiments.cluster import (
    Cluster,
    JobSpec,
    Limits,
    job_folder,
    parse_cluster,
    run_job,
)
from llm_scratch.experiments.concurrency import Concurrency
from llm_scratch.experiments.experiment import Arm
from llm_scratch.experiments.results import FILE, TIME_FIELDS
from llm_scratch.experiments.runner import ExperimentCallback, Job, run_experiment
from llm_scratch.storage.user_code import run_user_file

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")
submitit = pytest.importorskip("submitit", reason="needs submitit (extra `slurm`)")


class Executor:
    """Runs a job in this process when it is submitted, with the interface of submitit's."""

    def __init__(self, folder):
        self.paths = SimpleNamespace(stderr=folder / "1_0_log.err")

    def submit(self, function, *args):
        function(*args)
        return SimpleNamespace(done=lambda: True, cancel=lambda check: None, paths=self.paths)


@pytest.fixture
def in_process(monkeypatch):
    """Jobs that run in this process."""
    monkeypatch.setattr(Cluster, "_executor", lambda self, folder: Executor(folder))
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.0)


def outcome(folder: Path) -> list[dict[str, object]]:
    """The results without the fields of time."""
    rows = json.loads((folder / FILE).read_text(encoding="utf-8"))["runs"]
    return [{key: value for key, value in row.items() if key not in TIME_FIELDS} for row in rows]


def own_schedule(tmp_path: Path) -> Arm:
    """An arm whose file registers a schedule."""
    (tmp_path / "mine.py").write_text(
        "from llm_scratch.training.schedule import SCHEDULES\n"
        "SCHEDULES['mine'] = lambda done: 0.5\n"
    )
    return Arm("mine", file=str(tmp_path / "mine.py"))


def test_concurrent_processes_have_the_results_of_one(experiment, tmp_path):
    arms = (experiment.arms[0], own_schedule(tmp_path))
    experiment = replace(experiment, arms=arms, seeds=(1, 2))
    run_experiment(experiment, tmp_path / "one")
    run_experiment(experiment, tmp_path / "two", run_jobs=Cluster("local", 2))
    assert outcome(tmp_path / "two") == outcome(tmp_path / "one")
    assert not list((tmp_path / "two" / cluster.JOBS_FOLDER).rglob(cluster.RESULT_FILE))


def test_search_and_arms_from_files_run_as_jobs(experiment, tmp_path, in_process, fake_training):
    arms = (*experiment.arms, own_schedule(tmp_path))
    experiment = replace(
        experiment, arms=arms, seeds=(1, 2), search=(("train.weight_decay", ("0.0", "0.1")),)
    )
    run_experiment(experiment, tmp_path / "one")
    run_experiment(experiment, tmp_path / "jobs", run_jobs=Cluster("local", 2))
    assert outcome(tmp_path / "jobs") == outcome(tmp_path / "one")
    assert len(outcome(tmp_path / "jobs")) == 6


OWN_MODEL = """
from llm_scratch.architectures import ARCHITECTURES, Architecture, GPTConfig
from llm_scratch.model.gpt import GPTModel

ARCHITECTURES["of-a-file"] = Architecture(GPTConfig, GPTModel)
"""


@pytest.mark.parametrize("imported", [False, True])
def test_job_uses_the_architecture_of_a_file(
    experiment, tmp_path, in_process, fake_training, monkeypatch, imported
):
    path = tmp_path / "model.py"
    path.write_text(OWN_MODEL)
    own = Arm("own", ("model.architecture=of-a-file",), "" if imported else str(path))
    experiment = replace(experiment, arms=(experiment.arms[0], own), seeds=(1, 2))
    if imported:
        run_user_file(path, "--import model.py")
    submit = Executor.submit

    def in_new_process(self, *args):
        ARCHITECTURES.pop("of-a-file", None)
        return submit(self, *args)

    monkeypatch.setattr(Executor, "submit", in_new_process)
    jobs = Cluster("local", 1, file=str(path) if imported else "")
    try:
        run_experiment(experiment, tmp_path / "out", run_jobs=jobs)
    finally:
        ARCHITECTURES.pop("of-a-file", None)
    assert len(outcome(tmp_path / "out")) == 4


def test_result_that_was_left_by_a_stopped_command_is_collected(
    experiment, tmp_path, in_process, fake_training
):
    class Stop(ExperimentCallback):
        def run_finished(self, result, comparisons):
            raise KeyboardInterrupt

    out = tmp_path / "out"
    run_experiment(experiment, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_experiment(experiment, out, callback=Stop(), run_jobs=Cluster("local", 1))
    slow = experiment.arms[1].name
    left = Job(slow, 1, None, out / "seed-1" / slow)
    place = job_folder(out / cluster.JOBS_FOLDER, left)
    place.mkdir(parents=True)
    whole = json.loads((tmp_path / "whole" / FILE).read_text())["runs"][1]
    (place / cluster.RESULT_FILE).write_text(json.dumps(whole))
    before = len(fake_training)
    run_experiment(experiment, out, run_jobs=Cluster("local", 1))
    assert len(fake_training) - before == 4
    assert outcome(out) == outcome(tmp_path / "whole")


def test_job_that_was_stopped_is_run_again_by_the_next_command(
    experiment, tmp_path, in_process, fake_training
):
    out = tmp_path / "out"
    run_experiment(experiment, tmp_path / "whole")
    run_experiment(experiment, out, max_seeds=2)
    stopped = Job(experiment.arms[0].name, 3, None, out / "seed-3" / experiment.arms[0].name)
    place = job_folder(out / cluster.JOBS_FOLDER, stopped)
    place.mkdir(parents=True)
    (place / cluster.RESULT_FILE).write_text(json.dumps({"error": "stopped", "code": 130}))
    run_experiment(experiment, out, run_jobs=Cluster("local", 1))
    assert outcome(out) == outcome(tmp_path / "whole")


@pytest.mark.parametrize("locks", [True, False])
def test_job_submitted_twice_trains_once(experiment, tmp_path, fake_training, monkeypatch, locks):
    def refuse(descriptor):
        raise OSError(errno.ENOLCK, "No locks available")

    if not locks:  # as on some clusters' file systems
        monkeypatch.setattr(cluster, "wait_for_lock", refuse)
    out = tmp_path / "out"
    run_experiment(experiment, out, max_seeds=2)
    config = (out / "arms" / "fast.yaml").read_text()
    place = tmp_path / "out" / cluster.JOBS_FOLDER / "seed-3" / "fast"
    place.mkdir(parents=True)
    (place / cluster.SETTINGS_FILE).write_text(config)
    before = len(fake_training)
    spec = JobSpec("fast", 3, str(out / "seed-3" / "fast"), False, "bits_per_byte", False, ())
    for _ in range(2):
        run_job(str(place), spec, "cpu", Limits())
    assert len(fake_training) == before + 1


def test_number_of_runs_at_a_time_is_measured_once(
    experiment, tmp_path, in_process, fake_training, monkeypatch
):
    """The first command measures it, and the continuing one reads it."""
    chosen = []

    def choose(settings, files, device, max_runs):
        chosen.append((load_config(settings).train.lr, files, device, max_runs))
        return Concurrency(3, "3 runs at a time")

    class Notes(ExperimentCallback):
        def note(self, message):
            notes.append(message)

    notes = []
    monkeypatch.setattr(cluster, "choose_concurrency", choose)
    arms = (experiment.arms[0], own_schedule(tmp_path))
    experiment = replace(experiment, arms=arms)
    jobs = {"callback": Notes(), "run_jobs": Cluster("local")}
    run_experiment(experiment, tmp_path / "out", max_seeds=2, **jobs)
    run_experiment(experiment, tmp_path / "out", **jobs)
    assert chosen == [(0.001, (str(tmp_path / "mine.py"),), "cpu", 4)]
    assert notes == ["3 runs at a time"]


def test_every_job_has_its_share_of_threads_and_a_gpu_of_its_own(
    experiment, tmp_path, in_process, fake_training, monkeypatch
):
    """With two jobs at a time on the GPUs 5 and 7, none has the GPU of a job that still runs."""
    running, limits = {}, []

    class Slow(Executor):
        def submit(self, function, place, spec, device, limit):
            limits.append(limit)
            running[place] = limit.gpu
            assert len(set(running.values())) == len(running)
            function(place, spec, "cpu", Limits())

            def done():  # the second of the jobs that run ends first
                if list(running)[-1] != place:
                    return False
                del running[place]
                return True

            return SimpleNamespace(done=done, cancel=lambda check: None, paths=self.paths)

    monkeypatch.setattr(Cluster, "_executor", lambda self, folder: Slow(folder))
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    run_experiment(experiment, tmp_path / "out", device="cuda", run_jobs=Cluster("local", 2))
    assert len(limits) == 6
    assert {(limit.threads, limit.gpu) for limit in limits} == {(2, "5"), (2, "7")}


def test_job_that_dies_is_an_error_with_its_log(experiment, tmp_path, in_process, monkeypatch):
    monkeypatch.setattr(cluster, "run_job", lambda *args: None)
    with pytest.raises(UserError, match=r"job of slow ended without a result; see .*\.err"):
        run_experiment(experiment, tmp_path / "out", run_jobs=Cluster("local", 1))


def test_full_disk_in_a_job_stops_the_experiment(experiment, tmp_path, in_process, monkeypatch):
    def train(config, folder, **more):
        raise UserError("the disk is full", 6)

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    with pytest.raises(UserError, match="disk is full") as error:
        run_experiment(experiment, tmp_path / "out", run_jobs=Cluster("local", 2))
    assert error.value.code == 6
    assert not (tmp_path / "out" / FILE).exists()


def test_on_names_a_system_with_options(monkeypatch):
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 1))
    assert parse_cluster("here", None, "cpu") is None
    assert parse_cluster("local", 3, "cpu") == Cluster("local", 3, "cpu")
    assert parse_cluster("slurm:partition=gpu,mem_gb=16", 2, "cuda") == Cluster(
        "slurm", 2, "cuda", {"partition": "gpu", "mem_gb": 16}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slrum", "--on 'slrum'.*slurm"),
        ("local:partition=gpu", "takes no options"),
        ("slurm:partition", "'partition' is not an option with a value"),
        ("slurm", "srun was not found"),
        ("here", "--jobs 2: has no effect here; add --on local"),
    ],
)
def test_invalid_on_flag_is_an_error_that_suggests_a_fix(text, message):
    with pytest.raises(UserError, match=message):
        parse_cluster(text, 2, "cpu")


def test_slurm_script_requests_a_gpu_and_the_options(tmp_path, monkeypatch):
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 1))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    executor = parse_cluster("slurm:partition=gpu", 2, "cuda")._executor(tmp_path)
    script = executor._executor._make_submission_file_text("work", "1")
    assert "#SBATCH --partition=gpu" in script
    assert "#SBATCH --gpus-per-node=1" in script
    assert "#SBATCH --time=1440" in script
