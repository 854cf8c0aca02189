# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Step 2: attention, or how a token asks the others
#
# *it* in "the cup fell off the table because **it** was wet" means nothing alone. To know what *it*
# is, a reader looks back at *cup* and *table*, decides how much each matters, and takes some
# meaning from both. That is the whole of attention: **look, weigh, mix**.
#
# We build it in eight small steps, from a sum that you can do by hand to the layer that runs inside
# GPT. Each step is written out here once and then *asserted* equal to what the package runs:
# nothing in this lesson has to be believed.
#
# | step | new idea |
# |---|---|
# | 2.1 | likeness is a product of two lists of numbers |
# | 2.2 | likeness becomes weights, weights become a mixture |
# | 2.3 | three learned views of each token: query, key, value |
# | 2.4 | the same as a class |
# | 2.5 | hiding the future |
# | 2.6 | forgetting at random |
# | 2.7 | many sequences at once |
# | 2.8 | many heads at once |
# | 2.9 | training one, to see what it learns to look at |
#
# Run it as a notebook or as `python lessons/step2_attention.py`.
# It takes some ten seconds and needs no network.

# %% tags=["setup"]
import dis
import math

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from llm_scratch.learn.notebook import ask, check, hint  # noqa: F401
from llm_scratch.learn.script import run_as_script
from llm_scratch.model import lesson_models
from llm_scratch.model.attention import MultiHeadAttention, attention_weights

