# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Step 7: from GPT-2 to today
#
# GPT-2 is from 2019. The open models of today are the same machine with a handful of ideas
# changed. Each section takes one idea: its formula in a few lines, *asserted* equal to the
# code that runs; the case in which it changes nothing, so that it equals what it replaces;
# and a picture of it at work. In the end, whole models are lists of these ideas.
#
# | step | new idea |
# |---|---|
# | 7.1 | RMSNorm: a norm without the mean |
# | 7.2 | positions as rotation |
# | 7.3 | a gate in the feed-forward network |
# | 7.4 | shared keys and values |
# | 7.5 | a window, and how far it reaches through layers |
# | 7.6 | attending to nothing, and limits |
# | 7.7 | experts |
# | 7.8 | a smaller cache |
# | 7.9 | a memory of fixed size |
# | 7.10 | whole models |
#
# Run it as a notebook or as `python lessons/step7_today.py`. It takes about ten seconds and
# needs no network.
#
# From lesson 2 you need attention and heads (2.3, 2.8), from lesson 3 the parts of a model,
# and from lesson 4 the key/value cache (4.6).

# %% tags=["setup"]
import contextlib
import io
import math  # noqa: F401  for the exercises
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from llm_scratch.data.stories import HELD_OUT, generate_story
from llm_scratch.learn.notebook import ask, check, hint  # noqa: F401
from llm_scratch.learn.script import run_as_script
from llm_scratch.model import build
from llm_scratch.model.attention import MultiHeadAttention, attention_weights
from llm_scratch.model.decoder import DecoderBlock
from llm_scratch.model.delta_rule import gated_delta_rule, recurrent_delta_rule
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.gated_ff import GatedFeedForward
from llm_scratch.model.grouped_attention import (
    GroupedAttention,
    attend_grouped,
    soft_capped,
    softmax_with_sinks,
    window_mask,
)
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.latent_attention import LatentAttention, LatentSizes
from llm_scratch.model.layers import layer_norm
from llm_scratch.model.mixture import MixtureOfExperts, Routing
from llm_scratch.model.norms import RMSNorm
from llm_scratch.model.rope import apply_rotary, rotary_angles
from llm_scratch.presets import PRESETS
from llm_scratch.training.loop import train
from llm_scratch.training.run_data import prepare_for_run

