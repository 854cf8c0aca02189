# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Step 4: teaching it to write
#
# Step 3 ended with a model that has all its parts and knows nothing. Now it learns, and nobody
# explains anything to it. It gets a text, is asked at every place *what comes next?*, and after
# each answer its numbers are turned a little towards what really came. That is all of
# **pretraining**. The rest of this lesson is about doing it honestly: how wrong is it, does it
# understand or repeat, how does one choose the next word, how is a model kept.
#
# | step | new idea |
# |---|---|
# | 4.1 | text in, text out |
# | 4.2 | loss: how surprised was it? |
# | 4.3 | batches, and a part of the text that it never sees |
# | 4.4 | training, and what goes on when one loss falls and the other rises |
# | 4.5 | choosing the next token: greedy, temperature, top-k, top-p |
# | 4.6 | writing fast: the cache |
# | 4.7 | saving and loading |
# | 4.8 | it writes |
# | 4.9 | weights from elsewhere: OpenAI's GPT-2 |
#
# Each stepping stone is built here once and then *asserted* equal to what the package runs. Run it
# as a notebook or as `python lessons/step4_pretraining.py`. By default it trains a small model,
# which takes under a minute. With `LLM_SCRATCH_FULL=1` it trains GPT-2's true smallest shape, some
# twenty minutes on two processor cores and much less on a GPU.

# %% tags=["setup"]
import contextlib
import io
import math
import os
import pickle
import re
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from llm_scratch.config import GPTConfig, ModelConfig
from llm_scratch.data.sources import read
from llm_scratch.data.text import create_dataloader_V1, split_text
from llm_scratch.errors import UserError
from llm_scratch.generation import decode, sampling
from llm_scratch.interop.openai import download_and_load_gpt2, load_weights_into_gpt
from llm_scratch.interop.openai_export import save_gpt2
from llm_scratch.learn.notebook import ask, check, hint  # noqa: F401
from llm_scratch.learn.script import run_as_script
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.loss import next_token_loss
from llm_scratch.storage.download import cache_folder
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.training import simple

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
# The text is *The Verdict*, a short story by Edith Wharton from 1908, and the tokens are GPT-2's.
# Where either cannot be had (no network, nothing stored), another text or a vocabulary of our own
# steps in, and the checks against printed numbers are left out.

# %%
try:
    text, is_verdict = read("verdict")[0], True
except UserError as e:
    text, is_verdict = "\n\n".join(read("python-docs"))[:20_000], False
    print(f"Continuing with another text, without the checks that need The Verdict: {e}")
try:
    gpt2 = TOKENIZERS["gpt2"]([], None)
except UserError as e:
    gpt2 = None
    print(f"Continuing with a vocabulary of our own, without the checks that need GPT-2's: {e}")
print(f"{len(text):,} characters: {text[:57]}...")

# %% [markdown]
# ## 4.1 Text in, text out
# A model eats batches of ids and gives ids back. Two small functions stand at its door: one makes a
# text into a batch of one row, the other makes such a row into a text.


# %%
def text_to_token_ids(text, tokenizer):
    """A text as a batch of one row, [1, T]."""
    return torch.tensor([tokenizer.encode(text, allowed_special={"<|endoftext|>"})])


def token_ids_to_text(token_ids, tokenizer):
    """A batch of one row, [1, T], as text."""
    return tokenizer.decode(token_ids[0].tolist())


GPT_CONFIG_124M = {
    "vocab_size": 50257,
    "context_length": 256,  # GPT-2 has 1024; a quarter is enough for a short story and costs less
    "emb_dim": 768,
    "n_heads": 12,
    "n_layers": 12,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
torch.manual_seed(123)
model = GPTModel(GPT_CONFIG_124M).eval()

if gpt2 is not None:
    ids = text_to_token_ids("Every effort moves you", gpt2)
    assert torch.equal(ids, decode.text_to_token_ids("Every effort moves you", gpt2))
    out = decode.generate_text_simple(
        model, ids, max_new_tokens=10, context_size=GPT_CONFIG_124M["context_length"]
    )
    print(token_ids_to_text(out, gpt2))
    assert token_ids_to_text(out, gpt2) == decode.token_ids_to_text(out, gpt2)
    assert (
        token_ids_to_text(out, gpt2)
        == "Every effort moves you rentingetic wasnم refres RexMeCHicular stren"
    )

# %% [markdown]
# Gibberish, as Step 3 promised. "It is bad" is no help to a machine, though. It needs a number that
# says *how* bad, and that gets smaller when things get a little better.
#
# ## 4.2 Loss: how surprised was it?
# Take two pieces of text, three tokens each. The targets are the same pieces, one token further:
# after `every` comes `effort`, after `every effort` comes `moves`.

# %%
# "every effort moves", "I really like"
inputs = torch.tensor([[16833, 3626, 6100], [40, 1107, 588]])
# " effort moves you", " really like chocolate"
targets = torch.tensor([[3626, 6100, 345], [1107, 588, 11311]])
with torch.no_grad():
    logits = model(inputs)  # [B, T, V]
probas = logits.softmax(dim=-1)  # [B, T, V], each row sums to 1
print("probabilities:", tuple(probas.shape))
guesses = probas.argmax(dim=-1)  # [B, T]
if gpt2 is not None:
    wanted, guessed = gpt2.decode(targets[0].tolist()), gpt2.decode(guesses[0].tolist())
    print(f"wanted: {wanted!r}   its best guesses: {guessed!r}")
    assert guessed == " Armed heNetflix"

# %% tags=["check"]
assert guesses.tolist() == [[16657, 339, 42826], [49906, 29669, 41751]]

# %% [markdown]
# Which guess was best does not matter much. What matters is:
# how much probability did it give to **what really came**?

# %%
given = probas.gather(-1, targets[..., None]).flatten()  # six tokens
print("given to what came:", [f"{p:.2e}" for p in given.tolist()])

# %% tags=["check"]
torch.testing.assert_close(
    given,
    torch.tensor([7.4540e-05, 3.1061e-05, 1.1563e-05, 1.0337e-05, 5.6776e-05, 4.7559e-06]),
    rtol=1e-4,
    atol=0,
)

# %% [markdown]
# All tiny. Products of tiny numbers vanish, so one takes logarithms, which add; and changes the
# sign, so that small is good. The result is the **surprise** of each token: 0 if the model was
# certain, more and more the less it expected it. Its mean is the **loss**, called *cross-entropy*.
# In nats, because the logarithm is the natural one.
#
# $$\mathrm{loss} = -\frac{1}{N}\sum_{i=1}^{N}\ln p(\text{what came at place } i)$$

# %%
surprise = -given.log()
loss = surprise.mean()
print("surprise:", surprise, f"\nloss: {loss:.4f} nats a token")

# %% tags=["check"]
close(-surprise, [-9.5042, -10.3796, -11.3677, -11.4798, -9.7764, -12.2561])
close(loss, 10.7940)
torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
torch.testing.assert_close(loss, next_token_loss(logits, targets))

# %% [markdown]
# Is 10.79 bad? A model that has no idea and spreads evenly over 50257 tokens scores $\ln 50257 =
# 10.82$. So: as bad as having no idea.
#
# $e^{\mathrm{loss}}$ turns the number back into a count, called **perplexity**: the model is as
# unsure as if it had to choose among that many tokens, all alike.

# %%
perplexity = loss.exp()
even = torch.tensor(50257.0).log()
print(f"perplexity {perplexity:.1f} of 50257   even spread: loss {even:.4f}")

# %% tags=["check"]
close(perplexity, 48725.8203, atol=0.05)

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(6.2, 3.2))
p = torch.logspace(-6, 0, 300)
ax.plot(p, -p.log(), color=GREY, lw=1.5)
ax.scatter(given, surprise, color=BLUE, s=34, zorder=3, label="our six tokens")
ax.scatter(
    [1 / 50257], [even], color=ORANGE, marker="D", s=40, zorder=3, label="no idea: 1 of 50257"
)
ax.scatter([0.5], [0.6931], color=GREEN, marker="s", s=40, zorder=3, label="a coin toss")
ax.scatter(
    [1.0], [0.0], color=RED, marker="*", s=90, zorder=3, clip_on=False, label="certain, and right"
)
ax.set(
    xscale="log",
    xlabel="probability that the model gave to the token that came",
    ylabel="surprise in nats",
    ylim=(0, None),
)
ax.set_title("Surprise is minus the logarithm of the probability")
ax.legend()
plt.show()

