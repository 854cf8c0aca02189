# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Step 0: how a program learns
#
# You know Python's functions, lists and dictionaries. That is all this lesson asks for; a
# little school math helps. At its end you have built a small language model three times:
# by counting, by going downhill with a slope worked out by hand, and with a program that
# works out the slopes itself. All three give the same model, and the third is how every
# GPT is trained: the kind of model that writes, from GPT-2 to the chatbots of today.
#
# | step | new idea |
# |---|---|
# | 0.1 | a tensor is a list of lists with a shape |
# | 0.2 | a language model can be made by counting |
# | 0.3 | *loss*: one number that says how wrong a model is |
# | 0.4 | *parameters*: numbers that can be turned |
# | 0.5 | *gradient*: which way to turn each of them |
# | 0.6 | *gradient descent*: turn a little, again and again |
# | 0.7 | *autograd*: gradients without doing the math |
# | 0.8 | the same in PyTorch |
# | 0.9 | better steps: momentum, AdamW, Muon |
# | 0.10 | *modules*: parameters with a name |
#
# Run each cell before you read on, and change things: nothing here can break. Every
# number the text claims is checked by code. Those checks, and the code that draws, are
# folded away; open them when you are curious.
#
# Run it as a notebook or as `python lessons/step0_learning.py`. It takes about ten seconds
# and needs no network.

# %% tags=["setup"]
import math
import random

import matplotlib.pyplot as plt
import torch
from torch import nn

from llm_scratch.learn.autograd import Value
from llm_scratch.learn.notebook import ask, check, hint  # noqa: F401
from llm_scratch.learn.script import run_as_script
from llm_scratch.training.optim import Muon, orthogonalize

