# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Step 5: what is in a file of weights
#
# Step 4 ended by loading a file that someone else had made. This lesson opens such files,
# byte by byte. Nothing in them is hard. But weights are downloaded from strangers, and two
# questions are worth an hour: *can this file hurt me?* and *is it the model that it should
# be?*
#
# | step | new idea |
# |---|---|
# | 5.1 | a checkpoint is names, shapes and numbers |
# | 5.2 | a pickle is a program |
# | 5.3 | safetensors: a file in which nothing can run |
# | 5.4 | one model, three sets of names |
# | 5.5 | one bit too many: checksums and manifests |
#
# Each part is built here and then *asserted* equal to what the package runs. Run it as a
# notebook or as `python lessons/step5_weights.py`. It takes a few seconds and needs no
# network.
#
# From lesson 3 you need the parts of a GPT and weight tying (3.8). A *byte* is a number from
# 0 to 255, eight bits; files are rows of bytes. `b"..."` is a row of bytes in Python, and
# `.hex()` prints it with two digits a byte.

# %% tags=["setup"]
import hashlib
import json
import pickle
import pickletools
import random
import struct
import tempfile
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from llm_scratch.errors import UserError
from llm_scratch.interop.crc32c import crc32c, crc32c_by_bits, masked
from llm_scratch.interop.gpt2_weight_map import HF, HF_PREFIX, OPENAI
from llm_scratch.interop.openai import load_gpt2
from llm_scratch.interop.openai_export import save_gpt2
from llm_scratch.interop.safetensors import TensorFiles, read_header
from llm_scratch.interop.tensorflow import TFCheckpointReader
from llm_scratch.interop.torch_file import read_torch
from llm_scratch.interop.weight_map import expand
from llm_scratch.learn.notebook import ask, check, hint  # noqa: F401
from llm_scratch.learn.script import run_as_script
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.quantized import to_int8
from llm_scratch.storage import checkpoint, manifest
from llm_scratch.storage.safetensors_writer import iter_bytes
from llm_scratch.tokenizers import TOKENIZERS, save_tokenizer

