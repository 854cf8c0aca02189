# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Step 3: the GPT model, part by part
#
# Step 2 built attention, the part that lets a token ask the others. A GPT is that part,
# five simpler ones, and a stack: the same block a dozen times, one on top of the other. At
# the end of this lesson there is a whole model, every one of its parameters is counted, and
# it writes, though only gibberish. Nobody has taught it anything yet; that is step 4.
#
# | step | new idea |
# |---|---|
# | 3.1 | the outline: ids in, a logit for every possible next token out |
# | 3.2 | layer norm keeps numbers at a steady size |
# | 3.3 | GELU, a bend without a corner |
# | 3.4 | the feed-forward network: each token by itself |
# | 3.5 | shortcuts, without which depth does not learn |
# | 3.6 | the block: attention, then feed-forward, each added to what was there |
# | 3.7 | the model |
# | 3.8 | where 124 million parameters are |
# | 3.9 | a loop that writes |
#
# As before, each part is built here and then *asserted* equal to what the package runs.
# Run it as a notebook or as `python lessons/step3_gpt.py`. It takes about ten seconds and
# needs no network.
#
# From lesson 0 you need modules (0.10) and gradients (0.5); from lesson 1 embeddings (1.7)
# and the letters B, T, C and V; from lesson 2 attention.

# %% tags=["setup"]
import math  # noqa: F401  for the exercises

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from llm_scratch.config import ModelConfig
from llm_scratch.errors import UserError
from llm_scratch.generation.decode import generate_text_simple
from llm_scratch.learn.notebook import ask, check, hint  # noqa: F401
from llm_scratch.learn.script import run_as_script
from llm_scratch.model import gpt, layers, lesson_models
from llm_scratch.model.attention import MultiHeadAttention
from llm_scratch.tokenizers import TOKENIZERS