# %% [markdown]
# ## 4.3 Batches, and a part that it never sees
# A pupil who is examined on the very exercises that he was drilled with proves nothing. So a part
# of the text is laid aside: the **validation** text, which is never trained on. Here, the last
# fifth.

# %%
train_text, val_text = split_text(text, 0.8)
if gpt2 is not None:
    torch.manual_seed(123)
    train_loader = create_dataloader_V1(
        train_text, batch_size=2, max_length=256, stride=256, tokenizer=gpt2
    )
    val_loader = create_dataloader_V1(
        val_text, 2, 256, 256, shuffle=False, drop_last=False, tokenizer=gpt2
    )
    train_tokens, val_tokens = (
        sum(ids.numel() for ids, _ in loader) for loader in (train_loader, val_loader)
    )
    print(
        f"training: {len(train_loader)} batches, {train_tokens} tokens;"
        f" validation: {len(val_loader)} batches, {val_tokens} tokens"
    )
    if is_verdict:
        assert (len(text), len(gpt2.encode(text))) == (20479, 5145)
        assert (len(train_loader), len(val_loader), train_tokens, val_tokens) == (8, 2, 4096, 1024)
        assert all(
            ids.shape == targets.shape == (2, 256)
            for loader in (train_loader, val_loader)
            for ids, targets in loader
        )

# %% [markdown]
# **What went wrong: a cut through a word.** The split above cuts *characters*. Where the cut falls
# inside a token, its two halves are encoded as something else on either side, and the model is
# examined on a word that is not one. In *The Verdict* at 80 % we were lucky. How often would we be?
# Runs of this package cut between *tokens*, where the question does not arise.

# %% tags=["what-went-wrong"]
if gpt2 is not None:
    ids = gpt2.encode(text, disallowed_special=())
    halves = [split_text(text, share / 100) for share in range(50, 100)]
    torn = [
        left
        for left, right in halves
        if gpt2.encode(left, disallowed_special=()) + gpt2.encode(right, disallowed_special=())
        != ids
    ]
    print(
        f"cut at 50, 51, ... 99 %: {len(torn)} of {len(halves)} cuts tear a token,"
        f" for example {torn[0][-12:]!r}"
    )
    assert torn
    if is_verdict:
        assert train_text not in torn

# %% [markdown]
# How does the untrained model do on both? On the 124M shape this takes a moment,
# so it is checked only when asked for.

# %%
device = torch.device("cuda" if FULL and torch.cuda.is_available() else "cpu")
if FULL and gpt2 is not None:
    model.to(device)
    losses = [
        simple.calc_loss_loader(loader, model, device) for loader in (train_loader, val_loader)
    ]
    print(f"training loss {losses[0]:.6f}, validation loss {losses[1]:.6f}")
    if is_verdict:
        close(
            losses,
            [10.992259979248047, 10.983443260192871],
            atol=2e-3 if device.type == "cuda" else 1e-5,
        )
else:
    print(
        "left out: the first losses of the 124M shape, 10.992 and 10.983;"
        " set LLM_SCRATCH_FULL=1 to check them"
    )
del model

# %% [markdown]
# ## 4.4 Training
# **Pretraining** is four lines, again and again: forget the last gradients, measure the loss, ask
# every number in which direction it would make the loss smaller (`backward`), take a small step
# that way (`step`).


# %%
def train(model, batches, optimizer, num_epochs):
    """Show the model all batches `num_epochs` times."""
    model.train()
    for _ in range(num_epochs):
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
            loss.backward()
            optimizer.step()


# %% [markdown]
# `train_model_simple` of the package is those lines, and in between it looks at both losses, prints
# them, and lets the model write a sample after each pass over the text (an *epoch*). Is it the same
# training? Two tiny models that begin alike must end alike:

# %%
tiny = {
    "vocab_size": 256,
    "context_length": 16,
    "emb_dim": 32,
    "n_heads": 2,
    "n_layers": 2,
    "drop_rate": 0.0,
    "qkv_bias": False,
}
letters = TOKENIZERS["bpe"]([train_text], 257)  # one id a byte, and one for the end of a text
tiny_batches = list(create_dataloader_V1(train_text[:600], 4, 16, 16, tokenizer=letters))
twins = []
for _ in range(2):
    torch.manual_seed(123)
    twins.append(GPTModel({**tiny, "vocab_size": letters.n_vocab}))
