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
# *it* in "the cup fell off the table because **it** was wet" means nothing alone. To know
# what *it* is, a reader looks back at *cup* and *table*, decides how much each matters, and
# takes some meaning from both. That is the whole of **attention**: look, weigh, mix.
#
# We build it in eight small steps, from a sum that you can do by hand to the layer that
# runs inside GPT. Each step is written out here, and then *asserted* equal to what the
# package runs, so nothing in this lesson has to be believed.
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
# Run it as a notebook or as `python lessons/step2_attention.py`. It takes about ten
# seconds and needs no network.
#
# From lesson 0 you need the matrix product (0.1), softmax (0.4) and modules (0.10); from
# lesson 1, that each token is a vector (1.7).

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
plt.rcParams.update({"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10})
plt.rcParams.update({"figure.constrained_layout.use": True, "legend.frameon": False})
torch.set_printoptions(precision=4, sci_mode=False)
torch.set_num_threads(1)  # for tensors this small, a second thread costs more than it brings


def close(got, want, atol=6e-5):
    """Compare a tensor with numbers that were printed with four digits."""
    got, want = torch.as_tensor(got).detach(), torch.as_tensor(want)
    torch.testing.assert_close(got, want, rtol=0, atol=atol)


# %% [markdown]
# Six words, and for each a vector of three numbers. In a real model the vectors are
# learned and have hundreds of numbers (768 in the smallest GPT-2). Three are enough to
# see every step. What the numbers stand for does not matter here, only how vectors are
# compared.

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
)  # [T, C] = [6, 3]

# %% [markdown]
# ## 2.1 Likeness
# Multiply two vectors number by number and add up. That is the **dot product**. It is
# large when both are large in the same places, so it serves as a measure of likeness. How
# alike are *steps* and *small*?
#
# ![The dot product of steps and small: three products of two numbers, added
# up](drawings/dot-product.svg)

# %%
by_hand = 0.56 * 0.43 + 0.84 * 0.20 + 0.56 * 0.90
print(f"steps . small = {by_hand:.4f}")

# %% tags=["check"]
close(inputs[1] @ inputs[0], by_hand)
close(by_hand, 0.9128)

# %% [markdown]
# Compare *steps* with each of the six words, in a loop. The vector that is compared with
# all others is called the **query**; the results are its **scores**.


# %%
def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


query = inputs[1]  # [C]
looped = [dot(query, word) for word in inputs]
print({word: round(score.item(), 4) for word, score in zip(words, looped)})

# %% [markdown]
# One matrix product does the same: table times vector. (`.item()` makes a Python number of
# a tensor with one entry.)

# %%
scores = inputs @ query  # [T, C] @ [C] -> [T]
print(scores)

# %% tags=["check"]
close(scores, looped)
close(scores, [0.9128, 1.3328, 1.0276, 0.8428, 1.1424, 0.8848])

# %% [markdown]
# ## 2.2 Weights, and a mixture
# Scores say which words matter. To *mix* words we need shares that add up to 1. Dividing
# by the sum would do, as long as no score is negative:

# %%
shares = scores / scores.sum()
print("divided by the sum:", shares, "sum:", round(shares.sum().item(), 4))

# %% tags=["check"]
close(shares, [0.1486, 0.2170, 0.1673, 0.1372, 0.1860, 0.1440])

# %% [markdown]
# But scores can be negative. You know the cure from lesson 0.4: softmax, which takes $e$
# to the power of each score first. The shares that come out are the **attention weights**.
#
# $$\mathrm{softmax}(s)_i = \frac{e^{s_i}}{\sum_j e^{s_j}}$$


# %%
def softmax_as_written(x):
    """The formula as it stands."""
    return torch.exp(x) / torch.exp(x).sum(dim=0)


weights = softmax_as_written(scores)  # [T]
print("softmax:", weights)

# %% tags=["check"]
close(weights, [0.1469, 0.2236, 0.1648, 0.1370, 0.1848, 0.1429])
torch.testing.assert_close(weights, torch.softmax(scores, dim=0))
torch.testing.assert_close(weights, lesson_models.softmax_naive(scores))

# %% [markdown]
# **What goes wrong: e to the power of 100.** A 32-bit number ends near $3.4\cdot10^{38}$,
# and $e^{100}$ is more. It becomes infinity, and infinity divided by infinity is *not a
# number*, `nan`. The cure is to subtract the largest score from every score first. That
# changes nothing in the result, since both sides of the fraction shrink by the same
# factor, and it keeps every power at most 1. PyTorch's softmax does just that.

# %%
large = torch.tensor([100.0, 99.0, 98.0])
print("as written        :", softmax_as_written(large))
print("largest subtracted:", softmax_as_written(large - large.max()))

# %% tags=["check"]
assert softmax_as_written(large).isnan().all()
stable = torch.softmax(large, dim=0)
torch.testing.assert_close(softmax_as_written(large - large.max()), stable)
torch.testing.assert_close(lesson_models.softmax_naive(large), stable)

# %% [markdown]
# Now the mixture: 15 % of *small*, 22 % of *steps*, 16 % of *take* and so on. The result
# is the **context vector** of *steps*: the word as it is meant *in this sentence*. First
# as a loop:

# %%
looped = torch.zeros(3)
for weight, vector in zip(weights, inputs):
    looped += weight * vector
print("steps, in context:", looped)

# %% [markdown]
# And as a product: a row of weights times the table.

# %%
context = weights @ inputs  # [T] @ [T, C] -> [C]
print("steps, in context:", context)

# %% tags=["check"]
close(context, looped)
close(context, [0.4494, 0.6051, 0.5260])

# %% [markdown]
# Every word can be the query. One product gives all 36 scores, softmax along each row gives
# all weights, a second product gives all mixtures. (`.T` turns a table over, so that rows
# become columns: the table is *transposed*. `dim=-1` is the last dimension, so softmax goes
# along each row.)

# %%
scores = inputs @ inputs.T  # [T, C] @ [C, T] -> [T, T]
weights = scores.softmax(dim=-1)  # [T, T], rows add up to 1
contexts = weights @ inputs  # [T, C]

# %% tags=["check"]
close(scores, [[dot(a, b).item() for b in inputs] for a in inputs])
close(scores[0], [1.0349, 0.9128, 0.5706, 0.7051, 0.8925, 0.5311])
close(weights[0], [0.2126, 0.1881, 0.1336, 0.1529, 0.1844, 0.1284])
close(contexts[1], [0.4494, 0.6051, 0.5260])
close(weights.sum(-1), [1.0] * 6)


# %% tags=["plot"]
def show_weights(ax, grid, words, title):
    """Draw how much each token (row) takes from each token (column); exactly 0 is grey."""
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
    for row, column in grid.nonzero().tolist():
        ink = "white" if shade[row, column] > 0.62 else "black"
        style = {"ha": "center", "va": "center", "fontsize": 8, "color": ink}
        ax.text(column, row, f"{grid[row, column].item():.2f}", **style)


fig, ax = plt.subplots(figsize=(4.2, 3.9))
show_weights(ax, weights, words, "Nothing learned yet:\neach row adds up to 1")
plt.show()

# %% [markdown]
# Every word takes about equally much from every word. No wonder: nothing has been learned,
# and the likeness of the raw vectors decides. What is missing are parameters that training
# can change.
#
# ## 2.3 Query, key, value
# Looking something up has three parts, as in a library: what I am looking for (**query**),
# what the label on the spine says (**key**), and what is inside the book (**value**). So
# each token gets three views of itself, made by three learned matrices:
#
# $$q = x W_q, \qquad k = x W_k, \qquad v = x W_v$$
#
# ![Three views of one token: its vector times three learned matrices is its query, its key
# and its value](drawings/three-views.svg)
#
# Then they meet:
#
# ![Attention for one token: its query is compared with all keys, softmax makes weights,
# the weights mix the values](drawings/look-weigh-mix.svg)
#
# Scores compare a query with keys; the mixture is made of values. Why not one view for
# all? Because a word may look for something else than it offers: *it* looks for a noun,
# and is none. We go from three numbers per token to two, so that the sizes are easy to
# tell apart.

# %%
torch.manual_seed(123)
d_in, d_out = 3, 2
W_query = torch.rand(d_in, d_out)
W_key = torch.rand(d_in, d_out)
W_value = torch.rand(d_in, d_out)

# %% [markdown]
# The word *steps* again: its query, everyone's keys and values, and its six scores.

# %%
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
close(scores_2, [dot(query_2, key).item() for key in keys])

# %% [markdown]
# Before softmax, scores are divided by $\sqrt{D}$, where $D$ is the length of a key. With
# all queries as the rows of $Q$, all keys as those of $K$ and all values as those of $V$,
# that is the famous formula ($K^\top$ is $K$ turned over):
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
# **Why the root?** A dot product of two random vectors of length $D$ is a sum of $D$ random
# numbers, and such a sum spreads in proportion to $\sqrt{D}$. Without the division, softmax
# over long keys gives nearly everything to one token, whichever is ahead by luck. And where softmax
# is that sure, its slope is nearly zero, so training has nothing to work with.

# %%
torch.manual_seed(1)
sizes = [1, 4, 16, 64, 256, 1024]
largest = {"as it is": [], "divided by the root of D": []}
for D in sizes:
    q, k = torch.randn(400, 1, D), torch.randn(400, 10, D)
    raw = (q @ k.transpose(1, 2)).squeeze(1)  # [400, 10]: scores of 400 queries
    for name, scale in zip(largest, (1.0, D**0.5)):
        strongest = (raw / scale).softmax(-1).amax(-1)  # [400]: the largest shares
        largest[name].append(strongest.mean().item())
print({name: round(shares[-1], 2) for name, shares in largest.items()}, "at D = 1024")

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(5.2, 3.0))
for (name, shares), color, marker in zip(largest.items(), ("#D55E00", "#0072B2"), "os"):
    ax.plot(sizes, shares, color=color, marker=marker, label=name)
