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
# Step 4 ended by loading a file that somebody else had made. This lesson opens such files, byte by
# byte. Nothing in them is hard. But weights are what one downloads from strangers, and two
# questions are worth an hour: *can this file hurt me?* and *is the model in it the model that it
# should be?*
#
# | step | new idea |
# |---|---|
# | 5.1 | a checkpoint is names, shapes and numbers |
# | 5.2 | a pickle is a program |
# | 5.3 | safetensors: a file in which nothing can run |
# | 5.4 | one model, three sets of names |
# | 5.5 | one bit too many: checksums and manifests |
#
# Each stepping stone is built here once and then *asserted* equal to what the package runs. Run it
# as a notebook or as `python lessons/step5_weights.py`. It takes a few seconds and needs no
# network.

# %% tags=["setup"]
import hashlib
import io
import json
import pickle
import pickletools
import random
import re
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
plt.rcParams.update(
    {"figure.dpi": 110, "font.size": 9, "axes.titlesize": 10, "figure.constrained_layout.use": True}
)
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
torch.set_num_threads(1)  # for tensors this small, a second thread costs more than it brings
BLUE, ORANGE, GREEN, RED, PINK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#8a8a8a",
)
FOLDER = Path(tempfile.mkdtemp())


def complaint(function, *args):
    """What a function says when it refuses,
    without the folder's name, which is another one every time.
    """
    try:
        function(*args)
    except UserError as e:
        return str(e).replace(f"{FOLDER}/", "")
    raise AssertionError("expected a refusal")


# %% [markdown]
# ## 5.1 Names, shapes, numbers
# Here is a GPT of the smallest kind: 12 wide, 2 heads, 1 block,
# an alphabet of 260 tokens. All that it knows is this table:

# %%
torch.manual_seed(123)
# 256 bytes, three merges, the end of a text
tokenizer = TOKENIZERS["bpe"](["the cat sat on the mat. " * 9], 260)
config = {
    "vocab_size": 260,
    "context_length": 8,
    "emb_dim": 12,
    "n_heads": 2,
    "n_layers": 1,
    "qkv_bias": True,
    "tie_embeddings": True,
}
model = GPTModel(config).eval()
weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
for name, tensor in weights.items():
    print(f"{name:32s} {tuple(tensor.shape)!s:10s} {tensor.numel():5d} numbers")
total = sum(tensor.numel() for tensor in weights.values())
print(f"{total:,} numbers, {4 * total:,} bytes")

# %% tags=["check"]
assert "out_head.weight" not in weights, (
    "the head is the token table (Step 3), so it is not listed twice"
)

# %% [markdown]
# A number is four bytes: one bit for the sign, eight for the size (a power of two), 23 for the
# digits. That is *float32*. Cut off the lower half and sixteen bits are left, with the same range
# and fewer digits: *bfloat16*, in which large models are handed around.

# %%
number = weights["tok_emb.weight"][0, 0].item()
raw = struct.pack("<f", number)  # "<": the lowest byte first
bits = f"{int.from_bytes(raw, 'little'):032b}"
sign, exponent, digits = bits[:1], bits[1:9], bits[9:]
print(f"{number:.7f} = bytes {raw.hex(' ')} = sign {sign}, exponent {exponent}, digits {digits}")

# %% tags=["check"]
assert number == (-1) ** int(sign) * 2.0 ** (int(exponent, 2) - 127) * (1 + int(digits, 2) / 2**23)

# %% [markdown]
# So a **checkpoint** needs little: a list of names with shapes and types, then bytes. What is *not*
# in the numbers is how many heads there are: two heads of 6 or three of 4 have the same matrices.
# Therefore a file with settings is part of every checkpoint.
#
# Can a weight have fewer than 16 bits? **Quantization** rounds the weights of a row to equally
# spaced levels. A level is a small integer, and the row keeps one number beside them, the *scale*:
# the distance between two levels.
#
# ![Quantization: each weight is rounded to the nearest of a few equally spaced levels and stored as
# a small integer](drawings/quantization.svg)