run_as_script(globals())
plt.rcParams.update({"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10})
plt.rcParams.update({"figure.constrained_layout.use": True, "legend.frameon": False})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)  # for tensors this small, a second thread costs more than it brings
BLUE, ORANGE, GREEN, RED, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"


# %% [markdown]
# ## 0.1 Tensors: lists with a shape
# A *neural network* is a long computation with tables of numbers, some of which are learned.
# A table in plain Python is a list of lists. Its **shape** is how many rows it has, and how
# many numbers there are in a row.

# %%
table = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
print("rows:", len(table), " numbers in a row:", len(table[0]))

# %% [markdown]
# PyTorch (the library is called `torch`) has its own kind of table, the **tensor**. It
# holds the same numbers and does arithmetic with all of them at once.

# %%
x = torch.tensor(table)
print(x)
print("shape:", tuple(x.shape))
print("twice:", (x * 2).tolist())

# %% tags=["check"]
assert x.tolist() == table
assert x.shape == (2, 3)
assert (x * 2).tolist() == [[2 * number for number in row] for row in table]

# %% [markdown]
# A tensor can have any number of **dimensions**. One number has none, a list has one, a
# table two. Sixteen words of 32 letters, each letter a list of 64 numbers, have three:
# shape `(16, 32, 64)`. Read a shape from the outside in.
#
# ![Four tensors: a number, a list of 4, a table of 3 rows and 4 columns, and a stack of
# 2 such tables](drawings/tensor-shapes.svg)
#
# Square brackets pick along the first dimension, counted from 0; a colon means "all of
# them".

# %%
print("row 1    :", x[1])
print("column 1 :", x[:, 1])
print("one entry:", x[1, 2], "as a Python number:", x[1, 2].item())

# %% [markdown]
# Sums go *along* a dimension, and that dimension disappears. Most mistakes with tensors
# are a sum along the wrong one, so look at the shape that comes out.

# %%
print("sum of each column:", x.sum(dim=0), tuple(x.sum(dim=0).shape))
print("sum of each row   :", x.sum(dim=1), tuple(x.sum(dim=1).shape))

# %% tags=["check"]
assert x.sum(dim=0).tolist() == [5, 7, 9]
assert x.sum(dim=1).tolist() == [6, 15]

# %% [markdown]
# The workhorse of every neural network is the **matrix product**. Entry (row, column) of
# the result multiplies a row of the first table with a column of the second, number by
# number, and adds up. First as loops, so that nothing is hidden. (`[f(x) for x in a]` is
# the list of `f(x)` for all x of a; `sum` takes it without the brackets. A comment such as
# `[n, k]` gives the shape of a table, here and in all lessons.)


# %%
def matrix_product(a, b):
    """[n, k] times [k, m] -> [n, m], as lists."""
    result = []
    for row in a:
        columns = range(len(b[0]))
        result.append([sum(row[i] * b[i][j] for i in range(len(b))) for j in columns])
    return result


weights = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
print(matrix_product(table, weights))

# %% [markdown]
# With tensors it is one sign, `@`. The *inner* sizes must agree, and they disappear:
# `[2, 3] @ [3, 2]` gives `[2, 2]`.
#
# ![One entry of a matrix product: a row of the first matrix times a column of the
# second, added up](drawings/matrix-product.svg)

# %%
product = x @ torch.tensor(weights)
print(product, tuple(product.shape))

# %% tags=["check"]
assert product.tolist() == matrix_product(table, weights) == [[4, 5], [10, 11]]
a, b = torch.randn(4, 7), torch.randn(7, 5)
torch.testing.assert_close(torch.tensor(matrix_product(a.tolist(), b.tolist())), a @ b)

# %% [markdown]
# Shapes need not be equal to be added: where one tensor has size 1 or lacks a dimension,
# its numbers are repeated. That is called **broadcasting**. Here each row is divided by
# its own sum, so that it adds up to 1. `keepdim=True` keeps the summed dimension with
# size 1, which lines the sums up with the rows.
#
# ![Broadcasting: a table of shape (2, 3) is divided by a column of shape (2, 1), which
# is repeated three times](drawings/broadcasting.svg)

# %%
shares = x / x.sum(dim=1, keepdim=True)
print(shares)
print("sums:", shares.sum(dim=1))

# %% tags=["check"]
torch.testing.assert_close(shares.sum(dim=1), torch.ones(2))
try:
    x / x.sum(dim=1)  # [2, 3] / [2]: the last sizes, 3 and 2, do not agree
except RuntimeError:
    pass
else:
    raise AssertionError("without keepdim it should have failed")

# %% [markdown]
# ## 0.2 A language model by counting
# A language model answers one question: *what comes next?* The smallest one that
# deserves the name looks at a single letter and guesses the letter after it. Two letters
# in a row are a **bigram**, hence its name: bigram model. All letters that it knows are its
# **vocabulary**, and the place of a letter in that list is its *id*.

# %%
TEXT = "a cat can nap on a mat. a man can tap a pan. a cat on a pan can not nap."
SYMBOLS = sorted(set(TEXT))  # the vocabulary
IDS = [SYMBOLS.index(letter) for letter in TEXT]
print(len(TEXT), "letters,", len(SYMBOLS), "different:", SYMBOLS)
print(TEXT[:6], "->", IDS[:6])

# %% [markdown]
# Go through the text and count: how often did letter *j* follow letter *i*?
# `zip(IDS, IDS[1:])` pairs every letter with the next one, and `enumerate` pairs every
# entry of a list with its place. (Names in capitals stay as they are for the rest of the
# lesson.)

# %%
V = len(SYMBOLS)
COUNTS = [[0] * V for _ in range(V)]
for now, following in zip(IDS, IDS[1:]):
    COUNTS[now][following] += 1
a = SYMBOLS.index("a")
print("after 'a':", {SYMBOLS[j]: n for j, n in enumerate(COUNTS[a]) if n})

# %% [markdown]
# Each row of counts, divided by its sum, is a row of **probabilities**: numbers from 0 to
# 1 that add up to 1. That table *is* the model. (`float()` makes decimals of whole numbers,
# and `round(p, 2)` keeps two digits.)

# %%
C = torch.tensor(COUNTS).float()  # [V, V]
P = C / C.sum(dim=1, keepdim=True)  # [V, V], each row adds up to 1
print("after 'a':", {SYMBOLS[j]: round(p.item(), 2) for j, p in enumerate(P[a]) if p})

# %% tags=["check"]
torch.testing.assert_close(P.sum(dim=1), torch.ones(V))
assert C.sum() == len(TEXT) - 1

# %% tags=["plot"]
LABELS = ["␣" if letter == " " else letter for letter in SYMBOLS]


def show_table(ax, grid, title):
    """Draw a table of probabilities: the row is the letter now, the column the one after it."""
    ax.imshow(grid.detach().numpy(), cmap="Blues", vmin=0, vmax=1.15)
    ax.set_xticks(range(len(LABELS)), LABELS)
    ax.set_yticks(range(len(LABELS)), LABELS)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(title=title, xlabel="next letter", ylabel="letter now")
    for row, column in (grid > 0.005).nonzero().tolist():
        p = grid[row, column].item()
        ink = "white" if p > 0.6 else "black"
        ax.text(
            column, row, f"{p:.2f}".lstrip("0"), ha="center", va="center", fontsize=7, color=ink
        )


fig, ax = plt.subplots(figsize=(4.4, 4.2))
show_table(ax, P, "The whole model: what follows what")
plt.show()

# %% [markdown]
# To write, draw the next letter at random, with these probabilities, then continue from
# there. (`choices` draws, and `weights` are the probabilities. A *seed* sets where the
# random numbers begin: the same seed draws the same letters.) It is a poor writer, since
# it sees one letter of context. A GPT does the same and sees thousands.


# %%
def write(probabilities, length, seed):
    """Draw one letter after another from a table [V, V], beginning after a space."""
    chance, now, text = random.Random(seed), 0, ""
    for _ in range(length):
        row = probabilities[now].tolist()
        now = chance.choices(range(len(SYMBOLS)), weights=row)[0]
        text += SYMBOLS[now]
    return text


print(write(P, 60, seed=4))

# %% tags=["check"]
assert set(zip(TEXT, TEXT[1:])) >= set(zip(write(P, 400, 1), write(P, 400, 1)[1:])), (
    "only pairs that were seen"
)

# %% [markdown]
# ## 0.3 Loss: how wrong?
# Which of two models is better? The one that was *less surprised* by the text. If a model
# gave the letter that came the probability $p$, its **surprise** is $-\ln p$: zero if it
# was certain, and growing without end as $p$ goes to zero. ($\ln$ is the natural
# logarithm: $\ln p$ is the power to which $e = 2.718...$ must be raised to give $p$.)
#
# Why a logarithm? The probability of a whole text is the *product* of the probabilities
# of its letters, and the logarithm of a product is a sum. So surprises can be added.
# (In an f-string, `{x:.2f}` prints x with two digits after the point.)

# %%
for p in (1.0, 0.5, 0.1, 0.01):
    print(f"probability {p:<5} surprise {math.log(1 / p):.2f}")

# %% [markdown]
# The mean surprise over a text is the **loss** (its full name is *cross-entropy*). The
# smaller, the better. A model that knows nothing gives all nine letters the same
# probability, so its loss is $\ln 9$.


# %%
def mean_surprise(probabilities, ids):
    """The loss of a table [V, V] on a text."""
    given = [probabilities[now][following] for now, following in zip(ids, ids[1:])]
    return sum(-math.log(p) for p in given) / len(given)


counted_loss = mean_surprise(P.tolist(), IDS)
no_idea = mean_surprise([[1 / V] * V] * V, IDS)
print(f"by counting: {counted_loss:.4f}   no idea: {no_idea:.4f}")

# %% tags=["check"]
assert abs(no_idea - math.log(V)) < 1e-12
assert abs(counted_loss - 1.1775) < 1e-4
random_table = torch.rand(V, V) + 0.01
assert (
    mean_surprise((random_table / random_table.sum(1, keepdim=True)).tolist(), IDS) > counted_loss
)

# %% [markdown]
# No table of probabilities does better on this text than the counted one; 0.5 shows why.
# But counting ends here. What follows a whole *page* of text cannot be counted: almost no
# page comes twice. So we look for the same table in another way, one that still works
# where counting does not.
#
# ## 0.4 Numbers that can be turned
# Start with a table of numbers that mean nothing yet, all zero. They are the model's
# **parameters**. A parameter may be any number, positive or negative, but probabilities
# may not. The function **softmax** makes one from the other: take $e$ to the power of
# each number, which is always positive, and divide by the sum.
#
# $$\mathrm{softmax}(z)_j = \frac{e^{z_j}}{\sum_k e^{z_k}}$$
#
# (The sign $\sum_k$ adds up what follows it, for all entries $k$.)
# Numbers that go into softmax are called **logits**.
#
# ![Softmax: logits become powers of e, which are all positive, and then shares that add
# up to 1](drawings/softmax.svg)


# %%
def softmax(logits):
    """Any numbers -> probabilities, as lists."""
    powers = [math.exp(number) for number in logits]
    return [power / sum(powers) for power in powers]


print([round(p, 3) for p in softmax([0.0, 0.0, 0.0])])  # nothing stands out
print([round(p, 3) for p in softmax([2.0, 0.0, -1.0])])

# %% tags=["check"]
for logits in ([0.0, 0.0, 0.0], [2.0, 0.0, -1.0], [-3.0, 8.0, 0.5, 0.1]):
    torch.testing.assert_close(
        torch.tensor(softmax(logits)), torch.softmax(torch.tensor(logits), 0)
    )


# %% [markdown]
# Now the loss is a function of 81 parameters: turn one of them, and the loss changes.
# (We add up over pairs of letters instead of going through the text, and count each pair
# as often as it came. The result is the same.)


# %%
def loss_of(table):
    """Mean surprise of the text, for a table of logits [V][V]."""
    total = 0.0
    for row, row_counts in zip(table, COUNTS):
        probabilities = softmax(row)
        for p, n in zip(probabilities, row_counts):
            total -= n * math.log(p) if n else 0.0
    return total / (len(IDS) - 1)


zeros = [[0.0] * V for _ in range(V)]
print(f"all parameters zero: loss {loss_of(zeros):.4f}")

# %% tags=["check"]
assert abs(loss_of(zeros) - math.log(V)) < 1e-12
some = torch.randn(V, V).tolist()
assert abs(loss_of(some) - mean_surprise([softmax(row) for row in some], IDS)) < 1e-9

# %% [markdown]
# ## 0.5 Gradient: which way is down?
# Turn a single parameter up by a tiny bit. Does the loss rise or fall, and how steeply?
# Change of loss divided by change of parameter is the **slope** at that parameter.
# (`1e-5` is 0.00001. The rows are copied, so that the table itself stays as it is.)


# %%
def slope(table, i, j, tiny=1e-5):
    """How steeply the loss changes with entry (i, j), by trying."""
    up = [list(row) for row in table]
    up[i][j] += tiny
    return (loss_of(up) - loss_of(table)) / tiny


c, t = SYMBOLS.index("c"), SYMBOLS.index("t")
print(f"'a' after 'c': {slope(zeros, c, a):+.4f}")
print(f"'t' after 'c': {slope(zeros, c, t):+.4f}")

# %% [markdown]
# In this text *c* is always followed by *a*. So turning up "a after c" lowers the loss
# (a negative slope), and turning up "t after c" raises it.
#
# All slopes together are the **gradient**: a table of the same shape as the parameters.
# Trying costs two losses for each of 81 parameters. A GPT has millions. Fortunately a
# little calculus gives the gradient of softmax and surprise at once, and it is
# simple: **the probability that the model gives, minus the share that really came**. Each
# row counts by how often its letter was there.


# %%
def gradient_by_hand(table):
    """The slope of the loss at every entry: (predicted - counted), row by row."""
    gradient = []
    for row, row_counts in zip(table, COUNTS):
        n = sum(row_counts)
        pairs = zip(softmax(row), row_counts)
        gradient.append([(n * p - count) / (len(IDS) - 1) for p, count in pairs])
    return gradient


print(f"'a' after 'c': {gradient_by_hand(zeros)[c][a]:+.4f}")

# %% tags=["check"]
for table in (zeros, some):
    by_trying = [[slope(table, i, j) for j in range(V)] for i in range(V)]
    torch.testing.assert_close(
        torch.tensor(by_trying), torch.tensor(gradient_by_hand(table)), rtol=0, atol=1e-5
    )

# %% [markdown]
# Read the formula once more. The gradient is zero exactly when the model predicts what
# was counted. At that table no small turn helps, it is the bottom of the valley. *That*
# is why no table beats the counted one.

# %% tags=["check"]
# log(P) are logits of P; e^-50 stands for a probability of 0
at_counted = gradient_by_hand(P.log().clamp(min=-50).tolist())
torch.testing.assert_close(torch.tensor(at_counted), torch.zeros(V, V), rtol=0, atol=1e-6)

# %% [markdown]
# ## 0.6 Gradient descent: a little downhill, again and again
# The gradient says which way is *up*. So subtract a little of it from the parameters, and
# do it again from there. That is **gradient descent**.
# How much is the **learning rate**. One such turn of all parameters is a **step**. A good
# rate is found by trying. Here it is large, 20, because the loss is a mean over 71 pairs of
# letters, so each single slope is small. (`row[:] = ...` puts new numbers into the same row.)
#
# ![Three learning rates on one curve: too small creeps, a good one arrives, too large
# jumps ever farther out](drawings/learning-rates.svg)


# %%
def descend(gradient_of, steps=200, rate=20.0):
    """Walk downhill from zeros; the table at the end and the loss on the way."""
    table, losses = [[0.0] * len(SYMBOLS) for _ in SYMBOLS], []
    for _ in range(steps):
        losses.append(loss_of(table))
        for row, slopes in zip(table, gradient_of(table)):
            row[:] = [w - rate * g for w, g in zip(row, slopes)]
    return table, losses


by_hand, losses = descend(gradient_by_hand)
print(f"start {losses[0]:.4f}   end {losses[-1]:.4f}   by counting {counted_loss:.4f}")

# %% tags=["check"]
assert counted_loss < losses[-1] < counted_loss + 0.005
assert all(later < earlier for earlier, later in zip(losses, losses[1:]))
learned = torch.tensor([softmax(row) for row in by_hand])  # [V, V]
assert (learned - P).abs().max() < 0.03

# %% tags=["plot"]
fig, axes = plt.subplots(1, 3, figsize=(9.4, 3.1))
for ax, steps in zip(axes, (5, 200)):
    found, _ = descend(gradient_by_hand, steps)
    show_table(ax, torch.tensor([softmax(row) for row in found]), f"After {steps} steps")
axes[2].plot(losses, color=BLUE, lw=1.8)
axes[2].axhline(counted_loss, color=ORANGE, ls="--", lw=1.2)
axes[2].text(200, counted_loss - 0.05, "by counting", color="#9a6a00", ha="right", va="top")
axes[2].set(title="The loss falls", xlabel="step", ylabel="loss", ylim=(1, 2.3))
plt.show()

# %% [markdown]
# This program does not look up the answer in the counts, it only measures how wrong it is
# and which way is down, and it arrives at the same table. This works for *any* model whose
# slopes can be computed. Attention, GPT, everything that follows is this loop with a better
# model.
#
# ![The training loop: batch, model, logits, loss; then gradients flow back, and the
# optimizer turns the parameters](drawings/training-loop.svg)
#
# ## 0.7 Autograd: slopes without doing the math
# For this model the gradient was one line of calculus. For a GPT it would be pages. But
# every computation is a chain of small operations, and the slope of each small operation
# is known. So let every number *remember* where it came from. Code that does this and finds
# the slopes by itself is called **autograd**.
#
# For that a number needs to store more than itself. A **class** describes such an object.
# `Number(3.0)` makes one: it calls `__init__`, where `self` is the new object, and what
# is stored in `self.data` there can be read later as `x.data`.


# %%
class Number:
    """A number that remembers its parents, and its slope with respect to each."""

    def __init__(self, data, parents=(), slopes=()):
        self.data = data
        self.grad = 0.0  # slope of the final result with respect to this number
        self.parents = parents
        self.slopes = slopes


# %% [markdown]
# Four operations are enough here. Each computes a result *and* its slopes. For $a + b$
# both slopes are 1. For $a \cdot b$ the slope in $a$ is $b$: one more of $a$ is $b$ more of
# the product. $e^a$ is its own slope; that of $\ln a$ is $1/a$.


# %%
def add(a, b):
    return Number(a.data + b.data, (a, b), (1.0, 1.0))


def multiply(a, b):
    return Number(a.data * b.data, (a, b), (b.data, a.data))


# %%
def exp(a):
    power = math.exp(a.data)
    return Number(power, (a,), (power,))


def log(a):
    return Number(math.log(a.data), (a,), (1 / a.data,))


# %% [markdown]
# Now walk *backward*, from the result to what it was made of. If the result changes by
# `grad` for each unit of a number, and that number by `slope` for each unit of a parent,
# then the result changes by `slope * grad` for each unit of the parent. That is the
# **chain rule**. A number used twice gets a share from each use, so shares are *added*. All
# shares must be there before a number passes them on, so we go through the numbers in
# reverse order. (`in_order` calls itself for each parent; a function may do that.
# `[*a, b]` is a list of all entries of a, and then b.)


# %%
def in_order(result):
    """Everything that `result` was computed from, parents before children."""
    ordered = []
    for parent in result.parents:
        ordered += [value for value in in_order(parent) if value not in ordered]
    return [*ordered, result]


def backward(result):
    result.grad = 1.0
    for value in reversed(in_order(result)):
        for parent, slope in zip(value.parents, value.slopes):
            parent.grad += slope * value.grad


# %% [markdown]
# Try it on $y = x \cdot x + e^{x}$ at $x = 3$. The slope is $2x + e^x$.

# %%
x = Number(3.0)
y = add(multiply(x, x), exp(x))
backward(y)
print(f"y = {y.data:.4f}   slope {x.grad:.4f}   formula {2 * 3 + math.exp(3):.4f}")

# %% tags=["check"]
assert abs(x.grad - (6 + math.exp(3))) < 1e-12
x = Number(3.0)
backward(multiply(log(x), x))
assert abs(x.grad - (math.log(3) + 1)) < 1e-12

# %% [markdown]
# ![The computation x times x plus e to the x as a graph: values flow right, slopes flow
# back and are added at x](drawings/backward.svg)
#
# That is all. With operators in place of functions, so that one can write `a * b`, it is
# the class `Value` of the package: `src/llm_scratch/learn/autograd.py`, about 50 lines.
# The loss again, with `Value`s as parameters. This time the gradient comes for free:


# %%
def loss_with_memory(table):
    """The same loss as above, from a table of `Value`s, with which sums begin, too."""
    total = Value(0.0)
    for row, row_counts in zip(table, COUNTS):
        powers = sum((logit.exp() for logit in row), Value(0.0))
        for logit, n in zip(row, row_counts):
            total += n * (powers.log() - logit)  # -ln softmax
    return total * (1 / (len(IDS) - 1))


# %%
def gradient_by_autograd(table):
    values = [[Value(number) for number in row] for row in table]
    loss_with_memory(values).backward()
    return [[value.grad for value in row] for row in values]


by_autograd, _ = descend(gradient_by_autograd)
largest = max(abs(g - h) for r, s in zip(by_autograd, by_hand) for g, h in zip(r, s))
print(f"largest difference to the table by hand: {largest:.1e}")

# %% tags=["check"]
assert largest < 1e-9
theirs = [[Value(number) for number in row] for row in some]
assert abs(loss_with_memory(theirs).data - loss_of(some)) < 1e-9
v = Value(3.0)
(v * v + v.exp()).backward()
assert abs(v.grad - (6 + math.exp(3))) < 1e-12  # the package's class gives what our functions gave

# %% [markdown]
# ## 0.8 The same in PyTorch
# PyTorch does exactly this, for whole tensors at a time and on a GPU if there is one.
# `requires_grad=True` marks the parameters. `backward()` fills in `.grad`. `log_softmax` is
# the logarithm of softmax. (`float64` are numbers with 16 digits, as Python's own, so that
# the three ways can be compared to the ninth. PyTorch's usual numbers have 7.)

# %%
W = torch.zeros(V, V, dtype=torch.float64, requires_grad=True)
for _ in range(200):
    loss = -(C * W.log_softmax(dim=1)).sum() / C.sum()
    W.grad = None  # forget the last gradient; else the new one is added to it
    loss.backward()
    with torch.no_grad():  # this change is not to be remembered by autograd
        W -= 20.0 * W.grad
print(f"loss {loss.item():.4f}")

# %% [markdown]
# By hand, by our own autograd, by PyTorch: three ways, one table.

# %% tags=["check"]
torch.testing.assert_close(
    W.detach(), torch.tensor(by_hand, dtype=torch.float64), rtol=0, atol=1e-9
)
torch.testing.assert_close(
    W.detach(), torch.tensor(by_autograd, dtype=torch.float64), rtol=0, atol=1e-9
)
assert abs(loss.item() - losses[-1]) < 1e-9

# %% [markdown]
# ## 0.9 Better steps
# Plain gradient descent has a weakness. Picture a long valley with steep walls: one way
# the ground falls sharply, the other it hardly slopes. The rate has to be small enough
# for the steep way, so the walk along the valley takes forever.
#
# ![A long valley seen from above: SGD bounces between its walls, Muon crosses it in a
# straight line](drawings/optimizers.svg)
#
# Here is such a valley, with only four parameters: a 2 x 2 matrix `M`. It gets two
# inputs, one long and one short, and is right when it answers zero to both. The long one
# is twenty times as loud in the loss.


# %%
def turn(angle):
    """A rotation matrix [2, 2]: its columns are two directions at right angles."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]])


U = turn(0.5)
X = (U * torch.tensor([40.0, 2.0]).sqrt()).T  # two inputs as rows: long and short


def valley(M):
    return 0.5 * (X @ M).square().sum(dim=1).mean()


# %% tags=["setup"]
SIDE = turn(-0.9)
START = U @ torch.diag(torch.tensor([1.0, 2.0])) @ SIDE.T


def walk(step, steps=40):
    """The way that an optimizer takes: `step(M, gradient, memory)` changes M. [steps + 1, 2, 2]."""
    M, memory, path = START.clone(), {}, [START.clone()]
    for _ in range(steps):
        trial = M.clone().requires_grad_()
        valley(trial).backward()
        step(M, trial.grad, memory)
        path.append(M.clone())
    return torch.stack(path)


def packaged(make, steps=40):
    """The same with an optimizer of torch or of the package."""
    M = START.clone().requires_grad_()
    optimizer, path = make(M), [START.clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        valley(M).backward()
        optimizer.step()
        path.append(M.detach().clone())
    return torch.stack(path)


# %% [markdown]
# An **optimizer** is a rule that makes a step from a gradient. The plainest is the one
# we know, called **SGD** (*stochastic* gradient descent, since in real training each
# step sees only a random part of the text):


# %%
def sgd(M, gradient, memory, rate=0.09):
    M -= rate * gradient


# %% [markdown]
# **Momentum** makes the walker heavy. It keeps a running sum of past gradients. Across
# the valley they point left and right in turn and cancel; along it they agree and add up.
# (`memory` is a dictionary that lasts from step to step; `get` gives 0.0 in the first one.)


# %%
def momentum(M, gradient, memory, rate=0.02, keep=0.9):
    memory["velocity"] = keep * memory.get("velocity", 0.0) + gradient
    M -= rate * memory["velocity"]


# %% [markdown]
# **AdamW** gives every parameter its own step size: the average gradient divided by
# the typical size of that parameter's gradients. A steep direction and a flat one then
# move about equally fast. (The two divisions by $1 - \text{keep}^n$ make up for averages
# that start at zero. The W stands for *weight decay*, a small pull of every parameter
# toward 0, which we leave out here.)


# %%
def adamw(M, gradient, memory, rate=0.1, keep=0.9, keep_square=0.999):
    n = memory["n"] = memory.get("n", 0) + 1
    mean, square = memory.get("mean", 0.0), memory.get("square", 0.0)
    memory["mean"] = keep * mean + (1 - keep) * gradient
    memory["square"] = keep_square * square + (1 - keep_square) * gradient**2
    mean = memory["mean"] / (1 - keep**n)
    typical = (memory["square"] / (1 - keep_square**n)).sqrt()
    M -= rate * mean / (typical + 1e-8)


# %% [markdown]
# **Muon** looks at the matrix as a whole. The valley need not run along single entries of
# a matrix; here it is turned, so dividing entry by entry misses it. Muon replaces the
# average gradient by the nearest matrix that moves *all directions equally*. The exact
# way splits the matrix into directions and sizes (`svd`) and sets all sizes to 1:


# %%
def equal_sizes(matrix):
    directions_out, sizes, directions_in = torch.linalg.svd(matrix, full_matrices=False)
    return directions_out @ directions_in


def muon(M, gradient, memory, rate=0.1, keep=0.95):
    average = keep * memory.get("average", torch.zeros(2, 2)) + (1 - keep) * gradient
    memory["average"] = average
    M -= rate * equal_sizes(keep * average + (1 - keep) * gradient)


# %% [markdown]
# The package's `Muon` avoids the slow `svd`. A few matrix products bring all sizes near 1,
# between 0.68 and 1.2, which does as well (`orthogonalize` in `training/optim.py`).

# %% tags=["check"]
torch.manual_seed(0)
for shape in ((8, 8), (16, 4), (3, 12)):
    sizes = torch.linalg.svdvals(orthogonalize(equal_sizes(torch.randn(shape))))
    assert ((sizes > 0.66) & (sizes < 1.22)).all()
pairs = {
    "SGD": (sgd, lambda M: torch.optim.SGD([M], lr=0.09)),
    "momentum": (momentum, lambda M: torch.optim.SGD([M], lr=0.02, momentum=0.9)),
    "AdamW": (adamw, lambda M: torch.optim.AdamW([M], lr=0.1, weight_decay=0.0)),
}
for ours, make in pairs.values():
    torch.testing.assert_close(walk(ours), packaged(make), rtol=0, atol=1e-4)


def muon_as_packaged(M, gradient, memory, rate=0.1, keep=0.95):
    """The rule above, with the package's `orthogonalize` in place of svd."""
    average = keep * memory.get("average", torch.zeros(2, 2)) + (1 - keep) * gradient
    memory["average"] = average
    M -= rate * orthogonalize(keep * average + (1 - keep) * gradient)


def make_muon(M):
    return Muon([{"params": [M], "matrix": True}], lr=0.1, betas=(0.9, 0.95))


torch.testing.assert_close(walk(muon_as_packaged, 10), packaged(make_muon, 10), rtol=0, atol=1e-4)

# %% [markdown]
# Four walkers, one valley, forty steps from the same point. The rings join points of
# equal loss.

# %% tags=["plot"]
paths = {"SGD": walk(sgd), "momentum": walk(momentum), "AdamW": walk(adamw), "Muon": walk(muon)}
across, along = torch.meshgrid(
    torch.linspace(-1.1, 1.4, 90), torch.linspace(-1.2, 2.3, 90), indexing="ij"
)
height = 0.5 * (20 * across**2 + along**2)
fig, axes = plt.subplots(1, 4, figsize=(9.6, 3.4), sharey=True)
for ax, (name, path), color in zip(axes, paths.items(), (RED, ORANGE, PINK, BLUE)):
    ax.contour(
        across,
        along,
        height,
        levels=[0.05, 0.3, 1, 2.5, 5, 9, 14],
        colors="#b9b9b9",
        linewidths=0.7,
    )
    seen = U.T @ path @ SIDE  # [41, 2, 2]: what M does to the long and to the short input
    ax.plot(seen[:, 0, 0], seen[:, 1, 1], color=color, lw=1.4, marker="o", ms=2.6)
    ax.plot(0, 0, "*", color="black", ms=9, zorder=5)
    ax.set(
        title=f"{name}: loss {valley(path[-1]):.4f}",
        xlabel="across the valley",
        xlim=(-1.1, 1.4),
        ylim=(-1.2, 2.3),
    )
axes[0].set_ylabel("along the valley")
plt.show()

# %% tags=["check"]
torch.testing.assert_close(valley(START), torch.tensor(0.5 * (20 * 1.0 + 2.0**2)))
first = {name: (U.T @ (path[1] - path[0]) @ SIDE).diagonal() for name, path in paths.items()}
assert first["SGD"][0].abs() > 9 * first["SGD"][1].abs()  # SGD falls down the steep wall
torch.testing.assert_close(first["Muon"][0], first["Muon"][1])  # Muon walks both ways alike
assert all(valley(path[-1]) < valley(START) / 20 for path in paths.values())


def too_fast(M, gradient, memory):
    sgd(M, gradient, memory, rate=0.11)


assert valley(walk(too_fast)[-1]) > 100 * valley(START)


def distance(path, step):
    return path[step].norm().item()


assert distance(paths["Muon"], 30) > 0.2
assert max(distance(paths["Muon"], step) for step in range(15, 41)) > 0.6

# %% [markdown]
# - SGD bounces between the walls; with a rate of 0.11 instead of 0.09 it is thrown out.
# - Momentum swings like a ball in a bowl, then settles.
# - AdamW and Muon move by the *rate*, however steep it is. They get anywhere fast, then
#   overshoot and circle. That is why the rate of a real run falls toward its end.
#
# Does it matter? On a toy like this, any of the four would do. In this package's real
# training run, which lesson 6 takes apart, Muon trains the matrices and AdamW the rest.
#
# ## 0.10 Modules: parameters with a name
# A GPT has hundreds of parameter tensors. PyTorch keeps them in **modules**. A module is
# a class with two parts: `__init__` makes the parameters, `forward` uses them. `Bigram` is
# built on PyTorch's own class, `nn.Module`, which keeps the list of parameters;
# `super().__init__()` starts that class first. Our bigram model as a module. (Ids in square
# brackets pick a row for each of them, so `[B]` ids give `[B, V]` logits.)


# %%
class Bigram(nn.Module):
    """Letter ids [B] -> logits for the next letter [B, V]."""

    def __init__(self, n_symbols):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(n_symbols, n_symbols))

    def forward(self, ids):
        return self.table[ids]


