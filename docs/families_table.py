"""Write the table of docs/families.md: what works with each architecture.

Run `python docs/families_table.py`; it takes a minute. A column is a function that uses a part of
the package on a tiny model with random weights and checks the result; where it raises a
`UserError`, the cell is empty and its reason is below the table.
tests/architecture/test_families.py runs every cell and compares the page.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from families_processes import check_processes
from torch.profiler import ProfilerActivity, profile

from llm_scratch.architectures import ARCHITECTURES, ModelConfig, setting_names
from llm_scratch.config import DataConfig, RunConfig, TrainConfig, dump_config, load_config
from llm_scratch.errors import UserError
from llm_scratch.evaluation import inspection as text_inspection
from llm_scratch.generation.config import GenerationConfig
from llm_scratch.generation.decode import generate
from llm_scratch.generation.engine import Engine
from llm_scratch.generation.strategies import STRATEGIES
from llm_scratch.interop.hf_export import export_hf
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.lenses import direct_logit_attribution, logit_lens
from llm_scratch.interpretability.patching import ablate, head
from llm_scratch.loading import load
from llm_scratch.model import build, compiled
from llm_scratch.model.loss import next_token_loss
from llm_scratch.model.packed import pack
from llm_scratch.model.quantized import quantize
from llm_scratch.planning.memory_estimate import estimate_memory
from llm_scratch.serving import inspection
from llm_scratch.serving.question import Question
from llm_scratch.storage.files import atomic_write
from llm_scratch.training.loop import train
from llm_scratch.training.model_with_loss import ModelWithLoss

PAGE = Path(__file__).with_name("families.md")
MARK = "<!-- made by python docs/families_table.py -->\n"
SIZES = {
    "vocab_size": 23,
    "context_length": 48,
    "emb_dim": 32,
    "n_heads": 4,
    "n_layers": 2,
    "drop_rate": 0.0,
}
OWN = {
    "n_kv_heads": 2,
    "ff_dim": 64,
    "window": 16,
    "full_every": 2,
    "n_experts": 4,
}
"""Settings that several architectures have, so that the tiny models use what is special to them."""
SPECIAL: dict[str, dict[str, Any]] = {
    "gemma": {
        "qk_norm": False,
        "rope_local_base": None,
        "attention_softcap": 5.0,
        "logit_softcap": 9.0,
    },
    "deepseek": {"n_kv_heads": None},  # its heads share a latent, and no keys
}
"""Architecture -> further settings of its tiny model."""
WORDS = ["old new red", "cat dog owl fox", "mat log roof gate", "rain summer bread home"]
TEXT = " ".join(
    f"The {a} {b} and the {c} sang of {d}." for a, b, c, d in product(*map(str.split, WORDS))
)


@dataclass(frozen=True)
class Tiny:
    """A tiny model of an architecture, and a run that trains one, in a temporary folder."""

    name: str
    folder: Path
    changes: tuple[tuple[str, Any], ...] = ()
    """further settings"""

    @cached_property
    def cfg(self) -> ModelConfig:
        """Its settings."""
        own = setting_names(ARCHITECTURES[self.name].config)
        shared = {name: value for name, value in OWN.items() if name in own}
        special = SPECIAL.get(self.name, {})
        settings = {"architecture": self.name, **SIZES, **shared, **special}
        return ModelConfig.of(settings | dict(self.changes))

    @property
    def model(self) -> Any:
        """A new model whose weights are all random: an initialization may have zeros."""
        torch.manual_seed(0)
        model = build(self.cfg).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return model

    @cached_property
    def ids(self) -> torch.Tensor:
        """Token ids of two texts, past two windows."""
        draw = torch.Generator().manual_seed(1)
        return torch.randint(0, SIZES["vocab_size"], (2, 40), generator=draw)

    def config(self, steps: int) -> RunConfig:
        """Settings of a run."""
        text = self.folder / "text.txt"
        text.write_text(TEXT, encoding="utf-8")
        return RunConfig(
            self.cfg,
            DataConfig(source=f"file:{text}", tokenizer="chars", val_fraction=0.2),
            TrainConfig(
                steps=steps,
                batch_size=2,
                lr=1e-2,
                schedule="constant",
                eval_every=steps,
                eval_batches=1,
                save_every=steps,
                sample_every=0,
            ),
        )

    @cached_property
    def run(self) -> Path:
        """A trained run of four steps."""
        train(self.config(4), self.folder / "run")
        return self.folder / "run"


def assert_close(got: torch.Tensor, want: torch.Tensor, share: float = 1e-4) -> None:
    """Equal within a share of the largest value."""
    gap = (got - want).abs().max() / want.abs().max()
    assert gap <= share, f"differ by {gap:.1e} of the largest, expected at most {share:g}"


def check_train(tiny: Tiny) -> None:
    """A trained model is better than a uniform guess, and is rebuilt from its settings."""
    model, tokenizer = load(tiny.run)
    ids = torch.tensor([tokenizer.encode(TEXT[: SIZES["context_length"]])])
    loss = next_token_loss(model(ids[:, :-1]), ids[:, 1:])
    assert loss < math.log(SIZES["vocab_size"]), loss


def check_resume(tiny: Tiny) -> None:
    """Two steps and two more are four steps, to the bit."""
    halves = tiny.folder / "halves"
    train(tiny.config(2), halves)
    resumed = train(tiny.config(4), halves).model.state_dict()
    for name, whole in load(tiny.run)[0].state_dict().items():
        assert torch.equal(resumed[name], whole), name


def check_plan(tiny: Tiny) -> None:
    """The parameters by formula, and the memory of a training step within 15 %."""
    model = ModelWithLoss(build(tiny.cfg))
    assert tiny.cfg.n_params == sum(p.numel() for p in model.parameters())
    plan = estimate_memory(replace(tiny.config(1), model=tiny.cfg))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        model(tiny.ids.expand(2, -1), tiny.ids).backward()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    expected = plan.gradients + plan.step * tiny.ids.shape[1] / SIZES["context_length"]
    assert abs(peak / expected - 1) < 0.15, f"{peak} bytes, planned {expected:.0f}"


@torch.no_grad()
def check_cache(tiny: Tiny) -> None:
    """Cached in pieces equals uncached."""
    model, ids = tiny.model, tiny.ids
    cache = model.new_cache(len(ids), block=7)
    cuts = [9, 1, 1, 20, 9]
    assert_close(torch.cat([model(part, cache) for part in ids.split(cuts, 1)], 1), model(ids))


@torch.no_grad()
def check_strategies(tiny: Tiny) -> None:
    """Every decoding strategy, greedy where it can be: the ids of the model's own best tokens."""
    model, prompt = tiny.model, tiny.ids[:1, :20]
    greedy = generate(model, prompt, 8, temperature=0)[0, 20:].tolist()
    settings: dict[str, dict[str, Any]] = {
        "beam": {"beams": 1, "max_new_tokens": 8},
        "contrastive": {"alpha": 0.0},
        "speculative": {"draft": model, "temperature": 0},
        "lookup": {"temperature": 0},
    }
    for name, strategy in STRATEGIES.items():
        own = settings.get(name, {})
        ids = [step.ids.item() for step in islice(strategy(model, prompt, **own), 8)]
        assert ids == greedy, name