run_as_script(globals())
plt.rcParams.update({"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10})
plt.rcParams.update({"figure.constrained_layout.use": True, "legend.frameon": False})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
torch.set_num_threads(1)  # for tensors this small, a second thread costs more than it brings
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, GREY = "#CC79A7", "#8a8a8a"
FOLDER = Path(tempfile.mkdtemp())


def refusal(function, *args):
    """The error of a function that refuses, without the name of the temporary folder."""
    try:
        function(*args)
    except UserError as e:
        return str(e).replace(f"{FOLDER}/", "")
    raise AssertionError("expected an error")


# %% [markdown]
# ## 5.1 Names, shapes, numbers
# Here is a very small GPT: 12 wide, 2 heads, 1 block, a vocabulary of 260 tokens. All that
# it is, is this table:

# %%
torch.manual_seed(123)
tokenizer = TOKENIZERS["bpe"](["the cat sat on the mat. " * 9], 260)
config = {"vocab_size": 260, "context_length": 8, "emb_dim": 12, "n_heads": 2}
config |= {"n_layers": 1, "qkv_bias": True, "tie_embeddings": True}
model = GPTModel(config).eval()
weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
for name, tensor in weights.items():
    print(f"{name:32} {tuple(tensor.shape)!s:10} {tensor.numel():5} numbers")

# %%
total = sum(tensor.numel() for tensor in weights.values())
print(f"{total:,} numbers of 4 bytes: {4 * total:,} bytes")

# %% tags=["check"]
assert "out_head.weight" not in weights, "the head is the token table, so it is not listed twice"

# %% [markdown]
# A number has four bytes, 32 bits: one for the sign, eight for the size (a power of two),
# 23 for the digits. That is *float32*. (`struct.pack("<f", x)` gives the bytes of such a
# number; `<` means that the lowest byte comes first.)
#
# ![A float32 has 32 bits: one for the sign, eight for the size, 23 for the digits;
# bfloat16 keeps the first 16](drawings/float-bits.svg)

# %%
number = weights["tok_emb.weight"][0, 0].item()
raw = struct.pack("<f", number)
bits = f"{int.from_bytes(raw, 'little'):032b}"
sign, exponent, digits = bits[0], bits[1:9], bits[9:]
print(f"{number:.7f} = bytes {raw.hex(' ')}")
print(f"sign {sign}, exponent {exponent}, digits {digits}")

# %% tags=["check"]
size = 2.0 ** (int(exponent, 2) - 127) * (1 + int(digits, 2) / 2**23)
assert number == (-1) ** int(sign) * size

# %% [markdown]
# Cut off the lower half, and sixteen bits are left, with the same range and fewer digits.
# That is *bfloat16*, in which large models are usually stored.

# %%
half = b"\x00\x00" + raw[2:]  # the lower two bytes set to 0
print(f"{number:.7f} in bfloat16: {struct.unpack('<f', half)[0]:.7f}")

# %% tags=["check"]
cut = torch.tensor([number]).view(torch.int32) & ~0xFFFF
assert cut.view(torch.float32).item() == struct.unpack("<f", half)[0]

# %% [markdown]
# So a **checkpoint** needs little: a list of names with shapes and types, then bytes. One
# thing is *not* in the numbers: how many heads there are. Two heads of 6 or three of 4 have
# the same matrices. So a file with settings is part of every checkpoint.
#
# Can a weight have fewer than 16 bits? **Quantization** rounds the weights of a row to
# equally spaced levels. A level is a small integer, and the row keeps one number beside
# them, the *scale*: the distance between two levels.
#
# ![Quantization: each weight is rounded to the nearest of a few equally spaced levels and
# stored as a small integer](drawings/quantization.svg)
#
# With 8 bits an integer can be from -127 to 127. One row, in a loop:

# %%
weight = weights["trf_blocks.0.att.W_query.weight"]  # [12, 12]
row = weight[0].tolist()
scale = max(abs(w) for w in row) / 127
integers = [round(w / scale) for w in row]
print("integers:", integers)
print("largest error:", f"{max(abs(i * scale - w) for i, w in zip(integers, row)):.6f}")
print("half a step  :", f"{scale / 2:.6f}")

# %% [markdown]
# All rows at once, each with its own scale:

# %%
scales = weight.abs().amax(dim=1) / 127  # [12], from the largest of each row
levels = (weight / scales[:, None]).round()  # [12, 12]
error = (levels * scales[:, None] - weight).abs()
print(f"largest weight {weight.abs().max():.4f}, largest error {error.max():.6f}")

# %% tags=["check"]
assert integers == levels[0].tolist()
assert (error <= scales[:, None] * 0.5001).all(), "at most half a step"
packaged, packaged_scales = to_int8(weight)
assert torch.equal(levels, packaged.float())
assert torch.equal(scales, packaged_scales)

# %% [markdown]
# ## 5.2 A pickle is a program
# For years the usual way to store Python objects was *pickle*, and `torch.save` still uses
# it. A pickle is not a list of values. It is a list of **instructions** for a small machine
# that builds values. `pickletools` shows them without running them:

# %%
harmless = pickle.dumps({"lr": 0.5}, protocol=2)
pickletools.dis(harmless)

# %% [markdown]
# Two of the machine's instructions are: *fetch any function by its name* (`GLOBAL`), and
# *call it* (`REDUCE`). An object says in `__reduce__` what to call. This one is polite and
# calls `print`. It could call anything that Python can do on your machine, with your files.


# %%
class Stranger:
    """What a bad file might hold."""

    def __reduce__(self):
        return (print, ("   >>> printed by a file that was only to be read",))


bad = pickle.dumps({"tok_emb.weight": Stranger()}, protocol=2)
print("reading it:")
pickle.loads(bad)

# %% [markdown]
# So never load a stranger's pickle. But what it would fetch can be listed **before**
# anything runs:


# %%
def fetched(data):
    """The functions that a pickle would fetch by name, sorted; nothing is run."""
    instructions = pickletools.genops(data)
    names = {value for op, value, _ in instructions if op.name == "GLOBAL"}
    return sorted(name.replace(" ", ".") for name in names)


print("harmless:", fetched(harmless))
print("bad     :", fetched(bad))

# %% [markdown]
# A file of `torch.save` is a zip archive with one such pickle (`data.pkl`), and the numbers
# of each tensor in a file of their own. An honest one fetches three things, which tensors
# need:


# %%
def fetched_by_file(file):
    """What the pickle of a torch.save file would fetch."""
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return fetched(archive.read(names[0]))


honest, evil = FOLDER / "model.pth", FOLDER / "stranger.pth"
torch.save(weights, honest)
torch.save({**weights, "tok_emb.weight": Stranger()}, evil)
print("honest  :", fetched_by_file(honest))
print("stranger:", fetched_by_file(evil))

# %% tags=["check"]
assert fetched_by_file(honest) == [
    "collections.OrderedDict",
    "torch.FloatStorage",
    "torch._utils._rebuild_tensor_v2",
]
assert set(fetched_by_file(evil)) - set(fetched_by_file(honest)) == {"__builtin__.print"}

# %% [markdown]
# The package's reader allows the few calls that tensors need, and no others:

# %%
again = read_torch(honest)
print(len(again), "tensors read")
print(refusal(read_torch, evil).split(" (")[0])

# %% tags=["check"]
assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())
assert "not a file of weights alone" in refusal(read_torch, evil)

# %% [markdown]
# ## 5.3 A file in which nothing can run
# Better than a guarded program is no program. *safetensors* is the format of 5.1 and
# nothing else:
#
# | bytes | what |
# |---|---|
# | 8 | n, the length of the header, lowest byte first |
# | n | the header: JSON, name → type, shape, first and last byte |
# | the rest | the numbers |
#
# (JSON is a way to write dictionaries and lists as text.)

# %%
path = FOLDER / "model.safetensors"
path.write_bytes(b"".join(iter_bytes(weights)))
data = path.read_bytes()
for start in range(0, 96, 16):
    line = data[start : start + 16]
    letters = "".join(chr(b) if 32 <= b < 127 else "." for b in line)
    print(f"{start:4}  {line.hex(' ')}  {letters}")

# %%
n = int.from_bytes(data[:8], "little")
header = json.loads(data[8 : 8 + n])
print(f"the header has {n} bytes and {len(header)} tensors; one of them:")
print(header["pos_emb.weight"])

# %% [markdown]
# That is enough to read a tensor with numpy alone (`"<f4"` means numbers of four bytes,
# lowest first):

# %%
entry = header["pos_emb.weight"]
first, last = entry["data_offsets"]
table = np.frombuffer(data[8 + n + first : 8 + n + last], "<f4").reshape(entry["shape"])
print(table[0, :4])

# %% tags=["check"]
assert np.array_equal(table, weights["pos_emb.weight"].numpy())
files = TensorFiles([path])  # the package's reader
assert all(torch.equal(files.read(name), tensor) for name, tensor in weights.items())
from safetensors.numpy import load_file  # noqa: E402  the library, as a third opinion

assert np.array_equal(load_file(path)["pos_emb.weight"], table)

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(8.4, 2.3))
kinds = {"header": GREY, "tok_emb": BLUE, "pos_emb": GREEN, "att": ORANGE, "ff": PINK, "norm": RED}
parts = [("header", 0, 8 + n)]
for name, tensor_entry in header.items():
    offsets = [8 + n + offset for offset in tensor_entry["data_offsets"]]
    parts.append((name, *offsets))
