"""Malicious files: each creates a folder named `marker` if an unsafe reader opens it."""

from __future__ import annotations

import functools
import gzip
import io
import json
import operator
import os
import pickle
import runpy
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llm_scratch.config import GPTConfig, RunConfig, to_dict
from llm_scratch.model import build
from llm_scratch.storage import checkpoint, manifest
from llm_scratch.tokenizers import TOKENIZERS, save_tokenizer

LITGPT = b"""{padded_vocab_size: 9, block_size: 4, n_embd: 4, n_head: 1, n_layer: 1,
    rotary_percentage: 0, parallel_residual: false}"""
"""Settings of litgpt's that are read, so that the weights are opened."""


class Calls:
    """An object that calls `function(*args)` when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def script(folder: Path, marker: Path) -> str:
    """A Python file that creates the marker."""
    path = folder / "script.py"
    path.write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    return str(path)


def calls(folder: Path, marker: Path) -> dict[str, Calls]:
    """Calls, also nested ones, that create the marker."""
    code, inner = f"__import__('os').mkdir({str(marker)!r})", Calls(os.mkdir, str(marker))
    with (folder / "object.npy").open("wb") as file:
        np.save(file, np.array([inner], dtype=object), allow_pickle=True)
    (folder / "inner.pt").write_bytes(pickle.dumps(inner))
    return {
        "os.mkdir": inner,
        "os.system": Calls(os.system, f"mkdir '{marker}'"),
        "spawn": Calls(os.spawnvp, os.P_WAIT, "mkdir", ["mkdir", str(marker)]),
        "subprocess": Calls(subprocess.call, ["mkdir", str(marker)]),
        "exec": Calls(exec, code),
        "eval": Calls(eval, code),
        "runpy": Calls(runpy.run_path, script(folder, marker)),
        "partial": Calls(functools.partial(os.mkdir, str(marker))),
        "reduce": Calls(functools.reduce, os.mkdir, [str(marker), 0o777]),
        "map": Calls(list, Calls(map, os.mkdir, [str(marker)])),
        "path": Calls(Path.mkdir, marker),
        "copytree": Calls(shutil.copytree, str(folder / "empty"), str(marker)),
        "methodcaller": Calls(operator.methodcaller("mkdir"), marker),
        "pickle in a pickle": Calls(pickle.loads, pickle.dumps(inner)),
        "torch.load": Calls(
            functools.partial(torch.load, weights_only=False), str(folder / "inner.pt")
        ),
        "torch's own bytes": Calls(torch.storage._load_from_bytes, _torch(inner)),
        "numpy.load": Calls(
            functools.partial(np.load, allow_pickle=True), str(folder / "object.npy")
        ),
    }


def _torch(what: object, zipped: bool = True) -> bytes:
    data = io.BytesIO()
    torch.save(what, data, _use_new_zipfile_serialization=zipped)
    return data.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def files(folder: Path, marker: Path) -> dict[str, Path]:
    """Every malicious file or folder by its kind."""
    (folder / "empty").mkdir()
    ways, made = calls(folder, marker), dict[str, Path]()
    for i, (name, bomb) in enumerate(ways.items()):
        made[f"{name}, torch's zip"] = folder / f"{i}.pth"
        made[f"{name}, torch's zip"].write_bytes(_torch({"model_state_dict": bomb}))
    bomb, weights = ways["os.mkdir"], {"tok_emb.weight": torch.ones(2, 2)}
    raw = pickle.dumps(bomb)
    contents: dict[str, bytes] = {
        "a pickle.pkl": raw,
        "protocol 0.pkl": b"cos\nmkdir\n(V" + str(marker).encode() + b"\ntR.",
        "protocol 5.pt": pickle.dumps(bomb, protocol=5),
        "an old opcode.bin": b"(V" + str(marker).encode() + b"\nios\nmkdir\n.",
        "torch before 1.6.pth": _torch({"tok_emb.weight": bomb}, zipped=False),
        "beside weights.pth": _torch({**weights, "extra": bomb}),
        "in the optimizer.pth": _torch(
            {"model_state_dict": weights, "optimizer_state_dict": {"state": {0: bomb}}}
        ),
        "nanoGPT's.pt": _torch({"model": weights, "model_args": {"n_layer": bomb}, "config": {}}),
        "joblib's.joblib": pickle.dumps([np.ones(2), bomb]),
        "numpy's.npy": (folder / "object.npy").read_bytes(),
        "numpy's.npz": _zip({"a.npy": (folder / "object.npy").read_bytes()}),
        "gzip.pt.gz": gzip.compress(raw),
        "torch's first tar.pt": _tar(
            {
                "sys_info": pickle.dumps({}),
                "pickle": raw,
                "tensors": pickle.dumps(0),
                "storages": pickle.dumps(0),
            }
        ),
        "zip in a zip.pth": _zip({"archive/data.pkl": _torch(bomb), "archive/version": b"3"}),
        "zip with a pickle.pth": _zip(
            {"archive/data.pkl": raw, "archive/version": b"3", "archive/byteorder": b"little"}
        ),
        "a pickle in safetensors.safetensors": len(raw).to_bytes(8, "little") + raw,
    }
    for name, content in contents.items():
        made[name] = folder / name
        made[name].write_bytes(content)
    return made | _folders(folder, bomb, raw)


def _folders(folder: Path, bomb: Calls, raw: bytes) -> dict[str, Path]:
    """Folders of other programs with a program in one of their files."""
    gpt2 = {
        "model_type": "gpt2",
        "vocab_size": 9,
        "n_positions": 4,
        "n_embd": 4,
        "n_head": 1,
        "n_layer": 1,
    }
    victim = bomb.call[1][0]
    own_code = gpt2 | {"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}
    contents: dict[str, dict[str, bytes]] = {
        "transformers with pytorch_model.bin": {
            "config.json": json.dumps(gpt2).encode(),
            "pytorch_model.bin": _torch({"wte.weight": bomb}),
        },
        "transformers with code of its own": {
            "config.json": json.dumps(own_code).encode(),
            "modeling.py": (folder / "script.py").read_bytes(),
            "model.safetensors": (2).to_bytes(8, "little") + b"{}",
            "tokenizer.json": raw,
        },
        "litgpt": {"model_config.yaml": LITGPT, "lit_model.pth": raw},
        "litgpt in torch's zip": {
            "model_config.yaml": LITGPT,
            "lit_model.pth": _torch({"model": {"lm_head.weight": bomb}}),
        },
        "litgpt's settings": {
            "model_config.yaml": f"name: !!python/object/apply:os.mkdir ['{victim}']".encode(),
            "lit_model.pth": _torch({}),
        },
        "torch's distributed checkpoint": {".metadata": raw, "__0_0.distcp": raw},
    }
    for name, members in contents.items():
        for member, content in members.items():
            path = folder / name / member
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return {name: folder / name for name in contents} | {"a run": _run(folder / "a run", raw)}


def _run(folder: Path, raw: bytes) -> Path:
    """A run whose manifest vouches for pickles in the place of weights and tokenizer."""
    tokenizer = TOKENIZERS["chars"](["abc"])
    cfg = GPTConfig(
        vocab_size=tokenizer.n_vocab, context_length=4, emb_dim=4, n_heads=1, n_layers=1
    )
    weights = {name: tensor.detach() for name, tensor in build(cfg).named_parameters()}
    step = checkpoint.save(
        folder,
        1,
        to_dict(RunConfig(cfg)),
        weights,
        {},
        {"step": 1},
        lambda into: save_tokenizer(tokenizer, into),
        best=True,
    )
    for name in ("model.safetensors", "optim.safetensors", "tokenizer.json"):
        (step / name).write_bytes(raw)
    (step / "optim.pt").write_bytes(raw)
    (step / "manifest.json").unlink()
    manifest.write_manifest(step, 1, {})
    assert manifest.verify(step) is None
    return folder