# %%
weight = weights["trf_blocks.0.att.W_query.weight"]  # [12, 12]
scale = weight.abs().amax(dim=1) / 127  # [12], so that the largest of a row becomes 127
integers = (weight / scale[:, None]).round()  # [12, 12], from -127 to 127: 8 bits each
error = (integers * scale[:, None] - weight).abs()
print(f"largest weight {weight.abs().max():.4f}, largest error {error.max():.6f}")
assert (error <= scale[:, None] * 0.5001).all(), "at most half a step"
packaged, packaged_scale = to_int8(weight)

# %% tags=["check"]
assert torch.equal(integers, packaged.float())
assert torch.equal(scale, packaged_scale)

# %% [markdown]
# ## 5.2 A pickle is a program
# For years the usual way was Python's *pickle*, and `torch.save` still uses it. A pickle is no list
# of values. It is a list of **instructions** for a small machine that builds values. `pickletools`
# shows them without running them:

# %%
harmless = pickle.dumps({"lr": 0.5}, protocol=2)
pickletools.dis(harmless)

# %% [markdown]
# Two of the machine's instructions are: *fetch any function by its name* (`GLOBAL`), and *call it*
# (`REDUCE`). An object says by `__reduce__` what to call. This one is polite and asks for `print`.
# It could ask for anything that Python can do on your machine, with your files.


# %%
class Stranger:
    """What a bad file might hold."""

    def __reduce__(self):
        return (print, ("   >>> this line was printed by a file that was only to be read",))


bad = pickle.dumps({"tok_emb.weight": Stranger()}, protocol=2)
for instruction, value, place in pickletools.genops(bad):
    if instruction.name in ("GLOBAL", "REDUCE"):
        print(f"byte {place:3d}: {instruction.name:7s} {value or ''}")
print("reading it:")
pickle.loads(bad)

# %% [markdown]
# One can therefore list what a pickle would fetch **before** anything is run. A file of
# `torch.save` is a zip, with one such pickle (`data.pkl`) and the numbers, one member for each
# tensor. An honest one fetches three things, which tensors need:


# %%
def fetched(data):
    """What a pickle would fetch by name, sorted; nothing is run."""
    return sorted(
        {
            value.replace(" ", ".")
            for op, value, _ in pickletools.genops(data)
            if op.name == "GLOBAL"
        }
    )


def inside(file):
    """What the pickle of a torch.save file would fetch."""
    with zipfile.ZipFile(file) as archive:
        return fetched(
            archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        )


honest, evil = io.BytesIO(), FOLDER / "stranger.pth"
torch.save(weights, honest)
torch.save({**weights, "tok_emb.weight": Stranger()}, evil)
print("honest:  ", inside(honest))
print("stranger:", inside(evil))

# %% tags=["check"]
assert inside(honest) == [
    "collections.OrderedDict",
    "torch.FloatStorage",
    "torch._utils._rebuild_tensor_v2",
]
assert set(inside(evil)) - set(inside(honest)) == {"__builtin__.print"}

# %% [markdown]
# The package's reader goes that way: the few calls that tensors need,
# and no others. There is no second try without the guard.

# %%
(FOLDER / "model.pth").write_bytes(honest.getvalue())
again = read_torch(FOLDER / "model.pth")
assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())
refusal = complaint(read_torch, evil)
print(re.sub(r" \(.*\)", "", refusal))  # in the brackets stands what torch says of it

# %% tags=["check"]
assert "not a file of weights alone" in refusal

# %% [markdown]
# ## 5.3 A file in which nothing can run
# Better than a guarded program is no program. *safetensors* is the format of 5.1 and nothing else:
#
# | bytes | what |
# |---|---|
# | 8 | n, the length of the header, lowest byte first |
# | n | the header: JSON, name → type, shape, first and last byte |
# | the rest | the numbers |