run_as_script(globals())
plt.rcParams.update(
    {"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True}
)
torch.set_printoptions(precision=4, sci_mode=False)
torch.set_num_threads(1)  # for tensors this small, a second thread costs more than it brings


def close(got, want, atol=6e-5):
    """Hold a tensor to numbers that were printed with four digits."""
    torch.testing.assert_close(
        torch.as_tensor(got).detach(), torch.as_tensor(want), rtol=0, atol=atol
    )


# %% [markdown]
# Six words, and for each a list of three numbers (a *vector*). In a real model these numbers are
# learned and there are 768 of them; three are enough to see every step. What a word's vector holds
# does not matter here, only how vectors are compared.

# %%
words = ["small", "steps", "take", "you", "very", "far"]
inputs = torch.tensor(
    [
        [0.43, 0.20, 0.90],  # small
        [0.56, 0.84, 0.56],  # steps
        [0.22, 0.85, 0.34],  # take
        [0.77, 0.25, 0.36],  # you
        [0.05, 0.80, 0.79],  # very
        [0.77, 0.46, 0.12],  # far
    ]
)  # [T, d_in] = [6, 3]

# %% [markdown]
# ## 2.1 Likeness
# Multiply two vectors number by number and add up: the **dot product**. It is large when both are
# large in the same places, so it serves as a measure of likeness. How alike are *steps* and
# *small*?

# %%
by_hand = 0.56 * 0.43 + 0.84 * 0.20 + 0.56 * 0.90
print(f"steps . small = {by_hand:.4f}")

# %% tags=["check"]
close(inputs[1] @ inputs[0], by_hand)
close(by_hand, 0.9128)

# %% [markdown]
# One matrix product compares *steps* with all six words. The word that asks is called the
# **query**; the answers are its **scores**.

# %%
query = inputs[1]  # [d_in]
scores = inputs @ query  # [T]
print(dict(zip(words, [round(s, 4) for s in scores.tolist()])))

# %% tags=["check"]
close(scores, [0.9128, 1.3328, 1.0276, 0.8428, 1.1424, 0.8848])

# %% [markdown]
# ## 2.2 Weights, and a mixture
# Scores say who matters; to *mix* we need shares that add up to 1.
# Dividing by the sum would do, as long as no score is negative:

# %%
shares = scores / scores.sum()
close(shares, [0.1486, 0.2170, 0.1673, 0.1372, 0.1860, 0.1440])
print("divided by the sum:", shares, "sum:", round(shares.sum().item(), 4))

# %% [markdown]
# Scores can be negative, so one takes e to the power of each first:
# always positive, and order is kept. This is **softmax**:
#
# $$\mathrm{softmax}(s)_i = \frac{e^{s_i}}{\sum_j e^{s_j}}$$


# %%
def softmax_navie(x):
    """The formula as it stands (and the name as the first notebook spelt it)."""
    return torch.exp(x) / torch.exp(x).sum(dim=0)


weights = softmax_navie(scores)  # [T]
print("softmax:", weights)

# %% tags=["check"]
close(weights, [0.1469, 0.2236, 0.1648, 0.1370, 0.1848, 0.1429])
torch.testing.assert_close(weights, torch.softmax(scores, dim=0))
torch.testing.assert_close(weights, lesson_models.softmax_navie(scores))

# %% [markdown]
# **What went wrong: e to the power of 100.** The formula as it stands breaks on large scores: a
# float32 ends near $3.4\cdot10^{38}$, and $e^{100}$ is more. Infinity divided by infinity is *not a
# number*. Taking the largest score off every score first changes nothing in the result (both sides
# of the fraction shrink alike) and keeps every power at most 1. PyTorch's softmax does just that.

# %%
large = torch.tensor([100.0, 99.0, 98.0])
print("as it stands      :", softmax_navie(large))
print("largest taken off :", softmax_navie(large - large.max()))

# %% tags=["check"]
assert softmax_navie(large).isnan().all()
torch.testing.assert_close(softmax_navie(large - large.max()), torch.softmax(large, dim=0))
# the package's is mended
torch.testing.assert_close(lesson_models.softmax_navie(large), torch.softmax(large, dim=0))

# %% [markdown]
# Now the mixture: 15 % of *small*, 22 % of *steps*, 16 % of *take* and so on. The result is the
# **context vector** of *steps*: the word as it is meant *in this sentence*.

# %%
context = weights @ inputs  # [d_in]
print("steps, in context:", context)

# %% tags=["check"]
close(context, [0.4494, 0.6051, 0.5260])

# %% [markdown]
# Every word may ask. A single product gives all 36 scores, softmax along each row gives all
# weights, a second product gives all mixtures.

# %%
scores = inputs @ inputs.T  # [T, T]
weights = scores.softmax(dim=-1)  # [T, T], rows sum to 1
contexts = weights @ inputs  # [T, d_in]

# %% tags=["check"]
close(scores[0], [1.0349, 0.9128, 0.5706, 0.7051, 0.8925, 0.5311])
close(weights[0], [0.2126, 0.1881, 0.1336, 0.1529, 0.1844, 0.1284])
close(contexts[1], [0.4494, 0.6051, 0.5260])
close(weights.sum(-1), [1.0] * 6)


# %% tags=["plot"]
def show_weights(ax, grid, words, title):
    """Draw who (row) looks how much at whom (column);
    the same weight has the same blue in every picture, exactly 0 stays grey.
    """
    grid = grid.detach()
    shade = grid.clamp(max=1) ** 0.6  # brings out the small weights
    ax.imshow(shade.masked_fill(grid == 0, torch.nan).numpy(), cmap="Blues", vmin=0, vmax=1)
    ax.set_facecolor("#ececec")
    ax.spines[:].set_visible(False)
    ax.set_xticks(range(len(words)), words, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(words)), words)
    ax.set_xticks([i + 0.5 for i in range(len(words) - 1)], minor=True)
    ax.set_yticks([i + 0.5 for i in range(len(words) - 1)], minor=True)
    ax.grid(which="minor", color="white", lw=2)
    ax.tick_params(which="both", length=0)
    ax.set(xlabel="is looked at", ylabel="looks", title=title)
    for row in range(len(words)):
        for column in range(len(words)):
            if value := grid[row, column].item():
                ink = "white" if shade[row, column] > 0.62 else "black"
                ax.text(
                    column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink
                )


fig, ax = plt.subplots(figsize=(4.2, 3.9))
show_weights(
    ax, weights, words, "Attention without anything learned:\neach row is one word's 100 %"
)
plt.show()

# %% [markdown]
# Everybody looks at everybody about alike. No wonder: nothing has been learned, likeness of the raw
# vectors decides. What is missing are numbers that training can turn.
#
# ## 2.3 Query, key, value
# Looking something up has three parts, as in a library: what I am looking for (**query**), what the
# label on the spine says (**key**), and what is inside the book (**value**). So each token gets
# three views of itself, made by three matrices that are learned:
#
# $$q = x W_q, \qquad k = x W_k, \qquad v = x W_v$$
#
# ![Attention for one token: its query is compared with all keys, softmax makes weights, the weights
# mix the values](drawings/look-weigh-mix.svg)
#
# Scores compare a query with keys; the mixture is made of values. We go from three numbers per
# token to two, so that sizes are easy to tell apart.

# %%
torch.manual_seed(123)
d_in, d_out = 3, 2
W_query = torch.rand(d_in, d_out)
W_key = torch.rand(d_in, d_out)
W_value = torch.rand(d_in, d_out)

