"""GPTModel equals transformers' GPT2LMHeadModel, with and without a cache.

Its names, order and values are those of the notebooks.
"""

import pytest
import torch
import transformers

from llm_scratch.config import GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.model import build
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.lesson_models import DummyGPTModel

TINY = {
    "vocab_size": 97,
    "context_length": 32,
    "emb_dim": 24,
    "n_heads": 6,
    "n_layers": 3,
    "drop_rate": 0.0,
}


def gpt2_from_hf(state: dict, n_layers: int) -> dict:
    """Return transformers' GPT-2 weights under our names.

    Its matrices are [in, out], ours [out, in]; its query, key and value are one matrix.
    """
    ours = {
        "tok_emb.weight": state["transformer.wte.weight"],
        "pos_emb.weight": state["transformer.wpe.weight"],
        "final_norm.scale": state["transformer.ln_f.weight"],
        "final_norm.shift": state["transformer.ln_f.bias"],
        "out_head.weight": state["lm_head.weight"],
    }
    names = {"attn.c_proj": "att.out_proj", "mlp.c_fc": "ff.layers.0", "mlp.c_proj": "ff.layers.2"}
    for layer in range(n_layers):
        here, there = f"trf_blocks.{layer}", f"transformer.h.{layer}"
        for kind in ("weight", "bias"):
            for part, values in zip(
                ("query", "key", "value"), state[f"{there}.attn.c_attn.{kind}"].chunk(3, -1)
            ):
                ours[f"{here}.att.W_{part}.{kind}"] = values.mT if kind == "weight" else values
            for theirs, name in names.items():
                values = state[f"{there}.{theirs}.{kind}"]
                ours[f"{here}.{name}.{kind}"] = values.mT if kind == "weight" else values
            for i in (1, 2):
                ours[f"{here}.norm{i}.{'scale' if kind == 'weight' else 'shift'}"] = state[
                    f"{there}.ln_{i}.{kind}"
                ]
    return ours


@torch.inference_mode()
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("V", "context", "C", "H", "L"),
    [(97, 32, 24, 6, 1), (97, 32, 24, 6, 3), (50, 11, 20, 1, 2), (211, 17, 32, 8, 4)],
)
def test_gpt2_equals_transformers(V, context, C, H, L, tied):
    torch.manual_seed(V + L)
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=context, n_embd=C, n_head=H, n_layer=L, tie_word_embeddings=tied
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for (
        parameter
    ) in theirs.parameters():  # initial biases and norms are 0 and 1, which would hide an error
        parameter.add_(0.2 * torch.randn_like(parameter))
    cfg = {
        "vocab_size": V,
        "context_length": context,
        "emb_dim": C,
        "n_heads": H,
        "n_layers": L,
        "qkv_bias": True,
        "tie_embeddings": tied,
    }
    ours = GPTModel(cfg).eval()
    ours.load_state_dict(gpt2_from_hf(theirs.state_dict(), L))
    ids = torch.randint(0, V, (2, context))
    want = theirs(ids).logits
    torch.testing.assert_close(ours(ids), want, rtol=1e-4, atol=1e-5)
    cache = ours.new_cache(2)
    one_by_one = torch.cat([ours(ids[:, t : t + 1], cache) for t in range(context)], 1)
    torch.testing.assert_close(one_by_one, want, rtol=1e-4, atol=1e-5)
    assert cache.remaining == 0


@torch.inference_mode()
@pytest.mark.parametrize("cuts", [[1, 10], [4, 1, 1, 5], [11]])
def test_cached_gpt_logits_in_any_chunks_equal_uncached(cuts):
    model = GPTModel(TINY).eval()
    ids = torch.randint(0, 97, (2, 11))
    cache = model.new_cache(2)
    torch.testing.assert_close(
        torch.cat([model(piece, cache) for piece in ids.split(cuts, 1)], 1),
        model(ids),
        rtol=1e-4,
        atol=1e-5,
    )
    assert cache.pos == 11