optimizers = [torch.optim.AdamW(twin.parameters(), lr=1e-3, weight_decay=0.1) for twin in twins]
train(twins[0], tiny_batches, optimizers[0], num_epochs=2)
# what two such models have to say is not worth printing
with contextlib.redirect_stdout(io.StringIO()):
    simple.train_model_simple(
        twins[1], tiny_batches, tiny_batches, optimizers[1], "cpu", 2, 100, 1, "I had", letters
    )
assert all(torch.equal(a, b) for a, b in zip(twins[0].parameters(), twins[1].parameters()))
print("equal to the last bit")

# %% [markdown]
# Now the real thing. The true shape has 163 million numbers; the small one has about a million, and
# learns its tokens from the training text, as in Step 1: with GPT-2's 50257 tokens nine tenths of a
# small model would be tables. Everything else is alike, dropout and all.
#
# We stop halfway to take a copy; you will see why.
# (The second call counts its epochs and steps from the start again.)

# %%
if FULL and gpt2 is not None:
    config, tokenizer = ModelConfig.of(GPT_CONFIG_124M), gpt2
    rows, lr, first_epochs, more_epochs, eval_freq = 2, 4e-4, 6, 4, 5
else:
    tokenizer = TOKENIZERS["bpe"]([train_text], 1024)
    config = GPTConfig(
        vocab_size=tokenizer.n_vocab, context_length=128, emb_dim=128, n_heads=2, n_layers=4
    )
    rows, lr, first_epochs, more_epochs, eval_freq = 4, 3e-3, 6, 6, 5

T = config.context_length
torch.manual_seed(123)
train_loader = create_dataloader_V1(train_text, rows, T, T, tokenizer=tokenizer)
val_loader = create_dataloader_V1(
    val_text, rows, T, T, shuffle=False, drop_last=False, tokenizer=tokenizer
)
torch.manual_seed(123)
model = GPTModel(config).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1)
prompt = "Every effort moves you" if is_verdict else text[:20]
n_numbers = sum(p.numel() for p in model.parameters())
print(f"{n_numbers:,} numbers, {len(train_loader)} batches of {rows} x {T} tokens an epoch")
first = simple.train_model_simple(
    model,
    train_loader,
    val_loader,
    optimizer,
    device,
    first_epochs,
    eval_freq,
    5,
    prompt,
    tokenizer,
)
halfway = {name: tensor.clone() for name, tensor in model.state_dict().items()}

# %%
second = simple.train_model_simple(
    model, train_loader, val_loader, optimizer, device, more_epochs, eval_freq, 5, prompt, tokenizer
)

# %% [markdown]
# From gibberish over the commonest words to whole sentences of the story,
# in a few passes. Now look at both losses:

# %%
train_losses, val_losses = first[0] + second[0], first[1] + second[1]
epoch_tokens = len(train_loader) * rows * T
tokens_seen = first[2] + [first_epochs * epoch_tokens + seen for seen in second[2]]
epochs_seen = [seen / epoch_tokens for seen in tokens_seen]
best = min(range(len(val_losses)), key=val_losses.__getitem__)
print(f"training loss   {train_losses[0]:.2f} -> {train_losses[-1]:.2f}")
print(
    f"validation loss {val_losses[0]:.2f} -> {val_losses[best]:.2f}"
    f" after {epochs_seen[best]:.1f} epochs -> {val_losses[-1]:.2f}"
)
assert epochs_seen[len(first[0])] == first_epochs + 1 / len(train_loader), (
    "the second call begins where the first ended"
)
assert train_losses[-1] < 0.7 * train_losses[best]
assert val_losses[-1] > val_losses[best]
if FULL and is_verdict and gpt2 is not None:
    assert train_losses[-1] < 1.5
    # 6.62 in the first notebook; chance differs from device to device
    assert 6.4 < val_losses[best] < 7.0

with tempfile.TemporaryDirectory() as folder:
    figure = simple.plot_losses(
        epochs_seen, tokens_seen, train_losses, val_losses, path=Path(folder) / "loss-plot.pdf"
    )
figure.set_dpi(100)
figure

# %% [markdown]
# **What went wrong: a curve shown without a word.** The first notebook printed such a table and
# went on. But look: the training loss falls and falls, while the validation loss turns round and
# climbs. From there on the model no longer gets better at *English*, it gets better at *this text*:
# it learns it by heart, which is called **overfitting**. A text of five thousand tokens and a model
# that could store it many times over: what else should it do?
#
# That is a claim. Here is the test. At every place of both texts, ask for the best next token, and
# count how often it is the right one: halfway, and at the end.


# %%
@torch.no_grad()
def share_right(model, loader, device):
    """How often the model's first guess is the token that came."""
    model.eval()
    hits = [
        (model(ids.to(device)).argmax(-1) == targets.to(device)).float().flatten()
        for ids, targets in loader
    ]
    return torch.cat(hits).mean().item()


early = GPTModel(config).to(device)
early.load_state_dict(halfway)
right = {
    name: [share_right(m, loader, device) for loader in (train_loader, val_loader)]
    for name, m in (("halfway", early), ("end", model))
}
print(right)

# %% tags=["check"]
assert right["end"][0] > right["halfway"][0] + 0.2
assert right["end"][1] < right["halfway"][1] + 0.1

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(4.8, 3.1))
for place, (name, colour) in enumerate((("halfway", ORANGE), ("end", BLUE))):
    bars = ax.bar(
        [x + (place - 0.5) * 0.36 for x in range(2)],
        right[name],
        0.34,
        color=colour,
        label=f"model {name}".replace(" end", " at the end"),
    )
    ax.bar_label(bars, fmt="{:.0%}", padding=2)
ax.set_xticks(range(2), ["text it was trained on", "text it never saw"])
ax.set(ylim=(0, 1.08), ylabel="first guess is right", title="By heart, not by understanding")
ax.tick_params(axis="x", length=0)
ax.legend(loc="upper right")
plt.show()

# %% [markdown]
# So, what helps? More text, above all; GPT-2 read millions of pages. With little text: a smaller
# model, more dropout, and stopping where the validation loss is lowest, which is called *early
# stopping*. The package's real training (`llm-scratch train verdict`) keeps the best checkpoint for
# this reason.
#
# **What went wrong: the mean of the means.** The notebook's `calc_loss_loader` took each batch's
# mean loss, and then the mean of those. If the last batch is short, its few tokens count as much as
# a full batch's many. The package counts tokens.