shown = set()
for name, begin, end in parts:
    kind = next(kind for kind in kinds if kind in name)
    style = {"height": 0.8, "color": kinds[kind], "edgecolor": "white", "lw": 0.6}
    ax.barh(0, end - begin, left=begin, label=None if kind in shown else kind, **style)
    shown.add(kind)
ax.set(xlim=(0, len(data)), yticks=[], xlabel="byte of the file")
ax.set_title("model.safetensors: the header, then one tensor after the other")
ax.spines["left"].set_visible(False)
fig.legend(ncols=6, loc="outside lower center")
plt.show()

# %% [markdown]
# **What goes wrong: believing the header.** Nothing in it runs, but a stranger wrote it.
# It may claim to be eighteen trillion bytes long, to make a reader run out of
# memory, or place one tensor on top of another. So a reader checks every length against the
# file before it believes it:


# %% tags=["what-goes-wrong"]
def with_header(change):
    """The file with its header changed."""
    head = json.loads(data[8 : 8 + n])
    change(head["pos_emb.weight"])
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + n :]


def answer(content):
    """What the package's reader says to a file with this content."""
    (FOLDER / "lie.safetensors").write_bytes(content)
    return refusal(read_header, FOLDER / "lie.safetensors")


# %%
on_top = {"data_offsets": header["tok_emb.weight"]["data_offsets"], "shape": [260, 12]}
print(answer((18 * 10**12).to_bytes(8, "little") + data[8:]))
print(answer(with_header(lambda entry: entry.update(shape=[2**40, 12]))))
print(answer(with_header(lambda entry: entry.update(on_top))))