def test_parameters_have_the_notebooks_names_in_order_of_creation():
    model = GPTModel(TINY | {"qkv_bias": True, "n_layers": 2})
    block = [
        f"att.{part}.{kind}"
        for part in ("W_query", "W_key", "W_value", "out_proj")
        for kind in ("weight", "bias")
    ]
    block += [f"ff.layers.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")]
    block += [f"norm{i}.{part}" for i in (1, 2) for part in ("scale", "shift")]
    names = ["tok_emb.weight", "pos_emb.weight"] + [
        f"trf_blocks.{i}.{name}" for i in (0, 1) for name in block
    ]
    assert list(model.state_dict()) == [
        *names,
        "final_norm.scale",
        "final_norm.shift",
        "out_head.weight",
    ]


def test_seeded_weights_equal_those_drawn_by_torch():
    torch.manual_seed(123)
    model = GPTModel(TINY | {"n_layers": 2})
    torch.manual_seed(123)
    C, V = 24, 97
    drawn = [torch.nn.Embedding(V, C), torch.nn.Embedding(32, C)]
    for _ in range(2):
        drawn += [torch.nn.Linear(C, C, bias=False) for _ in "qkv"] + [torch.nn.Linear(C, C)]
        drawn += [torch.nn.Linear(C, 4 * C), torch.nn.Linear(4 * C, C)]
    drawn.append(torch.nn.Linear(C, V, bias=False))
    want = [p for part in drawn for p in part.parameters()]
    ours = [p for name, p in model.named_parameters() if "norm" not in name]
    assert len(ours) == len(want)
    assert all(torch.equal(a, b) for a, b in zip(ours, want))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qkv_bias": True},
        {"tie_embeddings": True},
        {"n_layers": 1, "emb_dim": 48, "vocab_size": 12},
    ],
)
def test_gpt_n_params_formula_equals_the_counted_parameters(changes):
    cfg = GPTConfig(**(TINY | changes))
    assert cfg.n_params == sum(p.numel() for p in GPTModel(cfg).parameters())


def test_gpt2_small_has_its_well_known_size():
    assert GPTConfig(qkv_bias=True, tie_embeddings=True).n_params == 124_439_808
    assert GPTConfig(emb_dim=1600, n_heads=25, n_layers=48).n_params == 1_637_792_000


def test_tied_head_is_the_embedding_itself():
    model = GPTModel(TINY | {"tie_embeddings": True})
    assert model.out_head.weight is model.tok_emb.weight
    model.load_state_dict({name: torch.ones_like(t) for name, t in model.state_dict().items()})
    assert model.out_head.weight is model.tok_emb.weight
    model(torch.zeros(1, 3, dtype=torch.long)).sum().backward()
    assert model.tok_emb.weight.grad.abs().sum() > 0


def test_notebooks_dict_and_the_dataclass_give_the_same_model():
    for cfg in (TINY, GPTConfig(**TINY)):
        model = build(cfg)
        assert model.cfg == GPTConfig(**TINY)
        assert model.cfg["emb_dim"] == model.cfg.emb_dim == 24


def test_gpt_has_dropout_in_training_and_none_in_eval():
    model = GPTModel(TINY | {"drop_rate": 0.5})
    ids = torch.zeros(1, 4, dtype=torch.long)
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_gpt_refuses_too_many_tokens_with_and_without_cache():
    model = GPTModel(TINY).eval()
    with pytest.raises(ValueError, match="33 tokens do not fit context_length=32"):
        model(torch.zeros(1, 33, dtype=torch.long))
    cache = model.new_cache(1)
    model(torch.zeros(1, 30, dtype=torch.long), cache)
    with pytest.raises(ValueError, match="33 tokens do not fit context_length=32"):
        model(torch.zeros(1, 3, dtype=torch.long), cache)


def test_dummy_model_is_embeddings_and_head_alone():
    model = DummyGPTModel(TINY).eval()
    ids = torch.randint(0, 97, (2, 5))
    want = (model.tok_emb.weight[ids] + model.pos_emb.weight[:5]) @ model.out_head.weight.T
    torch.testing.assert_close(model(ids), want, rtol=1e-5, atol=1e-6)


def test_unknown_architecture_names_the_nearest():
    with pytest.raises(UserError, match="unknown architecture 'gtp'; did you mean 'gpt'"):
        build(TINY | {"architecture": "gtp"})
