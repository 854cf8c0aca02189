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

from llm_scratch.architectures import GPTConfig, LlamaConfig
from llm_scratch.interop.hf import family_of, to_config
from llm_scratch.interop.weight_map import expand
from llm_scratch.model import build

SHAPE = {"vocab_size": 16_000, "context_length": 512, "emb_dim": 768, "n_heads": 12}
SMALL = {"vocab_size": 16, "emb_dim": 12, "n_heads": 3, "n_layers": 1}
GPT = GPTConfig(**SHAPE, n_layers=5, qkv_bias=True, tie_embeddings=True)
LLAMA = LlamaConfig(**SHAPE, n_layers=4, n_kv_heads=4, tie_embeddings=True)
CASES = {
    "gpt": (GPT, torch.float32),
    "llama, bfloat16": (LLAMA, torch.bfloat16),
}
"""Settings and type of the files."""
CHILD = """
import sys
from pathlib import Path
from llm_scratch.loading import load

def resident(what):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))

load(sys.argv[1])                                    # everything is imported and warm
for folder in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")    # reset the peak
    before = resident("VmRSS")
    model, _ = load(folder)
    print(resident("VmHWM") - before, sum(p.nbytes for p in model.parameters()))
    del model
"""


def folder(path, cfg, parts, dtype=torch.float32):
    """A folder of transformers with constant weights, which suffice here."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(to_config(cfg, None, None)))
    (path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "chars", "characters": "abc"}})
    )
    with torch.device("meta"):
        state = dict(build(cfg).named_parameters())
    rules = expand(family_of(cfg)[1].rules_of(cfg), cfg.n_layers)
    mapped = [each for each in rules if each.ours[0] in state]
    weights = {each.theirs: torch.full(each.join(state).shape, 0.5, dtype=dtype) for each in mapped}
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
def test_loading_peak_memory_is_at_most_a_third_above_the_weights(tmp_path):
    cfg = GPTConfig(**SMALL, qkv_bias=True, tie_embeddings=True)
    folders = [folder(tmp_path / "small", cfg, 1)]
    for number, (cfg, dtype) in enumerate(CASES.values()):
        folders.append(folder(tmp_path / str(number), cfg, 3, dtype))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for (name, (cfg, _)), line in zip(CASES.items(), done.stdout.splitlines(), strict=True):
        peak, weights = map(int, line.split())
        assert weights == 4 * cfg.n_params > 100_000_000
        assert peak <= 1.3 * weights, f"{name}: {peak / weights:.2f} times the weights"
