"""Captured activations equal the formula's; capturing changes no logit.

Without a capture it costs nothing.
"""

import pytest
import torch
from equivalence import transformers_gpt2, transformers_nanochat
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from llm_scratch.config import GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.interop import hf
from llm_scratch.interpretability.capture import activation_names, capture, patch
from llm_scratch.model import build
from llm_scratch.model.attention import attention_weights
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.lesson_models import DummyGPTModel
from llm_scratch.model.packed import pack
from llm_scratch.model.quantized import quantize

B, T, C, H, L, V = 2, 7, 12, 3, 2, 19
D = C // H
SHAPE = {"vocab_size": V, "context_length": 16, "emb_dim": C, "n_heads": H, "n_layers": L}
STEPS = ("rot_q", "rot_k", "attn_scores", "pattern")


@torch.inference_mode()
def test_captured_forward_equals_a_plain_one_to_the_bit(model, ids):
    plain = model(ids)
    with capture(model) as acts:
        assert torch.equal(model(ids), plain)
    assert set(acts) == set(activation_names(model))
    assert torch.equal(model(ids), plain)


@torch.inference_mode()
def test_activations_equal_the_formula(model, ids):
    with capture(model) as acts:
        logits = model(ids)
    for layer, block in enumerate(model.trf_blocks):
        act = {name.removeprefix(f"blocks.{layer}."): x for name, x in acts.items()}
        heads = [
            W(act["ln1.hook_normalized"]).view(B, T, -1, D)
            for W in (block.att.W_query, block.att.W_key, block.att.W_value)
        ]
        for letter, x in zip("qkv", heads):
            assert torch.equal(act[f"attn.hook_{letter}"], x)
        heads = [x.expand(B, T, H, D) for x in heads]  # one key/value head, if it is shared
        q, k = (
            act[f"attn.hook_rot_{letter}"].expand(B, T, H, D).transpose(1, 2) for letter in "qk"
        )
        if getattr(block.att, "softcap", None) is None:
            torch.testing.assert_close(act["attn.hook_pattern"], attention_weights(q, k))
        torch.testing.assert_close(
            act["attn.hook_attn_scores"].softmax(-1), act["attn.hook_pattern"]
        )
        torch.testing.assert_close(
            act["attn.hook_pattern"] @ heads[2].transpose(1, 2), act["attn.hook_z"].transpose(1, 2)
        )
        bias = 0 if block.att.out_proj.bias is None else block.att.out_proj.bias
        torch.testing.assert_close(act["attn.hook_result"].sum(2) + bias, act["hook_attn_out"])
        torch.testing.assert_close(
            act["hook_resid_pre"] + act["hook_attn_out"], act["hook_resid_mid"]
        )
        torch.testing.assert_close(
            act["hook_resid_mid"] + act["hook_mlp_out"], act["hook_resid_post"]
        )
        assert act["mlp.hook_pre"].shape == act["mlp.hook_post"].shape == (B, T, 4 * C)
        for norm in ("ln1", "ln2"):
            assert act[f"{norm}.hook_normalized"].shape == (B, T, C)
    assert torch.equal(acts["blocks.1.hook_resid_pre"], acts["blocks.0.hook_resid_post"])
    assert torch.equal(
        acts["ln_final.hook_normalized"], model.final_norm(acts["blocks.1.hook_resid_post"])
    )
    assert torch.equal(model.out_head(acts["ln_final.hook_normalized"]), logits)


@torch.inference_mode()
def test_resid_mid_is_the_sum_that_the_block_computes(gpt, ids):
    seen = []
    gpt.trf_blocks[1].norm2.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with capture(gpt, "blocks.1.hook_resid_mid") as acts:
        gpt(ids)
    assert torch.equal(acts["blocks.1.hook_resid_mid"], seen[0])


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["gpt", "nanochat"])
@pytest.mark.parametrize("padded", [False, True], ids=["plain", "padded"])
def test_pattern_with_a_cache_is_a_row_of_the_whole_pattern(kind, padded, ids):
    torch.manual_seed(0)
    model = build({"architecture": kind} | SHAPE).eval()
    with capture(model, "*.hook_pattern") as whole:
        logits = model(ids)
    cache = model.new_cache(B)
    if padded:
        cache.left_padding = torch.tensor([0, 2])
        whole = None
    model(ids[:, :4], cache)
    with capture(model, "*.hook_pattern") as acts:
        parts = [model(ids[:, 4:6], cache), model(ids[:, 6:], cache)]
    pattern = acts["blocks.0.attn.hook_pattern"]
    assert pattern.shape == (B, H, 1, T)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(B, H, 1))
    if whole is None:
        assert not pattern[1, :, :, :2].any()
    else:
        torch.testing.assert_close(pattern, whole["blocks.0.attn.hook_pattern"][:, :, -1:])
        torch.testing.assert_close(torch.cat(parts, 1), logits[:, 4:])


@torch.inference_mode()
def test_pattern_of_a_sliding_window_is_zero_outside_of_it(ids):
    own = {"window": 3, "full_every": 2, "n_kv_heads": 1}
    model = build({"architecture": "olmo"} | SHAPE | own).eval()
    plain = model(ids)
    with capture(model, "*.hook_pattern") as acts:
        torch.testing.assert_close(model(ids), plain)
    windowed, full = acts.values()
    inside = torch.ones(T, T).tril().triu(-2).bool()
    assert (windowed[..., inside] > 0).all()
    assert not windowed[..., ~inside].any()
    assert (full[..., torch.ones(T, T).tril().bool()] > 0).all()


