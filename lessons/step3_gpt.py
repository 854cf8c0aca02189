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
# Step 2 built attention, the part that lets a token ask the others. A GPT is that part, five
# simpler ones, and a pile: the same block stacked a dozen times. At the end of this lesson there is
# a whole model, every one of its numbers is counted, and it writes, though only gibberish: nobody
# has taught it anything yet. That is Step 4.
#
# | step | new idea |
# |---|---|
# | 3.1 | the outline: ids in, a score for every possible next token out |
# | 3.2 | layer norm keeps numbers at a steady size |
# | 3.3 | GELU, a bend without a corner |
# | 3.4 | the feed-forward: each token thinks alone |
# | 3.5 | shortcuts, without which depth does not learn |
# | 3.6 | the block: look around, then think, twice "add to what was there" |
# | 3.7 | the model |
# | 3.8 | where 124 million numbers live |
# | 3.9 | a loop that writes |
#
# As before, each stepping stone is built here once and then *asserted* equal to what the package
# runs. Run it as a notebook or as `python lessons/step3_gpt.py`. It takes some fifteen seconds and
# needs no network. With `LLM_SCRATCH_FULL=1` it also builds the largest GPT-2, which needs 7 GB of
# memory and a minute.

# %% tags=["setup"]
import os

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from llm_scratch.config import ModelConfig
from llm_scratch.errors import UserError
from llm_scratch.generation.decode import generate_text_simple
from llm_scratch.learn.script import run_as_script
from llm_scratch.model import gpt, layers, lesson_models
from llm_scratch.model.attention import MultiHeadAttention
from llm_scratch.tokenizers import TOKENIZERS

run_as_script(globals())
plt.rcParams.update(
    {"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True}
)
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
torch.set_printoptions(precision=4, sci_mode=False)
FULL = os.environ.get("LLM_SCRATCH_FULL") == "1"
if not FULL:
    torch.set_num_threads(1)  # for tensors this small, a second thread costs more than it brings
BLUE, ORANGE, GREEN, RED, PINK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#8a8a8a",
)


def close(got, want, atol=6e-5):
    """Hold a tensor to numbers that were printed with four digits."""
    torch.testing.assert_close(
        torch.as_tensor(got).detach(), torch.as_tensor(want), rtol=0, atol=atol
    )


# %% [markdown]
# ## 3.1 The outline
# From outside, a GPT is a function. In go the ids of some tokens. Out comes, *for each of them*, a
# score for every token of the vocabulary: how fitting would it be as the next one? Such a score is
# called a **logit**.
#
# Seven numbers say what shape a GPT has:

# %%
GPT_CONFIG_124M = {
    "vocab_size": 50257,  # V: tokens that exist
    "context_length": 1024,  # tokens the model can see at once
    "emb_dim": 768,  # C: numbers that stand for one token inside the model
    "n_heads": 12,  # H: attention heads in each block
    "n_layers": 12,  # blocks in the pile
    "drop_rate": 0.1,  # share of numbers that dropout sets to 0 while training
    "qkv_bias": False,  # whether query, key and value have a bias
}

# %% [markdown]
# Two sentences of four tokens each will accompany us. If GPT-2's vocabulary is not on this machine
# and cannot be fetched, we take their ids as known and go on without turning ids back into words.

# %%
try:
    tokenizer = TOKENIZERS["gpt2"]([], None)
except UserError as e:
    tokenizer = None
    print(f"Continuing without GPT-2's vocabulary: {e}")

sentences = ["Every effort moves you", "Every day holds a"]
batch = torch.tensor([[6109, 3626, 6100, 345], [6109, 1110, 6622, 257]])  # [B, T] = [2, 4]
if tokenizer is not None:
    assert [tokenizer.encode(s) for s in sentences] == batch.tolist()
print(batch)

# %% [markdown]
# Now the outline. `DummyGPTModel` has a real beginning (a table with a vector for each token,
# another for each position) and a real end (a matrix that turns a vector into 50257 scores). In
# between, where the thinking will go, it does nothing at all.
#
# The shape below is 1600 wide, with 48 blocks: the largest GPT-2.
# With blocks that do nothing it is quickly made.

# %%
GPT_CONFIG_XL = {**GPT_CONFIG_124M, "emb_dim": 1600, "n_heads": 25, "n_layers": 48}
torch.manual_seed(123)
logits = lesson_models.DummyGPTModel(GPT_CONFIG_XL)(batch)  # [B, T, V]
print("in:", tuple(batch.shape), " out:", tuple(logits.shape))
print("first token:", logits[0, 0].detach())
assert logits.shape == (2, 4, 50257)
close(logits[0, 0, :3], [0.1251, 1.1525, -1.3001])
close(logits[0, 0, -3:], [-0.4876, 0.5665, 0.5488])
del logits

