"""A team of one gives back what it is given; a team of several is tested in test_parallel.py and tests/reliability."""

import os

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.training.team import Team, joined, share_like, whole


def test_alone_everything_is_as_it_was():
    team, x = Team(), torch.arange(3.0)
    assert team.writes
    assert team.mean(x) is x
    assert team.highest(5) == 5
    assert team.tell(x) is x
    assert [(name, t is x) for name, t in team.hand_out({"a": x})] == [("a", True)]
    assert team.collect({"a": x})["a"] is x
    assert whole(x) is x
    assert share_like(torch.zeros(7), x) is x


def test_without_torchrun_a_process_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with joined("cpu") as team:
        assert (team.rank, team.size, team.device) == (0, 1, torch.device("cpu"))
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("message", "lost"), [("[gloo] Connection closed by peer [127.0.0.1]:1", True), ("mat1 and mat2 shapes", False)])
def test_an_error_of_the_others_is_told_apart_from_ones_own(monkeypatch, message, lost):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr("os.environ", os.environ | {"RANK": "0", "WORLD_SIZE": "2"})
    with pytest.raises(UserError if lost else RuntimeError, match="process 0 of 2 lost another one" if lost else message), joined("cpu"):
        raise RuntimeError(message)


@pytest.mark.parametrize(
    ("device", "size", "chosen"), [("cpu", 1, []), ("cuda", 1, []), ("cuda:1", 1, ["cuda:1"]), ("cuda", 2, ["cuda:3"])]
)
def test_the_gpu_of_a_process_is_its_current_one(monkeypatch, device, size, chosen):
    """Random state and streams are those of the current device, so that `--device cuda:1` needs it as much as torchrun does."""
    seen = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda where: seen.append(str(where)))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr("os.environ", os.environ | {"RANK": "0", "WORLD_SIZE": str(size), "LOCAL_RANK": "3"})
    with joined(device) as team:
        assert team.device == torch.device(chosen[0] if chosen else device)
    assert seen == chosen
