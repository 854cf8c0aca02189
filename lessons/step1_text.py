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
# A language model has never seen a letter. It gets rows of numbers, and it answers with numbers.
# This lesson builds the way in: how a story becomes something that can be multiplied, and how to
# come back.
#
# `text` → `words` → `numbers` → `pieces that fit any text` → `windows` → `vectors`
#
# | step | new idea |
# |---|---|
# | 1.1 | a text is a row of characters |
# | 1.2 | cut it into words |
# | 1.3 | number the words: a vocabulary, and the first tokenizer |
# | 1.4 | words nobody has seen: special tokens |
# | 1.5 | pieces instead of words: byte-pair encoding |
# | 1.6 | guess the next token: windows and batches |
# | 1.7 | numbers that mean something: embeddings |
#
# Each step is built here once, in a few lines, and then *asserted* equal to what the package runs.
# Run it as a notebook or as `python lessons/step1_text.py`; it takes some ten seconds.

# %% tags=["setup"]
import re
import tempfile
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle

from llm_scratch.config import ModelConfig
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
plt.rcParams.update(
    {"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True}
)
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
torch.set_printoptions(precision=4, sci_mode=False)

# %% [markdown]
# ## 1.1 A text
# Our text is *The Verdict*, a short story by Edith Wharton from 1908, in the public domain. It is
# downloaded once and then kept; without network this lesson goes the same way with Python's own
# documentation, and leaves out the checks that only the story can pass.

# %%
try:
    text, on_verdict = read("verdict")[0], True
except UserError as missing:
    text, on_verdict = "\n\n".join(read("python-docs"))[:20_479], False
    print(
        "Going on with Python's documentation, without the checks of the story's own numbers:"
        f" {str(missing).split(';')[0]}"
    )

print(len(text), "characters")
print(text[:99])


def expect(got, want, holds):
    """Hold a value to the one that the original notebook printed,
    if its text (or vocabulary) is at hand.
    """
    assert not holds or got == want, f"expected {want}, got {got}"


# %% tags=["check"]
expect(len(text), 20479, on_verdict)

# %% [markdown]
# **What went wrong: a letter in a file name.** The first notebook looked for `the-verdict.txt`, but
# saved to and read from `teh-verdict.txt`. So it downloaded the story on every run. And once
# something else had saved a file under the *right* name, a fresh start skipped the download and
# then failed to read what it had never written. Here are both, in a folder of their own:

# %% tags=["what-went-wrong"]
with tempfile.TemporaryDirectory() as folder:
    right, wrong, downloads = Path(folder, "the-verdict.txt"), Path(folder, "teh-verdict.txt"), []

    def first_notebook():
        if not right.exists():
            downloads.append(wrong.name)
            wrong.write_text(text, encoding="utf-8")
        return wrong.read_text(encoding="utf-8")

    for _run in range(3):
        first_notebook()
    print("three runs, downloads:", len(downloads))
    assert len(downloads) == 3

    wrong.unlink()
    right.write_text(text, encoding="utf-8")
    try:
        first_notebook()
    except FileNotFoundError as e:
        print("with a file under the right name: FileNotFoundError:", Path(e.filename).name)
    else:
        raise AssertionError("it should have failed")

# %% [markdown]
# The mend is not more care with spelling, it is to write a name *once*. In the package a source is
# one row of a table (name, address, size, fingerprint), and `read("verdict")` is the only way to
# it. The same table ends another trouble of the notebooks: they looked for the file in whatever
# folder they happened to be started from.
#
# ## 1.2 Words
# The plainest way to cut: at white space.
# `re.split` with brackets keeps what it cuts at, so that nothing is lost:

# %%
sample = "Hello , world. This is a test."
print(re.split(r"(\s)", sample))
print([piece for piece in re.split(r"(\s)", sample) if piece.strip()])

# %% tags=["check"]
assert re.split(r"(\s)", sample)[:5] == ["Hello", " ", ",", " ", "world."]
assert [piece for piece in re.split(r"(\s)", sample) if piece.strip()] == [
    "Hello",
    ",",
    "world.",
    "This",
    "is",
    "a",
    "test.",
]

# %% [markdown]
# But `world.` with its full stop would be another word than `world`. So we also cut at punctuation
# marks and at the double dash, and throw white space away:

# %%
CUT = r"""([,.:;?_!"()']|--|\s)"""
words = [piece for piece in re.split(CUT, text) if piece.strip()]
print(len(words), "words and marks, first of all", words[:12])

# %% tags=["check"]
assert words == split_words(text)
expect(len(words), 4690, on_verdict)

# %% [markdown]
# What is a text made of? A few words come again and again, most come once. On logarithmic scales
# the curve is nearly a straight line, in every language that has been looked at: *Zipf's law*. It
# is why a vocabulary of words is never complete: the tail of rare words has no end.

# %%
counts = Counter(words)
common = counts.most_common(14)
once = sum(n == 1 for n in counts.values())
print(f"{len(counts)} different words; {once} of them come once only ({once / len(counts):.0%})")

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.2))
axes[0].barh([word for word, _ in common], [n for _, n in common], color="#0072B2")
axes[0].invert_yaxis()
axes[0].tick_params(axis="y", length=0)
axes[0].set(title="The most frequent words and marks", xlabel="times in the text")
ranked = sorted(counts.values(), reverse=True)
ranks = range(1, len(ranked) + 1)
# what the most frequent word would have if the law were exact
law = sum(ranked) / sum(1 / rank for rank in ranks)
axes[1].loglog(
    ranks,
    [law / rank for rank in ranks],
    color="#D55E00",
    ls="--",
    lw=1.2,
    label="Zipf's law: 1 / rank",
)
axes[1].loglog(ranks, ranked, color="#0072B2", lw=1.8, label="this text")
axes[1].set(
    title="Few words come often, most come once",
    xlabel="rank of the word",
    ylabel="times in the text",
    ylim=(0.8, None),
)
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# ## 1.3 A vocabulary
# Sort the different words and number them: that is a **vocabulary**, and the numbers are **token
# ids**. Which number a word gets means nothing; that it is always the same one means everything.