query_2 = inputs[1] @ W_query  # [d_out]
keys = inputs @ W_key  # [T, d_out]
values = inputs @ W_value  # [T, d_out]
scores_2 = keys @ query_2  # [T]
print("the query of steps:", query_2)
print("its scores        :", scores_2)

# %% tags=["check"]
close(query_2, [0.4187, 1.3529])
close(scores_2[1], 1.5944)
close(scores_2, [1.2516, 1.5944, 1.3049, 0.7979, 1.6963, 0.7657])

# %% [markdown]
# Before softmax, scores are divided by $\sqrt{D}$,
# the root of the length of a key. That is the famous formula:
#
# $$\mathrm{attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{QK^\top}{\sqrt{D}}\right) V$$

# %%
weights_2 = (scores_2 / keys.shape[-1] ** 0.5).softmax(-1)  # [T]
context_2 = weights_2 @ values  # [d_out]
print("its weights:", weights_2)
print("its context:", context_2)

# %% tags=["check"]
close(weights_2, [0.1635, 0.2083, 0.1698, 0.1186, 0.2239, 0.1159])
close(context_2, [0.2916, 0.7877])

# %% [markdown]
# **Why the root?** A dot product of $D$ random pairs is a sum of $D$ random numbers: its spread
# grows like $\sqrt{D}$. Without the division, softmax over long keys gives nearly everything to one
# token, whichever is ahead by luck, and where softmax is that sure, it has almost no slope left to
# learn from.

# %%
torch.manual_seed(1)
sizes = [1, 4, 16, 64, 256, 1024]
largest = {"as it is": [], "divided by the root of D": []}
for D in sizes:
    q, k = torch.randn(400, 1, D), torch.randn(400, 10, D)
    raw = (q @ k.transpose(1, 2)).squeeze(1)  # 400 tokens, each with scores for 10 others
    largest["as it is"].append(raw.softmax(-1).amax(-1).mean().item())
    largest["divided by the root of D"].append((raw / D**0.5).softmax(-1).amax(-1).mean().item())

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(5.2, 3.0))
for (name, shares), colour, marker in zip(largest.items(), ("#D55E00", "#0072B2"), "os"):
    ax.plot(sizes, shares, color=colour, marker=marker, label=name)
ax.axhline(0.1, color="#666666", lw=1, ls=":")
ax.annotate("all ten alike", (1, 0.1), xytext=(0, 4), textcoords="offset points", color="#555555")
ax.set(
    xscale="log",
    ylim=(0, 1.05),
    xlabel="D, numbers per key",
    ylabel="share of the strongest of 10",
    title="Why scores are scaled",
)
ax.set_xticks(sizes, [str(D) for D in sizes])
ax.minorticks_off()
ax.legend(frameon=False)
plt.show()

# %% tags=["check"]
assert largest["as it is"][-1] > 0.9
assert largest["divided by the root of D"][-1] < 0.4

# %% [markdown]
# ## 2.4 The same as a class
# A class keeps the three matrices and says what to do with *any* `x`. Notice that `forward` uses
# `x` and `self` and nothing else; below we see why that is worth a sentence.


