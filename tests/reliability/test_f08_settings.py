"""F8: settings that would run code or need too much memory are refused before a model is built.

The tests count executed lines of Python, comparisons of names, and memory.
"""

import json
import tracemalloc
from functools import partial

import pytest
import safetensors.torch
import torch
import yaml
from effort import at_most

from llm_scratch.cli import main
from llm_scratch.config import GPTConfig, RunConfig, load_config, to_dict
from llm_scratch.errors import CHECKPOINT, USAGE, UserError
from llm_scratch.loading import load
from llm_scratch.model import build
from llm_scratch.storage import checkpoint
from llm_scratch.storage.safe_parse import MAX_YAML
from llm_scratch.tokenizers import TOKENIZERS, save_tokenizer

LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
)
YAML = {
    "an object": "train: !!python/object/apply:os.mkdir [{marker}]",
    "a new object": "train: !!python/object/new:os.mkdir [{marker}]",
    "a name": "train: !!python/name:os.mkdir",
    "a module": "train: !!python/module:antigravity",
    "a tuple": "train: !!python/tuple [1]",
    "a billion laughs": LAUGHS,
    "itself": "train: &x {steps: *x}",
    "a name twice": "train:\n  steps: 1\n  lr: 0.1\n  steps: 2",
    "60 kB, and the last name twice": (
        "train:\n" + "".join(f"  k{i}: 0\n" for i in range(5800)) + "  k5799: 1\n"
    ),
    "a part twice": "train: {steps: 1}\ntrain: {steps: 2}",
    "a merge": "x: &x {steps: 1}\ntrain:\n  <<: *x",
    "nesting": "[" * 3000,
    "five megabytes": "x: " + "a" * (5 << 20),
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 261,
    "n_positions": 16,
    "n_embd": 8,
    "n_head": 2,
    "n_layer": 2,
}
HUGE = {
    "layers in range": {"n_layer": 10**4},
    "vocabulary in range": {"vocab_size": 2 * 10**9},
    "width in range": {"n_embd": 10**7},
    "positions in range": {"n_positions": 2 * 10**9},
    "layers": {"n_layer": 10**9},
    "vocabulary": {"vocab_size": 10**12},
    "width": {"n_embd": 10**12},
    "positions": {"n_positions": 10**11},
    "heads": {"n_head": 10**9, "n_embd": 10**9},
    "everything": {"n_layer": 10**9, "n_embd": 10**9, "vocab_size": 10**9, "n_positions": 10**9},
    "a number of 4000 digits": {"n_layer": 10**4000},
}


@pytest.fixture(autouse=True, scope="module")
def _imported(tmp_path_factory):
    """Import everything that refuses settings before anything is counted."""
    folder = tmp_path_factory.mktemp("imports")
    (folder / "config.yaml").write_text("nonsense: 1")
    (folder / "config.json").write_text(json.dumps(GPT2))
    safetensors.torch.save_file({"wte.weight": torch.ones(261, 8)}, folder / "model.safetensors")
    torch.save({}, folder / "model.pth")
    with pytest.raises(UserError):
        load_config(folder / "config.yaml")
    for weights in (folder, folder / "model.pth"):
        with pytest.raises(UserError):
            load(weights)


def limits(door, message, lines=20_000, comparisons=1000):
    """Bound the executed lines and comparisons of a refusal, and return its bytes and exit code."""
    with at_most(lines, comparisons), pytest.raises(UserError, match=message) as error:
        door()
    tracemalloc.start()
    with pytest.raises(UserError, match=message):
        door()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(str(error.value)) < 600
    assert "\n" not in str(error.value)
    return peak, error.value.code