# %%
vocab = {word: i for i, word in enumerate(sorted(set(words)))}
print(len(vocab), "different words; the first ten:", list(vocab)[:10])

# %% tags=["check"]
assert vocab == build_vocab(text)
expect(len(vocab), 1130, on_verdict)
expect((vocab.get("!"), vocab.get("yourself")), (0, 1129), on_verdict)

# %% [markdown]
# A **tokenizer** goes both ways: `encode` from text to ids, `decode` back. With a vocabulary both
# are one line, and a second one that takes away the space before a mark.


# %%
def encode(text, vocab, cut):
    """Text to ids; a word that the vocabulary does not have is dropped (we shall regret it)."""
    return [vocab[word] for word in re.split(cut, text) if word in vocab]


def decode(ids, vocab):
    """Ids to text."""
    words = {i: word for word, i in vocab.items()}
    return re.sub(r"\s+([,.:;?!\"()'])", r"\1", " ".join(words[i] for i in ids))


tokenizer_v1 = SimpleTokenizerV1(vocab)
opening = " ".join(words[:20])
print(encode(opening, vocab, CUT))
print(decode(encode(opening, vocab, CUT), vocab))

# %% tags=["check"]
assert encode(text, vocab, CUT) == tokenizer_v1.encode(text)
assert decode(encode(text, vocab, CUT), vocab) == tokenizer_v1.decode(tokenizer_v1.encode(text))

# %% [markdown]
# Spaces and line breaks are gone for good,
# so this is not the text itself that comes back, only its words.
#
# **What went wrong: a word that vanishes.** Look at what happens to a slip of the pen ("pribe"):