run_as_script(globals())
plt.rcParams.update({"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10})
plt.rcParams.update({"figure.constrained_layout.use": True, "legend.frameon": False})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
torch.set_printoptions(precision=4, sci_mode=False)
torch.set_num_threads(1)  # for tensors this small, a second thread costs more than it brings
BLUE, ORANGE, GREEN, RED, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"


def close(got, want, atol=6e-5):
    """Compare a tensor with numbers that were printed with four digits."""
    got, want = torch.as_tensor(got).detach(), torch.as_tensor(want)
    torch.testing.assert_close(got, want, rtol=0, atol=atol)


# %% [markdown]
# ## 3.1 The outline
# From outside, a GPT is a function. In go the ids of some tokens. Out comes, *for each of
# them*, a logit for every token of the vocabulary: how likely is it as the next one? (A
# logit is a number that goes into softmax, lesson 0.4.)
#
# Seven settings say what shape a GPT has. These are those of the smallest GPT-2:

# %%
GPT_CONFIG_124M = {
    "vocab_size": 50257,  # V: tokens that exist
    "context_length": 1024,  # tokens the model can see at once
    "emb_dim": 768,  # C: numbers that stand for one token inside the model
    "n_heads": 12,  # H: attention heads in each block
    "n_layers": 12,  # blocks in the stack
    "drop_rate": 0.1,  # share of numbers that dropout sets to 0 while training
    "qkv_bias": False,  # whether query, key and value have a bias
}

# %% [markdown]
# For this lesson a small one suffices. (`{**a, "x": 1}` is a copy of the dictionary `a` with
# some entries changed.)

# %%
SMALL = {**GPT_CONFIG_124M, "emb_dim": 32, "n_heads": 2, "n_layers": 2}

# %% [markdown]
# Two sentences of four tokens each will accompany us. If GPT-2's vocabulary is not on this
# machine and cannot be downloaded, we take their ids as known.

# %%
batch = torch.tensor([[6109, 3626, 6100, 345], [6109, 1110, 6622, 257]])  # [B, T]
try:
    tokenizer = TOKENIZERS["gpt2"]([], None)
    print([tokenizer.decode(ids) for ids in batch.tolist()])
except UserError:
    tokenizer = None
    print("Continuing without GPT-2's vocabulary")

# %% tags=["check"]
sentences = ["Every effort moves you", "Every day holds a"]
if tokenizer is not None:
    assert [tokenizer.encode(s) for s in sentences] == batch.tolist()

# %% [markdown]
# Now the outline. `DummyGPTModel` has a real beginning, the two tables of lesson 1.7, and a
# real end, a matrix that turns each vector into 50257 logits. In between, where the work
# will be done, it does nothing.

# %%
torch.manual_seed(123)
logits = lesson_models.DummyGPTModel(SMALL)(batch)  # [B, T, V]
print("in:", tuple(batch.shape), " out:", tuple(logits.shape))
print("the first token's first logits:", logits[0, 0, :4].detach())

# %% tags=["check"]
assert logits.shape == (2, 4, 50257)

# %% [markdown]
# ## 3.2 Layer norm: a steady size
# A model multiplies and adds, block after block. Numbers that grow a little in each block
# are huge after forty, and numbers that shrink are gone; in both cases learning stalls.
# **Layer norm** is the cure. It takes one token's numbers, shifts them so that their mean
# is 0, and scales them so that their *variance* is 1. (The variance is the mean of the
# squared distances from the mean; it measures how far the numbers are spread.)
#
# $$\mathrm{norm}(x) = \mathrm{scale}\cdot
# \frac{x - \mathrm{mean}(x)}{\sqrt{\mathrm{var}(x) + \varepsilon}} + \mathrm{shift}$$
#
# The tiny $\varepsilon$ keeps us from dividing by 0. First for one token, as a list:


# %%
def norm_of_one(numbers, eps=1e-5):
    """Mean 0 and variance 1, without scale and shift."""
    mean = sum(numbers) / len(numbers)
    variance = sum((x - mean) ** 2 for x in numbers) / len(numbers)
    return [(x - mean) / (variance + eps) ** 0.5 for x in numbers]


print([round(x, 3) for x in norm_of_one([1.0, 2.0, 3.0, 6.0])])

# %% [markdown]
# And for all tokens at once. `scale` and `shift` start at 1 and 0 and are learned, so the
# model may undo the norm where that helps.
#
# ![Layer norm: the numbers of each token are shifted to mean 0 and scaled to variance
# 1, each token by itself](drawings/layer-norm.svg)


# %%
class LayerNorm(nn.Module):
    def __init__(self, emb_dim):
        super().__init__()
        self.eps = 1e-5
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x):  # [..., C] -> [..., C]
        mean = x.mean(dim=-1, keepdim=True)
        variance = x.var(dim=-1, keepdim=True, unbiased=False)
        return self.scale * (x - mean) / torch.sqrt(variance + self.eps) + self.shift


# %% [markdown]
# Six tokens that have drifted apart, before and after. Each is normalized by itself; no
# token sees another here.

# %%
torch.manual_seed(123)
middle = torch.tensor([-6.0, 4.0, 0.0, 9.0, -2.0, 1.0])[:, None]  # [T, 1]
spread = torch.tensor([1.0, 3.0, 0.3, 2.0, 5.0, 0.6])[:, None]
before = middle + spread * torch.randn(6, 768)  # [T, C]
after = LayerNorm(768)(before)
print("means before:", before.mean(-1))
print("means after :", after.mean(-1).detach().abs().round(decimals=4))

# %% tags=["check"]
close(after.mean(-1), [0.0] * 6)
# the one with the smallest spread feels eps
close(after.var(-1, unbiased=False), [1.0] * 6, atol=2e-4)
close(after[0], norm_of_one(before[0].tolist()), atol=1e-4)
# the package's formula and its module, which runs a fused kernel
norm, ours = layers.LayerNorm(768), LayerNorm(768)
for module in (norm, ours):
    torch.manual_seed(5)
    nn.init.normal_(module.scale)
    nn.init.normal_(module.shift)
torch.testing.assert_close(norm(before), ours(before))
torch.testing.assert_close(norm(before), layers.layer_norm(before, ours.scale, ours.shift))


# %% tags=["plot"]
def draw_tokens(ax, x, tokens, title):
    """One violin for each token: how its numbers are spread; the dot is the mean."""
    numbers = x.detach().numpy().T
    drawn = ax.violinplot(numbers, orientation="horizontal", widths=0.85, showextrema=False)
    for body in drawn["bodies"]:
        body.set(facecolor=BLUE, alpha=0.75)
    places = range(1, len(tokens) + 1)
    ax.scatter(numbers.mean(0), places, color="white", edgecolor="black", s=16, zorder=3)
    ax.set_yticks(places, tokens)
    ax.invert_yaxis()
    ax.set(title=title, xlabel="value")


tokens = ["Every", "effort", "moves", "you", "far", "."]
fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.0), sharex=True)
draw_tokens(axes[0], before, tokens, "Before layer norm: drifted apart")
draw_tokens(axes[1], after, tokens, "After: all equal in place and size")
plt.show()

# %% [markdown]
# **What goes wrong: which variance?** By default `x.var()` divides by $n-1$, as statistics
# does for a *sample*. Layer norm divides by $n$, hence
# `unbiased=False`. For 768 numbers you would not notice, for five you do, and a checkpoint
# trained with one and used with the other is off in every block.