run_as_script(globals())
plt.rcParams.update({"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10})
plt.rcParams.update({"figure.constrained_layout.use": True, "legend.frameon": False})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)  # for tensors this small, a second thread costs more than it brings
torch.manual_seed(0)
BLUE, ORANGE, GREEN, RED, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"


def same(got, want):
    """Fail if two tensors differ by more than rounding."""
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


# %% [markdown]
# ## 7.1 RMSNorm
# Layer norm (3.2) takes the mean away, and then divides by the typical size of what is left.
# The first of the two turned out to be unnecessary. **RMSNorm** only divides by the size: the
# *r*oot of the *m*ean of the *s*quares. There is no shift either, so it has half the
# parameters. (Comments give shapes; `[..., C]` is any shape whose last size is C.)
#
# $$y = \frac{x}{\sqrt{\operatorname{mean}(x^2) + \varepsilon}} \cdot w$$


# %%
def rms_norm(x, weight, eps=1e-6):
    """[..., C] -> [..., C]"""
    size = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return x / size * weight


x = torch.tensor([3.0, -4.0, 12.0])
print("before", x, "  after", rms_norm(x, torch.ones(3)))
print("mean square after:", round(rms_norm(x, 1.0).square().mean().item(), 4))

# %% [markdown]
# **Nothing changes** for a vector whose mean is 0 already. Then layer norm has nothing to take
# away, and both are the same.

# %% tags=["check"]
x = 3 * torch.randn(5, 8) + 1
norm = RMSNorm(8)
nn.init.normal_(norm.weight)
same(rms_norm(x, norm.weight), norm(x))
centered = x - x.mean(-1, keepdim=True)
same(rms_norm(centered, norm.weight, 1e-5), layer_norm(centered, norm.weight, torch.zeros(8)))
assert not torch.allclose(rms_norm(x, norm.weight), layer_norm(x, norm.weight, torch.zeros(8)))

# %% [markdown]
# The picture shows vectors of two numbers. RMSNorm moves each along its own direction to a
# circle. Layer norm also loses the mean, which is one direction of the space. With two
# numbers that is half of all there is: only two points are left.

# %% tags=["plot"]
points = torch.randn(150, 2) * 1.5 + torch.tensor([0.8, 0.0])
normed = {
    "before": points,
    "layer norm": layer_norm(points, torch.ones(2), torch.zeros(2)),
    "RMSNorm": rms_norm(points, torch.ones(2)),
}
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), sharex=True, sharey=True)
for ax, (title, xy) in zip(axes, normed.items()):
    ax.scatter(*xy.T.numpy(), s=8, c=torch.atan2(*points.T).numpy(), cmap="twilight")
    ax.set(title=title, xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
plt.show()

# %% [markdown]
# ## 7.2 Positions as rotation
# GPT-2 *adds* a learned vector for each position (1.7), once, before the first block. The
# models of today rotate instead. **Rotary positions** take the numbers of a query or a key
# in pairs. Each pair is the hand of a clock, and at position p it has turned by p times its
# own speed. The first pair is the fastest, with one radian a token (a radian is about 57
# degrees); the last is ten thousand times slower, nearly.
#
# $$\text{angle of pair } i \text{ at position } p = p \cdot 10000^{-2i/D}$$


# %%
def rotate_pairs(x, position, base=10_000.0):
    """Rotate the pairs (i, i + D/2) of a vector: [D] -> [D]."""
    D = len(x)
    angles = position * base ** (-torch.arange(0, D, 2) / D)  # [D/2]
    a, b = x[: D // 2], x[D // 2 :]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, b * cos + a * sin])


query, key = torch.randn(2, 8)
for p in (3, 103, 1003):
    score = rotate_pairs(query, p) @ rotate_pairs(key, p - 3)
    print(f"query at {p:4}, key at {p - 3:4}: score {score:.4f}")

# %% [markdown]
# That is the point: if both hands turn by the same angle, the angle between them stays, and
# a score depends only on it. So a score depends on the *distance* of the two tokens, not
# on where they are. "The word before this one" is the same everywhere in a text.
#
# **Nothing changes** at position 0, where no pair has turned yet.

# %% tags=["check"]
positions = torch.arange(12)
x = torch.randn(12, 8)
by_hand = torch.stack([rotate_pairs(x[p], p) for p in range(12)])
same(by_hand, apply_rotary(x, rotary_angles(positions, 8)))
same(rotate_pairs(x[0], 0), x[0])
for distance in (0, 1, 5):
    scores = [rotate_pairs(query, p) @ rotate_pairs(key, p - distance) for p in (9, 40, 500)]
    same(scores[1:], [scores[0]] * 2)
other = rotate_pairs(query, 9) @ rotate_pairs(key, 8)
assert (other - rotate_pairs(query, 9) @ rotate_pairs(key, 5)).abs() > 0.01

# %% tags=["plot"]
places, pairs = (0, 1, 2, 5, 20, 100), 4
fig, axes = plt.subplots(pairs, len(places), figsize=(6.6, 4.4))
for i in range(pairs):
    for ax, p in zip(axes[i], places):
        unit = torch.zeros(2 * pairs)
        unit[i] = 1.0  # the hand points to the right at position 0
        hand = rotate_pairs(unit, p)
        ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="#999999"))
        ax.plot([0, hand[i]], [0, hand[i + pairs]], color=BLUE, lw=2)
        ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if i == 0:
            ax.set_title(f"position {p}")
    axes[i][0].set_ylabel(f"pair {i}")
plt.show()

# %% [markdown]
# Fast pairs tell neighbors apart, slow ones tell near from far. A model with a longer context
# slows the hands down; `src/llm_scratch/model/rope.py` has four ways to do so.
#
# ## 7.3 A gate in the feed-forward network
# The network of lesson 3.4 is: a matrix, an activation, a matrix. Now a second matrix of the
# same input decides how much of each hidden number gets through. That is a **gate**. With
# the activation $\text{silu}(x) = x \cdot \text{sigmoid}(x)$ it is called **SwiGLU**. (The sigmoid
# makes any number one between 0 and 1: $1 / (1 + e^{-x})$.)
#
# $$y = W_{down}\,(\text{silu}(W_{gate}\,x) \cdot W_{up}\,x)$$


# %%
def swiglu(x, W_gate, W_up, W_down):
    """[..., C] -> [..., C], by way of F numbers"""
    g, up = x @ W_gate.T, x @ W_up.T  # [..., F] each
    return (g * g.sigmoid() * up) @ W_down.T


C, hidden = 96, 256
network = GatedFeedForward(C, hidden)
n_gated = sum(p.numel() for p in network.parameters())
print(f"three matrices, {hidden} wide: {n_gated:,} parameters")
print(f"two matrices, {4 * C} wide:   {2 * C * 4 * C:,} parameters")

# %% [markdown]
# Three matrices of two thirds of the width cost as much as two of the whole width.
#
# **Nothing changes** if what passes the gate is always 1. What is left is the network of
# lesson 3 with silu as its activation.

# %% tags=["check"]
x = torch.randn(5, C)
matrices = [part.weight for part in (network.gate_proj, network.up_proj, network.down_proj)]
same(swiglu(x, *matrices), network(x))
assert n_gated == 2 * C * 4 * C
with_bias = GatedFeedForward(C, hidden, bias=True)
nn.init.zeros_(with_bias.up_proj.weight)
nn.init.ones_(with_bias.up_proj.bias)  # what passes the gate is always 1
same(with_bias(x), nn.Sequential(with_bias.gate_proj, nn.SiLU(), with_bias.down_proj)(x))