# %% [markdown]
# **What went wrong: a name that lies about the size.** In the first notebook the shape above, 1600
# wide, was called `GPT_CONFIG_124M`. It makes a model of 1.6 *billion* numbers, and a laptop that
# has less than 7 GB to spare stops responding. One can know such a thing before it hurts. A model
# on PyTorch's **meta device** has all its shapes and none of its numbers; it weighs nothing and can
# be counted:

# %% tags=["what-went-wrong"]
with torch.device("meta"):
    huge = gpt.GPTModel(GPT_CONFIG_XL)
n_huge = sum(p.numel() for p in huge.parameters())
print(f"{n_huge:,} numbers of 4 bytes: {n_huge * 4 / 1024**2:.2f} MB")
assert n_huge == ModelConfig.of(GPT_CONFIG_XL).n_params == 1_637_792_000
assert f"{n_huge * 4 / 1024**2:.2f}" == "6247.68"

# %% [markdown]
# **What went wrong: a part that was made and never used.** The first outline created `final_norm`
# and then forgot to call it. Python does not mind. A *hook* is a function that a part calls
# whenever it runs, so hooks can say which parts never did:


# %% tags=["what-went-wrong"]
class ForgetfulGPT(lesson_models.DummyGPTModel):
    """The outline as it first was."""

    def forward(self, in_idx):
        x = self.tok_emb(in_idx) + self.pos_emb(torch.arange(in_idx.shape[1]))  # [B, T, C]
        return self.out_head(self.trf_blocks(self.drop_emb(x)))  # [B, T, V]


def never_ran(model, ids):
    """The names of the parts that one pass through the model did not touch."""
    ran = set()
    hooks = [part.register_forward_hook(lambda part, *_: ran.add(part)) for part in model.modules()]
    model(ids)
    for hook in hooks:
        hook.remove()
    return [name for name, part in model.named_modules() if part not in ran]


small = {**GPT_CONFIG_124M, "emb_dim": 32, "n_heads": 2, "n_layers": 2}
print(
    "as it was:",
    never_ran(ForgetfulGPT(small), batch),
    "  in the package:",
    never_ran(lesson_models.DummyGPTModel(small), batch),
)
assert never_ran(ForgetfulGPT(small), batch) == ["final_norm"]
assert never_ran(lesson_models.DummyGPTModel(small), batch) == []

# %% [markdown]
# ## 3.2 Layer norm: a steady size
# A model multiplies and adds, block after block. Numbers that grow a little in each block are huge
# after forty, and numbers that shrink are gone; in both cases learning stalls. **Layer norm** is
# the cure: take one token's numbers, shift them so that their mean is 0, scale them so that their
# variance is 1. Each token for itself; no token sees another here.
#
# $$\mathrm{norm}(x) = \mathrm{scale}\cdot\frac{x - \mathrm{mean}(x)}{\sqrt{\mathrm{var}(x) + \varepsilon}} + \mathrm{shift}$$
#
# `scale` and `shift` start at 1 and 0 and are learned: the model may undo the norm where that
# helps. The tiny $\varepsilon$ keeps us from dividing by 0.


# %%
class LayerNorm(nn.Module):
    """Mean 0 and variance 1 for each token, then what training makes of it.
    [..., emb_dim] -> the same shape.
    """

    def __init__(self, emb_dim):
        super().__init__()
        self.eps = 1e-5
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x):
        mean = x.mean(dim=-1, keepdim=True)
        variance = x.var(dim=-1, keepdim=True, unbiased=False)
        return self.scale * (x - mean) / torch.sqrt(variance + self.eps) + self.shift


torch.manual_seed(123)
tokens = ["Every", "effort", "moves", "you", "far", "."]
middle = torch.tensor([-6.0, 4.0, 0.0, 9.0, -2.0, 1.0])[:, None]
spread = torch.tensor([1.0, 3.0, 0.3, 2.0, 5.0, 0.6])[:, None]
before = middle + spread * torch.randn(6, 768)  # [T, C]: six tokens that have drifted apart
after = LayerNorm(768)(before)
print(
    "means before:",
    before.mean(-1),
    "\nmeans after :",
    after.mean(-1).detach().abs().round(decimals=4),
)

# %% tags=["check"]
close(after.mean(-1), [0.0] * 6)
close(
    after.var(-1, unbiased=False), [1.0] * 6, atol=2e-4
)  # the one with the smallest spread feels eps


# %%
def draw_tokens(ax, x, tokens, title):
    """One violin for each token: how its 768 numbers are spread."""
    violins = ax.violinplot(
        x.detach().numpy().T, orientation="horizontal", widths=0.85, showextrema=False
    )
    for body in violins["bodies"]:
        body.set(facecolor=BLUE, alpha=0.75)
    ax.scatter(
        x.detach().mean(-1),
        range(1, len(tokens) + 1),
        color="white",
        edgecolor="black",
        s=16,
        zorder=3,
    )
    ax.set_yticks(range(1, len(tokens) + 1), tokens)
    ax.invert_yaxis()
    ax.set(title=title, xlabel="value")


# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.0), sharex=True)
draw_tokens(axes[0], before, tokens, "Before layer norm: each token at its own place and size")
draw_tokens(axes[1], after, tokens, "After: all alike (dot: the mean)")
plt.show()

# %% [markdown]
# The package keeps the formula, `layers.layer_norm`, for reading, and lets a fused kernel of
# PyTorch do the work. All of them agree:

# %%
norm, ours = layers.LayerNorm(768), LayerNorm(768)
for module in (norm, ours):
    torch.manual_seed(5)
    nn.init.normal_(module.scale)
    nn.init.normal_(module.shift)
torch.testing.assert_close(norm(before), ours(before))
torch.testing.assert_close(norm(before), layers.layer_norm(before, ours.scale, ours.shift))
print("formula = class = kernel")

# %% [markdown]
# **What goes wrong easily: which variance?** `x.var()` divides by $n-1$ unless told otherwise, as
# one does for a *sample*. Layer norm divides by $n$. For 768 numbers nobody would notice, for five
# one does, and a checkpoint trained with one and used with the other is off in every block.

# %%
five = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])
print("by n    :", F.layer_norm(five, (5,)))
print("by n - 1:", (five - five.mean()) / (five.var() + 1e-5).sqrt())

# %% tags=["check"]
torch.testing.assert_close(
    F.layer_norm(five, (5,)), (five - five.mean()) / (five.var(unbiased=False) + 1e-5).sqrt()
)

# %% [markdown]
# ## 3.3 GELU: a bend without a corner
# Matrices alone can only stretch and turn, and two in a row do no more than one. Between them there
# has to be a bend. The classic one is **ReLU**: keep what is positive, make the rest 0. It has a
# corner at 0, and left of it no slope at all: a number that has fallen there gets no hint how to
# come back. **GELU** rounds the corner. It is $x$ times the chance that a draw from the bell curve
# falls below $x$; GPT-2 uses a close approximation:
#
# $$\mathrm{GELU}(x) \approx \tfrac12\,x\left(1+\tanh\!\left(\sqrt{2/\pi}\,\left(x+0.044715\,x^3\right)\right)\right)$$


# %%
class GELU(nn.Module):
    """The bend of GPT-2, as the formula says. Any shape -> the same shape."""

    def forward(self, x):
        return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


x = torch.linspace(-4, 4, 801, requires_grad=True)
torch.testing.assert_close(GELU()(x), layers.GELU()(x))
torch.testing.assert_close(GELU()(x), layers.gelu(x))
exact = x * torch.distributions.Normal(0.0, 1.0).cdf(x)
print(f"farthest from the exact x times chance: {(GELU()(x) - exact).abs().max().item():.5f}")

# %% tags=["check"]
assert (GELU()(x) - exact).abs().max() < 5e-4

# %%
slopes = {}

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.0))
for name, bend, colour, style in (
    ("ReLU", nn.ReLU(), ORANGE, "--"),
    ("GELU", layers.GELU(), BLUE, "-"),
):
    (slopes[name],) = torch.autograd.grad(bend(x).sum(), x)
    axes[0].plot(x.detach(), bend(x).detach(), color=colour, ls=style, lw=2, label=name)
    axes[1].plot(x.detach(), slopes[name], color=colour, ls=style, lw=2, label=name)
axes[0].set(title="What comes out", xlabel="x", ylabel="output")
axes[1].set(title="The slope, which is what learning feels", xlabel="x", ylabel="slope")
for ax in axes:
    ax.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
    ax.axvline(0, color="#bbbbbb", lw=0.8, zorder=0)
    ax.legend(loc="upper left")
plt.show()

# %% tags=["check"]
assert (slopes["ReLU"][x < 0] == 0).all()
assert (slopes["GELU"][(x < 0) & (x > -3)] != 0).all()

# %% [markdown]
# Left of 0, GELU still has a slope, even a negative one around -1:
# a number that is too low is told so.
#
# **What went wrong: a space in front of a class.** The notebook said ` class GELU(nn.Module):`,
# with one blank before the word. A notebook forgives that, because IPython takes off what a whole
# cell is indented by. Copy the cell into a file and it is no longer Python:

# %% tags=["what-went-wrong"]
try:
    compile(" class GELU:\n     pass\n", "step3.py", "exec")
    raise AssertionError("expected an error")
except IndentationError as e:
    print(f"IndentationError: {e.msg}")