# %%
five = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
print("by n    :", F.layer_norm(five, (5,)))
print("by n - 1:", (five - five.mean()) / (five.var() + 1e-5).sqrt())

# %% tags=["check"]
by_n = (five - five.mean()) / (five.var(unbiased=False) + 1e-5).sqrt()
torch.testing.assert_close(F.layer_norm(five, (5,)), by_n)

# %% [markdown]
# ## 3.3 GELU: a bend without a corner
# Two matrices in a row do no more than one: $(x A) B = x (A B)$. However many you stack,
# the result is one matrix. Between them there has to be a bend, a function of single
# numbers whose graph is not a straight line. It is called an *activation*.

# %%
torch.manual_seed(0)
A, B, x = torch.randn(4, 8), torch.randn(8, 4), torch.randn(3, 4)
one = x @ (A @ B)
print("no bend, equal:", torch.allclose((x @ A) @ B, one, atol=1e-5))
print("a bend, equal :", torch.allclose((x @ A).relu() @ B, one, atol=1e-5))

# %% tags=["check"]
torch.testing.assert_close((x @ A) @ B, one, rtol=0, atol=1e-5)
assert ((x @ A).relu() @ B - one).abs().max() > 0.1

# %% [markdown]
# The classic activation is **ReLU**: keep what is positive, make the rest 0. It has a corner at
# 0, and left of it no slope at all: a number that has fallen there gets no gradient, so
# nothing brings it back. **GELU** rounds the corner. It is $x$ times the probability that
# a random number from the bell curve is below $x$. GPT-2 uses a close approximation with
# $\tanh$, a function that rises smoothly from -1 to 1:
#
# $$\mathrm{GELU}(x) \approx
# \tfrac12\,x\left(1+\tanh\!\left(\sqrt{2/\pi}\,\left(x+0.044715\,x^3\right)\right)\right)$$


# %%
class GELU(nn.Module):
    def forward(self, x):  # any shape -> the same shape
        return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


print(GELU()(torch.tensor([-4.0, -1.0, 0.0, 1.0, 4.0])))

# %% tags=["check"]
x = torch.linspace(-4, 4, 801, requires_grad=True)
torch.testing.assert_close(GELU()(x), layers.GELU()(x))
torch.testing.assert_close(GELU()(x), layers.gelu(x))
exact = x * torch.distributions.Normal(0.0, 1.0).cdf(x)
assert (GELU()(x) - exact).abs().max() < 5e-4

# %% tags=["plot"]
slopes = {}
fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.0))
bends = (("ReLU", nn.ReLU(), ORANGE, "--"), ("GELU", layers.GELU(), BLUE, "-"))
for name, bend, color, style in bends:
    (slopes[name],) = torch.autograd.grad(bend(x).sum(), x)
    axes[0].plot(x.detach(), bend(x).detach(), color=color, ls=style, lw=2, label=name)
    axes[1].plot(x.detach(), slopes[name], color=color, ls=style, lw=2, label=name)
axes[0].set(title="The output", xlabel="x", ylabel="output")
axes[1].set(title="The slope, which the gradient is made of", xlabel="x", ylabel="slope")
for ax in axes:
    ax.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
    ax.axvline(0, color="#bbbbbb", lw=0.8, zorder=0)
    ax.legend(loc="upper left")
plt.show()

# %% tags=["check"]
assert (slopes["ReLU"][x < 0] == 0).all()
assert (slopes["GELU"][(x < 0) & (x > -3)] != 0).all()

# %% [markdown]
# Left of 0, GELU still has a slope, even a negative one below -0.75, so gradients reach a
# number that is too low.
#
# ## 3.4 The feed-forward network: each token by itself
# Attention moves information between tokens. The **feed-forward network** then works on
# each token by itself. It spreads the token's $C$ numbers over $4C$, bends them, and brings
# them back to $C$. The wide middle can hold many small questions ("is this a name?",
# "are we inside a quotation?"), each answered by one of the $4C$ numbers.
#
# ![The feed-forward network of one token: a matrix widens C numbers to 4C, GELU bends
# each, a matrix narrows them to C](drawings/feed-forward.svg)
#
# (`nn.Sequential` runs modules one after the other. `nn.Linear(n, m)` is a matrix that
# makes $m$ numbers of $n$, plus a bias.)