# %% tags=["what-went-wrong"]
slip = '"It\'s the last he painted,you know," Mrs.Gisburn said with pardonable pribe.'
ids = encode(slip, vocab, CUT)
print("sent:", slip)
print("back:", decode(ids, vocab))
expect(
    ids,
    [1, 56, 2, 850, 988, 602, 533, 746, 5, 1126, 596, 5, 1, 67, 7, 38, 851, 1108, 754, 7],
    on_verdict,
)
expect(
    decode(ids, vocab),
    '" It\' s the last he painted, you know," Mrs. Gisburn said with pardonable.',
    on_verdict,
)
assert ids == SimpleTokenizerV1(vocab, unknown="drop").encode(slip)

# %% [markdown]
# A sentence without its point, and no complaint. A model trained on such text learns sentences that
# nobody wrote. The package's tokenizer says so instead (and drops only when told to,
# `unknown="drop"`):

# %%
try:
    tokenizer_v1.encode("Mrs.Gisburn said with pardonable pribe.")
except UserError as e:
    print("UserError:", e)
else:
    raise AssertionError("an unknown word must not vanish")

# %% [markdown]
# **What went wrong: two rules where one was meant.** The notebook cut at `_` when it counted words,
# but not when it encoded. In this text `_` marks words in italics: `its _rs_ as though`. Counting
# saw `_`, `rs`, `_`; encoding looked for the word `_rs_`, which nobody had counted, and dropped it.
# The package has one function, `split_words`, for both.

# %% tags=["what-went-wrong"]
italics = "multiplied its _rs_ as though"
other_rule = CUT.replace("_", "")
print("one rule :", decode(encode(italics, vocab, CUT), vocab))
print("two rules:", decode(encode(italics, vocab, other_rule), vocab))
expect(len(encode(italics, vocab, CUT)) - len(encode(italics, vocab, other_rule)), 3, on_verdict)

# %% [markdown]
# ## 1.4 Special tokens
# Two ids that no word of the text has, put at the end of the vocabulary:
#
# - `<|unk|>`, *unknown*, stands where a word is not in the vocabulary,
#   so that at least its place is kept;
# - `<|endoftext|>` stands between two texts that have nothing to do with each other.

# %%
END, UNKNOWN = "<|endoftext|>", "<|unk|>"
vocab_v2 = {**vocab, END: len(vocab), UNKNOWN: len(vocab) + 1}
assert vocab_v2 == build_vocab(text, (END, UNKNOWN))
expect(len(vocab_v2), 1132, on_verdict)

question = "Hello, do like tea, is this a test?"
tokenizer_v2 = SimpleTokenizerV2(vocab_v2)
print(tokenizer_v2.encode(question))
print(tokenizer_v2.decode(tokenizer_v2.encode(question)))

# %% tags=["check"]
assert tokenizer_v2.encode(question) == [
    vocab_v2.get(word, vocab_v2[UNKNOWN]) for word in split_words(question)
]
expect(
    tokenizer_v2.decode(tokenizer_v2.encode(question)),
    "<|unk|>, do like tea, is this a <|unk|>?",
    on_verdict,
)

# %% [markdown]
# Special tokens are for whoever prepares the data. If a text merely *spells* one, it must stay
# plain text, or a stranger's comment could end your document. So `encode` makes ids of them only
# where it is told to:

# %%
two_texts = "tea is good <|endoftext|> I had always thought"
print("plain  :", tokenizer_v2.decode(tokenizer_v2.encode(two_texts)))
print("allowed:", tokenizer_v2.decode(tokenizer_v2.encode(two_texts, allowed_special={END})))

# %% tags=["check"]
assert vocab_v2[END] not in tokenizer_v2.encode(two_texts)
assert vocab_v2[END] in tokenizer_v2.encode(two_texts, allowed_special={END})