@torch.no_grad()
def check_engine(tiny: Tiny) -> None:
    """Texts that join a running batch are what they are alone."""
    texts = [tiny.ids[0, :20].tolist(), tiny.ids[1, :9].tolist()]
    greedy = GenerationConfig(temperature=0, max_tokens=8)
    with Engine(tiny.model) as engine:
        ids = {engine.add(texts[0], greedy): []}
        while engine:
            for row, chunk in engine.step().items():
                ids[row] += [] if chunk.id is None else [chunk.id]
            if len(ids) == 1:
                ids[engine.add(texts[1], greedy)] = []
    for text, got in zip(texts, ids.values()):
        alone = generate(tiny.model, torch.tensor([text]), 8, temperature=0)
        assert got == alone[0, len(text) :].tolist()


def all_experts(tiny: Tiny) -> Tiny:
    """Every token uses every expert: one that changes experts is not a question of precision."""
    if "n_experts" not in tiny.cfg:
        return tiny
    changes = {"experts_per_token": tiny.cfg["n_experts"], "expert_dim": 32}
    return Tiny(tiny.name, tiny.folder, tuple(changes.items()))


@torch.no_grad()
def check_quantize(tiny: Tiny) -> None:
    """In 8 and 4 bits, every matrix; in 8 bits the logits stay within a tenth."""
    tiny = all_experts(tiny)
    for bits, share in ((8, 0.1), (4, 1.0)):
        model = quantize(tiny.model, bits)
        assert not any(isinstance(part, torch.nn.Linear) for part in model.modules())
        assert_close(model(tiny.ids), tiny.model(tiny.ids), share)


@torch.no_grad()
def check_pack(tiny: Tiny) -> None:
    """Packed for generation, with a cache, the logits agree; in 8 bits too."""
    tiny = all_experts(tiny)
    for bits, share in ((None, 1e-4), (8, 2e-2)):
        model, twin = (tiny.model if bits is None else quantize(tiny.model, bits) for _ in range(2))
        packed = pack(model)
        cache = packed.new_cache(2)
        parts = [packed(part, cache) for part in tiny.ids.split([30, 1, 9], 1)]
        assert_close(torch.cat(parts, 1), twin(tiny.ids), share)