ax.axhline(0.1, color="#666666", lw=1, ls=":")
style = {"xytext": (0, 4), "textcoords": "offset points", "color": "#555555"}
ax.annotate("all ten equal", (1, 0.1), **style)
ax.set(
    xscale="log",
    ylim=(0, 1.05),
    xlabel="D, numbers per key",
    ylabel="share of the strongest of 10",
    title="Why scores are scaled",
)
ax.set_xticks(sizes, [str(D) for D in sizes])
ax.minorticks_off()
ax.legend()
plt.show()

# %% tags=["check"]
assert largest["as it is"][-1] > 0.9
assert largest["divided by the root of D"][-1] < 0.4

# %% [markdown]
# ## 2.4 The same as a class
# A class (lesson 0.7) keeps the three matrices and defines what to do with *any* `x`. First
# the formula as a function, then the module (lesson 0.10) that uses it:


# %%
def attend(queries, keys, values):
    """Attention of every token to every token. Each [T, D] -> [T, D]."""
    weights = (queries @ keys.T / keys.shape[-1] ** 0.5).softmax(-1)  # [T, T]
    return weights @ values


# %%
class SelfAttention_v1(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()  # every module begins with this line
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x):  # [T, d_in] -> [T, d_out]
        return attend(x @ self.W_query, x @ self.W_key, x @ self.W_value)


