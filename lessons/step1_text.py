# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Step 1: from text to numbers
#
# A language model has never seen a letter. It reads rows of numbers and answers with
# numbers. This lesson builds the way in: how a story becomes something that can be
# multiplied, and how numbers become text again.
#
# `text` → `words` → `ids` → `pieces that fit any text` → `windows` → `vectors`
#
# | step | new idea |
# |---|---|
# | 1.1 | a text is a row of characters |
# | 1.2 | cut it into words |
# | 1.3 | number the words: a vocabulary, and the first tokenizer |
# | 1.4 | words that are not in the vocabulary: special tokens |
# | 1.5 | pieces instead of words: byte-pair encoding |
# | 1.6 | guess the next token: windows and batches |
# | 1.7 | numbers that mean something: embeddings |
#
# Each step is built here in a few lines, and then *asserted* equal to what the package
# runs. Those checks, and the code that draws, are folded away. Run it as a notebook or as
# `python lessons/step1_text.py`; it takes about ten seconds.
#
# From lesson 0 you need tensors and shapes (0.1) and modules (0.10).

# %% tags=["setup"]
import re
from collections import Counter

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle

from llm_scratch.data.sources import read
from llm_scratch.data.text import GPTDatasetV1, create_dataloader_V1
from llm_scratch.errors import UserError
from llm_scratch.learn.notebook import ask, check, hint  # noqa: F401
from llm_scratch.learn.script import run_as_script
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.merging import BYTES
from llm_scratch.tokenizers.pretokens import Splitter
from llm_scratch.tokenizers.words import (
    SimpleTokenizerV1,
    SimpleTokenizerV2,
    build_vocab,
    split_words,
)

run_as_script(globals())
plt.rcParams.update({"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10})
plt.rcParams.update({"figure.constrained_layout.use": True, "legend.frameon": False})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
torch.set_printoptions(precision=4, sci_mode=False)
torch.set_num_threads(1)  # for tensors this small, a second thread costs more than it brings


def expect(got, want, holds):
    """Compare a value with a known one, if the text or vocabulary it depends on is here."""
    assert not holds or got == want, f"expected {want}, got {got}"


# %% [markdown]
# ## 1.1 A text
# Our text is *The Verdict*, a short story by Edith Wharton from 1908, in the public
# domain. It is downloaded once and then kept. Without a network this lesson uses Python's
# own documentation instead, and leaves out the checks that only the story can pass. (If
# the part after `try` raises this error, the part after `except` runs.)

# %%
try:
    text, on_verdict = read("verdict")[0], True
except UserError:
    text, on_verdict = "\n\n".join(read("python-docs"))[:20_479], False
    print("Continuing with Python's documentation, without the story's own checks")
print(len(text), "characters")
print(text[:99])

# %% tags=["check"]
expect(len(text), 20479, on_verdict)

# %% [markdown]
# ## 1.2 Words
# The plainest way to cut a text is at white space: spaces and line breaks.
# `re.split(pattern, text)` cuts wherever a *pattern* fits. In patterns, `\s` stands for
# any white space, and round brackets keep what was cut at, so that nothing is lost:

# %%
sample = "Hello , world. This is a test."
print(re.split(r"(\s)", sample))
print([piece for piece in re.split(r"(\s)", sample) if piece.strip()])

# %% tags=["check"]
assert re.split(r"(\s)", sample)[:5] == ["Hello", " ", ",", " ", "world."]
kept = [piece for piece in re.split(r"(\s)", sample) if piece.strip()]
assert kept == ["Hello", ",", "world.", "This", "is", "a", "test."]

# %% [markdown]
# But `world.` with its full stop would be another word than `world`. So we also cut at
# punctuation marks (square brackets mean "one of these") and at the double dash (`|`
# means "or"), and throw white space away:

# %%
CUT = r"""([,.:;?_!"()']|--|\s)"""
words = [piece for piece in re.split(CUT, text) if piece.strip()]
print(len(words), "words and marks; the first:", words[:12])

# %% tags=["check"]
assert words == split_words(text)
expect(len(words), 4690, on_verdict)

# %% [markdown]
# What is a text made of? A few words come again and again, most come once. `Counter`
# counts how often each word comes.

# %%
counts = Counter(words)
common = counts.most_common(14)
once = sum(n == 1 for n in counts.values())
print(f"{len(counts)} different words; {once / len(counts):.0%} of them come only once")

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.2))
axes[0].barh([word for word, _ in common], [n for _, n in common], color="#0072B2")
axes[0].invert_yaxis()
axes[0].tick_params(axis="y", length=0)
axes[0].set(title="The most frequent words and marks", xlabel="times in the text")
ranked = sorted(counts.values(), reverse=True)
ranks = range(1, len(ranked) + 1)
# times of the most frequent word, if the law were exact
law = sum(ranked) / sum(1 / rank for rank in ranks)
zipf = [law / rank for rank in ranks]
axes[1].loglog(ranks, zipf, color="#D55E00", ls="--", lw=1.2, label="Zipf's law: 1 / rank")
axes[1].loglog(ranks, ranked, color="#0072B2", lw=1.8, label="this text")
axes[1].set(
    title="Few words come often, most come once",
    xlabel="rank of the word",
    ylabel="times in the text",
    ylim=(0.8, None),
)
axes[1].legend()
plt.show()