# %% tags=["plot"]
line = torch.linspace(-4, 4, 81)
grid = F.silu(line)[None, :] * line[:, None]
fig, axes = plt.subplots(1, 2, figsize=(6.8, 2.7))
for name, curve, color in (
    ("silu", F.silu(line), BLUE),
    ("GELU", F.gelu(line), ORANGE),
    ("ReLU", F.relu(line), "#777777"),
):
    axes[0].plot(line, curve, color=color, label=name)
axes[0].set(title="Three bends", xlabel="in", ylabel="out")
axes[0].legend()
picture = axes[1].imshow(
    grid.numpy(), extent=(-4, 4, -4, 4), origin="lower", cmap="PuOr", vmin=-16, vmax=16
)
axes[1].set(title="A gate: shut on the left", xlabel="gate", ylabel="what wants through")
fig.colorbar(picture, ax=axes[1])
plt.show()

# %% [markdown]
# ## 7.4 Shared keys and values
# A model that writes keeps the keys and values of all tokens (4.6), and for long texts these
# are more bytes than its weights. In **grouped-query attention** several query heads share
# the keys and values of one head. With H query heads and G heads of keys and values, query
# head h reads head h // (H / G). (`//` divides and drops the rest. In square brackets, `None`
# adds a dimension of size 1: the package's attention has one for the batch.)
#
# ![With grouped queries two query heads read the same keys and values, so the cache is half
# as large](drawings/grouped-heads.svg)


# %%
def grouped_by_loop(q, k, v):
    """q: [H, T, D]; k, v: [G, T, D] -> [H, T, D]"""
    H, G = len(q), len(k)
    outputs = []
    for h in range(H):
        shared = h // (H // G)
        weights = attention_weights(q[None, h : h + 1], k[None, shared : shared + 1])
        outputs.append(weights[0, 0] @ v[shared])  # [T, T] @ [T, D]
    return torch.stack(outputs)


# %% [markdown]
# **Nothing changes** with as many heads of keys and values as of queries, G = H. That is the
# attention of lesson 2.

# %% tags=["check"]
H, G, T, D = 4, 2, 7, 8
q, k, v = torch.randn(H, T, D), torch.randn(G, T, D), torch.randn(G, T, D)
want = attend_grouped(q[None], k[None], v[None], None, Dropout(0.0))[0]
same(grouped_by_loop(q, k, v), want)
x = torch.randn(2, T, H * D)
lesson2 = MultiHeadAttention(H * D, H * D, T, 0.0, H)
every_head_its_own = GroupedAttention(H * D, H, H, D, out_bias=True)
every_head_its_own.load_state_dict(lesson2.state_dict())
same(every_head_its_own(x), lesson2(x))

# %% [markdown]
# The bill: two numbers (key and value) of D for each token, head and layer, four bytes each.
# `SHAPE` has the sizes of GPT-2 with 124M parameters. On the *meta device* (3.8) a model has
# shapes and no numbers, so counting costs nothing. (`a | b` joins two dictionaries, and
# `a |= b` adds b to a.)


# %%
def cache_bytes_by_hand(tokens, n_layers, n_kv_heads, head_dim):
    return 2 * n_layers * n_kv_heads * head_dim * tokens * 4


SHAPE = {"vocab_size": 50257, "context_length": 65536}
SHAPE |= {"emb_dim": 768, "n_heads": 12, "n_layers": 12}
with torch.device("meta"):
    gpt2 = build(SHAPE)
    grouped = build(SHAPE | {"architecture": "llama", "n_kv_heads": 3})
for name, model in (("GPT-2", gpt2), ("grouped, G = 3", grouped)):
    print(f"{name:14} {model.cache_bytes(1024) / 2**20:6.1f} MB for 1024 tokens")

# %% tags=["check"]
assert gpt2.cache_bytes(1024) == cache_bytes_by_hand(1024, 12, 12, 64)
assert grouped.cache_bytes(1024) == cache_bytes_by_hand(1024, 12, 3, 64)
assert gpt2.cache_bytes(1024) == 4 * grouped.cache_bytes(1024)

# %% [markdown]
# ## 7.5 A window, and layers
# In a long text every token attends to every earlier one, so the work grows with the square
# of the length. With a **sliding window** of W, a token attends only to the last W tokens,
# itself included. (`rows` is a column and `columns` a row, so `rows - columns` is a table:
# how far back it is from each token to each other.)


# %%
def sliding_mask(T, W):
    """True where a token may attend: [T, T]"""
    rows, columns = torch.arange(T)[:, None], torch.arange(T)[None, :]
    back = rows - columns
    return (back >= 0) & (back < W)


print(sliding_mask(6, 3).int())