# %%
torch.manual_seed(123)
sa_v1 = SelfAttention_v1(d_in, d_out)
print(sa_v1(inputs))

# %% tags=["check"]
rows = [[0.2888, 0.7799], [0.2916, 0.7877], [0.2873, 0.7762]]
rows += [[0.2861, 0.7730], [0.2903, 0.7838], [0.2855, 0.7715]]
close(sa_v1(inputs), rows)
close(sa_v1(inputs)[1], context_2.tolist())
torch.manual_seed(123)
torch.testing.assert_close(sa_v1(inputs), lesson_models.SelfAttention_v1(d_in, d_out)(inputs))

# %% [markdown]
# (`grad_fn` in the output means that autograd remembers where the numbers came from.)
#
# `nn.Linear` is such a matrix with a better start. `torch.rand` draws between 0 and 1, all
# positive, while `nn.Linear` draws around 0, and smaller numbers the more inputs there are.
# It can also add a *bias*, one learned number for each output; we leave it out here.


# %%
class SelfAttention_v2(nn.Module):
    def __init__(self, d_in, d_out, qkv_bias=False):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x):  # [T, d_in] -> [T, d_out]
        return attend(self.W_query(x), self.W_key(x), self.W_value(x))


# %%
torch.manual_seed(123)
sa_v2 = SelfAttention_v2(d_in, d_out)
print(sa_v2(inputs))