# %% [markdown]
# On the right, each word has a rank: 1 for the most frequent, 2 for the next. The axes
# are *logarithmic*, so each mark on an axis is ten times the one before. Drawn like this,
# the curve is nearly a straight line, in every language that has been studied. This is
# *Zipf's law*, and it is why a vocabulary of words is never complete: the tail of rare
# words has no end.
#
# ## 1.3 A vocabulary
# Sort the different words and number them. That is a **vocabulary**, as in lesson 0.2, but
# of words; each word in the text is a **token**, and its number is its **token id**.
# Which number a word gets means nothing. That it is always the same one means everything.

# %%
vocab = {word: i for i, word in enumerate(sorted(set(words)))}
print(len(vocab), "different words; the first ten:", list(vocab)[:10])

# %% tags=["check"]
assert vocab == build_vocab(text)
expect(len(vocab), 1130, on_verdict)
expect((vocab.get("!"), vocab.get("yourself")), (0, 1129), on_verdict)

# %% [markdown]
# A **tokenizer** works both ways: `encode` turns text into ids, `decode` turns ids into
# text. With a vocabulary both are short. (`re.sub` replaces what fits a pattern; here it
# removes the space before a mark.)
#
# ![A tokenizer works both ways: encode turns text into tokens and ids, decode turns ids
# back into text](drawings/tokenizer.svg)


# %%
def encode(text, vocab, cut):
    """Text to ids; a word that is not in the vocabulary is dropped."""
    return [vocab[word] for word in re.split(cut, text) if word in vocab]


def decode(ids, vocab):
    """Ids to text."""
    words = {i: word for word, i in vocab.items()}
    return re.sub(r"\s+([,.:;?!\"()'])", r"\1", " ".join(words[i] for i in ids))


# %%
opening = " ".join(words[:20])
print(encode(opening, vocab, CUT))
print(decode(encode(opening, vocab, CUT), vocab))

# %% tags=["check"]
tokenizer_v1 = SimpleTokenizerV1(vocab)
assert encode(text, vocab, CUT) == tokenizer_v1.encode(text)
assert decode(encode(text, vocab, CUT), vocab) == tokenizer_v1.decode(tokenizer_v1.encode(text))

# %% [markdown]
# Spaces and line breaks are gone for good, so what comes back is not the text itself, only
# its words.
#
# **What goes wrong: a word that vanishes.** What happens to a typing error, such as
# "pribe" for "pride"?

# %%
slip = '"It\'s the last he painted,you know," Mrs.Gisburn said with pardonable pribe.'
print("sent:", slip)
print("back:", decode(encode(slip, vocab, CUT), vocab))

