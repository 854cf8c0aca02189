"""Loading a folder of transformers takes at most 1.3 times the memory of its weights.

It reads one tensor at a time, here in a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.interop.gpt2_weight_map import HEAD, HF
from llm_scratch.interop.hf import to_config
from llm_scratch.interop.weight_map import expand
from llm_scratch.model import build

CFG = GPTConfig(
    vocab_size=16_000,
    context_length=512,
    emb_dim=768,
    n_heads=12,
    n_layers=5,
    qkv_bias=True,
    tie_embeddings=True,
)
CHILD = """
import sys
from pathlib import Path
from llm_scratch.loading import load

def resident(what):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))

load(sys.argv[1])                                    # everything is imported and warm
Path("/proc/self/clear_refs").write_text("5")        # the high-water mark begins anew
before = resident("VmRSS")
model, _ = load(sys.argv[2])
print(resident("VmHWM") - before, sum(p.nbytes for p in model.parameters()))
"""


def folder(path, cfg, parts):
    """A folder of transformers with weights that are not random, as they need not be."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(to_config(cfg, None, None)))
    (path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "chars", "characters": "abc"}})
    )
    with torch.device("meta"):
        state = dict(build(cfg).named_parameters())
    mapped = [each for each in expand(HF, cfg.n_layers) if each.ours != (HEAD,)]
    weights = {each.theirs: torch.full(each.join(state).shape, 0.5) for each in mapped}
    files = (
        [f"model-{i:05}-of-{parts:05}.safetensors" for i in range(1, parts + 1)]
        if parts > 1
        else ["model.safetensors"]
    )
    for i, file in enumerate(files):
        safetensors.torch.save_file(dict(list(weights.items())[i::parts]), path / file)
    if parts > 1:
        where = {name: files[i % parts] for i, name in enumerate(weights)}
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return path


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(),
    reason="the high-water mark of memory is read from Linux's /proc",
)
def test_the_peak_is_at_most_a_third_above_the_weights(tmp_path):
    small = folder(
        tmp_path / "small",
        GPTConfig(
            vocab_size=16, emb_dim=12, n_heads=3, n_layers=1, qkv_bias=True, tie_embeddings=True
        ),
        1,
    )
    large = folder(tmp_path / "large", CFG, 3)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(small), str(large)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peak, weights = map(int, done.stdout.split())
    assert weights == 4 * CFG.n_params > 180_000_000
    assert peak <= 1.3 * weights, f"{peak / weights:.2f} times the weights"