# %% tags=["check"]
rows = [[-0.5370, -0.1067], [-0.5365, -0.1103], [-0.5360, -0.1114]]
rows += [[-0.5367, -0.1081], [-0.5364, -0.1101], [-0.5363, -0.1097]]
close(sa_v2(inputs), rows)
torch.manual_seed(123)
torch.testing.assert_close(sa_v2(inputs), lesson_models.SelfAttention_v2(d_in, d_out)(inputs))

# %% [markdown]
# `nn.Linear` stores its matrix turned over, `[d_out, d_in]`. So to give both versions the
# same matrices, we have to turn them over, and then the two agree. (In PyTorch, a name that
# ends in `_`, such as `copy_`, changes the tensor itself.)

# %%
twin = SelfAttention_v1(d_in, d_out)
with torch.no_grad():
    twin.W_query.copy_(sa_v2.W_query.weight.T)
    twin.W_key.copy_(sa_v2.W_key.weight.T)
    twin.W_value.copy_(sa_v2.W_value.weight.T)
print("largest difference:", (twin(inputs) - sa_v2(inputs)).abs().max().item())

# %% tags=["check"]
torch.testing.assert_close(twin(inputs), sa_v2(inputs))

# %% [markdown]
# **What goes wrong: a function that reads global names.** In a notebook, every name of
# every earlier cell still exists. A slip such as `inputs` in place of `x` finds something,
# runs, and prints six rows that look right. This class has it three times:


# %% tags=["what-goes-wrong"]
class Broken(SelfAttention_v1):
    def forward(self, x):
        return attend(inputs @ W_query, inputs @ W_key, inputs @ W_value)


torch.manual_seed(123)
broken = Broken(d_in, d_out)
zeros = torch.zeros(6, 3)
print("for words: broken", broken(inputs)[0], " right", sa_v1(inputs)[0].detach())
print("for zeros: broken", broken(zeros)[0], " right", sa_v1(zeros)[0].detach())

# %% [markdown]
# The output does not depend on the input at all. Python can list the global names that a
# function reads:


# %%
def global_names(function):
    """The global names that a function reads."""
    steps = dis.get_instructions(function)
    return sorted({step.argval for step in steps if step.opname == "LOAD_GLOBAL"})


print("broken:", global_names(Broken.forward))
print("right :", global_names(SelfAttention_v1.forward))

# %% tags=["check"]
torch.testing.assert_close(broken(zeros), sa_v1(inputs))
assert global_names(SelfAttention_v1.forward) == ["attend"]

# %% [markdown]
# ## 2.5 Hiding the future
# A GPT learns to guess the next word, so while it reads *take* it must not see *you*. A
# token may look at itself and back, never ahead: of the 6 x 6 table only the lower triangle
# is allowed. That is the **causal mask**. There are two ways to apply it.
#
# **Way one:** set the forbidden weights to 0, then divide each row by its sum, so that it
# adds up to 1 again. (`tril` keeps the lower triangle of a table, `triu` the upper one.)