# %% tags=["check"]
ids = encode(slip, vocab, CUT)
slip_ids = [1, 56, 2, 850, 988, 602, 533, 746, 5, 1126, 596, 5, 1, 67, 7, 38, 851, 1108, 754, 7]
expect(ids, slip_ids, on_verdict)
back = '" It\' s the last he painted, you know," Mrs. Gisburn said with pardonable.'
expect(decode(ids, vocab), back, on_verdict)
assert ids == SimpleTokenizerV1(vocab, unknown="drop").encode(slip)

# %% [markdown]
# The sentence has lost its last word, without a complaint. A model trained on such text
# learns sentences that nobody wrote. The package's tokenizer raises an error instead:

# %%
try:
    SimpleTokenizerV1(vocab).encode("Mrs.Gisburn said with pardonable pribe.")
    raise AssertionError("an unknown word must not vanish")
except UserError as e:
    print("UserError:", e)

# %% [markdown]
# ## 1.4 Special tokens
# **Special tokens** are ids that no word of the text has, put at the end of the
# vocabulary. Two of them are useful here:
#
# - `<|unk|>`, for *unknown*, takes the place of a word that is not in the vocabulary, so
#   that at least its position is kept;
# - `<|endoftext|>` separates two texts that have nothing to do with each other.

# %%
END, UNKNOWN = "<|endoftext|>", "<|unk|>"
vocab_v2 = {**vocab, END: len(vocab), UNKNOWN: len(vocab) + 1}
tokenizer_v2 = SimpleTokenizerV2(vocab_v2)
question = "Hello, do like tea, is this a test?"
print(tokenizer_v2.encode(question))
print(tokenizer_v2.decode(tokenizer_v2.encode(question)))

# %% tags=["check"]
assert vocab_v2 == build_vocab(text, (END, UNKNOWN))
expect(len(vocab_v2), 1132, on_verdict)
by_hand = [vocab_v2.get(word, vocab_v2[UNKNOWN]) for word in split_words(question)]
assert tokenizer_v2.encode(question) == by_hand
back = tokenizer_v2.decode(tokenizer_v2.encode(question))
expect(back, "<|unk|>, do like tea, is this a <|unk|>?", on_verdict)

# %% [markdown]
# (`{**vocab, END: 1130}` is a copy of a dictionary with an entry added.)
#
# Special tokens are for the person who prepares the data. If a text merely *spells* one,
# it must stay plain text. Otherwise a stranger's comment could end your document. So
# `encode` makes ids of them only where it is allowed to:

# %%
two_texts = "tea is good <|endoftext|> I had always thought"
plain = tokenizer_v2.encode(two_texts)
allowed = tokenizer_v2.encode(two_texts, allowed_special={END})
print("plain  :", tokenizer_v2.decode(plain))
print("allowed:", tokenizer_v2.decode(allowed))

# %% tags=["check"]
assert vocab_v2[END] not in plain
assert vocab_v2[END] in allowed

# %% [markdown]
# ## 1.5 Byte-pair encoding: pieces that fit any text
# `<|unk|>` keeps the position and loses the word. Single characters would lose nothing,
# but a story of 20,000 characters is a long row, and each character says little. The way
# between: start with the smallest pieces and **join the two neighbors that occur together
# most often**. Do it again, and again. This is **byte-pair encoding**.
#
# ![Byte-pair encoding: the most frequent pair of neighbors becomes one token, three times
# in a row](drawings/bpe-merges.svg)
#
# The smallest pieces are *bytes*. A computer stores every text as bytes, numbers from 0
# to 255. A rule called UTF-8 says which: an English letter is one byte, other characters
# are two to four. So any text in any language, emoji included, is a row of bytes.

# %%
for sign in ("a", "é", "π", "猫", "🐈"):
    print(sign, list(sign.encode("utf-8")))

# %% [markdown]
# First the text is cut into chunks that no join may cross: letters, digits or marks, with
# the space *before* them. Nothing is thrown away, not even spaces, and `dog`, `dog.` and
# `dog!` share the chunk for dog.

# %%
splitter = Splitter()  # GPT-2's rule
pieces = [piece for unit in splitter.units(text) for piece in splitter.pieces(unit)]
print(pieces[:12])

# %% tags=["check"]
assert "".join(pieces) == text

