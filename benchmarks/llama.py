"""llama.cpp as a contender of decode.py: our weights in its format, its speed and its loss.

It is measured where llama-cpp-python and gguf are installed:
`pip install llama-cpp-python gguf` compiles the first, which takes about ten minutes.
"""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

SAYS = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
# kept here, because llama.cpp calls it as long as it lives
SILENT = SAYS(lambda level, text, data: None)
KINDS = {"llama-f32": "F32", "llama-q8_0": "Q8_0", "llama-q4_0": "Q4_0"}


def is_there() -> bool:
    """Return whether both packages are installed."""
    return all(importlib.util.find_spec(name) for name in ("llama_cpp", "gguf"))


def gguf_file(model: Any, path: Path) -> None:
    """Write a GPTModel as a GGUF file in float32 with token ids as token names."""
    import gguf
    import torch

    cfg, state = model.cfg, model.state_dict()
    out = gguf.GGUFWriter(str(path), "gpt2")
    out.add_context_length(cfg.context_length)
    out.add_embedding_length(cfg.emb_dim)
    out.add_block_count(cfg.n_layers)
    out.add_feed_forward_length(4 * cfg.emb_dim)
    out.add_head_count(cfg.n_heads)
    out.add_layer_norm_eps(1e-5)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([f"t{i}" for i in range(cfg.vocab_size)])
    out.add_token_merges(["t 0"])
    names = {
        "token_embd.weight": "tok_emb.weight",
        "position_embd.weight": "pos_emb.weight",
        "output.weight": "out_head.weight",
    }
    names |= {"output_norm.weight": "final_norm.scale", "output_norm.bias": "final_norm.shift"}
    parts = {"attn_output": "att.out_proj", "ffn_up": "ff.layers.0", "ffn_down": "ff.layers.2"}
    for i in range(cfg.n_layers):
        here, there = f"trf_blocks.{i}", f"blk.{i}"
        for n, norm in ((1, "attn_norm"), (2, "ffn_norm")):
            names |= {
                f"{there}.{norm}.weight": f"{here}.norm{n}.scale",
                f"{there}.{norm}.bias": f"{here}.norm{n}.shift",
            }
        names |= {
            f"{there}.{a}.{kind}": f"{here}.{b}.{kind}"
            for a, b in parts.items()
            for kind in ("weight", "bias")
        }
        qkv = [f"{here}.att.W_{part}" for part in ("query", "key", "value")]
        out.add_tensor(
            f"{there}.attn_qkv.weight", torch.cat([state[f"{name}.weight"] for name in qkv]).numpy()
        )
        bias = torch.cat([state.get(f"{name}.bias", torch.zeros(cfg.emb_dim)) for name in qkv])
        out.add_tensor(f"{there}.attn_qkv.bias", bias.numpy())
    for theirs, ours in names.items():
        out.add_tensor(theirs, state[ours].numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def opened(model: Any, kind: str, folder: Path, all_scores: bool = False) -> Any:
    """Open our model in llama.cpp in one of its formats, head included; files go to `folder`."""
    import llama_cpp

    llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
    path = folder / "f32.gguf"
    gguf_file(model, path)
    if kind != "F32":
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
        params.pure = True
        few = folder / f"{kind}.gguf"
        if llama_cpp.llama_model_quantize(str(path).encode(), str(few).encode(), params):
            raise SystemExit(f"llama.cpp could not write {few}")
        path = few
    n = model.cfg.context_length
    return llama_cpp.Llama(
        str(path),
        n_ctx=n,
        n_batch=n,
        n_threads=2,
        n_threads_batch=2,
        verbose=False,
        logits_all=all_scores,
    )


def nats(theirs: Any, rows: list[list[int]]) -> float:
    """Sum the cross-entropy over rows of ids, without the first token of each."""
    import torch

    total = 0.0
    for ids in rows:
        theirs.reset()
        theirs.eval(ids[:-1])
        scores = torch.from_numpy(theirs.scores[: len(ids) - 1].copy())
        total += torch.nn.functional.cross_entropy(
            scores, torch.tensor(ids[1:]), reduction="sum"
        ).item()
    return total
