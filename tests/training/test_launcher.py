"""Rank and world size from the environment: of torchrun, missing, or left over from other jobs."""

import pytest

from llm_scratch.errors import USAGE, UserError
from llm_scratch.training.launcher import LaunchedRank, launched_rank, rendezvous_address

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def environment(monkeypatch):
    """Set the variables of a launcher to exactly these."""

    def put(**values):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ({}, LaunchedRank()),
        ({"RANK": "", "WORLD_SIZE": ""}, LaunchedRank()),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, LaunchedRank()),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, LaunchedRank(3, 4, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, LaunchedRank(1, 2)),
        ({"RANK": "1"}, LaunchedRank(leftover="RANK=1")),
        ({"RANK": "7", "WORLD_SIZE": "1"}, LaunchedRank(leftover="RANK=7")),
    ],
)
def test_rank_and_size_are_those_of_the_job_or_of_a_process_alone(values, want, environment):
    environment(**values)
    assert launched_rank() == want
    assert launched_rank().is_main == (want.rank == 0)


def test_variables_of_slurm_and_mpi_are_not_read(environment, monkeypatch):
    environment()
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "3")
    assert launched_rank() == LaunchedRank()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 needs RANK"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 is not one of the 2 processes of WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK=-1 is not one of the 2 processes"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 must be at least 1"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two' is not a whole number"),
        ({"RANK": "x"}, "RANK='x' is not a whole number"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "gpu0"},
            "LOCAL_RANK='gpu0' is not a whole number",
        ),
    ],
)
def test_variables_that_contradict_each_other_are_an_error_with_the_way_out(
    values, message, environment
):
    environment(**values)
    with pytest.raises(UserError) as error:
        launched_rank()
    assert message in str(error.value)
    assert "unset RANK and WORLD_SIZE to train with one process" in str(error.value)
    assert error.value.code == USAGE


def test_rendezvous_address_is_read_from_the_environment(environment):
    environment(WORLD_SIZE="2", RANK="0", MASTER_ADDR="node7", MASTER_PORT="29500")
    assert rendezvous_address() == "node7:29500"
    environment(WORLD_SIZE="2", RANK="0", MASTER_ADDR="node7")
    with pytest.raises(
        UserError, match="WORLD_SIZE=2 needs MASTER_PORT, where the processes connect; unset RANK"
    ):
        rendezvous_address()
    environment(WORLD_SIZE="2", RANK="0", MASTER_ADDR="node7", MASTER_PORT="http")
    with pytest.raises(UserError, match="MASTER_PORT='http' is not a whole number"):
        rendezvous_address()


@pytest.mark.parametrize(
    ("values", "notice"),
    [
        ({}, ""),
        ({"RANK": "0", "WORLD_SIZE": "1"}, ""),
        (
            {"RANK": "0", "WORLD_SIZE": "4"},
            "processes: 4, as torchrun started them; rank 0 writes the run",
        ),
        (
            {"RANK": "7"},
            "warning: RANK=7 is ignored: WORLD_SIZE is not above 1, so this is the only process",
        ),
    ],
)
def test_launcher_prints_the_number_of_processes(values, notice, environment):
    environment(**values)
    assert launched_rank().notice == notice