# %% tags=["what-went-wrong"]
ragged = create_dataloader_V1(
    val_text, len(val_loader.dataset) - 1, T, T, shuffle=False, drop_last=False, tokenizer=tokenizer
)
with torch.no_grad():
    means = [simple.calc_loss_batch(ids, targets, model, device).item() for ids, targets in ragged]
    one_by_one = [
        simple.calc_loss_batch(ids[None], targets[None], model, device).item()
        for ids, targets in val_loader.dataset
    ]
exact = sum(one_by_one) / len(one_by_one)
print(
    f"{[len(ids) for ids, _ in ragged]} rows: mean of means {sum(means) / 2:.4f}, exact {exact:.4f}"
)
torch.testing.assert_close(
    simple.calc_loss_loader(ragged, model, device), exact, rtol=1e-4, atol=1e-4
)
assert len(one_by_one) == 2 or abs(sum(means) / 2 - exact) > 1e-3

# %% [markdown]
# ## 4.5 Choosing the next token
# So far we always took the best token: **greedy**. The same prompt gives the same text for ever,
# and often a loop. To see the other ways we shrink the vocabulary to nine words, with the scores
# that a model gave them after *every effort moves you*:

# %%
vocab = {
    "closer": 0,
    "every": 1,
    "effort": 2,
    "forward": 3,
    "inches": 4,
    "moves": 5,
    "pizza": 6,
    "toward": 7,
    "you": 8,
}
words = list(vocab)
toy_logits = torch.tensor([4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79])  # [V]
assert vocab == sampling.TOY_VOCAB
assert torch.equal(toy_logits, sampling.TOY_LOGITS)

toy_probas = toy_logits.softmax(-1)
torch.manual_seed(123)
print(
    "greedy:",
    words[toy_probas.argmax()],
    "  drawn:",
    words[torch.multinomial(toy_probas, num_samples=1)],
)
assert words[toy_probas.argmax()] == "forward"

# %% tags=["check"]
torch.manual_seed(123)
assert words[torch.multinomial(toy_probas, num_samples=1)] == "forward"

# %% [markdown]
# Draw a thousand times, and every word comes about as often as its probability says: mostly
# *forward*, often *toward*, now and then *closer*, and twice *inches*.

# %%
torch.manual_seed(123)
drawn = torch.tensor([torch.multinomial(toy_probas, 1).item() for _ in range(1000)]).bincount(
    minlength=9
)
print({word: count for word, count in zip(words, drawn.tolist()) if count})
assert drawn.tolist() == [73, 0, 0, 582, 2, 0, 0, 343, 0]
sampling.print_sampled_tokens(toy_probas)  # the package's: the same numbers

# %% [markdown]
# ### Temperature
# Divide the scores by a number before softmax. Below 1, differences grow, and the favourite wins
# nearly always; above 1 they shrink, and outsiders get a chance. Towards 0 it is greedy; towards
# infinity, dice.


# %%
def softmax_with_temperature(logits, temperature):
    """Probabilities of scores that were divided by the temperature."""
    return (logits / temperature).softmax(dim=-1)


temperatures = {0.1: ORANGE, 1.0: BLUE, 5.0: GREEN}

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(7.4, 3.0))
for place, (temperature, colour) in enumerate(temperatures.items()):
    probas = softmax_with_temperature(toy_logits, temperature)
    torch.testing.assert_close(probas, sampling.softmax_with_temperature(toy_logits, temperature))
    note = {0.1: " (sure of itself)", 1.0: " (as it is)", 5.0: " (daring)"}[temperature]
    ax.bar(
        [x + (place - 1) * 0.27 for x in range(9)],
        probas.tolist(),
        0.26,
        color=colour,
        label=f"temperature {temperature:g}{note}",
    )
    print(f"temperature {temperature:g}: pizza {probas[vocab['pizza']]:.4%}")
ax.set_xticks(range(9), words)
ax.set(ylim=(0, 1.05), ylabel="probability", title="Every effort moves you ...")
ax.tick_params(axis="x", length=0)
ax.legend(loc="upper right", bbox_to_anchor=(1.0, 1.0))
plt.show()

# %% [markdown]
# At temperature 5, *every effort moves you pizza* comes once in 23 times.
# We want variety without pizza.
#
# ### Top-k and top-p
# **Top-k**: keep the k best, forbid the rest (score minus infinity, so that
# softmax gives exactly 0), and draw among those.
#
# ![Sampling cuts a distribution: top-k keeps the k likeliest tokens, top-p as many as together
# reach p](drawings/sampling.svg)

# %%
top_logits, top_places = toy_logits.topk(3)
print("top 3:", top_logits, "at", top_places)
close(top_logits, [6.75, 6.28, 4.51])
assert top_places.tolist() == [3, 7, 0]

masked = toy_logits.masked_fill(toy_logits < top_logits[-1], -torch.inf)
print(masked)
never = -torch.inf

# %% tags=["check"]
assert torch.equal(
    masked, torch.tensor([4.51, never, never, 6.75, never, never, never, 6.28, never])
)
assert torch.equal(masked[None], sampling.top_k(toy_logits[None], 3))

# %% [markdown]
# **Top-p** asks another question: keep the best ones until they hold the share p of all
# probability. Where the model is sure that is one or two tokens, where it is not, many. Below, the
# same settings meet the nine words as they are, and made unsure by a temperature of 3.

# %%
settings = {
    "all": lambda scores: scores,
    "top-k 1": lambda scores: sampling.top_k(scores, 1),
    "top-k 3": lambda scores: sampling.top_k(scores, 3),
    "top-k 5": lambda scores: sampling.top_k(scores, 5),
    "top-p 0.5": lambda scores: sampling.top_p(scores, 0.5),
    "top-p 0.9": lambda scores: sampling.top_p(scores, 0.9),
}
order = toy_logits.argsort(descending=True)

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(9.4, 3.2), sharey=True)
for ax, temperature, title in (
    (axes[0], 1.0, "A model that is sure"),
    (axes[1], 3.0, "A model that is not"),
):
    grid = torch.stack(
        [keep(toy_logits[None] / temperature).softmax(-1)[0, order] for keep in settings.values()]
    )
    ax.imshow(
        grid.masked_fill(grid == 0, float("nan")).numpy(),
        cmap="Blues",
        vmin=0,
        vmax=1,
        aspect="auto",
    )
    ax.set_facecolor("#e6e6e6")
    for row, line in enumerate(grid.tolist()):
        for column, share in enumerate(line):
            if share:
                ax.text(
                    column,
                    row,
                    f"{share:.0%}" if share > 0.005 else "<1%",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if share > 0.55 else "black",
                )
    ax.set_xticks(
        range(9), [words[i] for i in order], rotation=40, ha="right", rotation_mode="anchor"
    )
    ax.set_yticks(range(len(settings)), list(settings))
    ax.set_title(f"{title}: grey is forbidden")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