# %% [markdown]
# Now the algorithm, in three small functions. The first counts pairs of neighbors. Each
# chunk is kept once, as a tuple of token ids, with the number of times it occurs.


# %%
def count_pairs(chunks):
    """How often each pair of neighbors occurs. chunks: tuple of ids -> times."""
    pairs = Counter()
    for chunk, n in chunks.items():
        for pair in zip(chunk, chunk[1:]):
            pairs[pair] += n
    return pairs


print(count_pairs({("t", "h", "e"): 5, ("t", "h", "i", "s"): 2}))

# %% [markdown]
# (`zip(chunk, chunk[1:])` pairs each entry with the next one.) The second function joins
# one pair, wherever it occurs in a chunk:


# %%
def join(chunk, pair, new):
    """Replace every `pair` of neighbors by the one token `new`, from left to right."""
    joined, i = [], 0
    while i < len(chunk):
        found = chunk[i : i + 2] == pair
        joined.append(new if found else chunk[i])
        i += 2 if found else 1
    return tuple(joined)


print(join(("t", "h", "e", "t", "h"), ("t", "h"), "th"))

# %% [markdown]
# The third repeats: count, take the most frequent pair, join it, give the new token the
# next free id. The bytes have ids 0 to 255, so the first new token is 256. When two pairs
# are equally frequent, the one with the smaller ids is joined first, so that the result
# is always the same. (`min(pairs, key=f)` is the pair for which f is smallest, and `lambda`
# makes a small function without a name.)


# %%
def learn(chunks, n_merges):
    """The joined pairs in order, and the length of the text in tokens after each."""
    merges, lengths = [], [sum(len(chunk) * n for chunk, n in chunks.items())]
    for new in range(256, 256 + n_merges):
        pairs = count_pairs(chunks)
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        chunks = {join(chunk, best, new): n for chunk, n in chunks.items()}
        merges.append(best)
        lengths.append(sum(len(chunk) * n for chunk, n in chunks.items()))
    return merges, lengths


# %% [markdown]
# (GPT-2 numbers the bytes in an order of its own, printable ones first. `BYTES` is that
# order. It changes nothing, except that our ids agree with the package's.)


# %%
def as_bytes(piece):
    """A piece of text as a tuple of ids below 256."""
    return tuple(BYTES.index(byte) for byte in piece.encode("utf-8"))


N_MERGES = 300
chunks = {as_bytes(piece): n for piece, n in Counter(pieces).items()}
merges, lengths = learn(chunks, N_MERGES)
print("the first joins:", merges[:5], "...")

# %% [markdown]
# What does each new token spell? The two tokens it was made of, one after the other:

# %%
token_bytes = [bytes([byte]) for byte in BYTES]
for left, right in merges:
    token_bytes.append(token_bytes[left] + token_bytes[right])
print([token.decode("utf-8", "replace") for token in token_bytes[256:271]])

# %% [markdown]
# First a space and *t*, then *he*; the ninth joins these two to a space and *the*. English
# appears, although the program does not know what a word is. The package learns the same
# merges, much faster, since it does not count everything again for each join
# (`tokenizers/bpe_train.py` shows how).

# %% tags=["check"]
bpe = ByteBPE.train([text], 256 + N_MERGES, special_tokens=())
assert [bpe.token_bytes(i) for i in range(bpe.n_vocab)] == token_bytes
expect([token_bytes[i] for i in (256, 257, 264)], [b" t", b"he", b" the"], on_verdict)
expect(merges[8], (256, 257), on_verdict)

# %% [markdown]
# Encoding a new text repeats the joins in the order in which they were learned: of all
# pairs in a piece, the one that was learned first is joined first. (`while pairs := [...]`
# computes the list, names it, and stops when it is empty.)


# %%
def encode_piece(piece, rank):
    """One piece to token ids. rank: pair -> when it was learned."""
    chunk = as_bytes(piece)
    while pairs := [pair for pair in zip(chunk, chunk[1:]) if pair in rank]:
        first = min(pairs, key=rank.get)
        chunk = join(chunk, first, 256 + rank[first])
    return chunk