def test_f8_yaml_with_tags_anchors_or_code_is_refused(tmp_path, measured):
    marker, path = tmp_path / "it-ran", tmp_path / "settings.yaml"
    folder = tmp_path / "litgpt"
    folder.mkdir()
    torch.save({}, folder / "lit_model.pth")
    for name, text in YAML.items():
        for target, door in (
            (path, load_config),
            (folder / "model_config.yaml", lambda target: load(target.parent)),
        ):
            target.write_text(text.replace("{marker}", str(marker)))
            bytes_read = len(text) if len(text) <= MAX_YAML else 0
            reason = f"{target}.*{'duplicate key' if 'twice' in name else ''}"
            refusal = partial(door, target)
            peak, code = limits(refusal, reason, 20_000 + 150 * bytes_read, 20 + bytes_read)
            assert peak <= 32 << 20, name
            assert code in (USAGE, CHECKPOINT), name
            assert not marker.exists(), name
        assert main(["train", "--config", str(path), "--print-config"]) == USAGE, name
    assert yaml.safe_load(YAML["a name twice"])["train"]["steps"] == 2, "PyYAML alone accepts it"
    measured(
        "F8",
        f"{len(YAML)} kinds of YAML and {len(HUGE)} huge config.json refused before memory is"
        " allocated; 0 executed",
        "refused in one pass: at most 150 executed lines per byte",
    )


@pytest.mark.parametrize("what", HUGE)
def test_f8_model_larger_than_its_files_is_refused_before_memory_is_allocated(tmp_path, what):
    (tmp_path / "config.json").write_text(json.dumps({**GPT2, **HUGE[what]}))
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "chars", "characters": "abc"}})
    )
    safetensors.torch.save_file(
        {"wte.weight": torch.ones(261, 8), "wpe.weight": torch.ones(16, 8)},
        tmp_path / "model.safetensors",
    )
    peak, code = limits(
        lambda: load(tmp_path),
        "is missing, which config.json requires|by config.json it is|expected a positive integer|is"
        " out of range; give",
    )
    assert peak <= 4 << 20
    assert code == CHECKPOINT


@pytest.mark.parametrize(
    "what",
    [
        {"n_layers": 10**4, "emb_dim": 4096},
        {"emb_dim": 10**7, "n_heads": 1},
        {"context_length": 2 * 10**9},
        {"n_layers": 10**9},
    ],
)
def test_f8_run_config_larger_than_its_weights_is_refused_before_memory_is_allocated(
    tmp_path, what
):
    """Its manifest is valid: the run was created maliciously."""
    cfg, tokenizer = GPTConfig(4, 4, 4, 1, 1), TOKENIZERS["chars"](["abc"])
    weights = {name: tensor.detach() for name, tensor in build(cfg).named_parameters()}
    settings = to_dict(RunConfig(cfg))
    settings["model"] |= what
    folder = checkpoint.save(
        tmp_path / "run",
        1,
        settings,
        weights,
        {},
        {},
        lambda into: save_tokenizer(tokenizer, into),
        best=True,
    )
    for where in (folder, tmp_path / "run"):
        peak, code = limits(
            lambda where=where: load(where),
            "config describes .* parameters, but the file has 288|is out of range; give",
        )
        assert peak <= 4 << 20
        assert code == CHECKPOINT


def test_f8_index_of_layer_names_without_weights_is_refused(tmp_path):
    """An index that names three thousand layers of width 2,048, which would take 600 GB."""
    names = {f"trf_blocks.{i}.att.W_query.weight": torch.zeros(1) for i in range(3000)}
    state = names | {"tok_emb.weight": torch.zeros(4, 2048), "pos_emb.weight": torch.zeros(4, 2048)}
    torch.save(state, tmp_path / "model.pth")
    save_tokenizer(TOKENIZERS["chars"](["abc"]), tmp_path)
    _, code = limits(
        lambda: load(tmp_path / "model.pth"),
        "model.pth: config describes 151,0.* parameters, but the file has 19,384",
        lines=2000 * len(state),
    )
    assert code == CHECKPOINT


def test_f8_duplicate_keys_in_json_are_refused(tmp_path):
    text = json.dumps(GPT2)
    safetensors.torch.save_file({"wte.weight": torch.ones(261, 8)}, tmp_path / "model.safetensors")
    n_names = 330_000
    many = "".join(f', "{i}": 0' for i in range(n_names))
    for more in (', "n_layer": 3}', many + ', "329999": 0}'):
        (tmp_path / "config.json").write_text(text[:-1] + more)
        _, code = limits(lambda: load(tmp_path), "duplicate key", 10 * n_names, n_names)
        assert code == CHECKPOINT
    assert (tmp_path / "config.json").stat().st_size > 4_000_000