# %%
queries, keys = sa_v2.W_query(inputs), sa_v2.W_key(inputs)  # [T, d_out] each
values = sa_v2.W_value(inputs)
scores = queries @ keys.T  # [T, T]
free = (scores / keys.shape[-1] ** 0.5).softmax(-1)  # [T, T]
lower = torch.ones(6, 6).tril()  # 1 where looking is allowed
way_one = free * lower
way_one = way_one / way_one.sum(-1, keepdim=True)  # [T, T]

# %% [markdown]
# **Way two:** put minus infinity in the forbidden places *before* softmax. $e^{-\infty} =
# 0$, so they get a weight of 0, and each row adds up to 1 by itself. That is one step less,
# and the usual way.
#
# ![The causal mask: scores above the diagonal become minus infinity, so softmax gives
# later tokens a weight of 0](drawings/causal-mask.svg)

# %%
future = torch.ones(6, 6).triu(1).bool()  # True where looking is forbidden
masked = scores.masked_fill(future, -torch.inf)  # minus infinity where True
way_two = (masked / keys.shape[-1] ** 0.5).softmax(-1)  # [T, T]
print(way_two.detach())

# %% tags=["check"]
torch.testing.assert_close(way_one, way_two)
close(way_two[1, :2], [0.4874, 0.5126])
close(way_two[2, :3], [0.3223, 0.3386, 0.3391])
close(way_two[3, :4], [0.2521, 0.2571, 0.2416, 0.2492])
close(way_two[4, :5], [0.1972, 0.2055, 0.1995, 0.1965, 0.2013])
close(way_two[5], [0.1655, 0.1712, 0.1659, 0.1648, 0.1676, 0.1651])
# the package's formula, which takes [B, H, T, D]
theirs = attention_weights(queries[None, None], keys[None, None])[0, 0]
torch.testing.assert_close(way_two, theirs)

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.2, 3.8))
show_weights(axes[0], free, words, "Without a mask")
show_weights(axes[1], way_two, words, "With the causal mask")
plt.show()

# %% [markdown]
# Way two as a function:


# %%
def causal_attend(queries, keys, values):
    """Attention of every token to itself and to earlier ones. Each [T, D] -> [T, D]."""
    T, D = keys.shape
    future = torch.ones(T, T).triu(1).bool()
    scores = (queries @ keys.T).masked_fill(future, -torch.inf)
    return (scores / D**0.5).softmax(-1) @ values


# %% [markdown]
# Is the future really hidden? Change the last word, and see which outputs change:

# %%
changed = inputs.clone()
changed[5] = torch.tensor([9.0, -9.0, 9.0])
projections = sa_v2.W_query, sa_v2.W_key, sa_v2.W_value
before = causal_attend(*[part(inputs) for part in projections])
after = causal_attend(*[part(changed) for part in projections])
differs = (before - after).abs().sum(dim=-1) > 1e-6  # [T]
moved = [word for word, changes in zip(words, differs) if changes]
print("words whose output changed:", moved)

# %% tags=["check"]
assert moved == ["far"]
torch.testing.assert_close(before, way_two @ values)
without_mask = [attend(*[part(x) for part in projections]) for x in (inputs, changed)]
assert ((without_mask[0] - without_mask[1]).abs().sum(-1) > 1e-6).all(), "without it, all change"

# %% [markdown]
# (`f(*[a, b, c])` is the same as `f(a, b, c)`.)
#
# ## 2.6 Forgetting at random
# A network that may rely on a single connection will. **Dropout** sets a random part of the
# weights to 0 while training, say 30 %, so that the network has to learn more than one way
# to the answer. What is kept is divided by $1-0.3$, so that sums stay the same on average.
# When the model is used, dropout does nothing.

# %%
print("at 30 %, what is kept is multiplied by", 1 / (1 - 0.3))
torch.manual_seed(123)
dropout = nn.Dropout(0.5)
dropped = dropout(way_two)