# %%
class SelfAttention_v1(nn.Module):
    """Attention with three learned matrices. [T, d_in] -> [T, d_out]."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x):
        queries, keys, values = (
            x @ self.W_query,
            x @ self.W_key,
            x @ self.W_value,
        )  # each [T, d_out]
        weights = (queries @ keys.T / keys.shape[-1] ** 0.5).softmax(-1)  # [T, T]
        return weights @ values  # [T, d_out]


torch.manual_seed(123)
sa_v1 = SelfAttention_v1(d_in, d_out)
print(sa_v1(inputs))
close(
    sa_v1(inputs),
    [
        [0.2888, 0.7799],
        [0.2916, 0.7877],
        [0.2873, 0.7762],
        [0.2861, 0.7730],
        [0.2903, 0.7838],
        [0.2855, 0.7715],
    ],
)
close(sa_v1(inputs)[1], context_2.tolist())

# %% tags=["check"]
torch.manual_seed(123)
torch.testing.assert_close(sa_v1(inputs), lesson_models.SelfAttention_v1(d_in, d_out)(inputs))

# %% [markdown]
# `nn.Linear` is such a matrix with a better start: `torch.rand` draws between 0 and 1, all
# positive, while `nn.Linear` draws around 0, and smaller the more inputs there are. It stores its
# matrix the other way round, hence the transpose when we copy.


# %%
class SelfAttention_v2(nn.Module):
    """The same with nn.Linear, which starts better and may have a bias. [T, d_in] -> [T, d_out]."""

    def __init__(self, d_in, d_out, qkv_bias=False):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x):
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)  # each [T, d_out]
        weights = (queries @ keys.T / keys.shape[-1] ** 0.5).softmax(-1)  # [T, T]
        return weights @ values  # [T, d_out]


torch.manual_seed(123)
sa_v2 = SelfAttention_v2(d_in, d_out)
print(sa_v2(inputs))
close(
    sa_v2(inputs),
    [
        [-0.5370, -0.1067],
        [-0.5365, -0.1103],
        [-0.5360, -0.1114],
        [-0.5367, -0.1081],
        [-0.5364, -0.1101],
        [-0.5363, -0.1097],
    ],
)
torch.manual_seed(123)
torch.testing.assert_close(sa_v2(inputs), lesson_models.SelfAttention_v2(d_in, d_out)(inputs))

twin = SelfAttention_v1(d_in, d_out)
with torch.no_grad():
    for name in ("W_query", "W_key", "W_value"):
        getattr(twin, name).copy_(getattr(sa_v2, name).weight.T)
torch.testing.assert_close(twin(inputs), sa_v2(inputs))
print("the two versions agree when they hold the same matrices")

# %% [markdown]
# **What went wrong: a class that reads the room instead of its arguments.** The first notebook's
# `forward` was written as below. It runs, it prints six rows that look right, and it is wrong three
# times: it takes `inputs` instead of `x`, `W_query` instead of `self.W_query`, and by a slip of the
# pen stores the new weights as `attn_weighs`, then uses an *old* `attn_weights` left over from
# section 2.2. In a notebook every name of every earlier cell is still in the room, so Python finds
# something and says nothing.

# %% tags=["what-went-wrong"]
attn_weights = weights  # left over from section 2.2, as in the notebook
d_k = keys.shape[-1]


class Broken(SelfAttention_v1):
    def forward(self, x):
        queries, keys, values = inputs @ W_query, inputs @ W_key, inputs @ W_value
        attn_weighs = (queries @ keys.T / d_k**0.5).softmax(-1)  # noqa: F841
        return attn_weights @ values


torch.manual_seed(123)
broken = Broken(d_in, d_out)
print(
    "first row, as the notebook printed it:",
    broken(inputs)[0],
    " right:",
    sa_v1(inputs)[0].detach(),
)
print(
    "for an input of nothing but zeros    :",
    broken(torch.zeros(6, 3))[0],
    " right:",
    sa_v1(torch.zeros(6, 3))[0].detach(),
)
close(broken(inputs)[0], [0.2772, 0.7753])
close((attn_weights @ sa_v2.W_value(inputs))[0], [-0.5356, -0.0864])  # the same slip in version 2

# %% [markdown]
# The output does not depend on the input at all! Python can
# list what a function takes from the room:


# %%
def taken_from_the_room(function):
    """The global names that a function reads."""
    return sorted(
        {step.argval for step in dis.get_instructions(function) if step.opname == "LOAD_GLOBAL"}
    )


print("broken takes:", taken_from_the_room(Broken.forward))
print("v1 takes    :", taken_from_the_room(SelfAttention_v1.forward))

# %% tags=["check"]
assert taken_from_the_room(SelfAttention_v1.forward) == []

# %% [markdown]
# ## 2.5 Hiding the future
# GPT learns to guess the next word, so while it reads *take* it must not see *you*. A token may
# look back and at itself, never ahead: of the 6 x 6 table only the lower triangle is allowed. That
# is the **causal mask**. There are two ways to get there.
#
# **Way one:** set the forbidden weights to 0,
# then divide each row by its sum, so that it is 100 % again.

# %%
queries, keys, values = (
    sa_v2.W_query(inputs),
    sa_v2.W_key(inputs),
    sa_v2.W_value(inputs),
)  # each [T, d_out]
scores = queries @ keys.T  # [T, T]
free = (scores / keys.shape[-1] ** 0.5).softmax(-1)  # [T, T]
lower = torch.ones(6, 6).tril()  # 1 where looking is allowed
way_one = free * lower
way_one = way_one / way_one.sum(-1, keepdim=True)  # [T, T]

# %% [markdown]
# **Way two:** put minus infinity in the forbidden places *before* softmax. $e^{-\infty} = 0$, so
# the forbidden get nothing and each row sums to 1 by itself. One step fewer, and the one that
# everybody uses.
#
# ![The causal mask: scores above the diagonal become minus infinity, so softmax gives later tokens
# a weight of 0](drawings/causal-mask.svg)

# %%
future = torch.ones(6, 6, dtype=torch.bool).triu(1)  # True where looking is forbidden
way_two = (scores.masked_fill(future, -torch.inf) / keys.shape[-1] ** 0.5).softmax(-1)  # [T, T]
print(way_two.detach())

# %% tags=["check"]
torch.testing.assert_close(way_one, way_two)
close(way_two[1, :2], [0.4874, 0.5126])
close(way_two[2, :3], [0.3223, 0.3386, 0.3391])
close(way_two[3, :4], [0.2521, 0.2571, 0.2416, 0.2492])
close(way_two[4, :5], [0.1972, 0.2055, 0.1995, 0.1965, 0.2013])
close(way_two[5], [0.1655, 0.1712, 0.1659, 0.1648, 0.1676, 0.1651])

# %% [markdown]
# Way two is, number for number, the package's formula:

# %% tags=["check"]
torch.testing.assert_close(
    way_two, attention_weights(queries[None, None], keys[None, None])[0, 0]
)  # the formula takes [B, H, T, D]

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.2, 3.8))
show_weights(axes[0], free, words, "Everybody sees everything")
show_weights(axes[1], way_two, words, "Nobody sees the future")
plt.show()

# %% [markdown]
# Is the future really hidden? Change the last word, and see whose output changes:

# %%
changed = inputs.clone()
changed[5] = torch.tensor([9.0, -9.0, 9.0])
before = way_two @ values
after = attention_weights(sa_v2.W_query(changed)[None, None], sa_v2.W_key(changed)[None, None])[
    0, 0
] @ sa_v2.W_value(changed)
moved = [word for word, row in zip(words, (before - after).abs().sum(-1) > 1e-6) if row]
print("words whose output changed:", moved)

# %% tags=["check"]
assert moved == ["far"]

# %% [markdown]
# **What went wrong: one dimension too many, and weights from elsewhere.** The notebook wrote
# `torch.ones(n, n, n)`: a cube, where a square was meant. Nothing failed, because PyTorch
# *broadcasts*: a `[6, 6]` table against a `[6, 6, 6]` mask gives six equal copies. The numbers of
# each copy are right, so only the shape gives it away: look at shapes. And its first way masked the
# left-over weights of section 2.2, so the two ways that ought to agree did not, and nobody noticed.

# %% tags=["what-went-wrong"]
cube = torch.ones(6, 6, 6).triu(1).bool()
six_copies = (scores.masked_fill(cube, -torch.inf) / keys.shape[-1] ** 0.5).softmax(-1)
print("shape with a square:", tuple(way_two.shape), "   with a cube:", tuple(six_copies.shape))
assert six_copies.shape == (6, 6, 6)
assert all(torch.equal(copy, six_copies[0]) for copy in six_copies)
torch.testing.assert_close(six_copies[0], way_two)

stale = weights * lower
stale = stale / stale.sum(-1, keepdim=True)
print("left-over weights, row 2:", stale[1, :2], "  right:", way_two[1, :2].detach())
close(stale[1, :2], [0.3965, 0.6035])
close(stale[2, :3], [0.2531, 0.3997, 0.3471])
close(stale[3, :4], [0.2470, 0.2834, 0.2020, 0.2675])

# %% [markdown]
# ## 2.6 Forgetting at random
# A network that may lean on a single connection will. **Dropout** cuts each connection with a
# chance of, say, 30 % while training, so that it has to learn more than one way. The ones that stay
# are made larger by $1/(1-0.3) = 1.43$, so that sums stay the same on average. When the model is
# used, dropout does nothing.

# %%
print("scale at 30 %:", 1 / (1 - 0.3))
assert 1 / (1 - 0.3) == 1.4285714285714286
torch.manual_seed(123)
dropout = nn.Dropout(0.5)
dropped = dropout(way_two)
kept = dropped != 0
torch.testing.assert_close(dropped[kept], way_two[kept] / 0.5)

# %% tags=["check"]
torch.manual_seed(123)
close(dropout(six_copies)[0, 0], [2.0, 0, 0, 0, 0, 0])  # what the notebook printed, with its cube
torch.testing.assert_close(dropout.eval()(way_two), way_two)

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.2, 3.8))
show_weights(axes[0], way_two, words, "Before")
show_weights(axes[1], dropped, words, "After dropout of one half:\nwhat stays counts double")
plt.show()

# %% [markdown]
# ## 2.7 Many sequences at once
# Training reads many texts at a time: `x` becomes `[B, T, d_in]`. Two things change: transposing
# swaps the *last two* dimensions, and the mask is cut to the length that really came. A mask is not
# learned, so it is a *buffer*: it moves to the GPU with the model, but gets no gradient.


# %%
class CausalAttention(nn.Module):
    """One head that looks back only. [B, T, d_in] -> [B, T, d_out]."""

    def __init__(self, d_in, d_out, context_length, dropout=0.0, qkv_bias=False):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", torch.ones(context_length, context_length).triu(1))

    def forward(self, x):
        T = x.shape[1]
        queries, keys, values = (
            self.W_query(x),
            self.W_key(x),
            self.W_value(x),
        )  # each [B, T, d_out]
        scores = queries @ keys.transpose(1, 2)  # [B, T, T]
        scores = scores.masked_fill(self.mask.bool()[:T, :T], -torch.inf)
        weights = (scores / keys.shape[-1] ** 0.5).softmax(-1)  # [B, T, T]
        return self.dropout(weights) @ values  # [B, T, d_out]


batch = torch.stack([inputs, inputs.flip(0)])  # [B, T, d_in] = [2, 6, 3]
torch.manual_seed(123)
ca = CausalAttention(d_in, d_out, context_length=6)
print("in:", tuple(batch.shape), " out:", tuple(ca(batch).shape))

# %% tags=["check"]
torch.manual_seed(123)
torch.testing.assert_close(
    ca(batch), lesson_models.CausalAttention(d_in, d_out, context_length=6)(batch)
)
# seed 123 again: the matrices of section 2.5
torch.testing.assert_close(ca(batch)[0], way_two @ values)
# a shorter text gives the same, as far as it goes
torch.testing.assert_close(ca(batch)[:, :3], ca(batch[:, :3]))

# %% [markdown]
# ## 2.8 Many heads at once
# One head makes one mixture. But *it* may want to know at once *what* is meant and *which verb*
# comes next. So several heads look in parallel, each with matrices of its own, and their findings
# are laid side by side.


# %%
class MultiHeadAttentionWrapper(nn.Module):
    """Heads one after another, findings side by side. [B, T, d_in] -> [B, T, num_heads * d_out]."""

    def __init__(self, d_in, d_out, context_length, dropout=0.0, qkv_bias=False, num_heads=2):
        super().__init__()
        self.heads = nn.ModuleList(
            [
                CausalAttention(d_in, d_out, context_length, dropout, qkv_bias)
                for _ in range(num_heads)
            ]
        )

    def forward(self, x):
        return torch.cat([head(x) for head in self.heads], dim=-1)


torch.manual_seed(123)
noise = torch.randn(2, 6, 3)
wrapper = MultiHeadAttentionWrapper(d_in, d_out, context_length=6, num_heads=2)
print(
    "two heads of 2:", tuple(wrapper(noise).shape), " first token:", wrapper(noise)[0, 0].detach()
)
assert wrapper(noise).shape == (2, 6, 4)
close(wrapper(noise)[0, 0], [-0.0408, -0.0034, 0.1444, -0.1567])

# %% tags=["check"]
torch.manual_seed(123)
torch.testing.assert_close(noise, torch.randn(2, 6, 3))
torch.testing.assert_close(
    wrapper(noise), lesson_models.MultiHeadAttentionWrapper(d_in, d_out, 6, num_heads=2)(noise)
)

# %% [markdown]
# The wrapper runs its heads in a row. A GPU is happier with one large product than with twelve
# small ones, so the real layer, the package's `MultiHeadAttention`, makes all queries with **one**
# matrix and then cuts the result into heads: `[B, T, C]` is *viewed* as `[B, T, H, D]`, and
# `transpose` brings the heads forward: `[B, H, T, D]`. At the end a further matrix, `out_proj`,
# lets the heads' findings talk to each other.
#
# ![Heads: one matrix makes all queries, each vector is cut into equal parts, each head attends
# alone, parts are joined](drawings/heads.svg)
#
# Is it the same thing? Lay the wrapper's matrices on top of each other,
# let `out_proj` do nothing, and it must be:

# %%
mha = MultiHeadAttention(d_in, 4, context_length=6, dropout=0.0, num_heads=2)
with torch.no_grad():
    for name in ("W_query", "W_key", "W_value"):
        getattr(mha, name).weight.copy_(
            torch.cat([getattr(head, name).weight for head in wrapper.heads])
        )
    mha.out_proj.weight.copy_(torch.eye(4))
    mha.out_proj.bias.zero_()
torch.testing.assert_close(mha(noise), wrapper(noise))
print("one matrix cut into heads = heads one by one")

# %% [markdown]
# And here is the whole of it by hand, from the formula, against the fused kernel that the package
# calls (it never writes the T x T table to memory, which is why it is fast):

# %%
torch.manual_seed(0)
layer = MultiHeadAttention(d_in=24, d_out=24, context_length=64, dropout=0.0, num_heads=3).eval()
x = torch.randn(2, 10, 24)  # [B, T, C]
q, k, v = (
    w(x).view(2, 10, 3, 8).transpose(1, 2) for w in (layer.W_query, layer.W_key, layer.W_value)
)  # each [B, H, T, D]
mixed = attention_weights(q, k) @ v  # [B, H, T, D]
torch.testing.assert_close(layer(x), layer.out_proj(mixed.transpose(1, 2).reshape(2, 10, 24)))
print("formula = kernel")

# %% [markdown]
# **What went wrong: a section that never ran its subject.** Under the heading about splitting the
# weights, the notebook made another `MultiHeadAttentionWrapper` and printed `[2, 6, 6]`; the class
# `MultiHeadAttention` was never used. The shape tells them apart: the wrapper gives *heads x d_out*
# numbers a token, the real layer gives *d_out*.

# %% tags=["what-went-wrong"]
print(
    "wrapper, 2 heads, d_out 3           :",
    MultiHeadAttentionWrapper(3, 3, 6, num_heads=2)(batch).shape,
)
print(
    "MultiHeadAttention, 2 heads, d_out 4:",
    MultiHeadAttention(3, 4, 6, 0.0, num_heads=2)(batch).shape,
)
assert MultiHeadAttentionWrapper(3, 3, 6, num_heads=2)(batch).shape == (2, 6, 6)
assert MultiHeadAttention(3, 4, 6, 0.0, num_heads=2)(batch).shape == (2, 6, 4)

# %% [markdown]
# ## 2.9 A head that has learned where to look
# So far the matrices were random, and the pictures pale. Here is a game that can only be won by
# looking at the right place. Seven cards are laid out, each with a colour and a digit; an eighth
# shows only a colour, and one must say the digit of that colour's card:
#
# `red 3 · blue 7 · green 1 · ... · blue ?` gives `7`
#
# Each card is a vector: eight places for the colour, ten for the digit. One attention layer from
# the package and one `nn.Linear` that names a digit, and a second of training.


# %%
def deal(n_games, generator):
    """Games as vectors [n_games, 8, 18] with answers [n_games]: seven cards of different colours,
    then one of those colours alone.
    """
    colours = torch.rand(n_games, 8, generator=generator).argsort(1)[
        :, :7
    ]  # [n, 7], no colour twice
    digits = torch.randint(10, (n_games, 7), generator=generator)  # [n, 7]
    asked = torch.randint(7, (n_games, 1), generator=generator)  # [n, 1]
    cards = torch.cat([F.one_hot(colours, 8), F.one_hot(digits, 10)], -1)  # [n, 7, 18]
    question = torch.cat(
        [F.one_hot(colours.gather(1, asked), 8), torch.zeros(n_games, 1, 10)], -1
    )  # [n, 1, 18]
    return torch.cat([cards, question], 1).float(), digits.gather(1, asked).squeeze(1)


def describe(game):
    """The cards of one game [8, 18] in words."""
    names = ["red", "blue", "green", "gold", "grey", "pink", "black", "white"]
    return [
        f"{names[card[:8].argmax()]} {int(card[8:].argmax()) if card[8:].any() else '?'}"
        for card in game
    ]


torch.manual_seed(2)
generator = torch.Generator().manual_seed(2)
look = MultiHeadAttention(d_in=18, d_out=32, context_length=8, dropout=0.0, num_heads=1)
name_digit = nn.Linear(32, 10)
optimizer = torch.optim.AdamW([*look.parameters(), *name_digit.parameters()], lr=0.02)

untrained = look.W_query.weight.clone(), look.W_key.weight.clone()
right = []
for _step in range(120):
    games, answers = deal(128, generator)
    guesses = name_digit(look(games)[:, -1])  # [n, 10]: only the question's place is asked
    loss = F.cross_entropy(guesses, answers)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    right.append((guesses.argmax(-1) == answers).float().mean().item())

games, answers = deal(1000, torch.Generator().manual_seed(3))  # games never trained on
accuracy = (name_digit(look(games)[:, -1]).argmax(-1) == answers).float().mean().item()
print(f"right on new games: {accuracy:.0%} (guessing: 10 %)")

# %% tags=["check"]
assert accuracy > 0.95

# %%
game = games[0]
labels = describe(game)
tables = []
for w_query, w_key in (untrained, (look.W_query.weight, look.W_key.weight)):
    tables.append(
        attention_weights((game @ w_query.T)[None, None], (game @ w_key.T)[None, None])[0, 0, -1]
    )  # [T]: the question's row

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.2), width_ratios=[1, 1.25])
axes[0].plot(range(1, 121), right, color="#0072B2", lw=1)
axes[0].axhline(0.1, color="#666666", lw=1, ls=":")
axes[0].annotate(
    "guessing", (120, 0.1), xytext=(0, 4), textcoords="offset points", ha="right", color="#555555"
)
axes[0].set(
    xlabel="training step", ylabel="share of games won", ylim=(0, 1.03), title="Learning the game"
)
places = torch.arange(8).numpy()
axes[1].bar(places - 0.2, tables[0].detach().numpy(), 0.4, color="#E69F00", label="before training")
axes[1].bar(places + 0.2, tables[1].detach().numpy(), 0.4, color="#0072B2", label="after")
axes[1].set_xticks(places, labels, rotation=40, ha="right", rotation_mode="anchor")
axes[1].set(ylabel="attention weight", ylim=(0, 1.03), title=f"Where '{labels[-1]}' looks")
axes[1].legend(frameon=False)
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% tags=["check"]
assert labels[tables[1].argmax()].split()[0] == labels[-1].split()[0]

# %% [markdown]
# The question looks at the cards of its own colour: at the one that has the answer and, as that
# costs nothing, at itself, which shows no digit. Nobody told it to compare colours: `W_query` and
# `W_key` learned to bring the colours out, `W_value` to bring out the digit, because that is what
# wins. A GPT's heads learn in just this way, only the game is "guess the next word".

# %% [markdown]
# ## 2.10 Try it yourself
# `ask` shows an exercise, with new numbers each time. Write your answer in place of the
# `...` and run the cell. A wrong answer is diagnosed; the right one is never shown.
# `hint("2.1")` opens a hint, three for each exercise. The same exercises in a terminal:
# `llm-scratch learn next`. Solutions are sealed: `llm-scratch learn solution 2.1` opens
# one.

# %%
ask("2.1")

# %%
check("2.1", ...)

# %%
ask("2.2")


# %%
def window_mask(T, window):
    return ...  # your code


check("2.2", window_mask)

# %%
ask("2.3")


# %%
def looked_at(weights):
    return ...  # your code


check("2.3", looked_at)

# %%
ask("2.4")

# %%
check("2.4", ...)

# %%
ask("2.5")


# %%
def attend(query, keys, values):
    return ...  # your code


check("2.5", attend)

# %%
ask("2.6")


# %%
def causal_weights(scores):
    table = []
    for i, row in enumerate(scores):
        powers = [math.exp(score) for score in row]
        weights = [power / sum(powers) for power in powers]
        table.append([weight if j <= i else 0.0 for j, weight in enumerate(weights)])
    return table


check("2.6", causal_weights)

# %%
ask("2.7")

# %%
check("2.7", ...)

# %%
ask("2.8")


# %%
def split_heads(vector, n_heads):
    return ...  # your code


check("2.8", split_heads)

# %%
ask("2.9")

# %%
check("2.9", ...)

# %%
ask("2.10")

# %%
check("2.10", ...)

# %% [markdown]
# ## Summary
# - Attention is: compare (query with keys), turn into shares (softmax), mix (values).
# - Divide by $\sqrt{D}$, or softmax becomes too sure to learn.
# - The future is hidden with minus infinity *before* softmax;
#   change a later word and no earlier output moves.
# - Heads are one big matrix product, cut up.
# - Look at shapes, and let no function read what was not handed to it.
#
# What runs: `src/llm_scratch/model/attention.py`. Next:
# `lessons/step3_gpt.py` stacks this layer into a GPT.