# %% [markdown]
# **What went wrong: two tokens spelt by ear.** The notebook added `<endoftext|>` and `|unk|>` (ids
# 1130 and 1131; look closely), then looked for `<|unk|>`, did not find it, and filtered what it did
# not find. So the second tokenizer did exactly what the first had done: *Hello* and *test* vanish.
# Names that must match belong in one place; ours are constants in `tokenizers/special.py`.

# %% tags=["what-went-wrong"]
misspelt = build_vocab(text, ("<endoftext|>", "|unk|>"))
print("the last two words:", list(misspelt.items())[-2:])
ids = encode(question, misspelt, CUT)
print(ids, "->", decode(ids, misspelt))
expect(list(misspelt.items())[-2:], [("<endoftext|>", 1130), ("|unk|>", 1131)], on_verdict)
expect(ids, [5, 355, 628, 975, 5, 584, 999, 115, 10], on_verdict)
expect(decode(ids, misspelt), ", do like tea, is this a?", on_verdict)
assert (
    ids
    == encode(question, vocab, CUT)
    == SimpleTokenizerV2(misspelt, unknown="drop").encode(question)
)

# %% [markdown]
# ## 1.5 Byte-pair encoding: pieces that fit any text
# `<|unk|>` keeps the place and loses the word. Single characters would lose nothing, but a story of
# 20,000 characters is a long row, and each says little. The way between: start with the smallest
# pieces and **join the two neighbours that stand together most often**. Again. And again.
#
# ![Byte-pair encoding: the most frequent pair of neighbors becomes one token, three times in a
# row](drawings/bpe-merges.svg)
#
# The smallest pieces are bytes: any text in any language,
# emoji included, is a row of numbers from 0 to 255.

# %%
for sign in ("a", "é", "π", "猫", "🐈"):
    print(sign, list(sign.encode("utf-8")))

# %% [markdown]
# First the text is cut into pieces that no join may cross: letters, digits or marks, with the space
# *before* them. So nothing is thrown away, not even spaces, and `dog`, `dog.` and `dog!` share the
# piece for dog.

# %%
splitter = Splitter()  # GPT-2's rule
pieces = [piece for unit in splitter.units(text) for piece in splitter.pieces(unit)]
print(pieces[:12])

# %% tags=["check"]
assert "".join(pieces) == text

# %% [markdown]
# Now the algorithm, whole. Each different piece is kept once with its count; tokens 0 to 255 are
# the bytes (numbered in GPT-2's order, those that can be printed first); when two pairs are equally
# frequent, the one with the smaller numbers goes first, so that the result is always the same.


# %%
def learn(piece_counts, n_merges, order):
    """Byte-pair encoding in its plainest form:
    (the merged pairs in order, the tokens in the text after each merge).
    """
    words = {
        tuple(order.index(byte) for byte in piece.encode("utf-8")): n
        for piece, n in piece_counts.items()
    }
    merges, lengths = [], [sum(len(word) * n for word, n in words.items())]
    for new in range(256, 256 + n_merges):
        pairs = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = {join(word, best, new): n for word, n in words.items()}
        merges.append(best)
        lengths.append(sum(len(word) * n for word, n in words.items()))
    return merges, lengths


def join(word, pair, new):
    """Every `pair` of neighbours in `word` becomes the one token `new`, from left to right."""
    joined, i = [], 0
    while i < len(word):
        found = word[i : i + 2] == pair
        joined.append(new if found else word[i])
        i += 2 if found else 1
    return tuple(joined)


N_MERGES = 300
merges, lengths = learn(Counter(pieces), N_MERGES, BYTES)

token_bytes = [bytes([byte]) for byte in BYTES]  # what each token spells
for left, right in merges:
    token_bytes.append(token_bytes[left] + token_bytes[right])
print(
    "the first fifteen joins:", [token_bytes[256 + i].decode("utf-8", "replace") for i in range(15)]
)