# %% [markdown]
# ## 3.4 The feed-forward: each token thinks alone
# Attention carries news between tokens; somebody has to make sense of it. The **feed-forward**
# takes each token alone, spreads its $C$ numbers over $4C$, bends them, and brings them back to
# $C$. The wide middle is room for many small questions ("is this a name?", "are we inside a
# quotation?"), each answered by one of the $4C$ numbers.


# %%
class FeedForward(nn.Module):
    """Widen four times, bend, narrow again. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg):
        super().__init__()
        C = cfg["emb_dim"]
        self.layers = nn.Sequential(nn.Linear(C, 4 * C), layers.GELU(), nn.Linear(4 * C, C))

    def forward(self, x):
        return self.layers(x)


torch.manual_seed(123)
ff, x = FeedForward(GPT_CONFIG_XL), torch.rand(2, 3, 1600)
print(
    "in:",
    tuple(x.shape),
    " out:",
    tuple(ff(x).shape),
    f" numbers: {sum(p.numel() for p in ff.parameters()):,}",
)
assert ff(x).shape == (2, 3, 1600)

packaged = layers.FeedForward(GPT_CONFIG_XL)

# %% tags=["check"]
packaged.load_state_dict(ff.state_dict())
torch.testing.assert_close(packaged(x), ff(x))
torch.testing.assert_close(
    ff(x)[:, [2, 0, 1]], ff(x[:, [2, 0, 1]])
)  # swap the tokens, and only the order of the answers changes

# %% [markdown]
# ## 3.5 Shortcuts: why depth learns at all
# Learning works backwards. The error at the end is passed through the layers from last to first,
# and each layer it passes multiplies it by something. Many factors below 1 make nearly 0, so the
# first layers of a deep pile hear almost nothing and never learn. A **shortcut** is the cure, and
# it is one plus sign: let a layer *add* to its input and not replace it, `x + layer(x)`. Backwards,
# the error then has a way around every layer.
#
# Here is a small pile of five layers, with and without.


# %%
class ExampleDeepNeuralNetwork(nn.Module):
    """Linear and GELU, layer on layer, with or without shortcuts."""

    def __init__(self, layer_sizes, use_shortcut):
        super().__init__()
        self.use_shortcut = use_shortcut
        sizes = zip(layer_sizes, layer_sizes[1:])
        self.layers = nn.ModuleList(
            [nn.Sequential(nn.Linear(n_in, n_out), layers.GELU()) for n_in, n_out in sizes]
        )

    def forward(self, x):
        for layer in self.layers:
            y = layer(x)
            x = x + y if self.use_shortcut and x.shape == y.shape else y
        return x


def gradients(model, x):
    """How strongly each layer hears of the error:
    the mean size of its weights' gradient, first layer first.
    """
    model.zero_grad()
    output = model(x)
    F.mse_loss(output, torch.zeros_like(output)).backward()
    return [
        p.grad.abs().mean().item()
        for name, p in model.named_parameters()
        if name.endswith("weight")
    ]


x = torch.tensor([[1.0, 0.0, -1.0]])
heard = {}
for use_shortcut in (False, True):
    torch.manual_seed(123)
    model = ExampleDeepNeuralNetwork([3, 3, 3, 3, 3, 1], use_shortcut)
    heard[use_shortcut] = gradients(model, x)
    torch.manual_seed(123)
    torch.testing.assert_close(
        model(x), lesson_models.ExampleDeepNeuralNetwork([3, 3, 3, 3, 3, 1], use_shortcut)(x)
    )
    print(
        "with shortcuts:   " if use_shortcut else "without shortcuts:",
        [round(g, 6) for g in heard[use_shortcut]],
    )

printed = [0.000201735878, 0.000120111610, 0.000715204165, 0.001398873865, 0.005049646366]

# %% tags=["check"]
torch.testing.assert_close(torch.tensor(heard[False]), torch.tensor(printed), rtol=2e-6, atol=0)
assert min(heard[True]) > 100 * min(heard[False])

# %% [markdown]
# **What went wrong: half an experiment.** The first notebook ran only the upper line. The faint
# gradients alone prove nothing; the lower line does, from the same weights. At the depth of GPT-2
# XL there is no longer any doubt:

# %%
depth, width = 48, 64

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(6.8, 3.2))
for use_shortcut, name, colour, marker in (
    (True, "with shortcuts", BLUE, "s"),
    (False, "without shortcuts", RED, "o"),
):
    torch.manual_seed(123)
    deep = ExampleDeepNeuralNetwork([width] * (depth + 1), use_shortcut)
    heard = gradients(deep, torch.randn(16, width))
    ax.plot(
        range(1, depth + 1),
        [g / heard[-1] for g in heard],
        color=colour,
        marker=marker,
        ms=3,
        lw=1.2,
        label=name,
    )
    print(
        f"{name:18s} first layer {heard[0]:.0e}, last layer {heard[-1]:.0e}, first / last {heard[0] / heard[-1]:.0e}"
    )
    assert (heard[0] > 0.1 * heard[-1]) == use_shortcut
ax.set(
    yscale="log",
    xlabel="layer (the error arrives at layer 48 and travels left)",
    ylabel="gradient, last layer = 1",
)
ax.set_title("How much of the error reaches each of 48 layers")
ax.set_xticks([1, 8, 16, 24, 32, 40, 48])
ax.legend(loc="center left")
plt.show()

# %% [markdown]
# Without shortcuts the first layer hears a part in $10^{24}$: nothing. With them, all layers hear
# about alike. (They hear it too loud: the printed sizes are in the millions, since each layer adds
# to the numbers and nothing holds them. That is what the norms of section 3.2 are for; the block
# below has both.)
#
# ## 3.6 The block
# Everything is there. A **transformer block** looks around once (attention), thinks once
# (feed-forward), and both times *adds* what it found to what was there:
#
# ![A transformer block: norm, attention, added back; norm, feed-forward network, added
# back](drawings/transformer-block.svg)
#
# The line of plus signs that runs through the whole pile is called the **residual stream**: blocks
# read from it and write to it. The norm stands *before* each part ("pre-LN"), so the stream itself
# is never squeezed and the error can run back along it undisturbed.
#
# ![The residual stream: a vector for each token flows through all blocks; each layer reads it and adds to
# it](drawings/residual-stream.svg)


# %%
class TransformerBlock(nn.Module):
    """Look around, then think; each adds to what was there. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg):
        super().__init__()
        C, drop = cfg["emb_dim"], cfg["drop_rate"]
        self.att = MultiHeadAttention(
            C, C, cfg["context_length"], drop, cfg["n_heads"], cfg["qkv_bias"]
        )
        self.ff = layers.FeedForward(cfg)
        self.norm1 = layers.LayerNorm(C)
        self.norm2 = layers.LayerNorm(C)
        self.drop_shortcut = nn.Dropout(drop)

    def forward(self, x):
        x = x + self.drop_shortcut(self.att(self.norm1(x)))  # [B, T, C]
        return x + self.drop_shortcut(self.ff(self.norm2(x)))  # [B, T, C]