model = Bigram(V)
print({name: tuple(parameter.shape) for name, parameter in model.named_parameters()})

# %% [markdown]
# Call it like a function; that runs `forward`. The training loop is now the one that you
# will meet in every PyTorch program. `zero_grad` forgets the last gradients, `step` changes
# all parameters, and `cross_entropy` takes logits, not probabilities: softmax is inside.

# %%
now, following = torch.tensor(IDS[:-1]), torch.tensor(IDS[1:])
optimizer = torch.optim.SGD(model.parameters(), lr=20.0)
for _ in range(200):
    loss = nn.functional.cross_entropy(model(now), following)  # mean surprise
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.4f}")

# %% tags=["check"]
torch.testing.assert_close(model.table.detach(), W.detach().float(), rtol=0, atol=1e-3)
assert abs(loss.item() - losses[-1]) < 1e-5

# %% [markdown]
# Looking up row number `id` of a learned table is so common that PyTorch has a module for
# it, `nn.Embedding`. You will meet it again at the entrance of every GPT. Another one is
# `nn.Linear(n, m)`: a matrix that makes m numbers of n, and adds m more, the *bias*. And
# modules can hold modules: that is how a GPT is put together, and how all its parameters
# are found. `nn.Sequential` runs its modules one after the other.

# %%
twice = nn.Sequential(nn.Embedding(V, 4), nn.Linear(4, V))
print({name: tuple(parameter.shape) for name, parameter in twice.named_parameters()})
print("parameters:", sum(parameter.numel() for parameter in twice.parameters()))