plt.show()

# %% [markdown]
# All of it in one loop. It is the loop of Step 3, with the choice put in the middle:


# %%
@torch.no_grad()
def generate(model, idx, max_new_tokens, context_size, temperature=0.0, top_k=None):
    """Continue one row or many. [B, T] -> [B, T + max_new_tokens]."""
    for _ in range(max_new_tokens):
        logits = model(idx[:, -context_size:])[:, -1]  # [B, V]
        if top_k is not None:
            worst_kept = logits.topk(min(top_k, logits.shape[-1])).values[
                :, -1:
            ]  # [B, 1]: one for each row
            logits = logits.masked_fill(logits < worst_kept, -torch.inf)
        if temperature == 0:
            new = logits.argmax(-1, keepdim=True)  # [B, 1]
        else:
            new = torch.multinomial((logits / temperature).softmax(-1), 1)  # [B, 1]
        idx = torch.cat([idx, new], dim=1)
    return idx


model.cpu().eval()
idx = decode.text_to_token_ids(prompt, tokenizer)
for temperature, top_k in ((0.0, None), (0.8, 25), (1.4, 25)):
    torch.manual_seed(123)
    mine = generate(model, idx, 20, T, temperature, top_k)
    torch.manual_seed(123)
    assert torch.equal(mine, decode.generate(model, idx, 20, T, temperature, top_k))
    print(f"temperature {temperature}: {decode.token_ids_to_text(mine, tokenizer)!r}")

# %% [markdown]
# **What went wrong: four ways in which one row works and two do not.** The notebook's `generate`
# was only ever tried on a single row.
#
# 1. The worst score that top-k keeps is one number *a row*, shape `[B]`. Compared with `[B, V]`, it
#    lines up with the wrong side: an error, or, where B happens to equal V, wrong answers without
#    one. Above it is kept as `[B, 1]`.
# 2. `if idx_next == eos_id` asks one question of many rows at once.
# 3. `top_k` larger than the vocabulary is an error.
# 4. The token that ends a text was thrown away, so nobody could see *that* it had ended.


# %% tags=["what-went-wrong"]
def top_k_as_it_was(logits, k):
    worst_kept = logits.topk(k).values[:, -1]  # [B]
    return torch.where(logits < worst_kept, torch.tensor(-torch.inf), logits)


def complaint(function, *args):
    """The first line of what a function complains about."""
    try:
        function(*args)
    except RuntimeError as e:
        return str(e).splitlines()[0]
    raise AssertionError("expected an error")


print("1.", complaint(top_k_as_it_was, toy_logits.repeat(2, 1), 3))
square = torch.tensor([[1.0, 2.0, 3.0], [30.0, 20.0, 10.0], [0.0, 0.1, 0.2]])
print(
    "   silently, 3 rows and 3 words, best one of each kept:",
    top_k_as_it_was(square, 1).isfinite().tolist(),
)
print(
    "   right:                                             ",
    sampling.top_k(square, 1).isfinite().tolist(),
)
assert not torch.equal(top_k_as_it_was(square, 1), sampling.top_k(square, 1))
print("2.", complaint(bool, torch.tensor([[3], [7]]) == 7))
print("3.", complaint(top_k_as_it_was, toy_logits[None], 10))
assert torch.equal(sampling.top_k(toy_logits[None], 10), toy_logits[None])


# %%
class Counter(nn.Module):
    """A model that can only count: after n it says n + 1."""

    def forward(self, ids):
        return F.one_hot((ids + 1) % 10, 10).float()  # [B, T, V]


counted = decode.generate(Counter(), torch.tensor([[0], [4]]), max_new_tokens=20, eos_id=7)
print("4. counting until 7, two rows at once:", counted.tolist())

# %% tags=["check"]
assert counted.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 7, 7, 7, 7]]

# %% [markdown]
# ## 4.6 Writing fast: the cache
# The loop above is wasteful. For the twentieth token it runs all nineteen before it through the
# model once more, though nothing about them has changed: a token never sees the future, so its keys
# and values stay what they were. A **key/value cache** keeps them, and each step runs *one* new
# token. Same text, less work; let us count the tokens that pass through the model.
#
# ![The key/value cache grows by one column a step: earlier keys and values are kept, only the new
# token is computed](drawings/kv-cache.svg)

# %%
passed = [0]
hook = model.tok_emb.register_forward_hook(
    lambda part, ids, out: passed.__setitem__(0, passed[0] + ids[0].numel())
)
work = {}
for name, write in (("without a cache", generate), ("with a cache", decode.generate)):
    work[name] = []
    for n_new in (10, 20, 40, 80):
        passed[0] = 0
        work[name].append((n_new, passed[0], write(model, idx, n_new, T), passed[0]))
hook.remove()
for (n_new, _, slow, n_slow), (_, _, fast, n_fast) in zip(*work.values()):
    assert torch.equal(slow, fast)
    counts = f"{n_slow:5d} through the model, with a cache {n_fast:3d}"
    print(f"{n_new:3d} new tokens: {counts}; the same text")

# %% tags=["check"]
assert work["with a cache"][-1][3] == idx.shape[1] + 80 - 1

# %% [markdown]
# ## 4.7 Saving and loading
# A model is its numbers. `state_dict` names each tensor, `torch.save` writes them. The optimizer
# has a memory too (a running mean of every gradient), so to *go on training* one saves both.

# %%
folder = tempfile.TemporaryDirectory()
path = Path(folder.name)
torch.save(model.state_dict(), path / "model.pth")
torch.save(
    {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()},
    path / "model_and_optimizer.pth",
)

again = GPTModel(config)
again.load_state_dict(torch.load(path / "model.pth", weights_only=True))
again.eval()
assert torch.equal(again(idx), model(idx))
print("loaded, and equal to the last bit")