# %% tags=["check"]
assert 1 / (1 - 0.3) == 1.4285714285714286
kept = dropped != 0
torch.testing.assert_close(dropped[kept], way_two[kept] / 0.5)
torch.testing.assert_close(dropout.eval()(way_two), way_two)

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.2, 3.8))
show_weights(axes[0], way_two, words, "Before")
show_weights(axes[1], dropped, words, "After dropout of one half:\nwhat is kept counts double")
plt.show()

# %% [markdown]
# ## 2.7 Many sequences at once
# Training reads many texts at a time: `x` becomes `[B, T, d_in]`. (`torch.stack` lays
# tensors of equal shape on top of each other, as in the first drawing of lesson 0;
# `torch.cat` joins them end to end.) Three things are new in the class below, which inherits
# its three matrices from `SelfAttention_v2`:
#
# - `transpose(1, 2)` turns over the *last two* of three dimensions, as `.T` does for two;
# - the mask is made once, as large as it may ever be, and cut to the length of `x`;
# - a mask is not learned, so it is a *buffer*. Like a parameter it moves to the GPU with
#   the model, but it gets no gradient.


# %%
class CausalAttention(SelfAttention_v2):
    def __init__(self, d_in, d_out, context_length, dropout=0.0, qkv_bias=False):
        super().__init__(d_in, d_out, qkv_bias)
        self.dropout = nn.Dropout(dropout)
        future = torch.ones(context_length, context_length).triu(1)
        self.register_buffer("mask", future.bool())

    def forward(self, x):  # [B, T, d_in] -> [B, T, d_out]
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)
        scores = queries @ keys.transpose(1, 2)  # [B, T, T]
        scores = scores.masked_fill(self.mask[: x.shape[1], : x.shape[1]], -torch.inf)
        return self.dropout((scores / keys.shape[-1] ** 0.5).softmax(-1)) @ values


# %%
batch = torch.stack([inputs, inputs.flip(0)])  # two texts: [B, T, d_in] = [2, 6, 3]
torch.manual_seed(123)
ca = CausalAttention(d_in, d_out, context_length=6)
print("in:", tuple(batch.shape), " out:", tuple(ca(batch).shape))

# %% tags=["check"]
torch.manual_seed(123)
theirs = lesson_models.CausalAttention(d_in, d_out, context_length=6)
torch.testing.assert_close(ca(batch), theirs(batch))
# seed 123 again, so these are the matrices of section 2.5
torch.testing.assert_close(ca(batch)[0], way_two @ values)
# a shorter text gives the same, as far as it reaches
torch.testing.assert_close(ca(batch)[:, :3], ca(batch[:, :3]))

# %% [markdown]
# ## 2.8 Many heads at once
# One attention makes one mixture. But *it* may need two things at once: *what* is meant, and
# *which verb* comes next. So several attentions, called **heads**, look in parallel, each
# with its own matrices, and their results are joined side by side. First as a loop:


# %%
class MultiHeadAttentionWrapper(nn.Module):
    def __init__(self, d_in, d_out, context_length, num_heads):
        super().__init__()
        heads = [CausalAttention(d_in, d_out, context_length) for _ in range(num_heads)]
        self.heads = nn.ModuleList(heads)  # a list whose parameters are found

    def forward(self, x):  # [B, T, d_in] -> [B, T, num_heads * d_out]
        return torch.cat([head(x) for head in self.heads], dim=-1)


# %%
torch.manual_seed(123)
noise = torch.randn(2, 6, 3)
wrapper = MultiHeadAttentionWrapper(d_in, d_out, context_length=6, num_heads=2)
print("two heads of 2:", tuple(wrapper(noise).shape))
print("the first token:", wrapper(noise)[0, 0].detach())

# %% tags=["check"]
assert wrapper(noise).shape == (2, 6, 4)
close(wrapper(noise)[0, 0], [-0.0408, -0.0034, 0.1444, -0.1567])
torch.manual_seed(123)
torch.testing.assert_close(noise, torch.randn(2, 6, 3))
theirs = lesson_models.MultiHeadAttentionWrapper(d_in, d_out, 6, num_heads=2)
torch.testing.assert_close(wrapper(noise), theirs(noise))