@torch.inference_mode()
def test_pattern_on_the_fused_kernel_differs_only_in_the_last_bits(model, ids, monkeypatch):
    monkeypatch.setattr("llm_scratch.model.attention.MAX_FORMULA_LENGTH", 0)
    plain = model(ids)
    with capture(model, "*.hook_z", "*hook_resid*") as acts:
        assert torch.equal(model(ids), plain)  # without a step inside attention, the kernel stays
    assert len(acts) == 4 * L
    with capture(model, "*.hook_pattern"):
        torch.testing.assert_close(model(ids), plain)


@pytest.mark.parametrize(
    "step",
    [f"attn.hook_{step}" for step in STEPS]
    + ["attn.hook_v", "attn.hook_z", "hook_mlp_out", "mlp.hook_pre"],
)
@torch.inference_mode()
def test_patch_changes_later_activations_and_ends_with_its_block(model, ids, step):
    plain, name = model(ids), f"blocks.0.{step}"
    with patch(model, {name: lambda x: x * 1.0}):
        assert torch.equal(model(ids), plain)
    with patch(model, {name: lambda x: x * 0.5}), capture(model, name) as acts:
        assert not torch.allclose(model(ids), plain)
    with capture(model, name) as before:
        assert torch.equal(model(ids), plain)
    torch.testing.assert_close(acts[name], before[name] * 0.5)


@torch.inference_mode()
def test_patch_of_the_last_residual_reaches_the_head(model, ids):
    new = torch.randn(B, T, C)
    with patch(model, {f"blocks.{L - 1}.hook_resid_post": lambda x: new}):
        assert torch.equal(model(ids), model.out_head(model.final_norm(new)))


@pytest.mark.parametrize("name", ["blocks.0.hook_resid_mid", "blocks.0.attn.hook_result"])
def test_patch_refuses_derived_activations(model, name):
    with (
        pytest.raises(UserError, match=rf"{name}: computed from other activations"),
        patch(model, {name: lambda x: x}),
    ):
        pass


def test_gradients_flow_through_captured_activations(model, ids):
    with capture(model, "blocks.0.hook_resid_pre", "*.hook_pattern") as acts:
        loss = model(ids).logsumexp(-1).sum()
    gradients = torch.autograd.grad(loss, list(acts.values()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_unknown_name_suggests_the_nearest(model):
    with (
        pytest.raises(
            UserError,
            match=r"unknown activation 'blocks\.0\.attn\.hook_patern'; did you mean 'blocks\.0",
        ),
        capture(model, "blocks.0.attn.hook_patern"),
    ):
        pass


@pytest.mark.parametrize("kind", ["packed", "quantized", "compiled"])
def test_changed_models_are_refused_in_one_line(kind):
    model = build(GPTConfig(**SHAPE)).eval()
    if kind == "compiled":
        model = torch.compile(model)
    else:
        model = pack(model) if kind == "packed" else quantize(model, 8)
    with (
        pytest.raises(
            UserError, match=f"activations of a {kind} model cannot be captured; use the"
        ) as e,
        capture(model),
    ):
        pass
    assert "\n" not in str(e.value)


def test_models_without_blocks_are_refused():
    dummy = DummyGPTModel(GPTConfig(**SHAPE))
    for model in (nn.Linear(2, 3), dummy):
        with pytest.raises(UserError, match="no `trf_blocks` with `att`"), capture(model):
            pass


class Operations(TorchDispatchMode):
    """Counts the tensor operations inside the block."""

    def __enter__(self):
        self.names = []
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("kind", ["gpt", "nanochat"])
def test_unused_capture_costs_one_attribute_a_layer(kind, ids, monkeypatch):
    """After a capture, a decoding step runs the same operations as without one.

    It reads `observers` once per layer.
    """
    model = build({"architecture": kind} | SHAPE).eval()

    def step():
        cache = model.new_cache(B)
        model(ids[:, :3], cache)
        with Operations() as counted:
            model(ids[:, 3:4], cache)
        return counted.names

    never = step()
    with capture(model), patch(model, {"*.hook_z": lambda z: z}):
        assert step() != never
    assert step() == never
    for part in model.modules():
        assert not part._forward_hooks | part._forward_pre_hooks
        assert not getattr(part, "observers", ())
    reads = []
    monkeypatch.setattr(Dropout, "observers", property(lambda self: reads.append(self) or ()))
    for part in model.modules():
        vars(part).pop("observers", None)
    step()
    assert len(reads) == 2 * L  # a prompt and a step


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["gpt", "nanochat"])
def test_patterns_and_residual_streams_equal_transformers(kind, modern, tmp_path):
    if kind == "gpt":
        theirs = transformers_gpt2(attn_implementation="eager")
        theirs.save_pretrained(tmp_path)
        shape = {
            "vocab_size": 97,
            "context_length": 32,
            "emb_dim": 24,
            "n_heads": 6,
            "n_layers": 2,
            "qkv_bias": True,
        }
        file = tmp_path / "model.safetensors"
        ours = hf.load_weights(
            GPTConfig.of(shape | {"tie_embeddings": True}), [file], file, "config.json"
        ).eval()
    else:
        ours = modern
        theirs = transformers_nanochat(ours)
        theirs.set_attn_implementation("eager")
    ids = torch.randint(0, V, (B, T))
    with capture(ours, "*.hook_pattern", "*.hook_resid_pre") as acts:
        ours(ids)
    result = theirs(ids, output_attentions=True, output_hidden_states=True)
    assert len(result.attentions) == L
    for layer in range(L):
        torch.testing.assert_close(
            acts[f"blocks.{layer}.attn.hook_pattern"],
            result.attentions[layer],
            rtol=1e-4,
            atol=1e-5,
        )
        torch.testing.assert_close(
            acts[f"blocks.{layer}.hook_resid_pre"],
            result.hidden_states[layer],
            rtol=1e-4,
            atol=1e-4,
        )
