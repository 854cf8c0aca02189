"""Make the two tiny checkpoints beside this file with TensorFlow, as references for our reader.

    python -m venv tf && tf/bin/pip install tensorflow-cpu &&
    tf/bin/python tests/interop/make_tiny_gpt2.py

Run once; the files are kept, so that the tests need no TensorFlow. `tiny_gpt2/` is named and shaped
as OpenAI's release (2 layers, 8 wide, 2 heads, 261 tokens, 16 positions), `kinds/` has other types,
a scalar, an empty tensor and two shards. An .npz beside each checkpoint has the same values.
Last made with TensorFlow 2.21.
"""

import json
import os
from pathlib import Path

os.environ.update(CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="2")

import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
SETTINGS = {"n_vocab": 261, "n_ctx": 16, "n_embd": 8, "n_head": 2, "n_layer": 2}
MERGES = ["Ġ t", "h e", "Ġt he", "e r"]


def shapes() -> dict[str, tuple[int, ...]]:
    """Return every variable of the release with its shape; matrices are convolutions of width 1."""
    C = SETTINGS["n_embd"]
    found = {"model/wpe": (SETTINGS["n_ctx"], C), "model/wte": (SETTINGS["n_vocab"], C)}
    for layer in range(SETTINGS["n_layer"]):
        for name, n_in, n_out in [
            ("attn/c_attn", C, 3 * C),
            ("attn/c_proj", C, C),
            ("mlp/c_fc", C, 4 * C),
            ("mlp/c_proj", 4 * C, C),
        ]:
            found |= {
                f"model/h{layer}/{name}/w": (1, n_in, n_out),
                f"model/h{layer}/{name}/b": (n_out,),
            }
        for name in ("ln_1", "ln_2"):
            found |= {f"model/h{layer}/{name}/g": (C,), f"model/h{layer}/{name}/b": (C,)}
    return found | {"model/ln_f/g": (C,), "model/ln_f/b": (C,)}


def tiny_gpt2(folder: Path) -> None:
    """A release: the graph's saver writes the weights, as OpenAI's did."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(124)
    values = {
        name: rng.normal(name.endswith("/g"), 0.3, shape).astype(np.float32)
        for name, shape in shapes().items()
    }
    values["model/wpe"][0, :3] = (
        -0.0,
        1e-45,
        np.finfo(np.float32).max / 1e30,
    )  # a sign, the smallest number there is, a large one
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.get_variable(name, initializer=value, use_resource=False)
            for name, value in values.items()
        ]
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables, save_relative_paths=True).save(
            session, str(folder / "model.ckpt"), write_meta_graph=False
        )
    np.savez(folder / "expected.npz", **values)
    (folder / "hparams.json").write_text(json.dumps(SETTINGS))
    (folder / "vocab.bpe").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    tokens = [*printable_bytes(), *(merge.replace(" ", "") for merge in MERGES), "<|endoftext|>"]
    (folder / "encoder.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))


def printable_bytes() -> list[str]:
    """Return GPT-2's character for each of the 256 bytes.

    Printable bytes stay; the others start at U+0100.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in plain] + [chr(256 + n) for n in range(256 - len(plain))]


def kinds(folder: Path) -> None:
    """One tensor of each plain type, a scalar, an empty one; two files of data."""
    folder.mkdir(exist_ok=True)
    numbers = np.arange(-3, 3).reshape(2, 3)
    first = {
        np.dtype(t).name: numbers.astype(t)
        for t in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
    }
    second = {
        "scalar": np.float32(2.5),
        "empty": np.zeros((3, 0, 2), np.float32),
        "long": np.arange(1000, dtype=np.uint8),
    }
    parts = []
    for n, values in enumerate((first, second)):
        parts.append(str(folder / f"part{n}"))
        tf.raw_ops.SaveV2(
            prefix=parts[n],
            tensor_names=list(values),
            shape_and_slices=[""] * len(values),
            tensors=list(values.values()),
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts,
        destination_prefix=str(folder / "kinds.ckpt"),
        delete_old_dirs=False,
    )
    np.savez(folder / "expected.npz", **first, **second)


tiny_gpt2(HERE / "tiny_gpt2")
kinds(HERE / "kinds")
