"""R3, R4: any damage to a checkpoint is detected, and the previous one is loaded.

If none is left, that is an error.
"""

from __future__ import annotations

import random
import shutil

import pytest

from llm_scratch.cli import main
from llm_scratch.storage import checkpoint, manifest
from llm_scratch.training.loop import train

from .conftest import LETTERS, tiny

pytestmark = pytest.mark.usefixtures("quick")
FILES = [
    "model.safetensors",
    "optim.safetensors",
    "state.json",
    "config.json",
    "tokenizer.json",
    "manifest.json",
]
SEED = 3


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A run with checkpoints of step 10 and 20; do not change it."""
    return train(
        tiny(epochs=None, steps=20, eval_every=50),
        tmp_path_factory.mktemp("run") / "run",
        corpus=corpus,
    ).folder


def flipped(data, other, rng):
    bit = rng.randrange(8 * len(data))
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def zero_tail(data, other, rng):
    cut = rng.randrange(len(data))
    return data[:cut] + bytes(len(data) - cut)


def inserted(data, other, rng):
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(1) + data[place:]


KINDS = {
    "a bit flipped": flipped,
    "cut short": lambda data, other, rng: data[: rng.randrange(len(data))],
    "zeros at the end": zero_tail,
    "missing": lambda data, other, rng: None,
    "that of another checkpoint": lambda data, other, rng: other,
    "a byte too many": inserted,
}


def damaged_copy(trained, run, name, kind, rng):
    """Return a copy of the run with one file of its newest checkpoint changed.

    Returns False if the damage changes nothing.
    """
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(trained, run)
    old, new = (run / "ckpt" / f"step-{step:08d}" / name for step in (10, 20))
    data = new.read_bytes()
    changed = KINDS[kind](data, old.read_bytes(), rng)
    if changed is None:
        new.unlink()
    else:
        new.write_bytes(changed)
    return changed != data


def test_r3_damaged_checkpoint_is_detected_and_the_older_one_loaded(trained, tmp_path, measured):
    rng, tried = random.Random(SEED), 0
    while tried < 600:
        name, kind = FILES[tried % 6], list(KINDS)[tried // 6 % 6]
        if (name, kind) in (
            ("config.json", "that of another checkpoint"),
            ("tokenizer.json", "that of another checkpoint"),
        ):
            kind = "a bit flipped"  # both checkpoints hold the same settings and tokens
        if not damaged_copy(trained, tmp_path / "run", name, kind, rng):
            continue
        warnings = []
        found = checkpoint.load_latest(tmp_path / "run", warnings.append, prefer="latest")
        what = f"seed {SEED}, damage {tried}: {name}, {kind}"
        assert found.state["step"] == 10, what
        assert len(warnings) == 1, what
        assert "step-00000020 is damaged" in warnings[0], what
        assert "quarantine, trying the next older one" in warnings[0], what
        tried += 1
    measured(
        "R3", "600 of 600 detected, the older checkpoint loaded, one warning each", "600 of 600"
    )


def test_r3_flip_of_every_third_bit_of_a_manifest_is_detected(trained, tmp_path):
    folder = shutil.copytree(trained / "ckpt" / "step-00000020", tmp_path / "step-00000020")
    data = (folder / "manifest.json").read_bytes()
    for bit in range(0, 8 * len(data), 3):
        (folder / "manifest.json").write_bytes(
            data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        )
        assert manifest.verify(folder) is not None, f"bit {bit}"
    (folder / "manifest.json").write_bytes(data)
    assert manifest.verify(folder) is None


@pytest.fixture
def by_command(tmp_path, monkeypatch, capsys):
    """A run by the command line with checkpoints of step 10 and 20, and its arguments."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters.txt").write_text(LETTERS)
    sizes = (
        "--data.tokenizer chars --model.vocab-size 20 --model.context-length 8 --model.emb-dim 12"
        " --model.n-heads 3 --model.n-layers 1"
    )
    often = (
        "--train.steps 20 --train.batch-size 4 --train.save-every 10 --train.eval-every 90"
        " --train.sample-every 0 --device cpu"
    )
    line = [
        "train",
        "shakespeare",
        "--data.source",
        "file:letters.txt",
        *sizes.split(),
        *often.split(),
        "--out",
        "run",
    ]
    assert main(line) == 0
    capsys.readouterr()
    return line


def test_r3_command_resumes_from_the_older_checkpoint_with_one_warning(
    by_command, tmp_path, capsys
):
    flip = tmp_path / "run" / "ckpt" / "step-00000020" / "optim.safetensors"
    flip.write_bytes(flipped(flip.read_bytes(), b"", random.Random(SEED)))
    code, printed = main(by_command), capsys.readouterr()
    assert code == 0
    everything = " ".join((printed.out + printed.err).split())
    assert everything.count("damaged") == 1
    assert (
        "step-00000020 is damaged: optim.safetensors changed since it was written (its sha256"
        " differs); moved to run/ckpt/quarantine" in everything
    )
    assert "resuming at step 10 of 20" in everything
    assert (tmp_path / "run" / "ckpt" / "step-00000020").is_dir()


def test_r4_training_ends_with_an_error_if_all_checkpoints_are_damaged(
    by_command, tmp_path, capsys, measured
):
    restarts = 0
    for step in (10, 20):
        path = tmp_path / "run" / "ckpt" / f"step-{step:08d}" / "model.safetensors"
        path.write_bytes(bytes(path.stat().st_size))
    for verb in (by_command, by_command, ["generate", "run", "the"]):
        code, printed = main(verb), capsys.readouterr()
        assert code == 4
        line = printed.err.strip().splitlines()[-1]
        assert (
            "all checkpoints of run are damaged (step-00000010, step-00000020, now in"
            " run/ckpt/quarantine)" in line
        )
        assert "--fresh" in line
        assert "Traceback" not in printed.err
        restarts += "step     0" in printed.out
    assert restarts == 0
    measured(
        "R4",
        "exit code 4, the checkpoints named, 0 silent restarts in 3 attempts",
        "exit 4, names the files, 0 silent restarts",
    )