rank = {pair: i for i, pair in enumerate(merges)}
by_hand = [i for piece in pieces for i in encode_piece(piece, rank)]
print(len(text), "characters are", len(by_hand), "tokens")

# %% tags=["check"]
assert by_hand == bpe.encode(text) == bpe.encode_python(text)
assert b"".join(token_bytes[i] for i in by_hand).decode("utf-8") == text == bpe.decode(by_hand)
assert bpe.decode(bpe.encode("pribe, 猫 and 🐈")) == "pribe, 猫 and 🐈"

# %% [markdown]
# GPT-2's vocabulary was learned in this way, with 50,000 joins, from web pages. We do not
# learn it again, we load it (with the `tiktoken` library; it is downloaded once and then
# kept).

# %%
try:
    gpt2, on_gpt2 = TOKENIZERS["gpt2"]([], None), True  # [] is: no text to learn from
except UserError:
    gpt2, on_gpt2 = ByteBPE.train([text], 1024), False
    print("Continuing with 768 joins of our own, without the checks of GPT-2's ids")
place = (
    "Hello,Do you like tea? <|endoftext|> In the sunlit terraces of "
    "someunknownPlace, in that planet"
)
print(gpt2.encode(place, allowed_special={END}))

# %% tags=["check"]
ids = gpt2.encode(place, allowed_special={END})
assert gpt2.decode(ids) == place
expect(gpt2.encode("hello world"), [31373, 995], on_gpt2)
expect((len(ids), ids[:4], ids[-3:]), (23, [15496, 11, 5211, 345], [287, 326, 5440]), on_gpt2)

# %% [markdown]
# Here is one sentence through smaller and larger vocabularies. `someunknownPlace` is in
# none of them, and none of them loses it:

# %%
line = "It is no great surprise to me: someunknownPlace, café, 猫."
line_pieces = [p for unit in splitter.units(line) for p in splitter.pieces(unit)]
rows = {}
for n in (0, 50, 300):
    learned = {pair: i for pair, i in rank.items() if i < n}
    row = [i for piece in line_pieces for i in encode_piece(piece, learned)]
    rows[f"{n} joins"] = [token_bytes[i] for i in row]
last = "GPT-2" if on_gpt2 else "768 joins"
rows[last] = [gpt2.decode_bytes([i]) for i in gpt2.encode(line)]
print({title: len(tokens) for title, tokens in rows.items()}, "tokens")

# %% tags=["plot"]
TINTS = ["#bfe0f5", "#fbdca0", "#bfe6d6", "#f5c7ad", "#e8cfe0"]


def spelled(token):
    """A token in print: a dot is a space, two digits are a byte that is no character."""
    try:
        return token.decode("utf-8").replace(" ", "·").replace("\n", "↵")
    except UnicodeDecodeError:
        return token.hex()


def show_tokens(ax, tokens, title, per_line):
    """Draw tokens as colored boxes, one character a cell."""
    x = y = 0
    for i, label in enumerate(map(spelled, tokens)):
        if x + len(label) > per_line:
            x, y = 0, y + 1
        box = (x + 0.04, y + 0.08), len(label) - 0.08, 0.84
        ax.add_patch(Rectangle(*box, color=TINTS[i % len(TINTS)], lw=0))
        style = {"family": "monospace", "fontsize": 8.2, "ha": "center", "va": "center"}
        ax.text(x + len(label) / 2, y + 0.52, label, **style)
        x += len(label)
    ax.set(xlim=(0, per_line), ylim=(y + 1, 0))
    ax.set_title(f"{title}: {len(tokens)} tokens", loc="left")
    ax.axis("off")


fig, axes = plt.subplots(len(rows), 1, figsize=(8.6, 2.9))
for ax, (title, tokens) in zip(axes, rows.items()):
    show_tokens(ax, tokens, title, per_line=69)
plt.show()

# %% [markdown]
# Each join makes the text shorter, the first ones most. (Mind the axis: each mark to the
# right is ten times as many joins.) More joins mean shorter rows, but a larger table of
# vectors to learn (1.7). Vocabularies of today's models have 30,000 to 250,000 tokens.

