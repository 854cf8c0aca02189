# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Step 6: the run
#
# `llm-scratch train quickstart` trains a small GPT in two minutes. Its training loop is
# the one of lesson 4. But around the loop is a recipe: a dozen decisions that make the
# difference between a run that works and one that does not. This lesson takes the recipe
# apart. Every part is written out once, *asserted* equal to the code that runs, and then
# taken away, to see what it was for.
#
# | step | new idea |
# |---|---|
# | 6.1 | the recipe on one page |
# | 6.2 | a text whose entropy is known: a floor for the loss |
# | 6.3 | one document a row |
# | 6.4 | an order that needs no memory |
# | 6.5 | first weights that can copy |
# | 6.6 | Muon for the matrices, AdamW for the rest |
# | 6.7 | warm-up and fall |
# | 6.8 | clipping, and a guard |
# | 6.9 | to stop and to resume, bit for bit |
# | 6.10 | what the skills ask |
#
# Run it as a notebook or as `python lessons/step6_run.py`. It takes about ten seconds and
# needs no network.
#
# From lesson 0 you need optimizers (0.9), from lesson 3 the parts of a model, from lesson 4
# training, validation and bits per byte.

# %% tags=["setup"]
import contextlib
import io
import json
import math
import statistics  # noqa: F401  for the exercises
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from llm_scratch.data.loader import TokenLoader
from llm_scratch.data.stories import HELD_OUT, example_probes, floor_bits_per_byte, generate_story
from llm_scratch.learn.notebook import ask, check, hint  # noqa: F401
from llm_scratch.learn.script import run_as_script
from llm_scratch.model import build
from llm_scratch.model.loss import IGNORE, next_token_loss
from llm_scratch.presets import PRESETS
from llm_scratch.training.loop import train
from llm_scratch.training.optim import OPTIMIZERS, orthogonalize
from llm_scratch.training.recovery import SpikeDetector
from llm_scratch.training.run_data import prepare_for_run
from llm_scratch.training.schedule import learning_rate