# %% [markdown]
# **What went wrong: a new learning rate that never was.** To go on more carefully, the notebook
# made a new optimizer with lr 5e-4 and *then* loaded the old one's state. A state holds the
# learning rate as well, so the new one was overwritten. Set it after loading:

# %% tags=["what-went-wrong"]
saved = torch.load(path / "model_and_optimizer.pth", weights_only=True, map_location="cpu")
reloaded = torch.optim.AdamW(again.parameters(), lr=5e-4, weight_decay=0.1)
reloaded.load_state_dict(saved["optimizer_state_dict"])
print("asked for 5e-4, got", reloaded.param_groups[0]["lr"])
assert reloaded.param_groups[0]["lr"] == lr
for group in reloaded.param_groups:
    group["lr"] = 5e-4

# %% [markdown]
# **What goes wrong easily: a file that runs.** The old format of `torch.save` is *pickle*, and a
# pickle may say "call this function". Who loads a stranger's file runs a stranger's code.
# `weights_only=True` reads numbers and refuses the rest. (The package's own checkpoints are
# *safetensors*, a format in which there is nothing to run.)


# %%
class Stranger:
    """What a bad file might hold: when it is read, it makes the folder `mark`."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


torch.save({"tok_emb.weight": Stranger(path / "I was here")}, path / "stranger.pth")
try:
    torch.load(path / "stranger.pth", weights_only=True)
    raise AssertionError("expected a refusal")
except pickle.UnpicklingError:
    print("refused; was its folder made?", (path / "I was here").exists())

# %% tags=["check"]
assert not (path / "I was here").exists()

# %% [markdown]
# One more thing about old files. The notebooks' attention kept its mask as a table, and the table
# was saved with the weights. The package's attention needs none, and drops it when it meets one:

# %%
old = dict(model.state_dict())
for layer in range(config.n_layers):
    old[f"trf_blocks.{layer}.att.mask"] = torch.ones(T, T).triu(1)
again.load_state_dict(old)  # strict: an unknown name would be an error
assert torch.equal(again(idx), model(idx))
folder.cleanup()

# %% [markdown]
# ## 4.8 It writes
# `stream` gives a text piece by piece, as it is made. First the model from halfway, that had not
# yet learned the story by heart; then the one from the end, prompted with the words the story
# begins with:

# %%
early.cpu()
opening = text[:33]
for name, writer, start in (
    ("halfway", early, prompt),
    ("end", model, prompt),
    ("end", model, opening),
):
    print(f"--- model {name}, after {start!r}:")
    print(
        "".join(
            decode.stream(writer, tokenizer, start, max_new_tokens=60, temperature=0.3, seed=123)
        ),
        "\n",
    )

# %% [markdown]
# How much of that is the author's? The longest run of characters that
# stands in the training text, word for word:


# %%
def longest_copy(written, source):
    """The longest piece of `written` that stands in `source`."""
    best = ""
    for begin in range(len(written)):
        while written[begin : begin + len(best) + 1] in source and begin + len(best) < len(written):
            best = written[begin : begin + len(best) + 1]
    return best


recited = "".join(decode.stream(model, tokenizer, opening, max_new_tokens=60, temperature=0))
early_text = "".join(decode.stream(early, tokenizer, opening, max_new_tokens=60, temperature=0))
for name, written in (("halfway", early_text), ("end", recited)):
    copy = longest_copy(opening + written, train_text)
    print(f"{name:8s} {len(copy):4d} of {len(opening + written)} characters: {copy!r}")

# %% tags=["check"]
assert len(longest_copy(opening + recited, train_text)) > len(
    longest_copy(opening + early_text, train_text)
)

# %% [markdown]
# ## 4.9 Weights from elsewhere
# Nobody has to start from a hat.
# OpenAI trained these four shapes on millions of web pages and gave away the numbers:
#
# | name | width | blocks | heads | numbers | file |
# |---|---|---|---|---|---|
# | gpt2-small (124M) | 768 | 12 | 12 | 124,439,808 | 0.5 GB |
# | gpt2-medium (355M) | 1024 | 24 | 16 | 354,823,168 | 1.4 GB |
# | gpt2-large (774M) | 1280 | 36 | 20 | 774,030,080 | 3.1 GB |
# | gpt2-xl (1558M) | 1600 | 48 | 25 | 1,557,611,200 | 6.2 GB |

# %%
base = {
    "vocab_size": 50257,
    "context_length": 1024,
    "drop_rate": 0.0,
    "qkv_bias": True,
    "tie_embeddings": True,
}
model_configs = {
    "gpt2-small (124M)": {"emb_dim": 768, "n_layers": 12, "n_heads": 12},
    "gpt2-medium (355M)": {"emb_dim": 1024, "n_layers": 24, "n_heads": 16},
    "gpt2-large (774M)": {"emb_dim": 1280, "n_layers": 36, "n_heads": 20},
    "gpt2-xl (1558M)": {"emb_dim": 1600, "n_layers": 48, "n_heads": 25},
}
counts = [ModelConfig.of({**base, **shape}).n_params for shape in model_configs.values()]
assert counts == [124_439_808, 354_823_168, 774_030_080, 1_557_611_200]
NEW_CONFIG = {**base, **model_configs["gpt2-small (124M)"]}
print({name: f"{4 * count / 1e9:.1f} GB" for name, count in zip(model_configs, counts)})

# %% [markdown]
# Loading them is bookkeeping:
# the same numbers under other names and in another layout. Three things differ.
#
# - The release multiplies `x @ w`, PyTorch's `Linear` multiplies `x @ w.T`.
#   So every matrix is **transposed**.
# - It keeps query, key and value side by side in one matrix,
#   `c_attn`. So that one is **cut in three**.
# - The head is the token table (Step 3). So it is **tied**, and there is no head in the file.
#
# One function guards every assignment, since a wrong shape must not pass by luck:


# %%
def assign(left, right):
    """`right`, an array, as a parameter in place of `left`."""
    right = torch.as_tensor(right)
    if left.shape != right.shape:
        raise ValueError(f"Shape mismatch. Left: {tuple(left.shape)}, Right: {tuple(right.shape)}")
    return nn.Parameter(right.clone())


def load_attention(att, params):
    """Give an attention layer the numbers of one block of the release."""
    for name, w, b in zip(
        ("W_query", "W_key", "W_value"),
        params["c_attn"]["w"].chunk(3, -1),
        params["c_attn"]["b"].chunk(3, -1),
    ):
        part = getattr(att, name)
        part.weight, part.bias = assign(part.weight, w.T), assign(part.bias, b)
    att.out_proj.weight = assign(att.out_proj.weight, params["c_proj"]["w"].T)
    att.out_proj.bias = assign(att.out_proj.bias, params["c_proj"]["b"])


# %% [markdown]
# A release in miniature shows that the bookkeeping is right: what the layer computes must be what
# the release's own formula computes.

# %%
C, heads = 24, 3
torch.manual_seed(0)
params = {
    "c_attn": {"w": torch.randn(C, 3 * C), "b": torch.randn(3 * C)},
    "c_proj": {"w": torch.randn(C, C), "b": torch.randn(C)},
}
pretrained = GPTModel(
    {**base, "vocab_size": 97, "context_length": 16, "emb_dim": C, "n_heads": heads, "n_layers": 1}
).eval()
att = pretrained.trf_blocks[0].att
load_attention(att, params)

x = torch.randn(2, 5, C)  # [B, T, C]
q, k, v = (x @ params["c_attn"]["w"] + params["c_attn"]["b"]).chunk(3, -1)  # each [B, T, C]
q, k, v = (
    part.view(2, 5, heads, C // heads).transpose(1, 2) for part in (q, k, v)
)  # each [B, H, T, D]
scores = (q @ k.transpose(-2, -1) / (C // heads) ** 0.5).masked_fill(
    torch.ones(5, 5).triu(1).bool(), -torch.inf
)  # [B, H, T, T]
mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 5, C)  # [B, T, C]
torch.testing.assert_close(att(x), mixed @ params["c_proj"]["w"] + params["c_proj"]["b"])

try:
    assign(att.W_query.weight, params["c_attn"]["w"].T)  # forgot to cut it in three
    raise AssertionError("expected an error")
except ValueError as e:
    print("ValueError:", e)

# %% [markdown]
# **What went wrong: a head that was copied, not tied.** The notebook assigned the token table to
# the head a second time. For reading that makes no difference. But it is two matrices now: the
# model is 38.6 million numbers larger than it says, and after the first step of further training
# the two are no longer the same.


# %% tags=["what-went-wrong"]
def apart_after_a_step(model, ids):
    """How far head and token table are apart after one training step, at most."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    next_token_loss(model(ids[:, :-1]), ids[:, 1:]).backward()
    optimizer.step()
    return (model.out_head.weight - model.tok_emb.weight).abs().max().item()