# %%
n_bytes = len(text.encode("utf-8"))
gpt2_length = len(gpt2.encode(text, disallowed_special=()))
print(f"bytes per token: {n_bytes / lengths[-1]:.2f} after 300 joins", end=", ")
print(f"{n_bytes / gpt2_length:.2f} with {gpt2.n_vocab:,} tokens")

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(5.8, 3.1))
shorter = [n_bytes / n for n in lengths[1:]]
ax.semilogx(range(1, N_MERGES + 1), shorter, color="#0072B2", lw=1.8)
for n in (1, 10, 50, 300):
    ax.plot(n, n_bytes / lengths[n], "o", color="#D55E00", ms=4.5)
    ax.annotate(
        f"join {n}: {spelled(token_bytes[255 + n])}",
        (n, n_bytes / lengths[n]),
        xytext=(0, 7 if n > 1 else -14),
        textcoords="offset points",
        ha="right" if n > 1 else "left",
    )
theirs = (gpt2.n_vocab - 257, n_bytes / gpt2_length)
ax.plot(*theirs, "s", color="#009E73", ms=6)
ax.annotate(
    "GPT-2" if on_gpt2 else "ours",
    theirs,
    xytext=(-8, 0),
    textcoords="offset points",
    ha="right",
    va="center",
    color="#00664a",
)
ax.set(title="Every join makes the text shorter", xlabel="joins", ylabel="bytes per token")
ax.set_ylim(0.7, None)
plt.show()

# %% [markdown]
# ## 1.6 Guess the next token: windows and batches
# What is a model to do with these ids? **Guess the next one.** That needs no labels:
# the text is question and answer at once. A **window** is a piece of the
# text, here four tokens `x`; the answers `y` are the same window one token later.
#
# ![A text cut into windows of four tokens; the targets are the same windows, one token
# later](drawings/batch-windows.svg)

# %%
token_ids = gpt2.encode(text, disallowed_special=())
x, y = token_ids[50:54], token_ids[51:55]
print("x:", x)
print("y:     ", y)
for n in range(1, 5):
    print(f"{gpt2.decode(x[:n])!r:>32} ----> {gpt2.decode([y[n - 1]])!r}")

# %% tags=["check"]
expect(len(token_ids), 5145, on_verdict and on_gpt2)
expect((x, y), ([290, 4920, 2241, 287], [4920, 2241, 287, 257]), on_verdict and on_gpt2)