# %% [markdown]
# **Nothing changes** if the window is as long as the text.
#
# Is everything else lost? No. The token two steps back has read from the two before *it*, one
# layer below. Each layer reaches W - 1 tokens further, so L layers reach L (W - 1) tokens
# back. Let us ask a model: which tokens change what it predicts at the end? (`".X"[r]` is a
# dot if r is false, and an X if it is true.)

# %%
W, L, T = 4, 3, 16
TINY = {"vocab_size": 50, "context_length": 32}
TINY |= {"emb_dim": 32, "n_heads": 4, "n_layers": 4}
model = build(TINY | {"architecture": "llama", "n_layers": L, "window": W})
ids = torch.randint(50, (1, T))
reached = []
with torch.no_grad():
    for t in range(T):
        changed = ids.clone()
        changed[0, t] = (ids[0, t] + 1) % 50
        reached.append(not torch.equal(model(ids)[0, -1], model(changed)[0, -1]))
print("changes the prediction:", "".join(".X"[r] for r in reached))

# %% tags=["check"]
for size in (1, 2, 5, 15):
    assert torch.equal(sliding_mask(16, size), window_mask(16, size, torch.device("cpu")))
assert window_mask(16, 16, torch.device("cpu")) is None  # no mask is needed
assert torch.equal(sliding_mask(16, 16), torch.ones(16, 16).tril().bool())
windowed = GroupedAttention(32, 4, 2, 8, window=16)
whole = GroupedAttention(32, 4, 2, 8)
whole.load_state_dict(windowed.state_dict())
x = torch.randn(1, 16, 32)
same(windowed(x), whole(x))
assert sum(reached) == 1 + L * (W - 1)
assert all(reached[-sum(reached) :])

# %% tags=["plot"]
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.7))
mask = sliding_mask(T, W).float()
reach = torch.eye(T)
for layer, ax in enumerate(axes, 1):
    reach = (mask @ reach > 0).float()
    ax.imshow(reach.numpy() + mask.numpy(), cmap="Blues", vmax=3)
    ax.set(title=f"{layer} layer{'s' * (layer > 1)}", xticks=[], yticks=[], xlabel="from token")
axes[0].set_ylabel("to token")
plt.show()

# %% [markdown]
# Dark is what one layer sees, light what arrives through the layers below. Models mix both:
# most layers have a window, and every few layers one attends to everything.
#
# ## 7.6 Attending to nothing, and limits
# The weights of softmax add up to 1, so a head must always attend to *something*, even if
# nothing fits. Trained models then put the weight on the first token, as on a dump. An
# **attention sink** gives each head a place for it: one more score, learned, whose weight is
# thrown away.


# %%
def softmax_and_sink(scores, sink):
    """[T] -> [T], weights that add up to less than 1"""
    powers = scores.exp()
    return powers / (powers.sum() + sink.exp())


scores = torch.tensor([0.2, -1.0, 0.5])
for sink in (-100.0, 0.0, 3.0):
    weights = softmax_and_sink(scores, torch.tensor(sink))
    print(f"sink {sink:6}: weights {weights}, in all {weights.sum():.2f}")

# %% [markdown]
# A **soft-cap** keeps scores from growing without limit: $c \tanh(score / c)$ is the score
# itself while it is small, and never more than c.
#
# **Nothing changes** with a sink of minus infinity, or with a very large cap.

# %% tags=["check"]
for sink in (-1.0, 0.0, 2.0):
    sink = torch.tensor(sink)
    same(softmax_and_sink(scores, sink), softmax_with_sinks(scores, sink[None]))
same(softmax_and_sink(scores, torch.tensor(-torch.inf)), scores.softmax(-1))
large = torch.tensor([-80.0, -3.0, 0.0, 3.0, 80.0])
same(soft_capped(large, 20.0), 20 * torch.tanh(large / 20))
same(soft_capped(large, 1e6), large)
assert soft_capped(large, 20.0).abs().max() < 20

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(6.8, 2.4))
line = torch.linspace(-80, 80, 161)
axes[0].plot(line, line, color="#999999", ls="--", label="no cap")
axes[0].plot(line, soft_capped(line, 20.0), color=BLUE, label="cap 20")
axes[0].set(title="A soft-cap", xlabel="score", ylabel="capped", ylim=(-45, 45))
axes[0].legend()
sinks = torch.linspace(-4, 4, 41)
total = [softmax_and_sink(scores, sink).sum() for sink in sinks]
axes[1].plot(sinks, total, color=RED)
axes[1].set(title="What is left for the text", xlabel="sink", ylabel="sum of weights", ylim=(0, 1))
plt.show()