@torch.no_grad()
def check_compile(tiny: Tiny) -> None:
    """A decoding step as one exported program agrees, for any length and with padding.

    The program runs in Python here; the slow tests of `model/compiled.py` compile it.
    """

    def load_uncompiled(step: Any, *_: Any) -> Any:
        return SimpleNamespace(run=lambda arguments: [*step(*arguments)])

    model, plain = tiny.model, tiny.model
    cache, own = model.new_cache(2, block=30), plain.new_cache(2, block=30)
    for each in (cache, own):
        each.left_padding = torch.tensor([0, 3])
    model(tiny.ids[:, :20], cache)
    plain(tiny.ids[:, :20], own)
    cache.grow(31)
    program = compiled.compile_step(model, model.hidden, True, cache, load_uncompiled)
    for position in range(20, 28):
        token = tiny.ids[:, position : position + 1]
        assert_close(model.logits(program(token, cache)), plain(token, own))
        cache.advance(1)


@torch.no_grad()
def check_capture(tiny: Tiny) -> None:
    """Activations, lenses, attribution and ablation: parts of a logit add up to it."""
    model, ids = tiny.model, tiny.ids
    logits = model(ids)
    with capture(model) as acts:
        assert_close(model(ids), logits)
    last = f"blocks.{SIZES['n_layers'] - 1}."
    mid = acts[last + "hook_resid_pre"] + acts[last + "hook_attn_out"]
    assert_close(mid, acts[last + "hook_resid_mid"])
    assert_close(mid + acts[last + "hook_mlp_out"], acts[last + "hook_resid_post"])
    assert_close(logit_lens(model, ids)[-1], logits)
    parts = direct_logit_attribution(model, ids, ids)
    own = model.out_head(acts["ln_final.hook_normalized"]).gather(-1, ids[..., None])[..., 0]
    assert_close(parts.values.sum(0), own)
    with ablate(model, head(0, 1)):
        assert not torch.allclose(model(ids), logits)


def check_play(tiny: Tiny) -> None:
    """Every view of the playground, and `inspect`."""
    model, tokenizer = load(tiny.run)
    ids = tokenizer.encode(TEXT[:30])
    question = Question(model, tokenizer, torch.tensor([ids]), 0, (), None)
    at = {"layer": 1, "head": 1, "query": 5, "key": 3, "position": 5, "candidate": 2}
    tokens = inspection.inspect_text(question)["tokens"]
    assert [token["id"] for token in tokens] == ids
    weights = inspection.dot_product(question, at)["weights"]
    assert 0 < sum(weights) < 1 + 1e-3  # sinks take a share
    inspection.attention(question, at)
    inspection.lens(question, at, None)
    inspection.flow(question, at)
    inspection.ablations(question, at)
    text_inspection.inspect_text(model, tokenizer, ids)


def check_export(tiny: Tiny) -> None:
    """Exported to a folder that transformers reads, and read back: equal logits."""
    model, tokenizer = load(tiny.run)
    folder = tiny.folder / "hf"
    assert export_hf(model, tokenizer, folder) is not None
    back, _ = load(folder)
    assert back.cfg == model.cfg
    assert_close(back(tiny.ids), model(tiny.ids))


def check_yaml(tiny: Tiny) -> None:
    """Settings survive a YAML file."""
    path = tiny.folder / "run.yaml"
    path.write_text(dump_config(tiny.config(4)), encoding="utf-8")
    assert load_config(path) == tiny.config(4)


FEATURES: dict[str, Callable[[Tiny], None]] = {
    "train": check_train,
    "resume to the same bits": check_resume,
    "DDP": partial(check_processes, "ddp"),
    "FSDP2": partial(check_processes, "fsdp"),
    "plan: memory and size": check_plan,
    "cache": check_cache,
    "every decoding strategy": check_strategies,
    "engine": check_engine,
    "quantize": check_quantize,
    "pack": check_pack,
    "compile": check_compile,
    "capture, lenses, ablation": check_capture,
    "play, inspect": check_play,
    "export hf and back": check_export,
    "YAML": check_yaml,
}
"""What is tried with each architecture, in the order of the table."""


def cell(feature: str, tiny: Tiny) -> str:
    """ "yes", or why the architecture lacks the feature; an error if it is broken."""
    with torch.random.fork_rng(devices=[]):
        try:
            FEATURES[feature](tiny)
        except UserError as e:
            return str(e)
    return "yes"


def table(cells: dict[str, dict[str, str]]) -> str:
    """The table, with notes under it.

    Args:
        cells: architecture -> feature -> "yes" or a reason.
    """
    names = list(cells)
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    reasons: list[str] = []
    for feature in FEATURES:
        row = []
        for name in names:
            result = cells[name][feature]
            if result != "yes" and result not in reasons:
                reasons.append(result)
            row.append("yes" if result == "yes" else f"({reasons.index(result) + 1})")
        lines.append(f"| {feature} | {' | '.join(row)} |")
    notes = [f"({number}) {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes]) + "\n"


def main() -> None:
    """Try every cell and write the table into the page."""
    cells = {}
    for name in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:
            tiny = Tiny(name, Path(folder))
            cells[name] = {feature: cell(feature, tiny) for feature in FEATURES}
    page = PAGE.read_text(encoding="utf-8")
    before, _, _ = page.partition(MARK)
    atomic_write(PAGE, before + MARK + table(cells))
    print(table(cells))


if __name__ == "__main__":
    main()