# %% [markdown]
# ## 5.4 One model, three sets of names
# The same GPT-2 exists under OpenAI's names, Hugging Face's, and ours. One table in the
# package, `interop/gpt2_weight_map.py`, says which is which, and serves all readers and
# writers. Here are its first rows and the last two:

# %%
pairs = list(zip(expand(OPENAI, 1), expand(HF, 1)))
print(f"{'OpenAI':18} {'Hugging Face':26} here")
for openai, hf in pairs[:6] + pairs[-2:]:
    also = " and key, value" if len(hf.ours) == 3 else ""
    name = hf.theirs.removeprefix(HF_PREFIX)
    print(f"{openai.theirs or '-':18} {name:26} {hf.ours[0]}{also}")

# %% tags=["check"]
assert all(openai.ours == hf.ours for openai, hf in pairs)

# %% [markdown]
# Besides the names, three things differ. We take them one by one, on the files themselves.
# We write our little model as OpenAI would have, and read its `c_attn` with numpy at the
# place that the release's index gives:

# %%
save_gpt2(model, tokenizer, FOLDER / "124M")
released = TFCheckpointReader(FOLDER / "124M" / "model.ckpt")
entry = released.variables["model/h0/attn/c_attn/w"]
shard_path = FOLDER / "124M" / "model.ckpt.data-00000-of-00001"
shard = shard_path.read_bytes()
numbers = np.frombuffer(shard[entry.offset : entry.offset + entry.size], "<f4")
c_attn = numbers.reshape(entry.shape)
print("model/h0/attn/c_attn/w", c_attn.shape, "at byte", entry.offset)

# %% tags=["check"]
assert np.array_equal(c_attn, released.read("model/h0/attn/c_attn/w"))

# %% [markdown]
# **1. Turned over.** OpenAI wrote the layer as a *convolution of width 1* (that is the 1 in
# the shape) and computes `x @ w`, with `w` of shape `[in, out]`. PyTorch's `Linear` keeps
# `[out, in]` and computes `x @ w.T`.
#
# **2. Side by side.** Query, key and value are one matrix, `[in, 3 * in]`. One large product
# is faster than three small ones.
#
# ![OpenAI's c_attn holds query, key and value side by side; to load it, cut it in three
# and turn each part over](drawings/three-in-one.svg)

# %%
att = model.trf_blocks[0].att
three = torch.cat([att.W_query.weight, att.W_key.weight, att.W_value.weight])
by_hand = three.T.detach()  # [C, 3C]
print("equal:", np.array_equal(by_hand.numpy(), c_attn[0]))

# %% tags=["check"]
assert np.array_equal(by_hand.numpy(), c_attn[0])
rule = next(rule for rule in expand(OPENAI, 1) if rule.theirs == "h0/attn/c_attn/w")
assert torch.equal(rule.join(weights), by_hand)  # how the package writes
back = rule.split(c_attn[0])  # and how it reads
assert all(np.array_equal(back[name], weights[name].numpy()) for name in rule.ours)
x = torch.randn(5, 12)
torch.testing.assert_close(x @ torch.tensor(c_attn[0][:, :12]), x @ att.W_query.weight.T)