# %% [markdown]
# ## 7.7 Experts
# Most of a model's parameters are in the feed-forward networks, and every token pays for all
# of them. In a **mixture of experts** there are many such networks, and each token uses only
# the few that fit it. A **router**, one small matrix, gives every expert a score. The K best
# are run, and their outputs are added, weighted by their scores. (`topk` finds the largest
# numbers and where they are.)
#
# ![A mixture of experts: the router gives four experts scores, the best two run, and their
# outputs are added by weight](drawings/experts.svg)


# %%
def mixture_by_hand(x, router, experts, K):
    """One token: [C] -> [C]"""
    scores = (router @ x).softmax(-1)  # one for each expert
    best = scores.topk(K)
    weights = best.values / best.values.sum()
    return sum(w * experts[e](x) for w, e in zip(weights, best.indices))


C, E, K = 16, 6, 2
experts = MixtureOfExperts(C, Routing(E, K), lambda: GatedFeedForward(16, 8))
n_one = sum(p.numel() for p in experts.experts[0].parameters())
print(f"{E} experts of {n_one:,} parameters; a token uses {K} of them")

# %% [markdown]
# **Nothing changes** with a single expert: it gets every token, with weight 1.

# %% tags=["check"]
x = torch.randn(2, 5, C)
by_hand = [
    mixture_by_hand(token, experts.router.linear.weight, experts.experts, K)
    for token in x.flatten(0, 1)
]
same(torch.stack(by_hand).view(2, 5, C), experts(x))
alone = MixtureOfExperts(C, Routing(1, 1), lambda: GatedFeedForward(16, 8))
same(alone(x), alone.experts[0](x))

# %% [markdown]
# What do experts become experts *in*? Let us train a small model on the stories of lesson 6
# for a few seconds, and look at the choices of its last router. (`train` has a loss that
# keeps the router from sending everything to one favorite.)

# %%
SMALL = PRESETS["llama-tiny"]().override(
    ["model.architecture=qwen_moe", "model.n_experts=4", "model.experts_per_token=1"]
    + ["model.emb_dim=32", "model.n_heads=2", "model.n_layers=2"]
    + ["model.vocab_size=900", "model.context_length=64", "model.balance_loss=0.01"]
    + ["data.source=stories:600", "train.batch_size=8", "train.steps=80"]
    + ["train.warmup_steps=5", "train.eval_every=80", "train.eval_batches=2"]
    + ["train.save_every=80", "train.sample_every=0"]
)
FOLDER = Path(tempfile.mkdtemp())
CORPUS = prepare_for_run(SMALL, FOLDER)
with contextlib.redirect_stdout(io.StringIO()):
    trained = train(SMALL, FOLDER / "experts", corpus=CORPUS).model.eval()

# %%
text = generate_story(HELD_OUT).text[:150]
ids = torch.tensor([CORPUS.tokenizer.encode(text)])
router = trained.trf_blocks[-1].ff.router
choices = []
hook = router.register_forward_hook(lambda part, args, out: choices.append(out[1]))
with torch.no_grad():
    trained(ids)
hook.remove()
chosen = choices[0][0, :, 0]  # [T], the expert of each token
print("tokens of each expert:", torch.bincount(chosen, minlength=4).tolist())

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(7.2, 1.9))
column = row = 0
for token, expert in zip(ids[0].tolist(), chosen.tolist()):
    piece = CORPUS.tokenizer.decode([token])
    if column + len(piece) > 52:
        column, row = 0, row + 1
    box = plt.Rectangle((column, -row), len(piece), 0.8, fc=(BLUE, ORANGE, GREEN, PINK)[expert])
    ax.add_patch(box)
    box.set(alpha=0.35, ec="white")
    for offset, letter in enumerate(piece):
        ax.text(
            column + offset + 0.5, 0.4 - row, letter, family="monospace", ha="center", va="center"
        )
    column += len(piece)
ax.set(title="One color is one expert", xlim=(0, 52), ylim=(-row - 0.3, 1))
ax.axis("off")
plt.show()

# %% tags=["check"]
assert len(set(chosen.tolist())) >= 3, "the router has a favorite"

# %% [markdown]
# A word may go to one expert here and to another there, since the router reads the vector of
# a token and not its letters. Eighty steps make no clear specialists. Those of a large model
# were found to differ in grammar and spelling more than in topics
# ([Mixtral](https://arxiv.org/abs/2401.04088), section 5).
#
# ## 7.8 A smaller cache
# Grouped heads make the cache smaller by having fewer keys. **Latent attention** has all of
# them, and does not store them. For each token it stores one small vector c, the *latent*,
# from which keys and values of all heads can be computed:
#
# $$k_h = W_{key,h}\, c \qquad v_h = W_{value,h}\, c$$
#
# ![Latent attention keeps a small vector for each token, from which the keys and values of
# all heads follow](drawings/latent-cache.svg)
#
# Computing them again for every earlier token at every step would be slow. But a score is
# $q \cdot (W\,c)$, and that is $(W^T q) \cdot c$. So the matrix is moved to the query, once,
# and the new token attends to the latents as they are. That is called *absorbing* it.