torch.manual_seed(123)
x = torch.rand(2, 4, 1600)  # [B, T, C]
block = TransformerBlock(GPT_CONFIG_XL)
print("in:", tuple(x.shape), " out:", tuple(block(x).shape))
assert block(x).shape == (2, 4, 1600)

torch.manual_seed(123)
torch.testing.assert_close(x, torch.rand(2, 4, 1600))
packaged = gpt.TransformerBlock(GPT_CONFIG_XL)
torch.testing.assert_close(packaged.eval()(x), block.eval()(x))
print("the same seed makes the same block as the package's")

# %% [markdown]
# In and out have the same shape.
# That is what makes a pile of twelve, or ninety-six, as easy as a pile of one.
#
# ## 3.7 The model
# Vectors for tokens plus vectors for positions, the pile, one last norm, and the head that turns
# each vector into 50257 scores. This is all there is to GPT-2:
#
# ![GPT: token and position embeddings are added, pass through equal blocks, a norm and a head give
# logits](drawings/gpt-model.svg)


# %%
class GPT(nn.Module):
    """Token ids [B, T] -> logits [B, T, V]."""

    def __init__(self, cfg):
        super().__init__()
        self.tok_emb = nn.Embedding(cfg["vocab_size"], cfg["emb_dim"])
        self.pos_emb = nn.Embedding(cfg["context_length"], cfg["emb_dim"])
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        self.trf_blocks = nn.Sequential(
            *[gpt.TransformerBlock(cfg) for _ in range(cfg["n_layers"])]
        )
        self.final_norm = layers.LayerNorm(cfg["emb_dim"])
        self.out_head = nn.Linear(cfg["emb_dim"], cfg["vocab_size"], bias=False)

    def forward(self, in_idx):
        positions = torch.arange(in_idx.shape[1], device=in_idx.device)  # [T]
        x = self.drop_emb(self.tok_emb(in_idx) + self.pos_emb(positions))  # [B, T, C]
        return self.out_head(self.final_norm(self.trf_blocks(x)))  # [B, T, V]


torch.manual_seed(123)
ours = GPT(small).eval()
torch.manual_seed(123)
packaged = gpt.GPTModel(small).eval()
assert list(ours.state_dict()) == list(packaged.state_dict())
assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), packaged.parameters()))
torch.testing.assert_close(ours(batch), packaged(batch))
print("same names, same first numbers, same logits:", tuple(packaged(batch).shape))

# %% [markdown]
# **What goes wrong easily: tidying up.** "The same seed" means that random numbers come in the same
# *row*; whoever is made first takes the first ones. Write the same parts in another order, and each
# of them gets other numbers. Not wrong, but nothing that was printed before can be checked any
# more, so the package keeps the order above as a promise.