# %% [markdown]
# A GPU is faster with one large product than with twelve small ones. So the real layer, the
# package's `MultiHeadAttention`, makes all queries with **one** matrix and then cuts the
# result into heads. With *H* heads of length *D*, the vectors are H·D long. `view` reads
# the same numbers with another shape, `[B, T, H, D]`, and `transpose` brings the heads
# forward, `[B, H, T, D]`:

# %%
together = torch.arange(8).view(1, 2, 4)  # [B, T, H*D]: two tokens of 4 numbers
print(together.tolist())
print(together.view(1, 2, 2, 2).transpose(1, 2).tolist())  # [B, H, T, D]: two heads

# %% [markdown]
# Head 1 has the first half of each vector, head 2 the second. At the end another matrix,
# `out_proj`, mixes the results of the heads.
#
# ![Heads: one matrix makes all queries, each vector is cut into equal parts, each head
# attends alone, parts are joined](drawings/heads.svg)
#
# Is it the same as the loop? Lay the wrapper's matrices on top of each other, let
# `out_proj` change nothing, and it must be:

# %%
mha = MultiHeadAttention(d_in, 4, context_length=6, dropout=0.0, num_heads=2)
with torch.no_grad():
    for name in ("W_query", "W_key", "W_value"):
        parts = [getattr(head, name).weight for head in wrapper.heads]
        getattr(mha, name).weight.copy_(torch.cat(parts))
    mha.out_proj.weight.copy_(torch.eye(4))  # 1 on the diagonal, 0 elsewhere
    mha.out_proj.bias.zero_()
print(f"largest difference: {(mha(noise) - wrapper(noise)).abs().max().item():.0e}")

# %% tags=["check"]
torch.testing.assert_close(mha(noise), wrapper(noise))
assert mha(noise).shape == (2, 6, 4)

# %% [markdown]
# Here is the whole layer by hand, from the formula. The package computes the same with a
# *fused kernel*: one program for all steps, which never writes the T x T table to memory
# and is fast for that reason.

# %%
torch.manual_seed(0)
layer = MultiHeadAttention(24, 24, context_length=64, dropout=0.0, num_heads=3).eval()
x = torch.randn(2, 10, 24)  # [B, T, C], and C = 24 = 3 heads of 8
projections = layer.W_query, layer.W_key, layer.W_value
q, k, v = [w(x).view(2, 10, 3, 8).transpose(1, 2) for w in projections]  # [B, H, T, D]
mixed = attention_weights(q, k) @ v  # [B, H, T, D]
by_hand = layer.out_proj(mixed.transpose(1, 2).reshape(2, 10, 24))  # [B, T, C]
print(f"largest difference: {(layer(x) - by_hand).abs().max().item():.0e}")

# %% tags=["check"]
torch.testing.assert_close(layer(x), by_hand)

# %% [markdown]
# ## 2.9 A head that has learned where to look
# So far the matrices were random, and the pictures pale. Here is a game that can only be
# won by looking at the right position. Seven cards are laid out, each with a color and a
# digit. An eighth shows only a color, and the player must say the digit on the card of
# that color:
#
# `red 3 · blue 7 · green 1 · ... · blue ?` gives `7`
#
# Each card is a vector of 18 numbers: one place for each of eight colors, one for each of
# ten digits; a place is 1 if the card has it, else 0.


# %% tags=["setup"]
def deal(n_games, generator):
    """Games as vectors [n_games, 8, 18] with answers [n_games]."""
    colors = torch.rand(n_games, 8, generator=generator).argsort(1)[:, :7]  # no color twice
    digits = torch.randint(10, (n_games, 7), generator=generator)  # [n, 7]
    asked = torch.randint(7, (n_games, 1), generator=generator)  # [n, 1]
    cards = torch.cat([F.one_hot(colors, 8), F.one_hot(digits, 10)], -1)  # [n, 7, 18]
    color = F.one_hot(colors.gather(1, asked), 8)
    question = torch.cat([color, torch.zeros(n_games, 1, 10)], -1)  # [n, 1, 18]
    return torch.cat([cards, question], 1).float(), digits.gather(1, asked).squeeze(1)