# %% [markdown]
# *h-e*, then *␣-t*, then *␣-the*: English reveals itself, although nobody told the program what a
# word is. The package learns the same merges. It is much faster, since it does not count everything
# anew for each join (`tokenizers/bpe_train.py` says how); it must not differ:

# %%
bpe = ByteBPE.train([text], 256 + N_MERGES, special_tokens=())
assert [bpe.token_bytes(i) for i in range(bpe.n_vocab)] == token_bytes
print(f"all {bpe.n_vocab} tokens are the same")

# %% [markdown]
# Encoding a new text repeats the joins in the order they were learned: of all pairs in a piece, the
# one that was learned first is joined first.


# %%
def encode_piece(piece, rank, order):
    """One piece to token ids. rank: pair -> when it was learned."""
    word = tuple(order.index(byte) for byte in piece.encode("utf-8"))
    while pairs := [pair for pair in zip(word, word[1:]) if pair in rank]:
        first = min(pairs, key=rank.get)
        word = join(word, first, 256 + rank[first])
    return word


rank = {pair: i for i, pair in enumerate(merges)}
by_hand = [i for piece in pieces for i in encode_piece(piece, rank, BYTES)]
assert by_hand == bpe.encode(text) == bpe.encode_python(text)
assert b"".join(token_bytes[i] for i in by_hand).decode("utf-8") == text == bpe.decode(by_hand)
assert bpe.decode(bpe.encode("pribe, 猫 and 🐈")) == "pribe, 猫 and 🐈"
print(f"{len(text)} characters are {len(by_hand)} tokens, and come back character for character")

# %% [markdown]
# GPT-2's vocabulary was learned in just this way, with 50,000 joins, from web pages. We do not
# learn it again, we load it (through the `tiktoken` library, once from the network, then from its
# cache).

# %%
try:
    gpt2, on_gpt2 = TOKENIZERS["gpt2"]([], None), True
except UserError as missing:
    gpt2, on_gpt2 = ByteBPE.train([text], 1024), False
    print(
        "Going on with 768 joins of our own, without the checks of GPT-2's ids:"
        f" {str(missing).split(';')[0]}"
    )

place = (
    "Hello,Do you like tea? <|endoftext|> In the sunlit terraces of someunknownPlace,"
    " in that planet"
)
ids = gpt2.encode(place, allowed_special={END})
print(ids)

# %% tags=["check"]
assert gpt2.decode(ids) == place
expect(gpt2.encode("hello world"), [31373, 995], on_gpt2)
expect((len(ids), ids[:4], ids[-3:]), (23, [15496, 11, 5211, 345], [287, 326, 5440]), on_gpt2)

# %% [markdown]
# The same sentence through smaller and larger vocabularies.
# `someunknownPlace` is in none of them, and none has to give it up:


# %%
def show_tokens(ax, tokens, title, per_line):
    """Draw tokens as coloured boxes, one character a cell; a dot is a space, two digits are a byte
    that is no character of its own.
    """
    tints = ["#bfe0f5", "#fbdca0", "#bfe6d6", "#f5c7ad", "#e8cfe0"]
    x = y = 0
    for i, token in enumerate(tokens):
        try:
            label = token.decode("utf-8").replace(" ", "·").replace("\n", "↵")
        except UnicodeDecodeError:
            label = token.hex()
        if x + len(label) > per_line:
            x, y = 0, y + 1
        ax.add_patch(
            Rectangle(
                (x + 0.04, y + 0.08), len(label) - 0.08, 0.84, color=tints[i % len(tints)], lw=0
            )
        )
        ax.text(
            x + len(label) / 2,
            y + 0.52,
            label,
            family="monospace",
            fontsize=8.2,
            ha="center",
            va="center",
        )
        x += len(label)
    ax.set(xlim=(0, per_line), ylim=(y + 1, 0), title=f"{title}: {len(tokens)} tokens")
    ax.title.set_ha("left")
    ax.title.set_position((0, 1))
    ax.axis("off")


