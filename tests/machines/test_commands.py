"""The main commands give the results of an ordinary machine on every simulated one."""

from __future__ import annotations

import json
import re

import pytest

from llm_scratch.storage.checkpoint import list_checkpoints

from .commands import COMMANDS

pytestmark = pytest.mark.machines


def bits_per_byte(text: str) -> float:
    return float(re.search(r"bits per byte +([\d.]+)", text)[1])


def test_simulation_has_an_effect(machine, results):
    result = results(machine)[1]["probe"]
    assert machine.probe[1] in result.out + result.err


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exits_as_expected(machine, command, results):
    result = results(machine)[1][command]
    assert result.code == COMMANDS[command].code, (
        f"{COMMANDS[command].words}\n{result.out}\n{result.err}"
    )
    assert "Traceback" not in result.out + result.err
    assert "this is a bug" not in result.out + result.err


def test_loss_on_a_simulated_machine_equals_that_of_an_ordinary_one(machine, results, reference):
    here, there = (each["evaluate-wide"].out for each in (results(machine)[1], reference.results))
    assert bits_per_byte(here) == pytest.approx(bits_per_byte(there), abs=2e-4)


def test_seeded_text_on_a_simulated_machine_equals_that_of_an_ordinary_one(
    machine, results, reference
):
    here, there = (
        each["generate-float32"].out for each in (results(machine)[1], reference.results)
    )
    text = there.strip()
    assert text.startswith("the hen")
    plain = re.sub(r"\x1b\[[\d;]*m", "", here)  # a terminal shows the prompt in bold
    assert text in plain.replace("\r\n", "\n")


@pytest.mark.parametrize(("bits", "loss"), [(8, 0.02), (4, 0.1)])
def test_quantized_model_loses_little(machine, bits, loss, results):
    result = results(machine)[1][f"quantize-{bits}"]
    before, after = re.search(r"bits per(?: byte)? +([\d.]+) +([\d.]+)", result.out).groups()
    assert float(after) < float(before) * (1 + loss)


def test_killed_and_resumed_run_equals_the_uninterrupted_one(machine, results):
    folder = results(machine)[0]
    whole, resumed = folder / "whole", folder / "run"
    assert [path.name for path in list_checkpoints(resumed)] == [
        path.name for path in list_checkpoints(whole)
    ]
    names = [{path.name for path in run.iterdir()} for run in (resumed, whole)]
    assert names[0] == names[1], "left behind by the killed process, or missing"
    hashes = [
        json.loads((list_checkpoints(run)[0] / "manifest.json").read_text())["files"]
        for run in (resumed, whole)
    ]
    for name in ("model.safetensors", "optim.safetensors"):
        assert hashes[0][name] == hashes[1][name]


def test_branch_of_a_checkpoint_is_replaced_by_a_fresh_run(machine, results):
    folder = results(machine)[0]
    assert list_checkpoints(folder / "branch")[0].name == "step-00000020"
    assert "removed the run that was in" in results(machine)[1]["fresh"].out
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_shards_hold_every_token(machine, results):
    assert re.search(r"2,6\d\d,\d\d\d tokens in 1 shard", results(machine)[1]["data-check"].out)