# %% tags=["check"]
embedding = nn.Embedding(V, V)
embedding.load_state_dict({"weight": model.table.detach()})
torch.testing.assert_close(embedding(now), model(now))
assert sum(parameter.numel() for parameter in twice.parameters()) == V * 4 + 4 * V + V
assert twice(now).shape == (len(IDS) - 1, V)

# %% [markdown]
# Let the trained module write. It has learned the same table, so it writes the same
# kind of text. (`detach` takes the numbers alone, without autograd's memory.)

# %%
probabilities = model.table.detach().softmax(dim=1)
print(write(probabilities, 60, seed=4))

# %% [markdown]
# ## 0.11 Try it yourself
# `ask` shows an exercise, with new numbers each time. Write your answer in place of the
# `...` and run the cell. A wrong answer is diagnosed; the right one is never shown.
# `hint("0.1")` opens a hint, three for each exercise. The same exercises in a terminal:
# `llm-scratch learn next`. Solutions are sealed: `llm-scratch learn solution 0.1` opens
# one.

# %%
ask("0.1")

# %%
check("0.1", ...)

# %%
ask("0.2")

# %%
check("0.2", ...)

# %%
ask("0.3")


# %%
def row_shares(table):
    return ...  # your code


check("0.3", row_shares)

# %%
ask("0.4")