line = "It is no great surprise to me: someunknownPlace, café, 猫."
rows = {}
for n in (0, 50, 300):
    cut = {pair: i for pair, i in rank.items() if i < n}
    row = [
        i
        for unit in splitter.units(line)
        for piece in splitter.pieces(unit)
        for i in encode_piece(piece, cut, BYTES)
    ]
    rows[f"{n} joins learned" if n else "bytes"] = [token_bytes[i] for i in row]
rows["GPT-2, 50,000 joins" if on_gpt2 else "768 joins"] = [
    gpt2.decode_bytes([i]) for i in gpt2.encode(line)
]

# %% tags=["plot"]
fig, axes = plt.subplots(len(rows), 1, figsize=(8.6, 2.9))
for ax, (title, tokens) in zip(axes, rows.items()):
    show_tokens(ax, tokens, title, per_line=69)
plt.show()

# %% [markdown]
# Each join makes the text shorter, the first ones most: mind the axis, on which every step to the
# right is ten times as many joins. More joins mean shorter rows but a larger table of vectors to
# learn; vocabularies of today's models have 30,000 to 250,000 tokens.

# %%
n_bytes = len(text.encode("utf-8"))
gpt2_length = len(gpt2.encode(text, disallowed_special=()))

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(5.8, 3.1))
ax.semilogx(range(1, N_MERGES + 1), [n_bytes / n for n in lengths[1:]], color="#0072B2", lw=1.8)
for n in (1, 10, 50, 300):
    spelt = token_bytes[255 + n].decode("utf-8", "replace").replace(" ", "·")
    ax.plot(n, n_bytes / lengths[n], "o", color="#D55E00", ms=4.5)
    ax.annotate(
        f"join {n}: {spelt}",
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
ax.set(
    title="Every join makes the text shorter",
    xlabel="joins learned",
    ylabel="bytes a token",
    ylim=(0.7, None),
)
plt.show()

# %% [markdown]
# ## 1.6 Guess the next token: windows and batches
# What is a model to do with these ids? **Guess the next one.** For that nobody has to label
# anything: the text is question and answer at once. Cut a window of four tokens, `x`; the answers
# `y` are the same window one place later.
#
# ![A text cut into windows of four tokens; the targets are the same windows, one token
# later](drawings/batch-windows.svg)

# %%
token_ids = gpt2.encode(text, disallowed_special=())
print(len(token_ids), "tokens")
x, y = token_ids[50:54], token_ids[51:55]
print("x:", x)
print("y:     ", y)
for n in range(1, 5):
    print(f"{gpt2.decode(x[:n])!r:>32} ----> {gpt2.decode([y[n - 1]])!r}")

# %% tags=["check"]
expect(len(token_ids), 5145, on_verdict and on_gpt2)
expect((x, y), ([290, 4920, 2241, 287], [4920, 2241, 287, 257]), on_verdict and on_gpt2)

# %% [markdown]
# One window is four exercises, a short context and a long one alike. The next window starts
# `stride` tokens further on. With a stride of 1 every token is seen in four windows; with a stride
# as long as the window, in one:

# %% tags=["plot"]
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.7), sharey=True)
for ax, stride in zip(axes, (1, 4)):
    for row, start in enumerate(range(0, 9 * stride, stride)):
        if start + 5 <= 16:
            ax.add_patch(Rectangle((start + 0.06, row + 0.1), 3.88, 0.38, color="#0072B2", lw=0))
            ax.add_patch(Rectangle((start + 1.06, row + 0.52), 3.88, 0.38, color="#E69F00", lw=0))
    ax.set(
        xlim=(0, 16),
        ylim=(9, 0),
        xlabel="place in the text",
        title=f"max_length 4, stride {stride}",
    )
    ax.set_xticks(range(0, 17, 4))
    ax.grid(axis="x", color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
axes[0].set(ylabel="window")
axes[1].text(15.8, 6.6, "x, what it sees", color="#0072B2", ha="right", weight="bold")
axes[1].text(15.8, 7.6, "y, what it must guess", color="#9a6a00", ha="right", weight="bold")
plt.show()

# %% [markdown]
# In code, a window is a slice:


# %%
def windows(ids, max_length, stride):
    """All (x, y) of a text: lists of `max_length` ids."""
    starts = range(0, len(ids) - max_length, stride)
    return [(ids[i : i + max_length], ids[i + 1 : i + max_length + 1]) for i in starts]


for max_length, stride in ((4, 1), (4, 4), (256, 128)):
    dataset = GPTDatasetV1(text, gpt2, max_length, stride)
    assert [(x.tolist(), y.tolist()) for x, y in dataset] == windows(token_ids, max_length, stride)
    print(f"max_length {max_length:>3}, stride {stride:>3}: {len(dataset)} windows")

# %% [markdown]
# A **data loader** stacks several windows into a batch, so that the hardware has something to do,
# and shuffles them, so that the model does not see the story in order ten times. In its first two
# batches of one window each, with nothing shuffled, the second `x` goes on where the first stopped:

# %%
loader = create_dataloader_V1(
    text, batch_size=1, max_length=4, stride=4, shuffle=False, tokenizer=gpt2
)
first, second = [batch for batch, _ in zip(loader, range(2))]
print("first :", first)
print("second:", second)
expect(
    [part.tolist() for part in first],
    [[[40, 367, 2885, 1464]], [[367, 2885, 1464, 1807]]],
    on_verdict and on_gpt2,
)
expect(
    [part.tolist() for part in second],
    [[[1807, 3619, 402, 271]], [[3619, 402, 271, 10899]]],
    on_verdict and on_gpt2,
)

inputs, targets = next(
    iter(
        create_dataloader_V1(
            text, batch_size=8, max_length=4, stride=4, shuffle=False, tokenizer=gpt2
        )
    )
)
print("eight at once:")
print(inputs)  # [B, T] = [8, 4]

# %% tags=["check"]
expect(inputs[:, 0].tolist(), [40, 1807, 10899, 15632, 922, 568, 1049, 284], on_verdict and on_gpt2)
assert torch.equal(inputs[:, 1:], targets[:, :-1])

# %% [markdown]
# ## 1.7 Embeddings: numbers that mean something
# Token 4920 is not "more" than token 290; ids are names. A model needs numbers in which *nearness*
# can mean something. So each token gets a **vector**, a row of a table, and the table's numbers are
# learned like everything else. Looking a row up is all that `torch.nn.Embedding` does:

# %%
torch.manual_seed(124)
small = torch.nn.Embedding(50257, 10)
table = small.weight.detach()  # [V, C]
print("the row of token 3:", small(torch.tensor([3])).detach())
torch.testing.assert_close(small(torch.tensor([3, 0, 3])).detach(), table[[3, 0, 3]])
golden = torch.tensor(
    [-0.7559, -0.3033, -1.3482, 0.7074, -0.8038, -0.2067, 0.3137, 1.7624, -0.2038, -0.3140]
)

# %% tags=["check"]
torch.testing.assert_close(table[3], golden, rtol=0, atol=6e-5)
torch.testing.assert_close(
    table[0, [0, 1, 2, 7, 8, 9]],
    torch.tensor([-0.5728, 0.2498, 1.2100, -1.0395, 0.0552, 1.3901]),
    rtol=0,
    atol=6e-5,
)

# %% [markdown]
# **What went wrong: a number that nobody reads.** Beside this table the notebook wrote `vocab_size
# = 100`, and gave its tokenizer's cell a `text = ...`; no line reads either. The table has 50,257
# rows whatever the name says, and who changes the 100 wonders why nothing changes. So the package
# takes no setting that it would ignore:

# %% tags=["what-went-wrong"]
vocab_size = 100
assert torch.nn.Embedding(50257, 10).num_embeddings != vocab_size
try:
    ModelConfig.of({"vocab_size": vocab_size, "embed_dim": 10})
except UserError as e:
    print("UserError:", e)
else:
    raise AssertionError("a setting that nobody reads must not be taken in silence")

# %% [markdown]
# Looking up a row is the same as multiplying by a row that is 0 everywhere and 1 at the token's
# place ("one-hot"), only without the 50,256 needless products. So an embedding is a linear layer
# like any other, and can be trained like one:

# %%
one_hot = torch.nn.functional.one_hot(torch.tensor([3]), 50257).float()  # [1, V]
torch.testing.assert_close(one_hot @ table, table[[3]])
print("row 3 of the table = one-hot of 3 times the table")

# %% [markdown]
# The tokens of a window all go in at once, and attention (step 2) asks who is like whom, not who
# stands where. *Dog bites man* would be *man bites dog*. So there is a second table, with one
# vector for each **place**, and the two are added:
#
# ![Embedding: a token id picks a row of the token table, its position a row of the position table;
# they are added](drawings/embedding.svg)

# %%
torch.manual_seed(123)
token_table = torch.nn.Embedding(gpt2.n_vocab, 256)
place_table = torch.nn.Embedding(4, 256)
token_vectors = token_table(inputs)  # [B, T, C]
place_vectors = place_table(torch.arange(4))  # [T, C]
ready = token_vectors + place_vectors  # [B, T, C]: each of the 8 windows gets the same places
print(
    tuple(inputs.shape),
    "->",
    tuple(token_vectors.shape),
    "+",
    tuple(place_vectors.shape),
    "=",
    tuple(ready.shape),
)

# %% tags=["check"]
assert token_vectors.shape == ready.shape == (8, 4, 256)
assert place_vectors.shape == (4, 256)

# %%
names = [gpt2.decode([i]).strip() for i in inputs[0].tolist()]

# %% tags=["plot"]
fig, axes = plt.subplots(1, 3, figsize=(8.8, 2.3), sharey=True)
parts = {"token": token_vectors[0], "place": place_vectors, "what goes into the model": ready[0]}
for ax, sign, (title, vectors) in zip(axes, ("", "+", "="), parts.items()):
    shown = ax.imshow(vectors.detach()[:, :10].numpy(), cmap="PuOr", vmin=-3, vmax=3, aspect="auto")
    ax.set(title=title, xlabel="the first 10 of 256 numbers")
    ax.set_xticks([])
    ax.set_yticks(range(4), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.text(-0.09, 0.5, sign, transform=ax.transAxes, fontsize=18, ha="center", va="center")
fig.colorbar(shown, ax=axes, shrink=0.9, label="value")
plt.show()

# %% [markdown]
# The tables are random now. That *king* and *queen* become neighbours is not put in by anyone; it
# comes from guessing the next token a few million times.
#
# **What went wrong: a space that a notebook forgives.** Some definitions of the notebooks began
# with a space, ` def create_dataloader_V1(...)`. A notebook cell strips what all lines have in
# common and runs; the same lines in a file are an error. That is one reason why these lessons are
# plain Python files, from which the notebooks are made:

# %% tags=["what-went-wrong"]
try:
    compile(" def create_dataloader_V1():\n     return None\n", "text_data.py", "exec")
except IndentationError as e:
    print("IndentationError:", e.msg)
else:
    raise AssertionError("it should have failed")

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
# - Byte-pair encoding: start with bytes, join the most frequent neighbours, repeat.
# - Training data is the text itself: a window, and the same window one token later.
# - An embedding is a table of learned rows; a second table says where a token stands.
# - A rule or a name that must be the same in two places belongs in one.
#
# What runs: `src/llm_scratch/tokenizers/`, `src/llm_scratch/data/text.py`. Next:
# `lessons/step2_attention.py` lets these vectors talk to each other.