# %%
class FeedForward(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        C = cfg["emb_dim"]
        self.layers = nn.Sequential(nn.Linear(C, 4 * C), GELU(), nn.Linear(4 * C, C))

    def forward(self, x):  # [B, T, C] -> [B, T, C]
        return self.layers(x)


# %%
torch.manual_seed(123)
ff, x = FeedForward(SMALL), torch.rand(2, 3, 32)
print("in:", tuple(x.shape), " out:", tuple(ff(x).shape))
print("parameters:", sum(p.numel() for p in ff.parameters()))  # numel: how many numbers

# %% tags=["check"]
packaged = layers.FeedForward(SMALL)
packaged.load_state_dict(ff.state_dict())
torch.testing.assert_close(packaged(x), ff(x))
# swap the tokens, and only the order of the results changes
torch.testing.assert_close(ff(x)[:, [2, 0, 1]], ff(x[:, [2, 0, 1]]))
assert sum(p.numel() for p in ff.parameters()) == 2 * 4 * 32**2 + 5 * 32

# %% [markdown]
# ## 3.5 Shortcuts: why depth learns at all
# The gradient is computed backward (lesson 0.7): from the loss through the layers, last to
# first, and each layer multiplies it by something. Many factors below 1 make nearly 0, so
# the first layers of a deep stack get almost no gradient and never learn. A **shortcut** is
# the cure, and it is one plus sign: let a layer *add* to its input and not replace it,
# `x + layer(x)`. Backward, the gradient then has a way around every layer.
#
# Here is a small stack of five layers, with shortcuts or without.


# %%
def linear_gelu(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, n_out), GELU())


# %%
class DeepNetwork(nn.Module):
    def __init__(self, sizes, use_shortcut):
        super().__init__()
        self.use_shortcut = use_shortcut
        pairs = zip(sizes, sizes[1:])
        self.layers = nn.ModuleList([linear_gelu(*pair) for pair in pairs])

    def forward(self, x):
        for layer in self.layers:
            y = layer(x)
            x = x + y if self.use_shortcut and x.shape == y.shape else y
        return x


# %% [markdown]
# How much of the gradient reaches each layer? We measure the mean size of its weights'
# gradient. (The target is 0, and the loss is the mean square of the output.)


# %%
def gradient_sizes(model, x):
    """The mean size of each layer's gradient, first layer first."""
    model.zero_grad()
    model(x).square().mean().backward()
    named = model.named_parameters()
    return [p.grad.abs().mean().item() for name, p in named if name.endswith("weight")]


# %%
sizes = {}
for use_shortcut in (False, True):
    torch.manual_seed(123)
    network = DeepNetwork([3, 3, 3, 3, 3, 1], use_shortcut)
    sizes[use_shortcut] = gradient_sizes(network, torch.tensor([[1.0, 0.0, -1.0]]))
    print("with shortcuts:" if use_shortcut else "without:       ", end=" ")
    print([round(size, 6) for size in sizes[use_shortcut]])

# %% tags=["check"]
printed = [0.000201735878, 0.000120111610, 0.000715204165, 0.001398873865, 0.005049646366]
torch.testing.assert_close(torch.tensor(sizes[False]), torch.tensor(printed), rtol=2e-6, atol=0)
assert min(sizes[True]) > 100 * min(sizes[False])
torch.manual_seed(123)
theirs = lesson_models.ExampleDeepNeuralNetwork([3, 3, 3, 3, 3, 1], True)
x = torch.tensor([[1.0, 0.0, -1.0]])
torch.testing.assert_close(network(x), theirs(x))

# %% [markdown]
# At the depth of the largest GPT-2, 48 blocks, there is no longer any doubt:

# %%
DEPTH, WIDTH = 48, 64
deep_sizes = {}
for name, use_shortcut in (("with shortcuts", True), ("without shortcuts", False)):
    torch.manual_seed(123)
    network = DeepNetwork([WIDTH] * (DEPTH + 1), use_shortcut)
    found = deep_sizes[name] = gradient_sizes(network, torch.randn(16, WIDTH))
    print(f"{name}: first layer {found[0]:.0e}, last layer {found[-1]:.0e}")

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(6.8, 3.2))
for (name, found), color, marker in zip(deep_sizes.items(), (BLUE, RED), "so"):
    relative = [size / found[-1] for size in found]
    style = {"color": color, "marker": marker, "ms": 3, "lw": 1.2}
    ax.plot(range(1, DEPTH + 1), relative, label=name, **style)
ax.set(
    yscale="log",
    xlabel="layer (the gradient starts at layer 48 and goes left)",
    ylabel="gradient, last layer = 1",
    title="How much of the gradient reaches each of 48 layers",
)
ax.set_xticks([1, 8, 16, 24, 32, 40, 48])
ax.legend(loc="center left")
plt.show()