# %%
path = FOLDER / "model.safetensors"
path.write_bytes(b"".join(iter_bytes(weights)))
data = path.read_bytes()
for row in range(0, 96, 16):
    line = data[row : row + 16]
    print(f"{row:4d}  {line.hex(' ')}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in line)}")

n = int.from_bytes(data[:8], "little")
header = json.loads(data[8 : 8 + n])
print(f"\nthe header has {n} bytes and {len(header)} tensors; one of them:")
print("pos_emb.weight", header["pos_emb.weight"])

# %% [markdown]
# That is enough to read a tensor with numpy alone.
# The package's reader and the safetensors library must give the same.

# %%
said = header["pos_emb.weight"]
start, end = said["data_offsets"]
# F32: four bytes, lowest first
table = np.frombuffer(data[8 + n + start : 8 + n + end], "<f4").reshape(said["shape"])
assert np.array_equal(table, weights["pos_emb.weight"].numpy())
files = TensorFiles([path])
assert all(torch.equal(files.read(name), tensor) for name, tensor in weights.items())

from safetensors.numpy import load_file  # noqa: E402  the library, as a third opinion

assert np.array_equal(load_file(path)["pos_emb.weight"], table)
print(table[0, :4], "... three readers, the same bits")

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(8.4, 2.3))
kinds = {"header": GREY, "tok_emb": BLUE, "pos_emb": GREEN, "att": ORANGE, "ff": PINK, "norm": RED}
parts = [("header", 0, 8 + n)]
parts += [
    (name, 8 + n + row["data_offsets"][0], 8 + n + row["data_offsets"][1])
    for name, row in header.items()
]
shown = set()
for name, start, end in parts:
    kind = next(kind for kind in kinds if kind in name)
    ax.barh(
        0,
        end - start,
        left=start,
        height=0.8,
        color=kinds[kind],
        edgecolor="white",
        lw=0.6,
        label=None if kind in shown else kind,
    )
    shown.add(kind)
ax.set(
    xlim=(0, len(data)),
    yticks=[],
    xlabel="byte of the file",
    title="model.safetensors: the header, then one tensor after the other",
)
ax.spines["left"].set_visible(False)
ax.legend(ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.42))
plt.show()

# %% [markdown]
# **What goes wrong easily: believing the header.** Nothing in it runs, but it is a stranger's all
# the same. "Eighteen trillion bytes of header, please make room." "This tensor lies where the other
# one is." So before anything is believed or given memory, every length is held to the file:


# %% tags=["what-went-wrong"]
def lying(change):
    """The file with its header changed; what the reader says to it."""
    head = json.loads(data[8 : 8 + n])
    change(head)
    text = json.dumps(head).encode()
    (FOLDER / "lie.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + n :])
    return complaint(read_header, FOLDER / "lie.safetensors")


(FOLDER / "huge.safetensors").write_bytes((18 * 10**12).to_bytes(8, "little") + data[8:])
print(complaint(read_header, FOLDER / "huge.safetensors"))
print(lying(lambda head: head["pos_emb.weight"].update(shape=[2**40, 12])))
print(
    lying(
        lambda head: head["pos_emb.weight"].update(
            data_offsets=header["tok_emb.weight"]["data_offsets"], shape=[260, 12]
        )
    )
)

# %% [markdown]
# ## 5.4 One model, three sets of names
# The same GPT-2 exists under OpenAI's names, Hugging Face's, and ours. One table in the package,
# `interop/gpt2_weight_map.py`, says which is which, and serves all readers and writers. Here are
# its first rows and the last two:

# %%
pairs = list(zip(expand(OPENAI, 1), expand(HF, 1)))
print(f"{'OpenAI':18s} {'Hugging Face':26s} here")
for openai, hf in pairs[:6] + pairs[-2:]:
    assert openai.ours == hf.ours
    also = " and key, value" if len(hf.ours) == 3 else ""
    print(f"{openai.theirs or '-':18s} {hf.theirs.removeprefix(HF_PREFIX):26s} {hf.ours[0]}{also}")

# %% [markdown]
# Besides the names, three things differ. Take them one by one, on the files themselves. We write
# our little model as OpenAI would have, and read its `c_attn` with numpy at the place that the
# index tells:

# %%
save_gpt2(model, tokenizer, FOLDER / "124M")
print(*sorted(file.name for file in (FOLDER / "124M").iterdir()), sep="  ")
released = TFCheckpointReader(FOLDER / "124M" / "model.ckpt")
entry = released.variables["model/h0/attn/c_attn/w"]
shard = (FOLDER / "124M" / "model.ckpt.data-00000-of-00001").read_bytes()
c_attn = np.frombuffer(shard[entry.offset : entry.offset + entry.size], "<f4").reshape(entry.shape)
assert np.array_equal(c_attn, released.read("model/h0/attn/c_attn/w"))
print("model/h0/attn/c_attn/w", c_attn.shape, "at byte", entry.offset)

# %% [markdown]
# **1. Turned over.** OpenAI wrote the layer as a *convolution of width 1* (that is the 1 in the
# shape; Hugging Face calls it `Conv1D`) and computes `x @ w`, w being `[in, out]`. PyTorch's
# `Linear` keeps `[out, in]` and computes `x @ w.T`.
#
# **2. Side by side.** Query, key and value are one matrix, `[in,
# 3 * in]`. One large product is faster than three small ones.

# %%
att = model.trf_blocks[0].att
by_hand = torch.cat([att.W_query.weight, att.W_key.weight, att.W_value.weight]).T  # [C, 3C]
assert np.array_equal(by_hand.detach().numpy(), c_attn[0])
rule = next(rule for rule in expand(OPENAI, 1) if rule.theirs == "h0/attn/c_attn/w")
assert torch.equal(rule.join(weights), by_hand)  # the package's way out
back = rule.split(c_attn[0])  # and its way in
assert all(np.array_equal(back[name], weights[name].numpy()) for name in rule.ours)

x = torch.randn(5, 12)
torch.testing.assert_close(x @ torch.tensor(c_attn[0][:, :12]), x @ att.W_query.weight.T)
print("c_attn = query, key and value, side by side and turned over")

# %% [markdown]
# **3. No head.** The head is the token table, so a file need not hold it: OpenAI's has none. Who
# reads it must tie the two and not copy (Step 4.9). Read back, it is the same model, and its head
# *is* its table:

# %%
loaded, _ = load_gpt2(FOLDER / "124M")
ids = torch.tensor([tokenizer.encode("the cat sat")])
assert torch.equal(loaded.eval()(ids), model(ids))
assert loaded.out_head.weight is loaded.tok_emb.weight
assert not any("head" in name for name in released.variables)
print("written as OpenAI does, read back: the same logits, to the last bit")

# %% [markdown]
# ## 5.5 One bit too many
# ![A checkpoint is a folder: weights, optimizer, state, settings, tokenizer, and a manifest with
# the hash of each](drawings/checkpoint-files.svg)
#
# A disk fails, a download is cut, a byte falls over. If one bit of a weight changes, no name and no
# shape does. The model is then a little or very much worse, and nobody knows why. So one keeps a
# **checksum**: a short number that comes out differently when the data does. TensorFlow keeps 32
# bits of every tensor:

# %%
raw = shard[entry.offset : entry.offset + entry.size]
print(f"in the index {entry.checksum:#010x}, from the bytes {masked(crc32c(raw)):#010x}")
assert entry.checksum == masked(crc32c(raw)) == masked(crc32c_by_bits(raw))
fallen = bytearray(shard)
fallen[entry.offset + 7] ^= 1
(FOLDER / "124M" / "model.ckpt.data-00000-of-00001").write_bytes(fallen)
print(complaint(released.read, "model/h0/attn/c_attn/w"))

# %% [markdown]
# safetensors has none. Therefore a checkpoint of this package is a folder with a **manifest**: the
# size and *sha256* of every file, and of the manifest itself. sha256 is 256 bits; nobody can make
# another file with the same one, even on purpose.

# %%
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
promised = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
for name, file in sorted((file.name, file) for file in folder.iterdir()):
    if name in promised:
        mine = hashlib.sha256(file.read_bytes()).hexdigest()
        assert promised[name] == {"bytes": file.stat().st_size, "sha256": mine}
        print(f"{name:20s} {promised[name]['bytes']:7,d} bytes  sha256 {mine[:16]}...")

# %% tags=["check"]
assert manifest.verify(folder) is None

# %% [markdown]
# Does one need it? Turn over one bit of the weights' file,
# at 200 places drawn by lot. How often does each of the two notice?


# %%
def damaged(file, place):
    """The file's bytes with one bit of one byte turned over."""
    changed = bytearray(file)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


target, noticed = folder / "model.safetensors", {"safetensors": 0, "manifest": 0}
whole, draw = target.read_bytes(), random.Random(1)
for place in [draw.randrange(len(whole)) for _ in range(200)]:
    target.write_bytes(damaged(whole, place))
    noticed["manifest"] += manifest.verify(folder) is not None
    try:
        noticed["safetensors"] += read_header(target).keys() != weights.keys()
    except UserError:
        noticed["safetensors"] += 1
target.write_bytes(whole)
print(
    f"noticed, of 200: the header's checks {noticed['safetensors']},"
    f" the manifest {noticed['manifest']}"
)

# %% tags=["check"]
assert noticed["manifest"] == 200 > noticed["safetensors"]

# %% [markdown]
# And how much harm does one bit do? That depends on which. In one weight, turn each of the 32 over,
# and see how far the logits move:

# %%
moved = []
with torch.no_grad():
    right, weight = model(ids), model.trf_blocks[0].ff.layers[0].weight
    kept = weight[0, 0].item()
    for bit in range(32):
        other = struct.unpack(
            "<f",
            (int.from_bytes(struct.pack("<f", kept), "little") ^ 1 << bit).to_bytes(4, "little"),
        )[0]
        weight[0, 0] = other
        moved.append((model(ids) - right).abs().max().item())
    weight[0, 0] = kept

# %% tags=["check"]
assert torch.equal(model(ids), right)

# %% tags=["plot"]
fig, ax = plt.subplots(figsize=(6.6, 2.8))
ax.bar(
    range(32), [max(m, 1e-8) for m in moved], color=[BLUE] * 23 + [ORANGE] * 8 + [RED], width=0.8
)
ax.set(
    yscale="log",
    xlabel="bit, the lowest first",
    ylabel="logits move by at most",
    title="One bit of one weight: digits, exponent, sign",
)
for x, name, colour in ((11, "digits", BLUE), (26.5, "exponent", ORANGE), (31, "sign", RED)):
    ax.text(x, max(moved) * 3, name, ha="center", color=colour)
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
# - A pickle is a program. List what it fetches,
#   or let a guarded reader do so; never `pickle.load` a stranger's.
# - safetensors cannot run, but its header can lie; hold every length to the file.
# - Names, turned matrices, three in one, a tied head: that is all that lies between the formats. A
#   square matrix fits the wrong way round too, so check a load by *logits* or *loss*, never by
#   shapes alone.
# - Shapes do not notice a changed bit. Checksums do.
#
# What runs: `src/llm_scratch/interop/` and `checkpoint.py`, `manifest.py`. In and out: `llm-scratch
# import`, `llm-scratch export hf`. Next: `lessons/step6_run.py` takes the recipe of a real run
# apart.