copied = GPTModel({**pretrained.cfg, "tie_embeddings": False})
copied.out_head.weight = assign(copied.out_head.weight, copied.tok_emb.weight.detach())
ids = torch.randint(97, (2, 12))
n_copied, n_tied = (sum(p.numel() for p in each.parameters()) for each in (copied, pretrained))
print(f"numbers: copied {n_copied:,}, tied {n_tied:,}")
apart, together = apart_after_a_step(copied, ids), apart_after_a_step(pretrained, ids)
print(f"apart after one step: copied {apart:.4f}, tied {together:.4f}")
assert apart_after_a_step(copied, ids) > 0
assert apart_after_a_step(pretrained, ids) == 0

# %% [markdown]
# ### The real ones
# OpenAI's release is five files: the shape (`hparams.json`), the numbers with a table of where each
# lies (TensorFlow's format), and the vocabulary. `download_and_load_gpt2` takes them from this
# machine, or downloads them once, half a gigabyte. Where it can do neither, we make a release
# ourselves: a GPT-2 in miniature that learns for a few seconds, written into the same five files.
# After the next cell nothing asks any more which of the two it was.


# %%
def release_of_our_own(folder, text):
    """Write a small trained model as OpenAI does;
    its tokenizer and the losses between which a right load must lie.
    """
    pieces = TOKENIZERS["bpe"]([text], 1024)
    torch.manual_seed(123)
    small = GPTConfig(
        pieces.n_vocab,
        64,
        96,
        n_heads=3,
        n_layers=2,
        drop_rate=0.0,
        qkv_bias=True,
        tie_embeddings=True,
        init="gpt2",
    )
    writer = GPTModel(small)
    batches = list(create_dataloader_V1(text, 4, 64, 64, tokenizer=pieces))
    train(writer, batches, torch.optim.AdamW(writer.parameters(), lr=3e-3), num_epochs=30)
    save_gpt2(writer, pieces, folder)
    known = create_dataloader_V1(text, 2, 64, 64, shuffle=False, drop_last=False, tokenizer=pieces)
    loss = simple.calc_loss_loader(known, writer, "cpu")
    return pieces, (loss - 1e-4, loss + 1e-4)


try:
    settings, params = download_and_load_gpt2("124M", cache_folder() / "gpt2")
    speaker, band = TOKENIZERS["gpt2"]([], None), (3.2, 4.2) if is_verdict else (2.0, 5.0)
except UserError as e:
    print(f"A small release made here takes the place of GPT-2's: {str(e).partition(';')[0]}")
    with tempfile.TemporaryDirectory() as folder:
        speaker, band = release_of_our_own(Path(folder) / "124M", text)
        settings, params = download_and_load_gpt2("124M", folder)
else:  # the first three of GPT-2's 124 million numbers are known
    torch.testing.assert_close(
        torch.tensor(params["wte"][0, :3]), torch.tensor([-0.11010301, -0.03926672, 0.03310751])
    )
print(settings)
print(
    "wte",
    params["wte"].shape,
    params["wte"][0, :3],
    "  c_attn",
    params["blocks"][0]["attn"]["c_attn"]["w"].shape,
)

# %% [markdown]
# **What went wrong: a library of half a gigabyte for one file.** The notebook asked for
# TensorFlow's version in its third cell, and where TensorFlow was not installed, it ended there,
# fifty cells before the first number that needs it. Nothing but the table of a file format was ever
# wanted of it (lesson 5 opens one by hand):

# %% tags=["what-went-wrong"]
assert "tensorflow" not in sys.modules
print("TensorFlow's file is read; TensorFlow was not asked")

# %% [markdown]
# **What went wrong: a requirement that nothing requires.** The list of packages to install named
# `urllib317`, which no line imports and nobody knows as a library; `requests` and `tqdm`, which
# lines did import, were missing. A name that is free can be registered by anybody, and `pip
# install` runs what he puts there. A list of requirements should hold what is imported, and nothing
# else:

# %% tags=["what-went-wrong"]
installed_as = metadata.packages_distributions()["llm_scratch"][0]
declared = {re.match(r"[\w-]+", line)[0].lower() for line in metadata.requires(installed_as)}
assert {"torch", "tiktoken"} <= declared
assert not {"urllib317", "tensorflow"} & declared

# %% [markdown]
# `load_weights_into_gpt` of the package is the bookkeeping from above, for all layers. It puts in
# everything, or, if one shape is wrong, nothing.

# %%
shape = {
    "vocab_size": "n_vocab",
    "context_length": "n_ctx",
    "emb_dim": "n_embd",
    "n_heads": "n_head",
    "n_layers": "n_layer",
}
gpt = GPTModel({**base, **{ours: settings[theirs] for ours, theirs in shape.items()}}).eval()
load_weights_into_gpt(gpt, params)
by_hand = GPTModel({**gpt.cfg, "n_layers": 1}).trf_blocks[0].att
load_attention(
    by_hand,
    {
        part: {k: torch.tensor(a) for k, a in params["blocks"][0]["attn"][part].items()}
        for part in ("c_attn", "c_proj")
    },
)
assert all(
    torch.equal(a, b)
    for a, b in zip(by_hand.state_dict().values(), gpt.trf_blocks[0].att.state_dict().values())
)
assert gpt.out_head.weight is gpt.tok_emb.weight
print(f"{sum(p.numel() for p in gpt.parameters()):,} numbers are in their places")

# %% [markdown]
# Are they? Shapes cannot tell: `c_proj` is square, so it fits as well the wrong way round. A
# **text** can. On text that makes sense a model that was loaded rightly has a loss that is known
# beforehand: GPT-2's smallest, on *The Verdict*, lies between 3.2 and 4.2 nats a token (perplexity
# 25 to 67); one that we wrote ourselves must have the very loss that it had. To see that the check
# catches something, turn `c_proj` of the first block over:

# %%
length = min(256, settings["n_ctx"])
known = create_dataloader_V1(
    text, 2, length, length, shuffle=False, drop_last=False, tokenizer=speaker
)
right = simple.calc_loss_loader(known, gpt, "cpu")
square = gpt.trf_blocks[0].att.out_proj
square.weight = assign(square.weight, square.weight.detach().T)
wrong = simple.calc_loss_loader(known, gpt, "cpu")
square.weight = assign(square.weight, square.weight.detach().T)
print(
    f"loss {right:.4f}, expected {band[0]:.4f} to {band[1]:.4f}; "
    f"with one matrix turned over {wrong:.4f}; no idea {math.log(gpt.cfg.vocab_size):.4f}"
)

# %% tags=["check"]
assert band[0] <= right <= band[1]
assert not band[0] <= wrong <= band[1]

# %% [markdown]
# Now let it write, the favourites of 4.5 at work: top-k 50, temperature 1.5 for a model that has
# read the web, something calmer for one that has read a single story.

# %%
idx = decode.text_to_token_ids("Every effort moves you", speaker)
torch.manual_seed(123)
written = decode.generate(
    gpt, idx, 25, settings["n_ctx"], temperature=1.5 if settings["n_embd"] == 768 else 0.7, top_k=50
)
print(decode.token_ids_to_text(written, speaker))

# %% tags=["check"]
assert written.shape == (1, idx.shape[1] + 25)

# %% [markdown]
# Everything else in the package takes them by name: `llm-scratch generate gpt2 "Every effort moves
# you"`, or `llm-scratch train verdict --from gpt2` to go on training from them. What is in such
# files, byte by byte, is Step 5.
#
# ## 4.10 Try it yourself
# `ask` shows an exercise, with new numbers each time. Write your answer in place of the
# `...` and run the cell. A wrong answer is diagnosed; the right one is never shown.
# `hint("4.1")` opens a hint, three for each exercise. The same exercises in a terminal:
# `llm-scratch learn next`. Solutions are sealed: `llm-scratch learn solution 4.1` opens
# one.

# %%
ask("4.1")

# %%
check("4.1", ...)

# %%
ask("4.2")

# %%
check("4.2", ...)

# %%
ask("4.3")


# %%
def surprise_of(logits, target):
    powers = [math.exp(logit) for logit in logits]
    return -math.log(powers[target] / sum(powers))


check("4.3", surprise_of)

# %%
ask("4.4")


# %%
def mean_loss(batches):
    return ...  # your code


check("4.4", mean_loss)

# %%
ask("4.5")


# %%
def accumulated_gradient(micro_batches):
    gradient = 0.0
    for examples in micro_batches:
        gradient += sum(examples) / len(examples)
    return gradient


check("4.5", accumulated_gradient)

# %%
ask("4.6")

# %%
check("4.6", ...)

# %%
ask("4.7")


# %%
def stop_at(val_losses, patience):
    return ...  # your code


check("4.7", stop_at)

# %% [markdown]
# Losses of models with different tokenizers cannot be compared: a short token is easier to predict
# than a long one, and a text has more of them. **Bits per byte** can be: the surprise of the whole
# text in bits, divided by its bytes. (A nat is $1/\ln 2$ bits.)

# %%
ask("4.8")

# %%
check("4.8", ...)

# %%
ask("4.9")


# %%
def probabilities(logits, temperature):
    return ...  # your code


check("4.9", probabilities)

# %%
ask("4.10")

# %%
check("4.10", ...)

# %%
ask("4.11")


# %%
def keep_top_k(logits, k):
    return ...  # your code


check("4.11", keep_top_k)

# %%
ask("4.12")


# %%
def keep_top_p(probabilities, p):
    return ...  # your code


check("4.12", keep_top_p)

# %%
ask("4.13")

# %%
check("4.13", ...)

# %%
ask("4.14")


# %%
def append_to_cache(keys, values, new_key, new_value, context_length):
    return ...  # your code


check("4.14", append_to_cache)

# %% [markdown]
# ## Summary
# - Loss is mean surprise;
#   $e^{\mathrm{loss}}$ is how many tokens it wavers between; no idea is $\ln V$.
# - Look at text it never saw. When that loss turns, the model has begun to learn by heart.
# - Temperature, top-k and top-p decide how a model *sounds*; they change nothing in what it knows.
# - Try every function on two rows, not on one.
# - Save the best, not the last; load numbers, never code.
#
# What runs: `src/llm_scratch/training/simple.py` for this lesson and `training/loop.py` for real
# runs; `generation/sampling.py` and `decode.py`. Train one of your own: `llm-scratch train
# quickstart`.