# %%
torch.manual_seed(123)
first, second = nn.Linear(3, 3), nn.Linear(3, 3)
torch.manual_seed(123)
second_now, first_now = nn.Linear(3, 3), nn.Linear(3, 3)

# %% tags=["check"]
assert not torch.equal(first.weight, first_now.weight)
assert torch.equal(first.weight, second_now.weight)

# %% [markdown]
# Does the whole model keep attention's promise, that nobody sees the future? Ask it: change one
# word, and look which scores move.

# %%
sentence = ["Every", "effort", "moves", "you", "very", "far"]
ids = torch.tensor([[6109, 3626, 6100, 345, 845, 1290]])  # [1, T]
with torch.no_grad():
    moved, unchanged = (
        torch.zeros(6, 6),
        packaged(ids),
    )  # moved: row whose scores, column which word was changed
    for place in range(6):
        changed = ids.clone()
        changed[0, place] = 11  # a comma
        moved[:, place] = (packaged(changed) - unchanged)[0].abs().mean(-1)

# %% tags=["check"]
assert (moved.triu(1) == 0).all()
assert (moved.tril() + torch.ones(6, 6).triu(1) > 0).all()

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(4.6, 3.7))
image = ax.imshow(moved.masked_fill(moved == 0, float("nan")).numpy(), cmap="Blues", vmin=0)
ax.set_facecolor("#e6e6e6")
ax.set_xticks(range(6), sentence, rotation=40, ha="right", rotation_mode="anchor")
ax.set_yticks(range(6), sentence)
ax.set(
    xlabel="this word is changed",
    ylabel="scores after this word",
    title="Who notices? Grey: not at all",
)
ax.spines[:].set_visible(False)
ax.tick_params(length=0)
fig.colorbar(image, label="mean move of the scores", shrink=0.85)
plt.show()

# %% [markdown]
# ## 3.8 Where 124 million numbers live
# Let us count on paper. With width $C$, a block has: query, key, value and output, $4C^2$; the
# feed-forward, $2\cdot 4C^2$; and some small change. So about $12C^2$ a block. The tables before
# and after have $V\cdot C$ numbers each.

# %%
with torch.device("meta"):
    model = gpt.GPTModel(GPT_CONFIG_124M)
n_all = sum(p.numel() for p in model.parameters())
print(
    "token table:", tuple(model.tok_emb.weight.shape), " head:", tuple(model.out_head.weight.shape)
)
print(
    f"12 C^2 a block: {12 * 768**2:,}   counted: {sum(p.numel() for p in model.trf_blocks[0].parameters()):,}"
)
print(f"all: {n_all:,}")

# %% tags=["check"]
assert n_all == ModelConfig.of(GPT_CONFIG_124M).n_params == 163_009_536

# %% [markdown]
# 163 million, and yet everybody says *124M*. The reason is the second line: the table that turns a
# token into a vector and the head that turns a vector into scores have the same shape, and GPT-2
# uses **one** matrix for both. That is called *weight tying*. So the small one is smaller by 38.6
# million than ours, and the XL by 80 million:

# %%
for name, cfg in (("small", GPT_CONFIG_124M), ("XL", GPT_CONFIG_XL)):
    apart, tied = ModelConfig.of(cfg), ModelConfig.of({**cfg, "tie_embeddings": True})
    print(f"{name:5s} two matrices {apart.n_params:>13,}   one for both {tied.n_params:>13,}")
    assert apart.n_params - tied.n_params == apart.vocab_size * apart.emb_dim
assert ModelConfig.of({**GPT_CONFIG_124M, "tie_embeddings": True}).n_params == 124_412_160
assert ModelConfig.of({**GPT_CONFIG_XL, "tie_embeddings": True}).n_params == 1_557_380_800
assert huge.tok_emb.weight.shape == huge.out_head.weight.shape == (50257, 1600)

tied = gpt.GPTModel({**small, "tie_embeddings": True})

# %% tags=["check"]
assert tied.out_head.weight is tied.tok_emb.weight

# %%
sizes = {
    "small": (768, 12, 12),
    "medium": (1024, 16, 24),
    "large": (1280, 20, 36),
    "XL": (1600, 25, 48),
}
kinds = {"token table": BLUE, "positions": PINK, "attention": ORANGE, "feed-forward": GREEN}
ink = {"token table": "white", "positions": "black", "attention": "black", "feed-forward": "white"}


def kind_of(name):
    """Which part of the drawing a parameter belongs to;
    the few numbers of the norms go with what they stand before.
    """
    if name.startswith(("tok_emb", "out_head")):
        return "token table"
    if name.startswith("pos_emb"):
        return "positions"
    return "attention" if ".att." in name or "norm1" in name else "feed-forward"


# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(7.6, 2.9))
for row, (name, (emb_dim, n_heads, n_layers)) in enumerate(sizes.items()):
    shape = {
        "emb_dim": emb_dim,
        "n_heads": n_heads,
        "n_layers": n_layers,
        "qkv_bias": True,
        "tie_embeddings": True,
    }
    with torch.device("meta"):
        model = gpt.GPTModel({**GPT_CONFIG_124M, **shape})
    counts = dict.fromkeys(kinds, 0)
    for parameter, tensor in model.named_parameters():  # a tied matrix is listed once
        counts[kind_of(parameter)] += tensor.numel()
    total, left = sum(counts.values()), 0.0
    print(
        f"{name:7s}{n_layers:3d} blocks x {emb_dim:4d} wide: {total:>13,}  {total * 4 / 1024**3:4.1f} GB"
    )
    assert total == ModelConfig.of({**GPT_CONFIG_124M, **shape}).n_params
    for kind, colour in kinds.items():
        share = counts[kind] / total
        ax.barh(row, share, left=left, color=colour, height=0.66, label=kind if row == 0 else None)
        if share > 0.04:
            ax.text(
                left + share / 2,
                row,
                f"{share:.0%}",
                ha="center",
                va="center",
                color=ink[kind],
                fontweight="bold",
            )
        left += share
    ax.text(1.01, row, f"{total / 1e6:,.0f} M", va="center")
ax.set_yticks(range(4), list(sizes))
ax.invert_yaxis()
ax.set(xlim=(0, 1), xticks=[], title="Where GPT-2's numbers live")
ax.spines[["bottom", "left"]].set_visible(False)
ax.tick_params(length=0)
ax.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0.0), handlelength=1.0)
plt.show()

# %% [markdown]
# In the small model nearly a third of all numbers is the token table. The wider and deeper, the
# less that matters, and the clearer the rule of thumb: **a third attention, two thirds
# feed-forward**. (These four have the bias in query, key and value that the released GPT-2 has,
# hence 124,439,808.)
#
# ## 3.9 A loop that writes
# The model scores *every* place, since that is how it learns (Step 4). To write, only the last
# place counts: take the best token there, put it at the end, ask again.


# %%
def write(model, idx, max_new_tokens, context_size):
    """Continue each row with the best token each time. [B, T] -> [B, T + max_new_tokens]."""
    for _ in range(max_new_tokens):
        with torch.no_grad():
            logits = model(idx[:, -context_size:])[
                :, -1
            ]  # [B, V]: what comes after the last token?
        idx = torch.cat([idx, logits.argmax(dim=-1, keepdim=True)], dim=1)  # [B, T + 1]
    return idx


start = torch.tensor([[15496, 11, 314, 716]])  # Hello, I am
if tokenizer is not None:
    assert tokenizer.encode("Hello, I am") == start[0].tolist()

torch.manual_seed(123)
model = gpt.GPTModel(
    {**GPT_CONFIG_124M, "emb_dim": 192, "n_heads": 6, "n_layers": 6}
).eval()  # a sixth of 124M: quick everywhere
out = write(model, start, max_new_tokens=6, context_size=1024)
print("ids :", out[0].tolist())
print(
    "text:", tokenizer.decode(out[0].tolist()) if tokenizer is not None else "(no vocabulary here)"
)

# %% tags=["check"]
assert out.shape == (1, 10)
assert torch.equal(out, generate_text_simple(model, start, 6, 1024))

# %% [markdown]
# A proper beginning of a sentence, and then gibberish, as promised: its numbers are drawn from a
# hat. `generate_text_simple` of the package gives the same ids; inside, it remembers what it has
# computed for earlier tokens, which Step 4 looks at.
#
# **What goes wrong easily: writing with dropout on.** A fresh model is in training mode, in which
# dropout throws away a tenth of its numbers, other ones each time. Twice the same question, two
# answers. `model.eval()` turns that off; the package's functions do it themselves and put
# everything back afterwards.

# %% tags=["what-went-wrong"]
packaged.train()
assert not torch.equal(packaged(batch), packaged(batch))
packaged.eval()
assert torch.equal(packaged(batch), packaged(batch))
packaged.train()
assert torch.equal(
    generate_text_simple(packaged, start, 6, 64), generate_text_simple(packaged, start, 6, 64)
)
assert packaged.training

# %% [markdown]
# **What went wrong: a window wider than the model.** `context_size` says how many tokens the loop
# shows to the model. Nothing held it to what the model *can* see, and the table of positions has no
# row for the next place. The error that comes up says nothing about that. The package takes the
# smaller of the two, and the model itself says what was wrong:

# %% tags=["what-went-wrong"]
short = {**small, "context_length": 8}
torch.manual_seed(123)
ours, packaged = GPT(short).eval(), gpt.GPTModel(short).eval()
for model in (ours, packaged):
    try:
        write(model, start, max_new_tokens=6, context_size=1024)
        raise AssertionError("expected an error")
    except (IndexError, ValueError) as e:
        print(f"{type(e).__name__}: {e}")