# %%
def count_pairs(ids, n_symbols):
    return ...  # your code


check("0.4", count_pairs)

# %%
ask("0.5")

# %%
check("0.5", ...)

# %%
ask("0.6")


# %%
def to_probabilities(logits):
    powers = [math.exp(number) for number in logits]
    return [power / sum(logits) for power in powers]


check("0.6", to_probabilities)

# %%
ask("0.7")

# %%
check("0.7", ...)

# %%
ask("0.8")


# %%
def slopes_of_result(nodes):
    grads = [0.0] * len(nodes)
    grads[-1] = 1.0
    for position in reversed(range(len(nodes))):
        parents, slopes = nodes[position]
        for parent, slope in zip(parents, slopes):
            grads[parent] = slope * grads[position]
    return grads


check("0.8", slopes_of_result)

# %%
ask("0.9")


# %%
def walk_with_momentum(start, slopes, rate, keep):
    return ...  # your code


check("0.9", walk_with_momentum)

# %%
ask("0.10")

# %%
check("0.10", ...)

# %%
ask("0.11")

# %%
check("0.11", ...)

# %% [markdown]
# ## Summary
# - A tensor is a table with a shape. Look at shapes first.
# - A language model gives probabilities for what comes next; loss is its mean surprise.
# - The gradient says for every parameter which way the loss rises. Walk the other way.
# - Autograd: each operation knows its own slope, the chain rule does the rest.
# - Optimizers differ in how they make a step from a gradient.
# - A module is parameters with a name and a `forward`.
#
# What runs: `src/llm_scratch/learn/autograd.py`, `src/llm_scratch/training/optim.py`.
# Next: `lessons/step1_text.py` turns real text into numbers.
