"""Comparisons of a family with transformers: one model of theirs and one of ours.

`Twins.of(config)` makes a model of transformers with random weights, has it write a folder, and
reads that folder; the functions `check_*` compare the two.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import transformers
from safetensors.torch import save_file

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.generation.cached_model import pad_left
from llm_scratch.generation.decode import generate
from llm_scratch.interop.hf import HF_FAMILIES, config_of, load_weights, to_config
from llm_scratch.interop.hf_compare import TOLERANCE, first_difference
from llm_scratch.interop.hf_export import tensors
from llm_scratch.interop.safetensors import files_of
from llm_scratch.interop.weight_map import expand
from llm_scratch.model import build
from llm_scratch.model.loss import next_token_loss

N_GREEDY = 64
SIZES = {
    "vocab_size": 61,
    "max_position_embeddings": 70,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
"""Of a tiny model of any family; the context holds a prompt and 64 tokens."""
YARN = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 4.0,
    "original_max_position_embeddings": 18,
}


class Twins(NamedTuple):
    """A model of transformers and ours, with the same weights."""

    theirs: transformers.PreTrainedModel
    ours: torch.nn.Module

    @classmethod
    def of(cls, config, seed=0, change=lambda theirs: None):
        """Random weights, larger than initial ones, so that errors are visible."""
        torch.manual_seed(seed)
        config._attn_implementation = config._experts_implementation = "eager"
        theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for name, parameter in theirs.named_parameters():
                parameter.normal_(1.0 if "norm" in name else 0.0, 0.25 if "norm" in name else 0.15)
        change(theirs)
        with tempfile.TemporaryDirectory() as folder:
            theirs.save_pretrained(folder)
            return cls(theirs, read(folder))

    @property
    def family(self):
        """Our family of their model type."""
        return HF_FAMILIES[self.theirs.config.model_type]

    def ids(self, rows=2, length=None, seed=1):
        """Random token ids, by default as long as the context."""
        draw = torch.Generator().manual_seed(seed)
        shape = rows, length or self.ours.cfg.context_length
        return torch.randint(0, self.ours.cfg.vocab_size, shape, generator=draw)


def every(step, names):
    """Parameters of a test: every `step`-th name in the default run, the others in the slow one."""
    return [
        pytest.param(name, marks=[] if number % step == 0 else [pytest.mark.slow])
        for number, name in enumerate(names)
    ]


def read(folder):
    """Our model of a folder without a tokenizer."""
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    cfg = config_of(config, folder / "config.json")
    return load_weights(cfg, files_of(folder), folder, "config.json").eval()


def assert_close(ours, theirs, where=""):
    """Equal within TOLERANCE of the largest."""
    gap, largest = (ours - theirs).abs().max(), theirs.abs().max()
    assert gap <= TOLERANCE * largest, f"{where}: differ by {gap / largest:.1e} of the largest"


def check_all(twins):
    """Run every comparison."""
    check_logits(twins)
    check_gradients(twins)
    check_cache(twins)
    check_greedy(twins)
    check_padding(twins)


@torch.no_grad()
def check_logits(twins):
    """Logits of a whole context; if they differ, the first part that does is named."""
    ids = twins.ids()
    ours, theirs = twins.ours(ids), twins.theirs(ids).logits
    if (ours - theirs).abs().max() > TOLERANCE * theirs.abs().max():
        raise AssertionError(str(first_difference(twins.ours, twins.theirs, twins.family, ids)))


def check_gradients(twins):
    """The gradient of the loss by every parameter."""
    ids = twins.ids()
    for model in (twins.ours, twins.theirs):
        for parameter in model.parameters():  # an expert that no token chose has no other
            parameter.grad = torch.zeros_like(parameter)
    next_token_loss(twins.ours(ids[:, :-1]), ids[:, 1:]).backward()
    next_token_loss(twins.theirs(ids[:, :-1]).logits, ids[:, 1:]).backward()
    own, want = dict(twins.ours.named_parameters()), their_gradients(twins)
    compared = set()
    for mapped in expand(twins.family.rules_of(twins.ours.cfg), twins.ours.cfg.n_layers):
        if mapped.ours[0] in own:
            gradient = mapped.join({name: own[name].grad for name in mapped.ours})
            assert_close(gradient, want[mapped.theirs], mapped.theirs)
            compared.update(mapped.ours)
    assert compared == own.keys()


def their_gradients(twins):
    """Their gradients by the names in a file, where every expert has tensors of its own."""
    found = {name: parameter.grad for name, parameter in twins.theirs.named_parameters()}
    in_file = {rule.theirs for rule in twins.family.rules_of(twins.ours.cfg)}
    for name in [name for name in found if name.endswith((".gate_up_proj", ".down_proj"))]:
        if re.sub(r"\.\d+\.", ".#.", name) in in_file:
            continue
        prefix, _, kind = name.rpartition(".")
        names = ("gate_proj", "up_proj") if kind == "gate_up_proj" else ("down_proj",)
        for e, stacked in enumerate(found.pop(name)):
            for part, gradient in zip(names, stacked.chunk(len(names))):
                found[f"{prefix}.{e}.{part}.weight"] = gradient
    return found


@torch.no_grad()
def check_cache(twins):
    """Cached in any pieces equals uncached: a prompt, single tokens, a chunk in the middle."""
    ids = twins.ids()
    T = ids.shape[1]
    cuts = [T // 3, 1, 1, T // 4, T - T // 3 - T // 4 - 2]
    cache = twins.ours.new_cache(len(ids), block=7)
    cached = torch.cat([twins.ours(piece, cache) for piece in ids.split(cuts, 1)], 1)
    assert_close(cached, twins.ours(ids), "with a cache")


@torch.no_grad()
def check_greedy(twins):
    """Greedy ids, as many as fit up to N_GREEDY, from a prompt in two chunks."""
    prompt = twins.ids(rows=1, length=5)
    n = min(N_GREEDY, twins.ours.cfg.context_length - 5)
    ours = generate(twins.ours, prompt, n, temperature=0)
    theirs = twins.theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=n,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert ours[0].tolist() == theirs[0].tolist()


@torch.no_grad()
def check_padding(twins):
    """A batch with left padding, past a window: each row as if alone, and as theirs."""
    T = twins.ours.cfg.context_length
    rows = [twins.ids(1, T - 4, 2)[0].tolist(), twins.ids(1, T // 2, 3)[0].tolist()]
    padded = pad_left(rows)
    together = generate(twins.ours, padded, 4, temperature=0)
    mask = (padded >= 0).long()
    theirs = twins.theirs.generate(
        padded.clamp(min=0),
        attention_mask=mask,
        max_new_tokens=4,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert together[:, -4:].tolist() == theirs[:, -4:].tolist()
    for row, text in zip(together, rows):
        alone = generate(twins.ours, torch.tensor([text]), 4, temperature=0)
        assert row[-4:].tolist() == alone[0, -4:].tolist()


def assert_same_model(one, other):
    """Check that two settings give the same output for the same weights."""
    torch.manual_seed(0)
    model, parent = build(one).eval(), build(other).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        parent.load_state_dict(model.state_dict())
        ids = torch.randint(0, one.vocab_size, (2, one.context_length))
        torch.testing.assert_close(model(ids), parent(ids), rtol=1e-5, atol=1e-5)


def assert_refused(config, message):
    """Check that an unsupported config of transformers is refused by the name of the setting."""
    with pytest.raises(UserError, match=message) as error:
        config_of(config, Path("config.json"))
    assert error.value.code == CHECKPOINT
    assert "config.json: " in str(error.value)


def check_export(twins, tmp_path):
    """Check that transformers reads our export with equal logits, and we with equal settings."""
    cfg = twins.ours.cfg
    config = to_config(cfg, None, None)
    old = {name: value for name, value in config.items() if name != "rope_parameters"}
    assert config_of(old, tmp_path / "config.json") == cfg, "as transformers before 5 reads it"
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors(twins.ours), tmp_path / "model.safetensors", {"format": "pt"})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager"
    )
    with torch.no_grad():
        assert_close(theirs(twins.ids()).logits, twins.theirs(twins.ids()).logits)
    back = read(tmp_path)
    assert back.cfg == cfg
    own = dict(twins.ours.named_parameters())
    assert all(torch.equal(own[name], parameter) for name, parameter in back.named_parameters())