# %% tags=["check"]
for name, found in deep_sizes.items():
    assert (found[0] > 0.1 * found[-1]) == (name == "with shortcuts")

# %% [markdown]
# Without shortcuts the first layer gets a part in $10^{24}$: nothing. With them, all layers
# get about the same. (The printed sizes are in the millions, since each layer adds to the
# numbers and nothing holds them back. That is what the norms of section 3.2 are for; the
# block below has both.)
#
# ## 3.6 The block
# Now we have all parts. A **transformer block** applies attention, then the feed-forward
# network, and both times *adds* the result to what was there:
#
# ![A transformer block: norm, attention, added back; norm, feed-forward network, added
# back](drawings/transformer-block.svg)
#
# The line that runs through all plus signs of the stack is called the **residual stream**:
# blocks read from it and add to it. The norm comes *before* each part ("pre-norm"), so the
# stream itself is never normalized and the gradient can flow back along it undisturbed.
#
# ![The residual stream: a vector for each token flows through all blocks; each layer reads
# it and adds to it](drawings/residual-stream.svg)


# %%
class TransformerBlock(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        C, T, drop = cfg["emb_dim"], cfg["context_length"], cfg["drop_rate"]
        self.att = MultiHeadAttention(C, C, T, drop, cfg["n_heads"], cfg["qkv_bias"])
        self.ff = FeedForward(cfg)
        self.norm1, self.norm2 = LayerNorm(C), LayerNorm(C)
        self.drop_shortcut = nn.Dropout(drop)

    def forward(self, x):  # [B, T, C] -> [B, T, C]
        x = x + self.drop_shortcut(self.att(self.norm1(x)))
        return x + self.drop_shortcut(self.ff(self.norm2(x)))


# %%
torch.manual_seed(123)
x = torch.rand(2, 4, 32)  # [B, T, C]
block = TransformerBlock(SMALL)
print("in:", tuple(x.shape), " out:", tuple(block(x).shape))

# %% tags=["check"]
assert block(x).shape == x.shape
torch.manual_seed(123)
torch.testing.assert_close(x, torch.rand(2, 4, 32))
packaged = gpt.TransformerBlock(SMALL)
torch.testing.assert_close(packaged.eval()(x), block.eval()(x))

# %% [markdown]
# In and out have the same shape. That is what makes a stack of twelve blocks, or
# ninety-six, as easy as one.
#
# ## 3.7 The model
# Vectors for tokens plus vectors for positions, the stack, one last norm, and the head: a
# matrix that turns each vector into 50257 logits. This is all there is to GPT-2:
#
# ![GPT: token and position embeddings are added, pass through equal blocks, a norm and a
# head give logits](drawings/gpt-model.svg)
#
# First what it is made of:


# %%
class GPTParts(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        V, T, C = cfg["vocab_size"], cfg["context_length"], cfg["emb_dim"]
        self.tok_emb = nn.Embedding(V, C)
        self.pos_emb = nn.Embedding(T, C)
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        blocks = [TransformerBlock(cfg) for _ in range(cfg["n_layers"])]
        self.trf_blocks = nn.Sequential(*blocks)
        self.final_norm = LayerNorm(C)
        self.out_head = nn.Linear(C, V, bias=False)


# %% [markdown]
# Then the forward pass through it:


# %%
class GPT(GPTParts):
    def forward(self, in_idx):
        positions = torch.arange(in_idx.shape[1])  # [T]: 0, 1, 2, ...
        x = self.tok_emb(in_idx) + self.pos_emb(positions)  # [B, T, C]
        x = self.drop_emb(x)
        x = self.trf_blocks(x)  # [B, T, C]
        x = self.final_norm(x)
        return self.out_head(x)  # [B, T, V]


# %%
torch.manual_seed(123)
ours = GPT(SMALL).eval()  # eval: without dropout
print("ids", tuple(batch.shape), "-> logits", tuple(ours(batch).shape))

# %% [markdown]
# Is it the package's model? Same names, same first parameters, same logits:

# %%
torch.manual_seed(123)
packaged = gpt.GPTModel(SMALL).eval()
print(list(packaged.state_dict())[:4], "...")  # state_dict: every tensor by its name
print("equal logits:", torch.allclose(ours(batch), packaged(batch), atol=1e-5))

# %% tags=["check"]
assert list(ours.state_dict()) == list(packaged.state_dict())
assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), packaged.parameters()))
torch.testing.assert_close(ours(batch), packaged(batch))

# %% [markdown]
# **What goes wrong: another order.** "The same seed" means that random numbers come in the
# same *sequence*; what is made first takes the first ones. Make the same parts in another
# order, and each of them gets other numbers. That is not wrong, but nothing that was
# printed before can be compared any longer. So the package keeps the order above.

