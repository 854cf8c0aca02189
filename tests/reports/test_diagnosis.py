"""Diagnosis finds every problem on a synthetic curve and on a badly trained run.

Healthy runs have none.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.data.sources import read
from llm_scratch.data.stories import floor_bits_per_byte
from llm_scratch.evaluation.skill_results import SkillResults, SkillScore
from llm_scratch.reports.curve import running_median
from llm_scratch.reports.diagnosis import CHECKS, diagnose
from llm_scratch.run_directory import open_run
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training.loop import train

MODEL = GPTConfig(vocab_size=1000, context_length=64, emb_dim=64, n_heads=4, n_layers=2)
CONFIG = RunConfig(MODEL, DataConfig(), TrainConfig(steps=1000, lr=1e-3, warmup_steps=20))
OF_STORIES = {"floor", "skills"}  # checks of a text whose entropy and skills are known
STEPS = 1000
START = math.log(1000)


def falling(step):
    """A typical loss curve: fast first, then slower, towards 2."""
    return 2 + (START - 2) * (1 + step / 20) ** -0.8


def a_curve(
    loss=falling,
    held_out=None,
    learned=None,
    norm=lambda step: 1.0,
    flicker=0.03,
    seed=0,
    passes=1.0,
    steps=STEPS,
    tokens=10**7,
):
    """Rows of metrics: a noisy loss every ten steps, an evaluation every fifty."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "step": 0,
            "tokens": 0,
            "passes": 0.0,
            "train_loss": loss(0),
            "val_loss": (held_out or loss)(0),
        }
    ]
    for step in range(10, steps + 1, 10):
        row = {"step": step, "tokens": tokens * step // steps, "lr": 1e-3 * (1 - step / steps)}
        rows.append(
            row
            | {
                "loss": loss(step) * (1 + flicker * rng.normal()),
                "grad_norm": norm(step) * (1 + 0.1 * rng.normal()),
            }
        )
        if step % 50 == 0:
            seen = {
                "train_loss": (learned or loss)(step),
                "val_loss": (held_out or loss)(step) + 0.02 + 0.005 * rng.normal(),
            }
            rows.append(
                {"step": step, "tokens": row["tokens"], "passes": passes * step / steps} | seen
            )
    return rows


def sick(rows, config=CONFIG):
    """The problems: check -> (state, finding)."""
    found = diagnose(rows, config)
    for finding in found.values():
        assert finding.evidence
        assert bool(finding.advice) == (finding.state != "ok")
    return {
        name: (finding.state, finding.summary)
        for name, finding in found.items()
        if finding.state != "ok"
    }


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("flicker", [0.0, 0.03, 0.1])
def test_diagnose_finds_no_problem_in_healthy_curves(seed, flicker):
    rows = a_curve(flicker=flicker, seed=seed)
    assert sick(rows) == {}
    assert diagnose(rows, CONFIG).keys() == CHECKS.keys() - OF_STORIES, "each check has a finding"


@pytest.mark.parametrize(
    ("power", "floor", "noise"),
    [(0.4, 0.5, 0.02), (1.5, 1.0, 0.05), (0.8, 3.0, 0.02)],
    ids=["slow", "fast", "soon at its floor"],
)
def test_diagnose_accepts_other_healthy_shapes(power, floor, noise):
    assert (
        sick(
            a_curve(lambda step: floor + (START - floor) * (1 + step / 20) ** -power, flicker=noise)
        )
        == {}
    )


SICK = {
    "first weights too large": (
        {"loss": lambda s: falling(s) + 30 * 0.9**s},
        "initial loss",
        "problem",
        "initial weights are too large",
    ),
    "knew something": (
        {"loss": lambda s: falling(s + 60)},
        "initial loss",
        "warning",
        "below chance level",
    ),
    "jumps": (
        {"loss": lambda s: falling(s) * (1.8 if s % 170 == 0 and s else 1)},
        "learning rate",
        "problem",
        "the loss jumps",
    ),
    "one jump": (
        {"loss": lambda s: falling(s) * (1.8 if s == 510 else 1)},
        "learning rate",
        "warning",
        "occasionally",
    ),
    "climbs": (
        {"loss": lambda s: falling(s) + max(0, s - 600) / 200},
        "learning rate",
        "problem",
        "the loss rises",
    ),
    "thrown up": (
        {"loss": lambda s: falling(s) + (20 if 10 < s < 200 else 0)},
        "learning rate",
        "problem",
        "spikes",
    ),
    "a look jumps": (
        {"held_out": lambda s: falling(s) * (1.5 if s == 500 else 1)},
        "learning rate",
        "warning",
        "validation loss jumps",
    ),
    "rough start": (
        {"loss": lambda s: falling(s) + (3 if 0 < s < 50 else 0)},
        "warmup",
        "problem",
        "start is unstable",
    ),
    "dead": ({"loss": lambda s: START}, "progress", "problem", "does not decrease"),
    "dead, no gradient": (
        {"loss": lambda s: START, "norm": lambda s: 0.0},
        "progress",
        "problem",
        "the gradient is 0",
    ),
    "overfitting": (
        {
            "held_out": lambda s: falling(s) if s < 300 else falling(300) + (s - 300) / 500,
            "learned": lambda s: falling(s) * (1 - s / 2000),
        },
        "overfitting",
        "problem",
        "overfitting from step 300 on: the validation loss rises",
    ),
    "by heart": (
        {
            "held_out": lambda s: max(falling(s), falling(300)),
            "learned": lambda s: falling(s) * (1 - s / 2000),
        },
        "overfitting",
        "problem",
        "only the training loss falls",
    ),
    "undertrained": (
        {"loss": lambda s: START - s / 250},
        "length",
        "warning",
        "still falls steeply",
    ),
    "small text": ({"passes": 500.0, "tokens": 10**6}, "text", "warning", "text is small"),
    "gradient": (
        {"norm": lambda s: 1 + (s / 300) ** 4},
        "gradient",
        "warning",
        "gradient norm grows",
    ),
}


@pytest.mark.parametrize(("made", "check", "state", "words"), SICK.values(), ids=SICK)
@pytest.mark.parametrize("seed", range(3))
def test_diagnose_finds_each_problem(made, check, state, words, seed):
    found = sick(a_curve(**made, seed=seed))
    assert found[check][0] == state
    assert words in found[check][1]


def test_diagnose_finds_missing_warmup():
    rows = a_curve(lambda s: falling(s) + (3 if 0 < s < 50 else 0))
    assert sick(rows, replace(CONFIG, train=replace(CONFIG.train, warmup_steps=0)))["warmup"] == (
        "problem",
        "warmup is missing",
    )


def test_diagnose_counts_skipped_steps():
    bad = [{"step": s, "tokens": s, "skipped": 1} for s in (100, 101, 102)] + [
        {"step": 100, "tokens": 5, "rollbacks": 2, "skipped_batches": 3}
    ]
    found = diagnose(a_curve() + bad, CONFIG)["learning rate"]
    assert found.state == "problem"
    assert found.evidence == "3 bad steps were skipped, the first at step 100, with 2 rollbacks"


def test_diagnose_gives_evidence_and_matching_advice():
    found = diagnose(a_curve(**SICK["overfitting"][0], flicker=0.0), CONFIG)["overfitting"]
    assert f"validation loss {falling(300) + 0.02:.2f}"[:-1] in found.evidence
    assert "at step 300" in found.evidence
    assert "more text" in found.advice
    tied = replace(CONFIG, model=replace(MODEL, tie_embeddings=True))
    assert (
        "--model.init gpt2"
        in diagnose(a_curve(**SICK["first weights too large"][0]), tied)["initial loss"].advice
    )
    assert diagnose(a_curve(**SICK["climbs"][0]), CONFIG)["learning rate"].advice.startswith(
        "Try --train.lr 0.0003"
    )


def test_diagnose_is_empty_for_a_short_run():
    assert diagnose([], CONFIG) == {}
    assert sick(a_curve()[:4]) == {}
    assert diagnose([{"step": 1, "loss": math.nan, "lr": 0.1, "grad_norm": 1.0}], CONFIG) == {}


LOOK = {"val_loss": 2.0, "train_loss": 2.0}


@pytest.mark.parametrize(
    ("rows", "step"),
    [
        ([{"step": 3, "diverged": 1}], 3),
        ([{"step": 2, **LOOK}, {"step": 4, **LOOK, "val_loss": math.nan}], 4),
        ([{"step": 2, **LOOK, "val_loss": math.inf}, {"step": 4, **LOOK}], None),
    ],
    ids=["it says so", "an older version wrote NaN", "it came back"],
)
def test_divergence_is_a_problem_in_short_runs_too(rows, step):
    found = diagnose(rows, CONFIG)
    assert ("divergence" in found) == (step is not None)
    if step:
        assert found["divergence"].state == "problem"
        assert f"not finite at step {step}," in found["divergence"].evidence


def test_diagnose_skips_non_finite_rows():
    rows = a_curve()
    rows.insert(30, {"step": 300, "loss": math.inf, "lr": 1e-3, "grad_norm": math.nan})
    assert sick(rows) == {}


def test_running_median_equals_the_definition():
    np.testing.assert_array_equal(running_median(np.array([1.0, 9, 2, 3, 4]), 3), [5, 2, 3, 3, 3.5])


# Stories: a text of known entropy


STORIES = replace(CONFIG, data=DataConfig(source="stories:100"))
FLOOR = floor_bits_per_byte()


def a_curve_above_floor(above):
    """A healthy curve that ends so far above the floor of the stories; 0.1 is 10 %."""
    return [
        row | ({"val_bits_per_byte": (1 + above) * FLOOR} if "val_loss" in row else {})
        for row in a_curve()
    ]


def results(step=1000, **accuracy):
    """Skills of a model, each of 400 questions with a chance of 25 %."""
    scores = tuple(SkillScore(name, right, 0.25, 400, 0.02) for name, right in accuracy.items())
    return SkillResults(0.4, FLOOR, scores, step=step)


@pytest.mark.parametrize(
    ("above", "state"),
    [(0.08, "ok"), (0.2, "warning"), (3.02, "problem"), (-0.02, "ok"), (-0.1, "warning")],
)
def test_distance_to_the_floor_is_checked_at_the_end_of_a_run(above, state):
    rows = a_curve_above_floor(above)
    found = diagnose(rows, STORIES)["floor"]
    assert found.state == state
    assert f"the entropy of the text is {FLOOR:.3f}, so {above:+.0%}" in found.evidence
    assert bool(found.advice) == (state != "ok")
    longer = replace(STORIES, train=replace(STORIES.train, steps=5000))
    assert "floor" not in diagnose(rows, longer), "a run that still trains is above its floor"
    other_text = replace(STORIES, data=DataConfig(source="shakespeare"))
    assert "floor" not in diagnose(rows, other_text)


def test_unfinished_run_is_not_undertrained():
    rows = a_curve(loss=lambda s: START - s / 250)
    assert "length" in sick(rows)
    assert "length" not in sick(rows, replace(CONFIG, train=replace(CONFIG.train, steps=5000)))


@pytest.mark.parametrize(
    ("accuracy", "state", "words"),
    [
        ({"name": 0.9, "count": 0.4}, "ok", "the weakest: count 40% (chance 25%)"),
        ({"name": 0.9, "count": 0.27}, "warning", "no better: count 27% (chance 25%)"),
        (
            {"name": 0.27, "count": 0.1},
            "problem",
            "below chance: count 10% (chance 25%); no better: name 27% (chance 25%)",
        ),
    ],
)
def test_skills_are_compared_with_chance(accuracy, state, words):
    found = diagnose(a_curve_above_floor(0.0), STORIES, results(**accuracy))["skills"]
    assert (found.state, found.evidence) == (state, words)
    assert bool(found.advice) == (state != "ok")


def test_diagnosis_names_the_earlier_step_of_skills():
    found = diagnose(a_curve_above_floor(0.0), STORIES, results(step=500, name=0.9))["skills"]
    assert found.evidence.endswith("; measured at step 500")


# Real runs


@pytest.fixture(scope="module")
def corpus():
    text = "\n".join(read("stories:60"))
    tokenizer = TOKENIZERS["chars"]([text])
    ids = np.array(tokenizer.encode(text), dtype=np.int32)
    return Corpus(tokenizer, ids[:-3000], ids[-3000:], 3000)


def trained(folder, corpus, tokens=None, model=None, **settings):
    """The metrics of a run of a second or two."""
    shape = {
        "vocab_size": corpus.tokenizer.n_vocab,
        "context_length": 16,
        "emb_dim": 24,
        "n_heads": 2,
        "n_layers": 1,
        "drop_rate": 0.0,
    }
    often = {
        "batch_size": 8,
        "lr": 5e-3,
        "warmup_steps": 10,
        "eval_every": 20,
        "eval_batches": 6,
        "save_every": 10**6,
        "sample_every": 0,
    }
    config = RunConfig(
        GPTConfig(**shape | (model or {})),
        DataConfig(
            source="file:stories.txt", tokenizer="chars"
        ),  # a minute of a tiny model is far from the entropy of stories
        TrainConfig(**{"steps": 160, "log_every": 2} | often | settings),
    )
    train(
        config,
        folder,
        corpus=corpus if tokens is None else replace(corpus, train=corpus.train[:tokens]),
    )
    return sick(open_run(folder).metrics, config)


@pytest.fixture(autouse=True, scope="module")
def _fast():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda number: None)
        patch.setattr(
            "llm_scratch.training.checkpoint_writer.CheckpointData.write", lambda *args: None
        )
        yield


def test_diagnose_finds_no_problem_in_a_real_run(tmp_path, corpus):
    assert trained(tmp_path, corpus) == {}


REAL = {
    "lr far too high": (
        {"lr": 2.0, "warmup_steps": 0, "schedule": "constant"},
        "learning rate",
        "too high",
    ),
    "lr too high at the start": ({"lr": 0.3, "warmup_steps": 0}, "warmup", "warmup is missing"),
    "lr far too low": ({"lr": 1e-7}, "progress", "does not decrease"),
    "tied and torch's weights": (
        {"model": {"tie_embeddings": True}},
        "initial loss",
        "initial weights are too large",
    ),
    "by heart": ({"tokens": 400, "lr": 1e-2}, "overfitting", "overfitting from step"),
    "stopped early": (
        {"steps": 24, "eval_every": 4, "schedule": "constant", "lr": 2e-3},
        "length",
        "undertrained",
    ),
}


@pytest.mark.parametrize(("settings", "check", "words"), REAL.values(), ids=REAL)
def test_diagnose_finds_problems_of_real_runs(tmp_path, corpus, settings, check, words):
    found = trained(tmp_path, corpus, **settings)
    assert words in found[check][1], found
