"""The page's samplers give Python's probabilities, on 200 cases of random logits and settings."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from effort import PATIENCE_SECONDS

import llm_scratch
from llm_scratch.generation.sampling import process_logits

NODE = shutil.which("node")
SAMPLER = Path(llm_scratch.__file__).parent / "serving/static/sampler.js"
CASES = 200
SCRIPT = """
import { processLogits, softmax } from %s;
import { readFileSync } from "node:fs";
const cases = JSON.parse(readFileSync(0, "utf8"));
const probabilities = ({ logits, settings, ids }) =>
  Array.from(softmax(processLogits(logits, settings, ids).logits));
console.log(JSON.stringify(cases.map(probabilities)));
"""


def golden_cases():
    """Logits in float16 as the page gets them, the ids so far, and some samplers and penalties."""
    draw = random.Random(0)
    choices = {
        "temperature": lambda: draw.choice([0, 0.3, 0.8, 1.7, 5.0]),
        "top_k": lambda: draw.choice([1, 2, 10, 1000]),
        "top_p": lambda: draw.choice([0.05, 0.5, 0.9, 1.0]),
        "min_p": lambda: draw.choice([0.0, 0.02, 0.3, 1.0]),
        "typical_p": lambda: draw.choice([0.2, 0.9, 1.0]),
        "eta_cutoff": lambda: draw.choice([0.0003, 0.05]),
        "repetition_penalty": lambda: draw.choice([0.8, 1.0, 1.3]),
        "presence_penalty": lambda: draw.choice([0.5, -0.5]),
        "frequency_penalty": lambda: draw.choice([0.5, 1.5]),
        "no_repeat_ngram_size": lambda: draw.choice([1, 2, 3]),
    }
    for number in range(CASES):
        V = draw.choice([5, 40, 300])
        logits = (
            (
                torch.randn(V, generator=torch.Generator().manual_seed(number))
                * draw.choice([0.5, 2, 6])
            )
            .half()
            .double()
        )
        names = [
            name
            for name in choices
            if number % len(choices) == list(choices).index(name) or draw.random() < 0.2
        ]
        ids = [draw.randrange(min(V - 1, 12)) for _ in range(draw.choice([1, 6, 20]))]
        yield {
            "logits": logits.tolist(),
            "ids": ids,
            "settings": {name: choices[name]() for name in names},
        }


def test_javascript_samplers_equal_the_python_samplers():
    if NODE is None:
        pytest.skip("node is not installed: apt install nodejs")
    cases = list(golden_cases())
    command = [NODE, "--input-type=module", "-e", SCRIPT % json.dumps(SAMPLER.as_uri())]
    result = subprocess.run(
        command,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    worst = 0.0
    for case, shares in zip(cases, json.loads(result.stdout), strict=True):
        logits = process_logits(
            torch.tensor([case["logits"]], dtype=torch.float64),
            torch.tensor([case["ids"]]),
            **case["settings"],
        )
        if logits.isneginf().all():
            continue  # every token is excluded: there is no distribution
        difference = (
            (logits.softmax(-1)[0] - torch.tensor(shares, dtype=torch.float64)).abs().max().item()
        )
        assert difference <= 1e-6, case["settings"]
        worst = max(worst, difference)
    assert worst > 0