# %%
R, D, T = 6, 8, 5  # size of a latent and of a head, tokens
latents, q = torch.randn(T, R), torch.randn(D)
W_key, W_value = torch.randn(D, R), torch.randn(D, R)
keys, values = latents @ W_key.T, latents @ W_value.T  # [T, D] each
plain = (keys @ q).softmax(-1) @ values
absorbed = W_value @ ((latents @ (W_key.T @ q)).softmax(-1) @ latents)
print("plain   ", plain[:4])
print("absorbed", absorbed[:4])

# %% [markdown]
# A rotation (7.2) between W and c would be another one for every token, and W could not move.
# So positions have a part of their own: a few more numbers of each query, and *one* rotated
# key, shared by all heads. The cache keeps R numbers for the latent and P for this key.
#
# **Nothing changes** if the latent is x itself, and the rotated part of the queries is 0.

# %% tags=["check"]
same(absorbed, plain)
C, H, T = 32, 4, 9
sizes = LatentSizes(latent=C, key=C // H, rotated=4, value=C // H)
latent = LatentAttention(C, H, sizes, scale=((C // H + 4) / (C // H)) ** 0.5)
parent = GroupedAttention(C, H, H, C // H)
with torch.no_grad():
    latent.latent_down.weight[:C] = torch.eye(C)  # the latent is x
    rows = latent.query_up.weight.view(H, -1, C)
    rows[:, : C // H] = parent.W_query.weight.view(H, -1, C)
    rows[:, C // H :] = 0  # no positions
    for name in ("W_key", "W_value", "out_proj"):
        getattr(latent, name).weight.copy_(getattr(parent, name).weight)
x = rms_norm(torch.randn(2, T, C), 1.0)  # the norm of the latent leaves it alone
angles = rotary_angles(torch.arange(T), 4)
same(latent(x, angles), parent(x))
# a token at a time absorbs, and gives what all at once give
one = LatentAttention(C, H, LatentSizes(latent=12, key=8, rotated=4, value=8)).eval()
cache = KVCache((1, 2, 1, T, 16), torch.float32, torch.device("cpu"), value_size=0)
steps = []
for t in range(T):
    steps.append(one(x[:, t : t + 1], rotary_angles(torch.tensor([t]), 4), cache))
    cache.advance(1)
same(torch.cat(steps, 1), one(x, angles))
assert cache.nbytes == 2 * T * (12 + 4) * 4

# %% [markdown]
# ## 7.9 A memory of fixed size
# Every cache so far grows with the text. The last idea gives that up. A layer has one matrix
# S, its memory, of the same size for a text of any length. It stores *pairs*: given a key,
# it returns its value. A key k and a value v are stored by adding $k v^T$, the table of each number
# of k times each number of v (`outer` in the code), and read by $S^T k$.
# Stored this way, it is **linear attention**. But if the same key comes again with another
# value, the memory holds the sum of the two.
#
# The **delta rule** corrects instead. It reads first what the memory holds for this key, and
# adds only the difference to what it should hold:
#
# $$S \leftarrow S + \beta\, k\,(v - S^T k)^T$$
#
# β between 0 and 1 is the share of the difference. In real models S also fades a little with
# every token, and both numbers are computed from the token.


# %%
def delta_step(S, k, v, beta=1.0, fade=1.0):
    """One token: the memory [K, D], a key [K] of length 1, a value [D]."""
    S = fade * S
    stored = S.T @ k
    return S + beta * torch.outer(k, v - stored)


# %%
cat, dog = torch.eye(4)[0], torch.eye(4)[1]  # keys
red, blue = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])  # values
S = delta_step(delta_step(torch.zeros(4, 2), cat, red), dog, blue)
print("cat:", S.T @ cat, " dog:", S.T @ dog)
S = delta_step(S, cat, blue)
print("cat:", S.T @ cat, " dog:", S.T @ dog, " after the cat is blue")
added = torch.outer(cat, red) + torch.outer(dog, blue) + torch.outer(cat, blue)
print("cat:", added.T @ cat, " by linear attention: both")

# %% [markdown]
# **Nothing changes** compared with linear attention if no key comes twice, as then there is
# nothing to correct. (Precisely: if all keys are at right angles.)
#
# Token by token is slow to train. In chunks of 64 tokens the same numbers are a few matrix
# products; `src/llm_scratch/model/delta_rule.py` derives how.

# %% tags=["check"]
T, size = 11, 5
k = F.normalize(torch.randn(1, 1, T, size), dim=-1)
q, v = torch.randn(1, 1, T, size), torch.randn(1, 1, T, 3)
g, beta = -torch.rand(1, 1, T), torch.rand(1, 1, T)
S, outputs = torch.zeros(size, 3), []
for t in range(T):
    S = delta_step(S, k[0, 0, t], v[0, 0, t], beta[0, 0, t], g[0, 0, t].exp())
    outputs.append(S.T @ q[0, 0, t])
start = torch.zeros(1, 1, size, 3)
for rule in (recurrent_delta_rule, lambda *inputs: gated_delta_rule(*inputs, chunk=4)):
    got, state = rule(q, k, v, g, beta, start)
    same(got[0, 0], torch.stack(outputs))
    same(state[0, 0], S)
square = torch.eye(size)[None, None]  # keys at right angles
q, v = q[:, :, :size], v[:, :, :size]
nothing, all_of_it = torch.zeros(1, 1, size), torch.ones(1, 1, size)
linear_attention = (q @ square.mT).tril() @ v
same(recurrent_delta_rule(q, square, v, nothing, all_of_it, start)[0], linear_attention)

# %% tags=["plot"]
generator = torch.Generator().manual_seed(3)
keys = F.normalize(torch.randn(24, 12, generator=generator), dim=-1)
values = torch.randn(24, 16, generator=generator)
fig, axes = plt.subplots(1, 4, figsize=(7.2, 2.2))
S = torch.zeros(12, 16)
for n, (key, value) in enumerate(zip(keys, values), 1):
    S = delta_step(S, key, value)
    if n in (1, 3, 8, 24):
        error = (keys[:n] @ S - values[:n]).square().mean() / values[:n].square().mean()
        ax = axes[(1, 3, 8, 24).index(n)]
        ax.imshow(S.numpy(), cmap="PuOr", vmin=-2.5, vmax=2.5)
        ax.set(title=f"{n} pair{'s' * (n > 1)}", xlabel=f"lost: {error:.0%}", xticks=[], yticks=[])
plt.show()
assert (keys[-1] @ S - values[-1]).abs().max() < 1e-4, "the newest pair is there"

# %% [markdown]
# The memory of 12 rows fills. These keys are random, not at right angles, so a new pair
# disturbs earlier ones a little, and with more pairs than rows the memory has to forget. The
# newest pair is always there. (*Lost* is the distance between the value that is read and
# the one that was stored.) So real models keep a layer of full attention after every three
# of these.
#
# Here is the bill of all of them, in the sizes of GPT-2 with 124M parameters. (A window needs
# only its last tokens. The package's own cache keeps all of them; drawn is what is needed.)

# %%
LENGTHS = (1024, 8192, 65536)
FAMILIES = {"GPT-2": {}, "grouped, G = 3": {"architecture": "llama", "n_kv_heads": 3}}
FAMILIES["latent"] = {"architecture": "deepseek", "latent_dim": 256, "rotated_dim": 32}
FAMILIES["delta, 3 of 4 layers"] = {"architecture": "qwen_next", "n_kv_heads": 3}
bill = {}
for name, changes in FAMILIES.items():
    with torch.device("meta"):
        model = build(SHAPE | changes)
    bill[name] = [model.cache_bytes(tokens) for tokens in LENGTHS]
bill["window of 1024"] = [gpt2.cache_bytes(min(tokens, 1024)) for tokens in LENGTHS]
for name, sizes in bill.items():
    print(f"{name:20}", "".join(f"{size / 2**20:9.1f} MB" for size in sizes))

# %% tags=["check"]
layer = 4 * 65536
assert bill["GPT-2"][2] == 12 * 2 * 768 * layer
assert bill["latent"][2] == 12 * (256 + 32) * layer
keys_and_values = 3 * 2 * 3 * 64 * 4  # a token, in the three layers with attention
states = bill["delta, 3 of 4 layers"]
assert states[2] - states[1] == keys_and_values * (65536 - 8192)
memory = states[0] - keys_and_values * 1024  # the same for every length
assert memory == 9 * 4 * (12 * 64 * 64 + 3 * 3 * 768)

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(6.4, 3.2))
for (name, sizes), color in zip(bill.items(), (BLUE, ORANGE, GREEN, RED, PINK)):
    ax.plot(LENGTHS, [size / 2**20 for size in sizes], color=color, marker="o", ms=4, label=name)
ax.set(title="Cache of one text", xscale="log", yscale="log", xlabel="tokens", ylabel="MB")
ax.set_xticks(LENGTHS, ["1k", "8k", "64k"])
ax.minorticks_off()
ax.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## 7.10 Whole models
# A model of today is a list of these ideas. The table is read from the models themselves,
# tiny ones with the sizes of `TINY`.


# %%
def ideas_of(architecture, **changes):
    """What mixes the tokens, and the network after it, in a tiny model's layers."""
    blocks = build(TINY | {"architecture": architecture} | changes).trf_blocks
    return [
        " + ".join(sorted({type(getattr(b, part)).__name__ for b in blocks}))
        for part in ("att", "ff")
    ]


for name in ("gpt", "llama", "qwen", "gemma", "gpt_oss", "deepseek", "qwen_next"):
    mixing, thinking = ideas_of(name)
    print(f"{name:10} {mixing:33} {thinking}")

# %% tags=["check"]
assert ideas_of("gpt") == ["MultiHeadAttention", "FeedForward"]
assert ideas_of("llama") == ["GroupedAttention", "GatedFeedForward"]
assert ideas_of("deepseek") == ["LatentAttention", "GatedFeedForward + MixtureOfExperts"]
assert ideas_of("qwen_next") == ["GatedDeltaNet + GroupedAttention", "MixtureOfExperts"]
for name in ("llama", "qwen", "gemma", "gpt_oss", "deepseek", "qwen_next"):
    model = build(TINY | {"architecture": name})
    assert isinstance(model.trf_blocks[0], DecoderBlock)
    assert isinstance(model.final_norm, RMSNorm)
qwen, gemma = (build(TINY | {"architecture": name}).trf_blocks[0] for name in ("qwen", "gemma"))
assert (qwen.att.qk_norm, build(TINY | {"architecture": "gpt_oss"}).trf_blocks[0].att.window) == (
    "head",
    128,
)
assert isinstance(gemma.post_norm1, RMSNorm)

# %% [markdown]
# | model | its ideas, besides RMSNorm, rotary positions and a gate |
# |---|---|
# | Llama 3 | shared keys and values |
# | Qwen3 | shared keys and values; queries and keys are normed too (QK-norm) |
# | Gemma 3 | both of these, norms before and after each part, a window in five of six layers |
# | gpt-oss | shared keys and values, a window in every other layer, sinks, experts |
# | DeepSeek-V3 | latent attention, experts, one of which is used by every token |
# | Qwen3-Next | the delta rule in three of four layers, experts |
#
# Each is one short file in `src/llm_scratch/model/`; `docs/families.md` lists all of them.
#
# **Which of them help?** Each idea was tried separately in a Llama of 600,000 parameters, on the
# stories, with five seeds: lower is better, and the intervals are in `docs/ideas.md`.
#
# | idea, and where it is here | bits per byte | verdict |
# |---|---:|---|
# | GPT-2's whole block in place of Llama's | +0.015 | worse |
# | layer norm in place of RMSNorm (7.1) | −0.002 | better, too little to matter |
# | no positions (7.2) | +0.038 | worse |
# | GELU in place of a gate (7.3) | +0.003 | worse, by little |
# | grouped heads (7.4) | +0.003 | not shown |
# | a window of 64 (7.5) | −0.002 | no difference that matters |
# | sinks; limits of scores (7.6) | +0.001; 0.000 | no difference that matters |
# | QK-norm (7.10) | −0.008 | better |
# | experts (7.7) | −0.005 | better |
# | latent attention (7.8) | +0.014 | worse |
# | the delta rule in every other layer (7.9) | +0.008 | worse |
# | norms after each part (7.10) | +0.056 | worse |
#
# Windows, shared heads, latents and the delta rule are there to make long texts *cheaper*, and
# on 256 tokens they can only cost. At 64k tokens the next one takes 0.06, 0.74, 0.56 and 0.64
# times as long as in the Llama; the same table has the bill.
#
# Train one: `llm-scratch train llama-tiny`. Or use another family in any recipe:
# `llm-scratch train quickstart --model.architecture qwen`.

# %% [markdown]
# ## 7.11 Try it yourself
# `ask` shows an exercise, with new numbers each time. Write your answer in place of the
# `...` and run the cell; `hint("7.1")` opens a hint. In a terminal:
# `llm-scratch learn next`.

# %%
ask("7.1")


# %%
def scaled_to_size(vector, weight, eps):
    return ...  # your code


check("7.1", scaled_to_size)

# %%
ask("7.2")


# %%
def turn_pair(a, b, position, speed):
    return ...  # your code


check("7.2", turn_pair)

# %%
ask("7.3")

# %%
check("7.3", ...)

# %%
ask("7.4")

# %%
check("7.4", ...)

# %%
ask("7.5")


# %%
def allowed_pairs(T, W):
    return [[0 <= row - column <= W for column in range(T)] for row in range(T)]


check("7.5", allowed_pairs)

# %%
ask("7.6")


# %%
def choose_experts(scores, k):
    return ...  # your code


check("7.6", choose_experts)

# %%
ask("7.7")


# %%
def corrected(memory, key, value, beta):
    return ...  # your code


check("7.7", corrected)

# %%
ask("7.8")

# %%
check("7.8", ...)

# %%
ask("7.9")

# %%
check("7.9", ...)

# %% [markdown]
# ## Summary
# - Norms divide by the size; positions are rotations; a gate decides what gets through.
# - Fewer keys, a window, a latent or a fixed memory: four ways to pay less for a long text.
# - Experts: many parameters, and few of them for each token.
# - Each idea has a case in which it changes nothing. Test new parts there first.
#
# What runs: `src/llm_scratch/model/`, one file for each idea and each family.
