"""The main commands, run in sequence in one folder of every machine."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .machines import Machine

SESSION = Path(__file__).with_name("session.py")
TIMEOUT_SECONDS = 3600
"""ends commands that hang; a busy machine takes many times the half minute of a free one"""
UNUSUAL = "the hen → the fox, 你好 ćevapi: "
"""Text with characters that cp1252 lacks."""

STEPS = """--train.steps 20 --train.batch-size 4 --train.eval-every 10 --train.eval-batches 2
    --train.save-every 5 --train.sample-every 10 --train.warmup-steps 2 --train.log-every 1
    --model.n-heads 2 --model.n-layers 1"""
QUICKSTART = f"""train quickstart --data.source stories:200 --data.tokenizer words
    --model.vocab-size 2000 --model.context-length 256 --model.emb-dim 32 {STEPS}"""
TRAIN = f"""train shakespeare --data.source file:hens.txt --data.tokenizer chars
    --data.val-fraction 0.1 --model.vocab-size 60 --model.context-length 32 --train.prompt the
    {STEPS}"""
NARROW, WIDE = (f"{TRAIN} --model.emb-dim {width}" for width in (32, 512))
"""512 is the width from which `--dtype auto` may choose bfloat16,
and from which matrices are packed.
"""


@dataclass(frozen=True)
class Command:
    """A command line or Python program, its typed input, and the expected exit code."""

    words: str = ""
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    code: int = 0
    program: str = ""


@dataclass(frozen=True)
class Result:
    """The result of a command: exit code and output."""

    code: int
    out: str
    err: str


COMMANDS = {
    "doctor": Command("doctor"),
    "quickstart": Command(f"{QUICKSTART} --out stories"),
    "train": Command(f"{NARROW} --out whole"),
    "killed": Command(
        f"{NARROW} --out run", environment={"LLM_SCRATCH_FAULT": "save:15:kill"}, code=-9
    ),
    "resume": Command(f"{NARROW} --out run"),
    "branch": Command(f"{NARROW} --resume run/ckpt/step-00000015 --out branch"),
    "fresh": Command(f"{NARROW} --out branch --fresh --force"),
    "evaluate": Command("evaluate run"),
    "evaluate-wide": Command("evaluate {wide}"),
    "generate": Command(f"generate run '{UNUSUAL}' --max-tokens 30 --seed 1"),
}
COMMANDS |= {
    f"generate-{dtype}": Command(
        f"generate {{wide}} 'the hen' --max-tokens 20 --seed 1 --dtype {dtype}"
    )
    for dtype in ("auto", "float32", "bfloat16", "float16")
}
COMMANDS |= {
    "train-latent": Command(
        """train mla-tiny --data.source file:hens.txt --data.tokenizer chars --data.val-fraction 0.1
        --model.vocab-size 60 --model.context-length 32 --model.emb-dim 32 --model.n-heads 2
        --model.n-layers 2 --train.steps 2 --train.batch-size 2 --train.eval-every 2
        --train.eval-batches 1 --train.warmup-steps 1 --train.sample-every 2 --out latent"""
    ),
    "generate-latent": Command("generate latent 'the hen' --max-tokens 4 --seed 1"),
}
for bits in (8, 4):
    COMMANDS[f"quantize-{bits}"] = Command(f"quantize {{wide}} --bits {bits} --out int{bits}")
    COMMANDS[f"generate-int{bits}"] = Command(
        f"generate int{bits} 'the hen' --max-tokens 20 --seed 1"
    )
COMMANDS |= {
    "samples": Command("generate {wide} 'the hen' --samples 3 --max-tokens 10 --seed 1"),
    "chat": Command(
        "chat {wide} --max-tokens 10 --seed 1",
        stdin=f"{UNUSUAL}\n/save talk.json\n/load talk.json\nthe fox\n/exit\n",
    ),
    "export": Command("export hf run exported"),
    "data-prepare": Command("data prepare books.txt --out shards --tokenizer chars --workers 2"),
    "data-check": Command("data check shards"),
    "runs-list": Command("runs list ."),
    "plot": Command("plot run whole --out both.png"),
}


def run_commands(
    machine: Machine, commands: Sequence[Command], folder: Path, home: Path
) -> list[Result]:
    """Run the commands in sequence in one folder of the machine."""
    requests = [
        asdict(command) | {"words": shlex.split(command.words), "columns": machine.columns}
        for command in commands
    ]
    process = subprocess.run(
        [sys.executable, str(SESSION)],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        cwd=folder,
        env=machine.variables(home),
    )
    assert process.returncode == 0, process.stderr
    return [Result(**result) for result in json.loads(process.stdout)]