# %% [markdown]
# **3. No head.** The head is the token table, so a file need not hold it, and OpenAI's does
# not. A reader must tie the two, not copy one (lesson 4.9). Read back, it is the same
# model, and its head *is* its table:

# %%
loaded, _ = load_gpt2(FOLDER / "124M")
ids = torch.tensor([tokenizer.encode("the cat sat")])
print("same logits:", torch.equal(loaded.eval()(ids), model(ids)))
print("head is table:", loaded.out_head.weight is loaded.tok_emb.weight)

# %% tags=["check"]
assert torch.equal(loaded.eval()(ids), model(ids))
assert loaded.out_head.weight is loaded.tok_emb.weight
assert not any("head" in name for name in released.variables)

# %% [markdown]
# ## 5.5 One bit too many
# ![A checkpoint is a folder: weights, optimizer, state, settings, tokenizer, and a manifest
# with the hash of each](drawings/checkpoint-files.svg)
#
# A disk fails, a download breaks off, a bit flips. If one bit of a weight changes, no name
# and no shape does. The model is then a little or very much worse, and nobody knows why. The
# remedy is a **checksum**: a short number, computed from the data, that comes out
# differently when the data changes. TensorFlow keeps one of 32 bits for every tensor:

# %%
raw = shard[entry.offset : entry.offset + entry.size]
print(f"in the index  : {entry.checksum:#010x}")
print(f"from the bytes: {masked(crc32c(raw)):#010x}")
flipped = bytearray(shard)
flipped[entry.offset + 7] ^= 1  # ^ 1 flips the lowest bit
shard_path.write_bytes(flipped)
print(refusal(released.read, "model/h0/attn/c_attn/w"))

# %% tags=["check"]
assert entry.checksum == masked(crc32c(raw)) == masked(crc32c_by_bits(raw))

# %% [markdown]
# safetensors has none. So a checkpoint of this package is a folder with a **manifest**: a
# list of the size and the *SHA-256* of every file, and of the manifest itself. SHA-256 is a
# checksum of 256 bits: no one is able to make another file with the same result, not even
# on purpose.

# %% tags=["setup"]
folder = checkpoint.save(
    FOLDER / "run",
    100,
    {"model": config},
    weights,
    {},
    {"step": 100},
    lambda place: save_tokenizer(tokenizer, place),
    best=True,
)

# %%
promised = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
for name, entry in sorted(promised.items()):
    ours = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    print(f"{name:20} {entry['bytes']:7,} bytes  sha256 {ours[:16]}...", end="  ")
    print("as promised" if ours == entry["sha256"] else "another!")

# %% tags=["check"]
assert manifest.verify(folder) is None
for name, entry in promised.items():
    content = (folder / name).read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    assert entry == {"bytes": len(content), "sha256": sha256}
assert {file.name for file in folder.iterdir()} - {"manifest.json"} >= set(promised)

# %% [markdown]
# Is it needed? Flip one bit of the weights' file, at 200 random places. How often does the
# reader notice, and how often the manifest?


# %%
def header_is_fine(path, names):
    """Whether the reader of the header accepts the file and finds these tensors."""
    try:
        return read_header(path).keys() == names
    except UserError:
        return False


# %%
target, draw = folder / "model.safetensors", random.Random(1)
whole = target.read_bytes()
noticed = {"header": 0, "manifest": 0}
for place in [draw.randrange(len(whole)) for _ in range(200)]:
    flipped = bytearray(whole)
    flipped[place] ^= 1 << place % 8
    target.write_bytes(flipped)
    noticed["header"] += not header_is_fine(target, weights.keys())
    noticed["manifest"] += manifest.verify(folder) is not None
target.write_bytes(whole)
print("of 200 flipped bits, noticed by:", noticed)

# %% tags=["check"]
assert noticed["manifest"] == 200 > noticed["header"]