# %% [markdown]
# One window is four exercises, with contexts from short to long. The next window starts
# `stride` tokens further on. With a stride of 1 every token is in four windows; with a
# stride as long as the window, in one:

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.7), sharey=True)
for ax, stride in zip(axes, (1, 4)):
    for row, start in enumerate(range(0, 9 * stride, stride)):
        if start + 5 <= 16:
            ax.add_patch(Rectangle((start + 0.06, row + 0.1), 3.88, 0.38, color="#0072B2"))
            ax.add_patch(Rectangle((start + 1.06, row + 0.52), 3.88, 0.38, color="#E69F00"))
    ax.set(xlim=(0, 16), ylim=(9, 0), xlabel="position in the text")
    ax.set_title(f"window of 4, stride {stride}")
    ax.set_xticks(range(0, 17, 4))
    ax.grid(axis="x", color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
axes[0].set(ylabel="window")
axes[1].text(15.8, 6.6, "x, the input", color="#0072B2", ha="right", weight="bold")
axes[1].text(15.8, 7.6, "y, the targets", color="#9a6a00", ha="right", weight="bold")
plt.show()

# %% [markdown]
# In code, a window is a slice:


# %%
def windows(ids, max_length, stride):
    """All (x, y) of a text: lists of `max_length` ids."""
    starts = range(0, len(ids) - max_length, stride)
    return [(ids[i : i + max_length], ids[i + 1 : i + max_length + 1]) for i in starts]


print(windows([10, 11, 12, 13, 14, 15, 16], max_length=3, stride=3))

# %% tags=["check"]
for max_length, stride in ((4, 1), (4, 4), (256, 128)):
    dataset = GPTDatasetV1(text, gpt2, max_length, stride)
    assert [(x.tolist(), y.tolist()) for x, y in dataset] == windows(token_ids, max_length, stride)

# %% [markdown]
# A **data loader** stacks several windows into a **batch**, so that the hardware has
# enough to do at once. It also shuffles them, so that the model does not see the story in
# the same order each time. Here are the first two batches of one window each, not
# shuffled. The second `x` begins where the first ended:

# %%
options = {"max_length": 4, "stride": 4, "shuffle": False, "tokenizer": gpt2}
loader = create_dataloader_V1(text, batch_size=1, **options)
first, second = [batch for batch, _ in zip(loader, range(2))]
print("first :", first)
print("second:", second)

# %% tags=["check"]
known = on_verdict and on_gpt2
want = [[[40, 367, 2885, 1464]], [[367, 2885, 1464, 1807]]]
expect([part.tolist() for part in first], want, known)
want = [[[1807, 3619, 402, 271]], [[3619, 402, 271, 10899]]]
expect([part.tolist() for part in second], want, known)

# %% [markdown]
# From here on, sizes have letters, in all lessons: a batch has *B* windows of *T* tokens
# each, so its shape is `[B, T]`. *V* is the size of the vocabulary.

# %%
inputs, targets = next(iter(create_dataloader_V1(text, batch_size=8, **options)))
print(inputs)  # [B, T] = [8, 4]

# %% tags=["check"]
expect(inputs[:, 0].tolist(), [40, 1807, 10899, 15632, 922, 568, 1049, 284], known)
assert torch.equal(inputs[:, 1:], targets[:, :-1])

# %% [markdown]
# ## 1.7 Embeddings: numbers that mean something
# Token 4920 is not "more" than token 290; ids are names. A model needs numbers in which
# *nearness* can mean something. So each token gets a **vector**, a list of numbers. All
# vectors together are a table with a row for each token, its **embedding**, and they are
# parameters: training changes them like all others. *C* is the length of a vector.
#
# Looking up a row is all that `torch.nn.Embedding` does. (`manual_seed` sets where random
# numbers begin, so that you see the same ones as we did. `detach` takes the numbers
# alone, without the memory that autograd keeps for them.)

# %%
torch.manual_seed(124)
embedding = torch.nn.Embedding(50257, 10)
table = embedding.weight.detach()  # [V, C]
print("row 3 of the table:", table[3])
print("looked up         :", embedding(torch.tensor([3])).detach())

# %% tags=["check"]
torch.testing.assert_close(embedding(torch.tensor([3, 0, 3])).detach(), table[[3, 0, 3]])
row_3 = [-0.7559, -0.3033, -1.3482, 0.7074, -0.8038, -0.2067, 0.3137, 1.7624, -0.2038, -0.3140]
torch.testing.assert_close(table[3], torch.tensor(row_3), rtol=0, atol=6e-5)
row_0 = torch.tensor([-0.5728, 0.2498, 1.2100, -1.0395, 0.0552, 1.3901])
torch.testing.assert_close(table[0, [0, 1, 2, 7, 8, 9]], row_0, rtol=0, atol=6e-5)

# %% [markdown]
# Looking up a row is the same as a matrix product with a row that is 1 at the token's
# position and 0 everywhere else (*one-hot*), only without the 50,256 products with zero. So
# an embedding is a matrix like any other, and its gradient is found in the same way:

# %%
one_hot = torch.nn.functional.one_hot(torch.tensor([3]), 50257).float()  # [1, V]
print("one-hot times table:", one_hot @ table)

# %% tags=["check"]
torch.testing.assert_close(one_hot @ table, table[[3]])

# %% [markdown]
# The tokens of a window all enter at once, and attention (step 2) compares *what* they are,
# not *where* they are: *dog bites man* would be the same as *man bites dog*. So there is
# a second table, with one vector for each **position**, and the two are added:
#
# ![Embedding: a token id picks a row of the token table, its position a row of the
# position table; they are added](drawings/embedding.svg)

# %%
torch.manual_seed(123)
token_table = torch.nn.Embedding(gpt2.n_vocab, 256)
position_table = torch.nn.Embedding(4, 256)
token_vectors = token_table(inputs)  # [B, T, C]
position_vectors = position_table(torch.arange(4))  # [T, C]
ready = token_vectors + position_vectors  # [B, T, C]
print(tuple(token_vectors.shape), "+", tuple(position_vectors.shape))
print("=", tuple(ready.shape))

# %% tags=["check"]
assert token_vectors.shape == ready.shape == (8, 4, 256)
assert position_vectors.shape == (4, 256)
for window, vectors in zip(inputs.tolist(), ready):
    for position, token in enumerate(window):
        one = token_table.weight[token] + position_table.weight[position]
        torch.testing.assert_close(vectors[position], one)

# %% [markdown]
# (Broadcasting, lesson 0.1: each of the 8 windows gets the same position vectors.)

# %% tags=["plot"]
names = [gpt2.decode([i]).strip() for i in inputs[0].tolist()]
fig, axes = plt.subplots(1, 3, figsize=(8.8, 2.3), sharey=True)
parts = {"token": token_vectors[0], "position": position_vectors, "into the model": ready[0]}
for ax, sign, (title, vectors) in zip(axes, ("", "+", "="), parts.items()):
    numbers = vectors.detach()[:, :10].numpy()
    shown = ax.imshow(numbers, cmap="PuOr", vmin=-3, vmax=3, aspect="auto")
    ax.set(title=title, xlabel="the first 10 of 256 numbers")
    ax.set_xticks([])
    ax.set_yticks(range(4), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    style = {"fontsize": 18, "ha": "center", "va": "center"}
    ax.text(-0.09, 0.5, sign, transform=ax.transAxes, **style)
fig.colorbar(shown, ax=axes, shrink=0.9, label="value")
plt.show()

# %% [markdown]
# The tables are random now. No one tells the model that *king* and *queen* are neighbors;
# they become so by guessing the next token a few million times.

# %% [markdown]
# ## 1.8 Try it yourself
# `ask` shows an exercise, with new numbers each time. Write your answer in place of the
# `...` and run the cell. A wrong answer is diagnosed; the right one is never shown.
# `hint("1.1")` opens a hint, three for each exercise. The same exercises in a terminal:
# `llm-scratch learn next`. Solutions are sealed: `llm-scratch learn solution 1.1` opens
# one.

# %%
ask("1.1")


# %%
def share_unknown(words, vocab):
    return ...  # your code


check("1.1", share_unknown)

# %%
ask("1.2")


# %%
def n_windows(n, max_length, stride):
    return ...  # your code


check("1.2", n_windows)

# %%
ask("1.3")

# %%
check("1.3", ...)

# %%
ask("1.4")


# %%
def most_frequent_pair(words):
    return ...  # your code


check("1.4", most_frequent_pair)

# %%
ask("1.5")


# %%
def join_pair(word, pair, new):
    return ...  # your code


check("1.5", join_pair)

# %%
ask("1.6")


# %%
def bytes_per_token(ids, token_bytes):
    return ...  # your code


check("1.6", bytes_per_token)

# %%
ask("1.7")


# %%
def cut_windows(ids, length, stride):
    pairs = []
    for start in range(0, len(ids) - length, stride):
        inputs = ids[start : start + length]
        targets = ids[start : start + length]
        pairs.append((inputs, targets))
    return pairs


check("1.7", cut_windows)

# %%
ask("1.8")

# %%
check("1.8", ...)

# %%
ask("1.9")

# %%
check("1.9", ...)

# %%
ask("1.10")

# %%
check("1.10", ...)

# %% [markdown]
# ## Summary
# - A tokenizer maps text to ids and back; the good ones lose nothing.
# - Byte-pair encoding: start with bytes, join the most frequent neighbors, repeat.
# - Training data is the text itself: a window, and the same window one token later.
# - An embedding is a table of learned rows; a second table says where a token is.
#
# What runs: `src/llm_scratch/tokenizers/`, `src/llm_scratch/data/text.py`. Next:
# `lessons/step2_attention.py` lets each token take information from the others.