assert torch.equal(
    generate_text_simple(packaged, start, 6, 1024), write(packaged, start, 6, context_size=8)
)

# %% [markdown]
# And the largest GPT-2? With `LLM_SCRATCH_FULL=1` we build it for real and hold it to what was once
# printed. (The order matters: its first scores were taken with dropout on, straight after it was
# made.)

# %%
if FULL:
    torch.manual_seed(123)
    model = gpt.GPTModel(GPT_CONFIG_XL)
    first_scores = model(batch)[0, 0]  # [V]
    close(first_scores[:3], [-0.1291, 0.3885, 0.1057], atol=2e-4)
    close(first_scores[-3:], [0.0180, 0.2309, -0.3901], atol=2e-4)
    out = generate_text_simple(model, start, 6, 1024)
    assert out[0, 4:].tolist() == [25307, 7702, 20644, 13679, 12023, 29430]
    if tokenizer is not None:
        print(tokenizer.decode(out[0].tolist()))
        assert tokenizer.decode(out[0].tolist()) == "Hello, I am 164 radicalBrown!' beef KR"
else:
    print(
        "left out: the XL model's own numbers (7 GB of memory); set LLM_SCRATCH_FULL=1 to check them"
    )

# %% [markdown]
# ## 3.10 Try it yourself
# Put your code where it says so and run the cell after it.
# One solution of each is folded away beneath.


# %%
def mark(number, got, want):
    """Say whether an exercise's answer is right."""
    if got is None:
        print(f"exercise {number}: not solved yet")
        return
    got, want = (
        torch.as_tensor(got, dtype=torch.float32),
        torch.as_tensor(want, dtype=torch.float32),
    )
    right = got.shape == want.shape and torch.allclose(got, want, atol=1e-4)
    print(f"exercise {number}: {'right' if right else 'not yet'}")


# %% [markdown]
# **1. Half a norm.** Many newer models (Llama, Qwen) leave out the mean: *RMS norm* divides each
# token's numbers by their root mean square, $\sqrt{\mathrm{mean}(x^2)+\varepsilon}$, and that is
# all. Write it, without scale.


# %%
def rms_norm(x, eps=1e-5):
    return None  # your code here


# %% [markdown]
# <details><summary>Solution 1</summary>
#
# ```python
# def rms_norm(x, eps=1e-5):
#     return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
# ```
# </details>

# %%
mark("3.1", rms_norm(five), F.rms_norm(five, (5,), eps=1e-5))

# %% [markdown]
# **2. Doubling.** GPT-2 small has 12 blocks, 768 wide. You may double the number of blocks *or* the
# width. By how many numbers does the pile of blocks grow, each way? Give both, by the rule of
# $12C^2$ a block. Which is dearer?


# %%
def growth():
    return None  # your code here: twice_as_deep, twice_as_wide


# %% [markdown]
# <details><summary>Solution 2</summary>
#
# ```python
# def growth():
#     pile = 12 * 12 * 768**2
#     return pile, 3 * pile  # the width counts squared: four times the pile, so three more
# ```
# </details>

# %%
mark("3.2", growth(), [84_934_656, 254_803_968])

# %% [markdown]
# **3. What a block adds.** Blocks *add* to the residual stream, so each token's vector at the end
# is a sum: what it began with, plus what each block wrote. Given the vectors before the first block
# and after each block, say how long (`norm(dim=-1)`) the part is that each block has written for
# the *last* token. (`streams` is a list of n + 1 tensors `[T, C]`; give n numbers.)


# %%
def written(streams):
    return None  # your code here


# %% [markdown]
# <details><summary>Solution 3</summary>
#
# ```python
# def written(streams):
#     return [(after[-1] - before[-1]).norm().item() for before, after in zip(streams, streams[1:])]
# ```
# </details>

# %%
streams = [
    torch.zeros(3, 4),
    torch.ones(3, 4),
    torch.ones(3, 4),
    torch.tensor([[9.0] * 4, [9.0] * 4, [4.0, 5.0, 1.0, 1.0]]),
]
mark("3.3", written(streams), [2.0, 0.0, 5.0])

# %% [markdown]
# ## Summary
# - A GPT is a function from ids to scores: two tables, a pile of equal blocks, a norm, a head.
# - Layer norm keeps sizes steady; shortcuts let errors reach the first block;
#   without either, depth does not learn.
# - A block has about $12C^2$ numbers: a third attention, two thirds feed-forward.
# - Count a model on the meta device *before* you build it.
#
# What runs: `src/llm_scratch/model/gpt.py` and `layers.py`.
# Next: `lessons/step4_pretraining.py` teaches it to write.
