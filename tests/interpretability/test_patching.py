"""Ablation equals models with changed weights.

The two kinds of patching agree on small changes.
"""

import copy

import pytest
import torch
from torch.nn import Linear

from llm_scratch.errors import UserError
from llm_scratch.interpretability.capture import capture, patch
from llm_scratch.interpretability.patching import (
    ablate,
    activation_patching,
    attribution_patching,
    direction,
    feed_forward,
    head,
    position,
    swap_tokens,
)

D = 4


def narrow_of(block):
    return [part for part in getattr(block, "ff", block).modules() if isinstance(part, Linear)][-1]


def without_head(model, layer, number):
    """A copy of the model whose output matrix ignores a head."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.trf_blocks[layer].att.out_proj.weight[:, number * D : (number + 1) * D] = 0
    return changed


@torch.inference_mode()
def test_zero_ablation_of_a_head_equals_weights_of_zero(model, ids):
    with ablate(model, head(0, 1)):
        ablated = model(ids)
    torch.testing.assert_close(ablated, without_head(model, 0, 1)(ids))
    assert not torch.allclose(ablated, model(ids))


@torch.inference_mode()
def test_zero_ablation_of_a_feed_forward_network_equals_weights_of_zero(model, ids):
    changed = copy.deepcopy(model)
    narrow = narrow_of(changed.trf_blocks[1])
    narrow.weight.zero_()
    if narrow.bias is not None:
        narrow.bias.zero_()
    with ablate(model, feed_forward(1)):
        assert torch.equal(model(ids), changed(ids))


@torch.inference_mode()
def test_mean_ablation_of_a_head_equals_a_bias(gpt, ids):
    with capture(gpt, "blocks.1.attn.hook_z") as acts:
        gpt(ids)
    mean = acts["blocks.1.attn.hook_z"].reshape(-1, 3, D).mean(0)[2]
    changed = without_head(gpt, 1, 2)
    changed.trf_blocks[1].att.out_proj.bias += (
        gpt.trf_blocks[1].att.out_proj.weight[:, 2 * D :] @ mean
    )
    other = torch.randint(0, 19, (3, 5))
    with ablate(gpt, head(1, 2), by="mean", reference=ids):
        torch.testing.assert_close(gpt(other), changed(other))


@torch.inference_mode()
def test_resampling_the_whole_stream_reproduces_the_other_text(model, ids):
    other = ids.flip(0, 1)
    parts = [position("blocks.1.hook_resid_pre", t) for t in range(7)]
    with ablate(model, *parts, by="resample", reference=other):
        assert torch.equal(model(ids), model(other))
    with ablate(model, parts[3], by="resample", reference=other):
        mixed = model(ids)
    assert torch.equal(mixed[:, :3], model(ids)[:, :3])  # earlier tokens do not attend to it
    assert not torch.allclose(mixed[:, 3:], model(ids)[:, 3:])


@torch.inference_mode()
def test_ablation_of_a_direction_is_a_projection(model, ids):
    vector = torch.randn(12)
    with capture(model, "blocks.1.hook_resid_post") as acts:
        model(ids)
    unit = vector / vector.norm()
    projected = acts["blocks.1.hook_resid_post"] @ (torch.eye(12) - torch.outer(unit, unit))
    with ablate(model, direction("blocks.1.hook_resid_post", vector)):
        torch.testing.assert_close(model(ids), model.out_head(model.final_norm(projected)))


@torch.inference_mode()
def test_several_heads_of_a_block_are_ablated_together(gpt, ids):
    with ablate(gpt, head(0, 0), head(0, 2), head(1, 1)):
        torch.testing.assert_close(
            gpt(ids), without_head(without_head(without_head(gpt, 0, 0), 0, 2), 1, 1)(ids)
        )


@pytest.mark.parametrize(
    ("by", "reference"), [("zero", torch.tensor([[1]])), ("mean", None), ("resample", None)]
)
def test_patching_requires_a_reference_text_where_it_is_used(gpt, by, reference):
    with (
        pytest.raises(UserError, match=f"by='{by}' (takes no|needs a) reference"),
        ablate(gpt, head(0, 0), by=by, reference=reference),
    ):
        pass


def metric(logits):
    return logits[0, -1, 3] - logits[0, -1, 5]


def all_parts():
    return [
        *(head(layer, number) for layer in range(2) for number in range(3)),
        feed_forward(0),
        position("blocks.1.hook_resid_pre", 2),
    ]


def test_activation_patching_is_a_forward_pass_with_the_other_activation(model, ids):
    source = swap_tokens(ids, {2: 7})
    changes = activation_patching(model, ids, source, all_parts(), metric)
    with torch.no_grad():
        with capture(model, "blocks.0.attn.hook_z") as acts:
            model(source)

        def take_head_1(z):
            return torch.cat([z[:, :, :1], acts["blocks.0.attn.hook_z"][:, :, 1:2], z[:, :, 2:]], 2)

        with patch(model, {"blocks.0.attn.hook_z": take_head_1}):
            patched = metric(model(ids))
        expected = patched - metric(model(ids))
    torch.testing.assert_close(changes[1], expected)
    assert (changes != 0).all()


def test_attribution_patching_equals_activation_patching_for_small_changes(model, ids):
    model.double()
    source = swap_tokens(ids, {2: 7})
    with torch.no_grad():  # two tokens that are almost the same
        model.tok_emb.weight[7] = model.tok_emb.weight[ids[0, 2]] + 1e-6 * torch.randn(12)
    exact = activation_patching(model, ids[:1], source[:1], all_parts(), metric)
    estimate = attribution_patching(model, ids[:1], source[:1], all_parts(), metric)
    assert (exact != 0).all()
    torch.testing.assert_close(estimate, exact, rtol=1e-3, atol=0)


def test_attribution_patching_needs_no_gradients_of_weights(gpt, ids):
    source = swap_tokens(ids, {2: 7})
    expected = attribution_patching(gpt, ids, source, all_parts(), metric)
    assert torch.equal(
        attribution_patching(gpt.requires_grad_(False), ids, source, all_parts(), metric), expected
    )
    assert all(weight.grad is None for weight in gpt.parameters())


def test_swap_tokens_leaves_the_ids_as_they_are(ids):
    before = ids.clone()
    swapped = swap_tokens(ids, {0: 4, 6: 5})
    assert swapped[:, [0, 6]].tolist() == [[4, 5], [4, 5]]
    assert torch.equal(swapped[:, 1:6], ids[:, 1:6])
    assert torch.equal(ids, before)