# %%
torch.manual_seed(123)
first, second = nn.Linear(3, 3), nn.Linear(3, 3)
torch.manual_seed(123)
second_now, first_now = nn.Linear(3, 3), nn.Linear(3, 3)
print("first is first:", torch.equal(first.weight, first_now.weight))
print("first is the other:", torch.equal(first.weight, second_now.weight))

# %% tags=["check"]
assert not torch.equal(first.weight, first_now.weight)
assert torch.equal(first.weight, second_now.weight)

# %% [markdown]
# Does the whole model keep attention's promise, that no token sees the future? Change one
# word at a time, and see which logits change.

# %%
ids = torch.tensor([[6109, 3626, 6100, 345, 845, 1290]])  # [1, T]
moved = torch.zeros(6, 6)  # row: whose logits; column: which word was changed
with torch.no_grad():
    unchanged = packaged(ids)
    for position in range(6):
        changed = ids.clone()
        changed[0, position] = 11  # a comma
        moved[:, position] = (packaged(changed) - unchanged)[0].abs().mean(-1)

# %% tags=["check"]
assert (moved.triu(1) == 0).all()
assert (moved.tril() + torch.ones(6, 6).triu(1) > 0).all()

# %% tags=["plot"]
sentence = ["Every", "effort", "moves", "you", "very", "far"]
fig, ax = plt.subplots(figsize=(4.6, 3.7))
image = ax.imshow(moved.masked_fill(moved == 0, float("nan")).numpy(), cmap="Blues", vmin=0)
ax.set_facecolor("#e6e6e6")
ax.set_xticks(range(6), sentence, rotation=40, ha="right", rotation_mode="anchor")
ax.set_yticks(range(6), sentence)
ax.set(xlabel="this word is changed", ylabel="logits after this word")
ax.set_title("What changes? Grey: nothing at all")
ax.spines[:].set_visible(False)
ax.tick_params(length=0)
fig.colorbar(image, label="mean change of the logits", shrink=0.85)
plt.show()

# %% [markdown]
# ## 3.8 Where 124 million parameters are
# Count on paper first. With width $C$, a block has query, key, value and output, $4C^2$;
# the feed-forward network, $2\cdot 4C^2$; and a few small ones. So about $12C^2$ a block.
# The tables before and after have $V\cdot C$ each.
#
# To count for real, the model need not be made. On PyTorch's **meta device** a tensor has a
# shape and no numbers. It takes no memory, so the largest model can be counted before it is
# built:

# %%
with torch.device("meta"):
    model = gpt.GPTModel(GPT_CONFIG_124M)
in_block = sum(p.numel() for p in model.trf_blocks[0].parameters())
print(f"a block: 12 C^2 = {12 * 768**2:,}, counted {in_block:,}")
print("token table", tuple(model.tok_emb.weight.shape), end=", ")
print("head", tuple(model.out_head.weight.shape))
print(f"all: {sum(p.numel() for p in model.parameters()):,}")

# %% tags=["check"]
n_all = sum(p.numel() for p in model.parameters())
assert n_all == ModelConfig.of(GPT_CONFIG_124M).n_params == 163_009_536

# %% [markdown]
# 163 million, and yet it is called *124M*. The reason is the second line. The table that
# turns a token into a vector and the head that turns a vector into logits have the same
# shape, and GPT-2 uses **one** matrix for both. That is called **weight tying**. It makes
# the smallest model smaller by 38.6 million, and the largest, *XL*, by 80 million:
#
# ![Weight tying: one matrix is the token table, which gives a row for an id, and the
# head, which compares a vector with every row](drawings/weight-tying.svg)

# %%
GPT_CONFIG_XL = {**GPT_CONFIG_124M, "emb_dim": 1600, "n_heads": 25, "n_layers": 48}
for name, cfg in (("small", GPT_CONFIG_124M), ("XL", GPT_CONFIG_XL)):
    apart = ModelConfig.of(cfg)
    tied = ModelConfig.of({**cfg, "tie_embeddings": True})
    print(f"{name:5} two matrices {apart.n_params:>13,}", end="   ")
    print(f"one for both {tied.n_params:>13,}")

# %% tags=["check"]
for cfg in (GPT_CONFIG_124M, GPT_CONFIG_XL):
    apart, tied = ModelConfig.of(cfg), ModelConfig.of({**cfg, "tie_embeddings": True})
    assert apart.n_params - tied.n_params == apart.vocab_size * apart.emb_dim
