"""The gated delta rule: chunks equal the recurrence and transformers, values and gradients."""

import pytest
import torch
from transformers.models.qwen3_next import modeling_qwen3_next as theirs

from llm_scratch.model.delta_rule import (
    causal_convolution,
    effective_attention,
    gated_delta_rule,
    recurrent_delta_rule,
)

B, H, K, D = 2, 3, 4, 6


def inputs(T, state=True):
    torch.manual_seed(T)
    q, k = torch.nn.functional.normalize(torch.randn(2, B, H, T, K), dim=-1)
    v = torch.randn(B, H, T, D)
    g, beta = -torch.rand(B, H, T), torch.rand(B, H, T)
    first = torch.randn(B, H, K, D) * state
    return [x.requires_grad_() for x in (q, k, v, g, beta, first)]


def gradients(rule, T, **options):
    leaves = inputs(T)
    y, state = rule(*leaves, **options)
    (y.cos().sum() + state.sin().sum()).backward()
    return [y, state, *(x.grad for x in leaves)]


@pytest.mark.parametrize(("T", "chunk"), [(1, 4), (2, 4), (11, 4), (12, 4), (9, 64), (5, 1)])
def test_chunked_delta_rule_and_its_gradients_equal_the_recurrence(T, chunk):
    for ours, formula in zip(
        gradients(gated_delta_rule, T, chunk=chunk), gradients(recurrent_delta_rule, T)
    ):
        torch.testing.assert_close(ours, formula, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("T", [1, 7, 70])
def test_delta_rule_equals_transformers(T):
    q, k, v, g, beta, state = inputs(T)
    given = [x.transpose(1, 2) for x in (q, k, v, g, beta)]
    want, last = theirs.torch_chunk_gated_delta_rule(
        *given, chunk_size=8, initial_state=state, output_final_state=True
    )
    y, mine = gated_delta_rule(q * K**-0.5, k, v, g, beta, state, chunk=16)
    torch.testing.assert_close(y, want.transpose(1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine, last, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_delta_rule_state_continues_a_text_over_calls():
    q, k, v, g, beta, state = inputs(13)
    whole, last = gated_delta_rule(q, k, v, g, beta, state, chunk=4)
    pieces = []
    for part in zip(*(x.split([5, 1, 7], 2) for x in (q, k, v, g, beta))):
        y, state = gated_delta_rule(*part, state, chunk=4)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 2), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_memory_returns_what_was_last_stored_for_a_key():
    """Without decay and with full corrections, a key returns its newest value."""
    keys = torch.eye(K)[[0, 1, 0, 2]][None, None]
    values = torch.randn(1, 1, 4, D)
    zero, one = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    y, state = gated_delta_rule(keys, keys, values, zero, one, torch.zeros(1, 1, K, D))
    torch.testing.assert_close(y, values)
    torch.testing.assert_close(state[0, 0, :3], values[0, 0, [2, 1, 3]])


@torch.no_grad()
def test_delta_rule_without_decay_on_orthogonal_keys_is_linear_attention():
    q, v = torch.randn(1, 1, K, K), torch.randn(1, 1, K, D)
    k = torch.eye(K)[None, None]
    zero, one = torch.zeros(1, 1, K), torch.ones(1, 1, K)
    y, _ = gated_delta_rule(q, k, v, zero, one, torch.zeros(1, 1, K, D))
    torch.testing.assert_close(y, (q @ k.mT).tril() @ v)


@torch.no_grad()
def test_effective_attention_gives_the_outputs_from_the_values():
    q, k, v, g, beta, _ = inputs(9)
    y, _ = recurrent_delta_rule(q, k, v, g, beta, torch.zeros(B, H, K, D))
    weights = effective_attention(q, k, g, beta)
    torch.testing.assert_close(weights @ v, y, rtol=1e-4, atol=1e-5)
    assert not weights.triu(1).any()


def test_strong_decay_gives_finite_values_and_gradients():
    q, k, v, g, beta, state = inputs(40)
    strong = (g.detach() * 500).requires_grad_()
    y, last = gated_delta_rule(q, k, v, strong, beta, state)
    (y.sum() + last.sum()).backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v, strong, beta, state))


@torch.no_grad()
@pytest.mark.parametrize("N", [1, 4])
def test_causal_convolution_equals_torchs_and_continues(N):
    x, weight = torch.randn(B, 9, 5), torch.randn(5, N)
    filter = torch.nn.Conv1d(5, 5, N, groups=5, padding=N - 1, bias=False)
    filter.weight.copy_(weight[:, None])
    want = filter(x.mT)[:, :, :9].mT
    before, parts = torch.zeros(B, N - 1, 5), []
    for piece in x.split([2, 1, 6], 1):
        y, before = causal_convolution(piece, weight, before)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), want, rtol=1e-5, atol=1e-6)
    assert before.shape == (B, N - 1, 5)
