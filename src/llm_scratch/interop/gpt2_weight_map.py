"""Weight map of GPT-2: names and layouts of its tensors in each format, for import and export.

Three things differ: the names (`TABLE`), the fused query, key and value tensor that is three
tensors here, and the layout of a matrix: OpenAI and Hugging Face store [in, out], PyTorch, nanoGPT
and litgpt [out, in].
Tests: tests/interop/test_gpt2_weight_map.py, test_openai.py, test_hf.py, test_import.py: bit-equal
tensors, equal logits.
Source: https://github.com/openai/gpt-2 (src/model.py) and the model files of transformers, nanoGPT
and litgpt.
"""

from __future__ import annotations

import re

from llm_scratch.interop.weight_map import SAME, TRANSPOSED, Rule, spelled_out

TABLE = """
    here                              OpenAI            Hugging Face, nanoGPT   litgpt
    tok_emb.weight                    wte               wte.weight              wte.weight
    pos_emb.weight                    wpe               wpe.weight              -
    #.norm1.scale                     h#/ln_1/g         h.#.ln_1.weight         h.#.norm_1.weight
    #.norm1.shift                     h#/ln_1/b         h.#.ln_1.bias           h.#.norm_1.bias
    #.att.W_{query,key,value}.weight  h#/attn/c_attn/w  h.#.attn.c_attn.weight  h.#.attn.qkv.weight
    #.att.W_{query,key,value}.bias    h#/attn/c_attn/b  h.#.attn.c_attn.bias    h.#.attn.qkv.bias
    #.att.out_proj.weight             h#/attn/c_proj/w  h.#.attn.c_proj.weight  h.#.attn.proj.weight
    #.att.out_proj.bias               h#/attn/c_proj/b  h.#.attn.c_proj.bias    h.#.attn.proj.bias
    #.norm2.scale                     h#/ln_2/g         h.#.ln_2.weight         h.#.norm_2.weight
    #.norm2.shift                     h#/ln_2/b         h.#.ln_2.bias           h.#.norm_2.bias
    #.ff.layers.0.weight              h#/mlp/c_fc/w     h.#.mlp.c_fc.weight     h.#.mlp.fc.weight
    #.ff.layers.0.bias                h#/mlp/c_fc/b     h.#.mlp.c_fc.bias       h.#.mlp.fc.bias
    #.ff.layers.2.weight              h#/mlp/c_proj/w   h.#.mlp.c_proj.weight   h.#.mlp.proj.weight
    #.ff.layers.2.bias                h#/mlp/c_proj/b   h.#.mlp.c_proj.bias     h.#.mlp.proj.bias
    final_norm.scale                  ln_f/g            ln_f.weight             ln_f.weight
    final_norm.shift                  ln_f/b            ln_f.bias               ln_f.bias
    out_head.weight                   -                 lm_head.weight          lm_head.weight
"""
"""Names of the tensors; # is the number of a layer, and `#.` of ours is `trf_blocks.#.`."""
HEAD, EMBEDDING = "out_head.weight", "tok_emb.weight"


def _rules(column: int, transposed: bool, prefix: str = "") -> tuple[Rule, ...]:
    """The rules of a format.

    Args:
        column: of `TABLE`.
        transposed: whether its matrices are [in, out].
        prefix: of every name but the head's.
    """
    rules = []
    for line in TABLE.strip().splitlines()[1:]:
        row = re.split(r"\s{2,}", line.strip())
        ours = row[0].replace("#.", "trf_blocks.#.")
        theirs = row[column].removeprefix("-")
        of_block = ours.startswith("trf_blocks.") and ours.endswith("weight")
        name = theirs if ours == HEAD or not theirs else prefix + theirs
        rules.append(Rule(ours, name, TRANSPOSED if transposed and of_block else SAME))
    return tuple(rules)


HF_PREFIX = "transformer."
"""Before every name but the head's in a GPT2LMHeadModel; a GPT2Model has none."""
OPENAI = _rules(1, True)
HF = _rules(2, True, HF_PREFIX)
NANOGPT = _rules(2, False)
LITGPT = _rules(3, False)


def biases(with_shifts: bool) -> set[str]:
    """Our names, without the layer, of all biases; `with_shifts`: including those of the norms."""
    ends = (".bias", ".shift") if with_shifts else (".bias",)
    names = [name for rule in OPENAI for name in spelled_out(rule.ours)]
    return {name.removeprefix("trf_blocks.#.") for name in names if name.endswith(ends)}