assert ModelConfig.of({**GPT_CONFIG_124M, "tie_embeddings": True}).n_params == 124_412_160
assert ModelConfig.of(GPT_CONFIG_XL).n_params == 1_637_792_000
assert tied.n_params == 1_557_380_800
with torch.device("meta"):
    huge = gpt.GPTModel(GPT_CONFIG_XL)
assert sum(p.numel() for p in huge.parameters()) == 1_637_792_000
assert f"{1_637_792_000 * 4 / 1024**2:.2f}" == "6247.68"  # MB, at 4 bytes a number
assert huge.tok_emb.weight.shape == huge.out_head.weight.shape == (50257, 1600)
tied = gpt.GPTModel({**SMALL, "tie_embeddings": True})
assert tied.out_head.weight is tied.tok_emb.weight

# %% tags=["plot"]
SIZES = {"small": (768, 12, 12), "medium": (1024, 16, 24), "large": (1280, 20, 36)}
SIZES["XL"] = (1600, 25, 48)
KINDS = {"token table": BLUE, "positions": PINK, "attention": ORANGE, "feed-forward": GREEN}
INK = {"token table": "white", "feed-forward": "white"}


def kind_of(name):
    """Which part of the drawing a parameter belongs to; norms go with what follows them."""
    if name.startswith(("tok_emb", "out_head")):
        return "token table"
    if name.startswith("pos_emb"):
        return "positions"
    return "attention" if ".att." in name or "norm1" in name else "feed-forward"


def counts_of(emb_dim, n_heads, n_layers):
    """How many parameters of each kind a GPT-2 of this size has."""
    shape = {"emb_dim": emb_dim, "n_heads": n_heads, "n_layers": n_layers}
    cfg = {**GPT_CONFIG_124M, **shape, "qkv_bias": True, "tie_embeddings": True}
    with torch.device("meta"):
        model = gpt.GPTModel(cfg)
    counts = dict.fromkeys(KINDS, 0)
    for name, tensor in model.named_parameters():  # a tied matrix is listed once
        counts[kind_of(name)] += tensor.numel()
    assert sum(counts.values()) == ModelConfig.of(cfg).n_params
    return counts


fig, ax = plt.subplots(figsize=(7.6, 2.9))
for row, shape in enumerate(SIZES.values()):
    counts, left = counts_of(*shape), 0.0
    total = sum(counts.values())
    for kind, color in KINDS.items():
        share = counts[kind] / total
        label = kind if row == 0 else None
        ax.barh(row, share, left=left, color=color, height=0.66, label=label)
        if share > 0.04:
            style = {"ha": "center", "va": "center", "fontweight": "bold"}
            ax.text(left + share / 2, row, f"{share:.0%}", color=INK.get(kind, "black"), **style)
        left += share
    ax.text(1.01, row, f"{total / 1e6:,.0f} M", va="center")
ax.set_yticks(range(4), list(SIZES))
ax.invert_yaxis()
ax.set(xlim=(0, 1), xticks=[], title="Where GPT-2's parameters are")
ax.spines[["bottom", "left"]].set_visible(False)
ax.tick_params(length=0)
ax.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0.0), handlelength=1.0)
plt.show()

# %% tags=["check"]
assert [sum(counts_of(*shape).values()) for shape in SIZES.values()] == [
    124_439_808,
    354_823_168,
    774_030_080,
    1_557_611_200,
]

# %% [markdown]
# In the small model nearly a third of all parameters is the token table. The wider and
# deeper the model, the less that matters, and the clearer is the rule of thumb: **a third
# attention, two thirds feed-forward**. (These four have the bias in query, key and value
# that the released GPT-2 has, so the small one has 124,439,808.)
#
# ## 3.9 A loop that writes
# The model gives logits for *every* position, since that is how it learns (step 4). To
# write, only the last position counts: take the likeliest token there, append it, repeat.
# (`argmax` is the position of the largest number.)
#
# ![The loop that writes: all tokens go into the model, the last position's logits
# choose one token, which is appended](drawings/writing-loop.svg)


# %%
def write(model, idx, max_new_tokens, context_size):
    """Continue each row with the likeliest token. [B, T] -> [B, T + max_new_tokens]."""
    for _ in range(max_new_tokens):
        with torch.no_grad():
            logits = model(idx[:, -context_size:])  # [B, T, V]
        best = logits[:, -1].argmax(dim=-1, keepdim=True)  # [B, 1]
        idx = torch.cat([idx, best], dim=1)  # [B, T + 1]
    return idx


# %%
start = torch.tensor([[15496, 11, 314, 716]])  # Hello, I am
out = write(packaged, start, max_new_tokens=6, context_size=1024)
print("ids :", out[0].tolist())
if tokenizer is not None:
    print("text:", tokenizer.decode(out[0].tolist()))

