"""The loss is the formula of cross-entropy; masked targets do not count, and parts sum up."""

import math

import pytest
import torch

from llm_scratch.model.loss import IGNORE, next_token_loss

B, T, V = 3, 5, 11


@pytest.fixture
def logits():
    return 2 * torch.randn(B, T, V, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets():
    return torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(1))


def formula(logits, targets):
    return -logits.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)


@pytest.mark.parametrize(
    ("reduction", "reduce"), [("mean", torch.mean), ("sum", torch.sum), ("none", lambda x: x)]
)
def test_cross_entropy_equals_the_formula(logits, targets, reduction, reduce):
    torch.testing.assert_close(
        next_token_loss(logits, targets, reduction), reduce(formula(logits, targets))
    )


def test_cross_entropy_mean_is_over_unmasked_tokens(logits, targets):
    unmasked = torch.rand(B, T, generator=torch.Generator().manual_seed(2)) < 0.5
    some = targets.masked_fill(~unmasked, IGNORE)
    each = formula(logits, targets)
    torch.testing.assert_close(next_token_loss(logits, some), each[unmasked].mean())
    torch.testing.assert_close(next_token_loss(logits, some, "sum"), each[unmasked].sum())
    torch.testing.assert_close(next_token_loss(logits, some, "none"), each * unmasked)


def test_uniform_model_scores_the_log_of_the_vocabulary():
    loss = next_token_loss(torch.zeros(1, 4, 50257), torch.tensor([[1, 2, 3, 50256]]))
    assert loss.item() == pytest.approx(math.log(50257), abs=1e-5)
    assert f"{loss.item():.2f}" == "10.82"


def test_cross_entropy_of_half_precision_is_computed_in_float32(logits, targets):
    loss = next_token_loss(logits.bfloat16(), targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, formula(logits.bfloat16().float(), targets).mean())


def test_cross_entropy_gradient_is_the_difference_of_two_distributions(logits, targets):
    logits.requires_grad_()
    next_token_loss(logits, targets, "sum").backward()
    want = logits.detach().softmax(-1) - torch.nn.functional.one_hot(targets, V)
    torch.testing.assert_close(logits.grad, want, rtol=1e-5, atol=1e-6)


def test_cross_entropy_names_shapes_that_differ():
    with pytest.raises(
        ValueError, match=r"logits \(2, 3, 7\) and targets \(2, 4\) disagree on \[B, T\]"
    ):
        next_token_loss(torch.zeros(2, 3, 7), torch.zeros(2, 4, dtype=torch.long))