run_as_script(globals())
plt.rcParams.update({"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10})
plt.rcParams.update({"figure.constrained_layout.use": True, "legend.frameon": False})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)  # for tensors this small, a second thread costs more than it brings
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"

# %% [markdown]
# ## 6.1 The recipe on one page
# A run is one object with all its settings, a *preset*. These are the quickstart's settings
# for training; each has a section below. (`getattr(a, "lr")` is `a.lr`.)

# %%
RECIPE = PRESETS["quickstart"]()
for name in ("steps", "batch_size", "optimizer", "lr", "warmup_steps", "schedule"):
    print(f"{name:13} {getattr(RECIPE.train, name)}")
print("order        ", RECIPE.data.order)
print("init         ", RECIPE.model.init)

# %% [markdown]
# In this lesson a much smaller model takes its place, so that each part can be tried in
# seconds. `override` is a copy with some settings changed. Only sizes are changed; the
# recipe stays the same. (A *document* is a text that belongs together, here a story. At
# every 20th step, `eval_every`, the run measures its loss on validation stories.)
#
# Two helpers are in the folded cell: `CORPUS` has the stories as token ids, and
# `losses_of(settings, name)` trains with some settings changed and returns the bits per byte
# on validation stories, at each evaluation.

# %%
SMALL = RECIPE.override(
    ["model.emb_dim=32", "model.n_heads=2", "model.n_layers=1", "model.vocab_size=300"]
    + ["model.context_length=64", "data.source=stories:600", "train.batch_size=8"]
    + ["train.steps=60", "train.warmup_steps=5", "train.eval_every=20"]
    + ["train.eval_batches=4", "train.save_every=60", "train.sample_every=0"]
)
print(f"{RECIPE.model.n_params:,} parameters, and {SMALL.model.n_params:,} here")

# %% tags=["setup"]
FOLDER = Path(tempfile.mkdtemp())
CORPUS = prepare_for_run(SMALL, FOLDER)


def losses_of(settings, name):
    """Train with some settings changed: bits per byte on validation stories, at each evaluation."""
    out = FOLDER / name
    with contextlib.redirect_stdout(io.StringIO()):
        train(SMALL.override(settings), out, corpus=CORPUS)
    rows = [
        json.loads(line)
        for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return {row["step"]: row["val_bits_per_byte"] for row in rows if "val_bits_per_byte" in row}


# %% [markdown]
# ## 6.2 A floor for the loss
# The quickstart reads stories from a grammar: a program that writes children's stories by
# throwing dice. We know each die, so we know how surprising each story is, in bits. No
# model can be less surprised than the program that wrote it, on average. Divided by the
# bytes of the text, that is the **entropy floor**. (Stories have numbers; from `HELD_OUT` on
# they are never trained on.)

# %%
story = generate_story(HELD_OUT)
print(story.text[:150], "...")
n_bytes = len(story.text.encode())
print(f"{story.bits:.1f} bits in {n_bytes} bytes: {story.bits / n_bytes:.3f} a byte")

# %% tags=["check"]
stories = [generate_story(HELD_OUT + i) for i in range(200)]
by_hand = sum(s.bits for s in stories) / sum(len(s.text.encode()) for s in stories)
assert abs(by_hand - floor_bits_per_byte(200)) < 1e-12

# %% [markdown]
# A loss is in nats a token, so it has to be converted (lesson 4.2). A nat is $1/\ln 2$
# bits, and a token is a few bytes long. Bits per byte do not depend on the tokenizer.


# %%
def bits_per_byte(nats_per_token, bytes_per_token):
    return nats_per_token / math.log(2) / bytes_per_token


no_idea = bits_per_byte(math.log(SMALL.model.vocab_size), CORPUS.bytes_per_token)
print(f"floor {floor_bits_per_byte():.3f}   no idea {no_idea:.3f}   bits per byte")

# %% tags=["check"]
recorded = losses_of([], "whole recipe")
rows = (FOLDER / "whole recipe" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
for row in map(json.loads, rows):
    if "val_loss" in row:
        assert (
            abs(bits_per_byte(row["val_loss"], CORPUS.bytes_per_token) - row["val_bits_per_byte"])
            < 1e-9
        )
assert floor_bits_per_byte() < recorded[60] < recorded[0]
assert abs(recorded[0] - no_idea) < 0.2 * no_idea

# %% [markdown]
# **Taken away**: without a floor, a falling loss says nothing about how far it could still
# fall. For real text the floor is unknown.
#
# ## 6.3 One document a row
# Lesson 1 cut a text into windows wherever they fell. A window then begins in the middle
# of one story and ends in the middle of the next. The quickstart puts **one document in
# each row**: it begins with the end-of-text token, and what is left of the row is ignored
# by the loss. (A target of `IGNORE` has no surprise and is not counted.)
#
# ![Plain windows mix the end of one story with the beginning of the next; with one
# document a row none is mixed](drawings/rows-by-document.svg)

# %%
T, B = SMALL.model.context_length, SMALL.train.batch_size
eot = CORPUS.tokenizer.encode("<|endoftext|>", allowed_special={"<|endoftext|>"})[0]
rows = TokenLoader(CORPUS.train, T, B, seed=123, order="documents", eot=eot)
inputs, targets = rows.batch(0)  # [B, T] each
print("every row begins with end-of-text:", bool((inputs[:, 0] == eot).all()))
print("one begins:", CORPUS.tokenizer.decode(inputs[0, 1:12].tolist()))

# %% tags=["check"]
for step in range(20):
    inputs, targets = rows.batch(step)
    assert (inputs[:, 0] == eot).all()
    known = targets != IGNORE
    # a document is one run of targets; nothing after its end counts
    assert (known.long().diff(dim=1) <= 0).all()
    assert (inputs[:, 1:][known[:, 1:]] != eot).all()

# %% [markdown]
# **Taken away**: how many plain windows hold a piece of two stories, the second of which
# has nothing to do with the first?

# %%
windows = TokenLoader(CORPUS.train, T, B, seed=123, order="shuffled")
sample = torch.cat([windows.batch(step)[0] for step in range(20)])  # [20 B, T]
mixed = (sample[:, 1:] == eot).any(dim=1).float().mean()
begin = (sample[:, 0] == eot).float().mean()
print(f"{mixed:.0%} of the windows are mixed; {begin:.0%} begin where a story begins")

# %% tags=["check"]
assert mixed > 0.08
assert begin < 0.05

# %% [markdown]
# ## 6.4 An order that needs no memory
# Stories are shuffled in every epoch. Which ones are in the batch of step 1000? If the
# order comes from a generator that was set once, the answer takes a count of all earlier
# steps. Here it is a function of **seed and step** alone: the epoch follows from the step,
# and the seed and the epoch give the shuffle. (`starts` is where the documents begin in the
# text; `divmod(a, b)` is how often b is in a, and the rest. `np` is NumPy, an older library
# of tables: its `default_rng` draws from a seed, here of two numbers, and `permutation`
# shuffles.)


# %%
def rows_of(step, starts, batch_size, seed):
    """Where in the text the rows of a step begin."""
    chosen = []
    for row in range(step * batch_size, (step + 1) * batch_size):
        epoch, position = divmod(row, len(starts))
        shuffled = np.random.default_rng([seed, epoch]).permutation(starts)
        chosen.append(shuffled[position])
    return np.array(chosen)


print("step 0   :", rows_of(0, rows.starts, B, seed=123)[:4], "...")
print("step 1000:", rows_of(1000, rows.starts, B, seed=123)[:4], "...")

# %% tags=["check"]
for step in (0, 1, 73, 74, 75, 1000):
    assert (rows_of(step, rows.starts, B, 123) == rows.starts_of(step)).all()
one_epoch = np.concatenate([rows.starts_of(step) for step in range(len(rows.starts) // B)])
assert len(set(one_epoch.tolist())) == len(one_epoch), "no story twice in an epoch"

# %% [markdown]
# **Taken away**: a run that stops at step 40 and begins again with a fresh generator reads
# the first stories a second time, and others never in this epoch. Section 6.9 needs this.
#
# ## 6.5 First weights that can copy
# To look back and repeat a name, a head must learn two things at once: *where* to look
# (query and key), and *to pass on what is there* (value and output). Neither is of use
# without the other, so both learn slowly. The recipe gives the second for free. `W_value`
# starts as a rotation and `out_proj` as 0.3 times the rotation back, so the product of the
# two is 0.3 times the matrix that changes nothing: ones on its diagonal, zeros elsewhere. This
# is called **mimetic initialization**.

# %%
torch.manual_seed(0)
attention = build(SMALL.model).trf_blocks[0].att
passed_on = attention.out_proj.weight @ attention.W_value.weight  # [C, C]
print(passed_on[:3, :3].detach())

# %% tags=["check"]
C = SMALL.model.emb_dim
torch.testing.assert_close(passed_on, 0.3 * torch.eye(C), rtol=0, atol=1e-5)
rotation = attention.W_value.weight
torch.testing.assert_close(rotation @ rotation.T, torch.eye(C), rtol=0, atol=1e-5)

# %% [markdown]
# **Taken away**: with ordinary first weights the product of the two is noise. What a head
# finds comes out scrambled.

# %% tags=["plot"]
torch.manual_seed(0)
ordinary = build(SMALL.override(["model.init=torch"]).model).trf_blocks[0].att
noise = ordinary.out_proj.weight @ ordinary.W_value.weight
fig, axes = plt.subplots(1, 2, figsize=(6.6, 3.1))
for ax, grid, title in zip(
    axes, (passed_on, noise), ("Mimetic: out is in, times 0.3", "Ordinary: noise")
):
    picture = ax.imshow(grid.detach().numpy(), cmap="PuOr", vmin=-0.3, vmax=0.3)
    ax.set(title=title, xlabel="into the value", ylabel="out of the layer", xticks=[], yticks=[])
fig.colorbar(picture, ax=axes, shrink=0.8)
plt.show()
diagonal = noise.diagonal().abs().mean()
assert diagonal < 0.1

# %% [markdown]
# ## 6.6 Muon for the matrices
# Lesson 0 showed Muon on one matrix. A GPT has other parameters, too. A token table does not
# map vectors to vectors: in each step only the rows of the batch's tokens have a
# gradient, and moving *all directions equally* would move rows at random. So the tables,
# norms and biases get AdamW, and the matrices inside the blocks get Muon. (An optimizer may
# have several groups of parameters, each with its own rule. `id(x)` is a number that only
# the object x has.)
#
# ![Muon changes the matrices inside the blocks; AdamW changes tables, head, norms and
# biases](drawings/two-optimizers.svg)

# %%
model = build(SMALL.model)
optimizer = OPTIMIZERS["muon"](model, SMALL.train)
names = {id(parameter): name for name, parameter in model.named_parameters()}
for group in optimizer.param_groups:
    kind = "Muon " if group["matrix"] else "AdamW"
    print(kind, [names[id(p)].replace("trf_blocks.0.", "") for p in group["params"]])

# %% tags=["check"]
for group in optimizer.param_groups:
    for parameter in group["params"]:
        inside = names[id(parameter)].startswith("trf_blocks") and parameter.ndim == 2
        assert group["matrix"] == inside
assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)

# %% [markdown]
# **Taken away**: the same run, with AdamW for everything. It gets a smaller learning rate:
# AdamW moves *every number* by about the rate, Muon every *direction*, which is far less for
# each number in it. Two rates are tried, so that Muon does not win by a bad choice alone.

# %%
curves = {"Muon": recorded}
for rate in (0.002, 0.006):
    settings = ["train.optimizer=adamw", f"train.lr={rate}"]
    curves[f"AdamW, rate {rate}"] = losses_of(settings, f"adamw {rate}")
for name, curve in curves.items():
    print(f"{name:18}", " ".join(f"{bits:.3f}" for bits in curve.values()))

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(5.4, 3.1))
for (name, curve), color in zip(curves.items(), (BLUE, ORANGE, RED)):
    ax.plot(list(curve), list(curve.values()), color=color, marker="o", ms=3, label=name)
ax.axhline(floor_bits_per_byte(), color=GREEN, ls="--", lw=1.2)
ax.text(60, floor_bits_per_byte() + 0.06, "floor", color="#00664a", ha="right")
ax.set(title="Sixty steps", xlabel="step", ylabel="bits per byte", ylim=(0, None))
ax.legend()
plt.show()

# %% tags=["check"]
assert all(
    curves["Muon"][60] < curve[60] - 0.05 for name, curve in curves.items() if name != "Muon"
)

# %% [markdown]
# ## 6.7 Warm-up and fall
# The learning rate is not one number. It rises over the first steps, the **warm-up**, and
# then falls in a straight line to zero.


# %%
def rate_of(step, total, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 - (step - warmup) / (total - warmup))


cfg = RECIPE.train
for step in (0, 10, 20, 500, 1099):
    print(step, round(rate_of(step, cfg.steps, cfg.lr, cfg.warmup_steps), 6))

# %% tags=["check"]
for step in range(cfg.steps):
    expected = learning_rate(step, cfg.steps, cfg)
    assert math.isclose(rate_of(step, cfg.steps, cfg.lr, cfg.warmup_steps), expected)

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(5.4, 2.5))
rates = [rate_of(step, cfg.steps, cfg.lr, cfg.warmup_steps) for step in range(cfg.steps)]
ax.plot(rates, color=BLUE, lw=1.8)
ax.annotate(
    "warm-up",
    (20, cfg.lr),
    xytext=(90, cfg.lr * 0.97),
    color="#555555",
    va="center",
    arrowprops={"arrowstyle": "-", "color": "#999999"},
)
ax.set(title="Learning rate of the quickstart", xlabel="step", ylabel="rate", ylim=(0, None))
plt.show()

# %% [markdown]
# **The warm-up, taken away.** AdamW divides the average gradient by its typical size. In
# the first step both come from a single batch, so the quotient is 1 or -1 for *every*
# parameter, however small its gradient: a step of full size, judged from a single batch.
# The warm-up keeps these blind steps short.

# %%
w = torch.tensor([1.0, 1.0, 1.0], requires_grad=True)
first = torch.optim.AdamW([w], lr=0.02, weight_decay=0.0)
w.grad = torch.tensor([5.0, 0.001, -0.00001])
first.step()
print("gradients 5, 0.001 and -0.00001 move by", w.detach() - 1)

# %% tags=["check"]
torch.testing.assert_close(w.detach() - 1, torch.tensor([-0.02, -0.02, 0.02]), rtol=0, atol=1e-4)

# %% [markdown]
# **The fall, taken away.** Muon moves by the rate, however flat the ground is, so with a
# constant rate it circles around the goal (lesson 0.9). Here is the valley of lesson 0
# once more: a hundred steps, with and without the fall.

# %%
STEEP = torch.tensor([[20.0, 0.0], [0.0, 1.0]])  # the valley: 20 times as steep one way


def walk(rate_at, steps=100):
    """Muon's way down the valley; the loss after each step."""
    M, average, losses = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 2), []
    for step in range(steps):
        average = 0.95 * average + 0.05 * (STEEP @ M)
        M = M - rate_at(step) * orthogonalize(0.95 * average + 0.05 * (STEEP @ M))
        losses.append(0.5 * (M * (STEEP @ M)).sum().item())
    return losses


constant = walk(lambda step: 0.1)
falling = walk(lambda step: rate_of(step, 100, 0.1, 0))
print(f"constant rate: loss {constant[-1]:.5f}   falling: {falling[-1]:.5f}")

# %% tags=["check"]
assert falling[-1] < np.mean(constant[-30:]) / 100

# %% [markdown]
# ## 6.8 Clipping, and a guard
# Now and then a batch is strange: a text in another language, a page of numbers. Its
# gradient is long and points nowhere useful. (The *length* of a gradient is the root of the
# sum of the squares of all its numbers.) **Clipping** shortens every gradient that is
# longer than 1 to length 1. Its direction stays.
#
# ![Clipping: a gradient longer than 1 is shortened to length 1 in its own direction, a
# shorter one stays as it is](drawings/clipping.svg)


# %%
def clipped(gradients, largest=1.0):
    length = math.sqrt(sum(g.square().sum().item() for g in gradients))
    return [g * min(1.0, largest / length) for g in gradients], length


def gradients_of(model, inputs, targets):
    model.zero_grad()
    next_token_loss(model(inputs), targets).backward()
    return [p.grad.clone() for p in model.parameters()]


# %% [markdown]
# **Taken away**: how much further would plain SGD be thrown by a batch of noise than by a
# batch of stories?

# %%
torch.manual_seed(1)
model = train(SMALL, FOLDER / "whole recipe", corpus=CORPUS).model  # is trained already
stories = windows.batch(0)
noise = torch.randint(SMALL.model.vocab_size, (2, B, T))
for name, batch in (("stories", stories), ("noise", noise)):
    shortened, length = clipped(gradients_of(model, *batch))
    print(f"{name:8} length {length:.2f}, clipped {clipped(shortened)[1]:.2f}")

# %% tags=["check"]
lengths = []
for batch in (stories, noise):
    by_hand, length = clipped(gradients_of(model, *batch))
    gradients_of(model, *batch)
    assert math.isclose(
        nn.utils.clip_grad_norm_(model.parameters(), 1.0).item(), length, rel_tol=1e-4
    )
    for ours, parameter in zip(by_hand, model.parameters()):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=1e-6)
    lengths.append(length)
assert lengths[1] > 1.5 * lengths[0]

# %% [markdown]
# Clipping makes a bad step short. The **guard** skips it completely: a step whose loss
# is not a number, or far above the last 128 losses, changes nothing. Far means six
# *standard deviations*: six times the usual distance of a loss from their mean. After
# three such steps in a row, the run *rolls back* to its last checkpoint and continues with
# other stories.

# %%
guard = SpikeDetector(sigmas=6.0)
one = torch.tensor(1.0)
usual = 2.0 + 0.1 * torch.randn(128, generator=torch.Generator().manual_seed(0))
assert all(guard.accept(loss, one) for loss in usual)
for loss in (2.2, 2.5, 9.0, math.nan):
    accepted = guard.accept(torch.tensor(loss), one)
    print(f"loss {loss}: {'a step' if accepted else 'no step'}")

# %% tags=["check"]
limit = (usual.mean() + 6 * usual.std()).item()
fresh = SpikeDetector(sigmas=6.0)
for loss in usual:
    fresh.accept(loss, one)
assert not fresh.accept(torch.tensor(limit + 0.01), one)
assert fresh.accept(torch.tensor(limit - 0.01), one)
assert not fresh.accept(torch.tensor(2.0), torch.tensor(math.inf))

# %% [markdown]
# ## 6.9 To stop and to resume
# Long runs are interrupted. A checkpoint holds everything that the next step depends on:
# weights, the optimizer's averages, the state of the random generators, the losses that
# the guard knows, and the step, from which the order of the data follows (6.4). So a run
# that was stopped and **resumed** ends with the same bits as one that was not.
#
# ![A run that stops at a checkpoint and resumes takes the same steps as one that is
# never interrupted](drawings/resume.svg)

# %%
steady = ["train.schedule=constant", "train.save_every=10"]
half, whole = [*steady, "train.steps=10"], [*steady, "train.steps=20"]
losses_of(half, "resumed")  # stops at step 10 ...
losses_of(whole, "resumed")  # ... and continues in the same folder
once = losses_of(whole, "uninterrupted")
print(f"bits per byte at step 20: {once[20]:.4f}")

# %% tags=["check"]
ended = [
    train(SMALL.override(whole), FOLDER / name, corpus=CORPUS).model
    for name in ("resumed", "uninterrupted")
]
assert all(torch.equal(a, b) for a, b in zip(ended[0].parameters(), ended[1].parameters()))

# %% [markdown]
# **Taken away**: keep the weights, and forget the rest. The run continues, but it is another
# run: momentum starts from zero, and the first stories come a second time.

# %%
config = SMALL.override(half)
weights = train(config, FOLDER / "half", corpus=CORPUS).model
other = train(config, FOLDER / "other", corpus=CORPUS, model=weights).model
pairs = zip(other.parameters(), ended[0].parameters())
apart = max((a - b).abs().max().item() for a, b in pairs)
print(f"largest difference of a parameter: {apart:.3f}")

# %% tags=["check"]
assert apart > 0.001

# %% [markdown]
# ## 6.10 What the skills ask
# A loss measures how well a model predicts, and not what it has understood. Since the
# grammar knows what its stories mean, it can ask questions. The model is right if it finds the
# true answer likelier than every wrong answer of the same kind.

# %%
for probe in example_probes():
    print(f"{probe.skill}: ...{probe.prompt[-58:]!r}")
    print(f"    right {probe.answer!r}, wrong {list(probe.others)[:3]}")

# %% tags=["check"]
for probe in example_probes():
    assert probe.answer not in probe.others
    assert len(probe.others) >= 1

# %% [markdown]
# Train the real one now, and see how far above its floor it ends:
# `llm-scratch train quickstart`, then `llm-scratch evaluate quickstart --skills`.

# %% [markdown]
# ## 6.11 Try it yourself
# `ask` shows an exercise, with new numbers each time. Write your answer in place of the
# `...` and run the cell. A wrong answer is diagnosed; the right one is never shown.
# `hint("6.1")` opens a hint, three for each exercise. The same exercises in a terminal:
# `llm-scratch learn next`. Solutions are sealed: `llm-scratch learn solution 6.1` opens
# one.

# %%
ask("6.1")

# %%
check("6.1", ...)

# %%
ask("6.2")


# %%
def plateau_rate(step, total, peak, warmup, fall):
    return ...  # your code


check("6.2", plateau_rate)

# %%
ask("6.3")


# %%
def clip(gradient, largest):
    length = sum(g * g for g in gradient) ** 0.5
    return [g * largest / length for g in gradient]


check("6.3", clip)

# %%
ask("6.4")

# %%
check("6.4", ...)

# %%
ask("6.5")


# %%
def first_step_of(epoch, n_stories, batch_size):
    return ...  # your code


check("6.5", first_step_of)

# %%
ask("6.6")

# %%
check("6.6", ...)

# %%
ask("6.7")

# %%
check("6.7", ...)

# %%
ask("6.8")

# %%
check("6.8", ...)

# %%
ask("6.9")


# %%
def decisions(losses, memory, sigmas):
    return ...  # your code


check("6.9", decisions)

# %%
ask("6.10")


# %%
def interrupted(gradients, stop, rate, keep):
    weight = velocity = 0.0
    for step, gradient in enumerate(gradients):
        if step == stop:
            checkpoint = {"weight": weight}
            weight, velocity = checkpoint["weight"], 0.0
        velocity = keep * velocity + gradient
        weight -= rate * velocity
    return weight


check("6.10", interrupted)

# %% [markdown]
# ## Summary
# - Know the floor, and measure in bits per byte.
# - One document a row; an order that follows from seed and step.
# - Good first weights and the right optimizer for each kind of parameter save most steps.
# - Warm-up for blind first steps, a falling rate to land, clipping and a guard for bad days.
# - A checkpoint is all that the next step depends on.
#
# What runs: `src/llm_scratch/presets.py` and `src/llm_scratch/training/`.

# %% [markdown]
# ## Your part in the real model
# You can write every part that the lessons took apart: layer norm, attention, byte-pair
# encoding, Muon, the schedule, the sampler. `llm-scratch learn template > my_parts.py`
# writes a file to fill in, and `llm-scratch train quickstart --parts my_parts.py` compares
# each part with the package's, values and gradients, before it trains with them. The curve
# is drawn over that of the package: if they agree, you have written what runs here.
# A part that is meant to be different: `--allow-different-parts`. More:
# `docs/course_own_parts.md`.