# %% tags=["check"]
assert out.shape == (1, 10)
assert torch.equal(out, generate_text_simple(packaged, start, 6, 1024))
if tokenizer is not None:
    assert tokenizer.encode("Hello, I am") == start[0].tolist()

# %% [markdown]
# A proper beginning of a sentence, and then gibberish: all parameters are still random.
# `generate_text_simple` of the package gives the same ids. Inside, it keeps what it has
# computed for earlier tokens, as lesson 4.6 explains.
#
# **What goes wrong: writing with dropout on.** A fresh model is in training mode, in which
# dropout sets a tenth of its numbers to 0, different ones each time. The same question
# twice gives two answers. `model.eval()` turns that off; the package's functions do it
# themselves, and restore the mode afterward.

# %% tags=["what-goes-wrong"]
packaged.train()
print("training mode, twice the same:", torch.equal(packaged(batch), packaged(batch)))
packaged.eval()
print("eval mode, twice the same    :", torch.equal(packaged(batch), packaged(batch)))

# %% tags=["check"]
assert torch.equal(packaged(batch), packaged(batch))
packaged.train()
assert not torch.equal(packaged(batch), packaged(batch))
written = [generate_text_simple(packaged, start, 6, 64) for _ in range(2)]
assert torch.equal(*written)
assert packaged.training

# %% [markdown]
# **What goes wrong: a window wider than the model.** `context_size` says how many tokens
# the loop shows to the model. If that is more than the model's `context_length`, the table
# of positions has no row for the next one. Our model fails with an error that does not
# mention it; the package's error names the cause:

# %% tags=["what-goes-wrong"]
short = {**SMALL, "context_length": 8}
torch.manual_seed(123)
for model in (GPT(short).eval(), gpt.GPTModel(short).eval()):
    try:
        write(model, start, max_new_tokens=6, context_size=1024)
        raise AssertionError("expected an error")
    except (IndexError, ValueError) as e:
        print(f"{type(e).__name__}: {e}")

# %% tags=["check"]
by_hand = write(model, start, 6, context_size=8)
assert torch.equal(generate_text_simple(model, start, 6, 1024), by_hand)

# %% [markdown]
# ## 3.10 Try it yourself
# `ask` shows an exercise, with new numbers each time. Write your answer in place of the
# `...` and run the cell. A wrong answer is diagnosed; the right one is never shown.
# `hint("3.1")` opens a hint, three for each exercise. The same exercises in a terminal:
# `llm-scratch learn next`. Solutions are sealed: `llm-scratch learn solution 3.1` opens
# one.

# %%
ask("3.1")

# %%
check("3.1", ...)

# %%
ask("3.2")

# %%
check("3.2", ...)

# %%
ask("3.3")


# %%
def layer_norm(table, eps):
    columns = []
    for column in zip(*table):
        mean = sum(column) / len(column)
        variance = sum((x - mean) ** 2 for x in column) / len(column)
        columns.append([(x - mean) / (variance + eps) ** 0.5 for x in column])
    return [list(row) for row in zip(*columns)]


check("3.3", layer_norm)

# %%
ask("3.4")


# %%
def folded(scale, shift, matrix, bias):
    return ...  # your code


check("3.4", folded)

# %%
ask("3.5")


# %%
def exact_gelu(numbers):
    return ...  # your code


check("3.5", exact_gelu)

# %%
ask("3.6")

# %%
check("3.6", ...)

# %%
ask("3.7")

# %%
check("3.7", ...)

# %%
ask("3.8")

# %%
check("3.8", ...)

# %%
ask("3.9")


# %%
def block_forward(x, norm1, attention, norm2, feed_forward):
    return ...  # your code


check("3.9", block_forward)

# %%
ask("3.10")


# %%
def n_parameters(vocab_size, context_length, width, n_blocks, tied):
    return ...  # your code


check("3.10", n_parameters)

# %%
ask("3.11")


# %%
def continue_greedily(model, ids, n_new, context_size):
    return ...  # your code


check("3.11", continue_greedily)

# %% [markdown]
# ## Summary
# - A GPT is a function from ids to logits: two tables, a stack of equal blocks, a norm, a
#   head.
# - Layer norm keeps sizes steady; shortcuts let gradients reach the first block; without
#   either, depth does not learn.
# - A block has about $12C^2$ parameters: a third attention, two thirds feed-forward.
# - Count a model on the meta device *before* you build it.
#
# What runs: `src/llm_scratch/model/gpt.py` and `layers.py`.
# Next: `lessons/step4_pretraining.py` teaches it to write.