# %% [markdown]
# And how much harm does one bit do? That depends on which. Flip each of the 32 bits of one
# weight, and see how far the logits move:


# %%
def flip(number, bit):
    """A float32 with one of its 32 bits flipped."""
    bits = int.from_bytes(struct.pack("<f", number), "little")
    return struct.unpack("<f", (bits ^ 1 << bit).to_bytes(4, "little"))[0]


print([flip(0.1, bit) for bit in (0, 22, 23, 30, 31)])

# %%
moved = []
with torch.no_grad():
    right, weight = model(ids), model.trf_blocks[0].ff.layers[0].weight
    kept = weight[0, 0].item()
    for bit in range(32):
        weight[0, 0] = flip(kept, bit)
        moved.append((model(ids) - right).abs().max().item())
    weight[0, 0] = kept

# %% tags=["check"]
assert torch.equal(model(ids), right)

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(6.6, 2.8))
colors = [BLUE] * 23 + [ORANGE] * 8 + [RED]
ax.bar(range(32), [max(m, 1e-8) for m in moved], color=colors, width=0.8)
ax.set(yscale="log", xlabel="bit, the lowest first", ylabel="logits move by at most")
ax.set_title("One bit of one weight: digits, exponent, sign")
for x, name, color in ((11, "digits", BLUE), (26.5, "exponent", "#966000"), (31, "sign", RED)):
    ax.text(x, max(moved) * 3, name, ha="center", color=color)
ax.set_ylim(1e-8, max(moved) * 20)
plt.show()

# %% tags=["check"]
assert max(moved[23:31]) > 100 * max(moved[:10])

# %% [markdown]
# ## 5.6 Try it yourself
# `ask` shows an exercise, with new numbers each time. Write your answer in place of the
# `...` and run the cell. A wrong answer is diagnosed; the right one is never shown.
# `hint("5.1")` opens a hint, three for each exercise. The same exercises in a terminal:
# `llm-scratch learn next`. Solutions are sealed: `llm-scratch learn solution 5.1` opens
# one.

# %%
ask("5.1")

# %%
check("5.1", ...)

# %%
ask("5.2")


# %%
def from_bfloat16(half):
    return ...  # your code


check("5.2", from_bfloat16)

# %%
ask("5.3")


# %%
def quantize(row, bits):
    largest_level = 2 ** (bits - 1) - 1
    scale = max(row) / largest_level
    return [round(weight / scale) for weight in row], scale


check("5.3", quantize)

# %%
ask("5.4")


# %%
def dequantize(integers, scales):
    return ...  # your code


check("5.4", dequantize)

# %%
ask("5.5")

# %%
check("5.5", ...)

# %%
ask("5.6")


# %%
def n_calls(pickled):
    return ...  # your code


check("5.6", n_calls)

# %%
ask("5.7")


# %%
def read_tensor(data, name):
    return ...  # your code


check("5.7", read_tensor)

# %%
ask("5.8")

# %%
check("5.8", ...)

# %%
ask("5.9")


# %%
def split_qkv(fused, width):
    return ...  # your code


check("5.9", split_qkv)

# %%
ask("5.10")

# %%
check("5.10", ...)

# %%
ask("5.11")

# %%
check("5.11", ...)

# %% [markdown]
# ## Summary
# - A checkpoint is names, shapes and numbers, and a file with what numbers cannot say.
# - A pickle is a program. List what it fetches, or let a guarded reader do so; never
#   `pickle.load` a stranger's.
# - safetensors cannot run, but its header can be wrong; check every length against the file.
# - Names, turned matrices, three in one, a tied head: these are all the differences between
#   the formats. A square matrix fits when it is turned over, too, so check a load by
#   *logits* or *loss*, never by shapes alone.
# - Shapes do not notice a changed bit. Checksums do.
#
# What runs: `src/llm_scratch/interop/` and `src/llm_scratch/storage/`. In and out:
# `llm-scratch import`, `llm-scratch export hf`. Next: `lessons/step6_run.py` takes the
# recipe of a real run apart.
