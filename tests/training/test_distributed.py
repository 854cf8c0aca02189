"""Collectives of a single process.

Several processes are tested in test_parallel.py and tests/reliability.
"""

import os
import sys
import threading

import pytest
import torch

from llm_scratch.errors import USAGE, UserError
from llm_scratch.training import distributed
from llm_scratch.training.distributed import Distributed, full_tensor, init_distributed, shard_like


def test_single_process_collectives_return_their_input():
    alone, x = Distributed(), torch.arange(3.0)
    assert alone.is_main
    assert alone.all_reduce_mean(x) is x
    assert alone.all_reduce_max(5) == 5
    assert alone.broadcast(x) is x
    assert [(name, t is x) for name, t in alone.broadcast_tensors({"a": x})] == [("a", True)]
    assert alone.gather({"a": x})["a"] is x
    assert full_tensor(x) is x
    assert shard_like(torch.zeros(7), x) is x


def test_init_distributed_is_single_process_without_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with init_distributed("cpu") as alone:
        assert (alone.rank, alone.size, alone.device) == (0, 1, torch.device("cpu"))
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("message", "lost"),
    [("[gloo] Connection closed by peer [127.0.0.1]:1", True), ("mat1 and mat2 shapes", False)],
)
def test_lost_rank_is_distinguished_from_own_errors(monkeypatch, message, lost):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr("os.environ", os.environ | {"RANK": "0", "WORLD_SIZE": "2"})
    with (
        pytest.raises(
            UserError if lost else RuntimeError,
            match="rank 0 of 2 lost contact with another rank" if lost else message,
        ),
        init_distributed("cpu"),
    ):
        raise RuntimeError(message)


@pytest.mark.parametrize(
    ("device", "size", "chosen"),
    [("cpu", 1, []), ("cuda", 1, []), ("cuda:1", 1, ["cuda:1"]), ("cuda", 2, ["cuda:3"])],
)
def test_init_distributed_sets_the_current_gpu(monkeypatch, device, size, chosen):
    """Random state and streams belong to the current device.

    So `--device cuda:1` must set it, like torchrun.
    """
    seen = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda where: seen.append(str(where)))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(
        "os.environ", os.environ | {"RANK": "0", "WORLD_SIZE": str(size), "LOCAL_RANK": "3"}
    )
    with init_distributed(device) as here:
        assert here.device == torch.device(chosen[0] if chosen else device)
    assert seen == chosen


@pytest.fixture
def one_of_two(monkeypatch):
    """This process as rank 0 of 2, whose other process never comes."""
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29499",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)


def test_init_distributed_rejects_devices_without_collectives(one_of_two, monkeypatch):
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_: pytest.fail("connects"))
    with (
        pytest.raises(
            UserError, match="several processes cannot train together on mps; use --device cpu"
        ),
        init_distributed("mps"),
    ):
        pass


def test_init_distributed_fails_without_a_rendezvous_address(one_of_two, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_: pytest.fail("connects"))
    with (
        pytest.raises(
            UserError, match="WORLD_SIZE=2 needs MASTER_ADDR, where the processes connect"
        ) as error,
        init_distributed("cpu"),
    ):
        pass
    assert error.value.code == USAGE


def test_waiting_rank_reports_whom_and_where(one_of_two, monkeypatch, capsys):
    printed = threading.Event()
    monkeypatch.setattr(distributed, "WAIT_NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(
        "builtins.print",
        lambda *words, **more: (sys.stderr.write(" ".join(words) + "\n"), printed.set()),
    )
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_: printed.wait(60))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with init_distributed("cpu") as here:
        assert (here.rank, here.size) == (0, 2)
    line = capsys.readouterr().err
    assert line.startswith(
        "rank 0 of 2 is waiting for rank 1 to connect at 127.0.0.1:29499; unset RANK and WORLD_SIZE"
    )
    assert line.count("\n") == 1


def test_rank_meets_the_others_before_it_continues(one_of_two, monkeypatch):
    """Rank 0 keeps the addresses, so one that ended at once would leave the others without them."""
    calls = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_: calls.append("joins"))
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: calls.append("meets"))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with init_distributed("cpu"):
        calls.append("works")
    assert calls == ["joins", "meets", "works"]


def test_failed_group_shutdown_is_ignored(one_of_two, monkeypatch):
    def lost():
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lost)
    with init_distributed("cpu") as here:
        assert here.size == 2


def test_immediate_connection_prints_nothing(one_of_two, monkeypatch, capsys):
    monkeypatch.setattr(distributed, "WAIT_NOTICE_SECONDS", 60.0)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with init_distributed("cpu"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error",
    [ValueError("bad address\nmore"), RuntimeError("The server socket has failed to listen")],
)
def test_failed_connection_is_a_one_line_error_with_advice(error, one_of_two, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(torch.distributed, "init_process_group", fail)
    with pytest.raises(UserError) as found, init_distributed("cpu"):
        pass
    reason = str(error).split("\n")[0]
    assert str(found.value).startswith(
        f"cannot connect to the other processes at 127.0.0.1:29499 ({reason}); unset RANK"
    )
    assert found.value.__cause__ is error