def describe(game):
    """The cards of one game [8, 18] in words."""
    names = ["red", "blue", "green", "gold", "grey", "pink", "black", "white"]
    digits = [int(card[8:].argmax()) if card[8:].any() else "?" for card in game]
    return [f"{names[card[:8].argmax()]} {digit}" for card, digit in zip(game, digits)]


# %%
generator = torch.Generator().manual_seed(2)
games, answers = deal(128, generator)
print(" · ".join(describe(games[0])), " answer:", answers[0].item())

# %% [markdown]
# One attention layer of the package and one `nn.Linear`, which gives a logit for each
# digit. Only the last position, the question, has to answer.

# %%
torch.manual_seed(2)
look = MultiHeadAttention(18, 32, context_length=8, dropout=0.0, num_heads=1)
name_digit = nn.Linear(32, 10)
parameters = [*look.parameters(), *name_digit.parameters()]
optimizer = torch.optim.AdamW(parameters, lr=0.02)
untrained = look.W_query.weight.clone(), look.W_key.weight.clone()

# %% [markdown]
# The training loop is the one of lesson 0.10. Each step deals new games.

# %%
right = []
for _step in range(120):
    games, answers = deal(128, generator)
    logits = name_digit(look(games)[:, -1])  # [n, 10]
    loss = F.cross_entropy(logits, answers)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    right.append((logits.argmax(-1) == answers).float().mean().item())

games, answers = deal(1000, torch.Generator().manual_seed(3))  # never trained on
accuracy = (name_digit(look(games)[:, -1]).argmax(-1) == answers).float().mean()
print(f"right on new games: {accuracy:.0%} (guessing: 10 %)")

# %% tags=["check"]
assert accuracy > 0.95

# %% tags=["plot"]
game = games[0]
labels = describe(game)
tables = []  # [T] each: the weights of the question, before and after training
for w_query, w_key in (untrained, (look.W_query.weight, look.W_key.weight)):
    q, k = (game @ w_query.T)[None, None], (game @ w_key.T)[None, None]
    tables.append(attention_weights(q, k)[0, 0, -1].detach())
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.2), width_ratios=[1, 1.25])
axes[0].plot(range(1, 121), right, color="#0072B2", lw=1)
axes[0].axhline(0.1, color="#666666", lw=1, ls=":")
style = {"xytext": (0, 4), "textcoords": "offset points", "ha": "right", "color": "#555555"}
axes[0].annotate("guessing", (120, 0.1), **style)
axes[0].set(xlabel="training step", ylabel="share of games won", title="Learning the game")
axes[0].set_ylim(0, 1.03)
places = torch.arange(8).numpy()
axes[1].bar(places - 0.2, tables[0].numpy(), 0.4, color="#E69F00", label="before training")
axes[1].bar(places + 0.2, tables[1].numpy(), 0.4, color="#0072B2", label="after")
axes[1].set_xticks(places, labels, rotation=40, ha="right", rotation_mode="anchor")
axes[1].set(ylabel="attention weight", ylim=(0, 1.03), title=f"Where '{labels[-1]}' looks")
axes[1].legend()
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% tags=["check"]
assert labels[tables[1].argmax()].split()[0] == labels[-1].split()[0]

# %% [markdown]
# The question looks at the cards of its own color: at the one that has the answer and, as
# that costs nothing, at itself, which shows no digit. Nobody told it to compare colors.
# `W_query` and `W_key` learned to bring out the colors, `W_value` to bring out the digit,
# because that is what wins. A GPT's heads learn in the same way, only the game is "guess
# the next token".

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
def attend_once(query, keys, values):
    return ...  # your code


check("2.5", attend_once)

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
# - Look at shapes, and let functions read their arguments only.
#
# What runs: `src/llm_scratch/model/attention.py`. Next:
# `lessons/step3_gpt.py` stacks this layer into a GPT.
