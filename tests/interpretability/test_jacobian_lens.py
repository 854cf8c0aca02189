"""The Jacobian lens is the derivative by finite differences.

With the identity it is the logit lens.
"""

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.interpretability.capture import capture, patch
from llm_scratch.interpretability.jacobian_lens import JacobianLens, fit_jacobian_lens
from llm_scratch.interpretability.lenses import logit_lens

SKIP = 2


@torch.no_grad()
def by_finite_differences(model, ids, layer, skip):
    """Mean over valid t of the sum over valid t' of d final[t'] / d stream[t].

    One column at a time, in float64.
    """
    name = "blocks.0.hook_resid_pre" if layer == 0 else f"blocks.{layer - 1}.hook_resid_post"
    valid, step = slice(skip, len(ids) - 1), 1e-5
    columns = []
    for c in range(model.cfg.emb_dim):
        column = 0.0
        for t in range(skip, len(ids) - 1):
            ends = []
            for sign in (1, -1):

                def nudge(x, t=t, c=c, sign=sign):
                    x = x.clone()
                    x[:, t, c] += sign * step
                    return x

                with (
                    patch(model, {name: nudge}),
                    capture(model, "blocks.1.hook_resid_post") as acts,
                ):
                    model(ids[None])
                ends.append(acts["blocks.1.hook_resid_post"][0, valid].sum(0))
            column = column + (ends[0] - ends[1]) / (2 * step)
        columns.append(column / (len(ids) - 1 - skip))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("layer", [0, 1])
def test_jacobian_equals_finite_differences(model, ids, layer):
    model.double().requires_grad_(False)  # frozen weights need no gradients
    lens = fit_jacobian_lens(model, [ids[0].tolist()], SKIP)
    torch.testing.assert_close(
        lens.jacobians[layer],
        by_finite_differences(model, ids[0], layer, SKIP),
        rtol=1e-5,
        atol=1e-7,
    )


def test_batches_of_texts_of_any_length_have_the_mean_of_their_tokens(gpt, ids):
    long, short = ids[0].tolist(), ids[1, :5].tolist()
    both = fit_jacobian_lens(gpt, [long, short, [1, 2]], SKIP)
    one, other = fit_jacobian_lens(gpt, [long], SKIP), fit_jacobian_lens(gpt, [short], SKIP)
    assert (both.n_positions, one.n_positions, other.n_positions) == (6, 4, 2)
    torch.testing.assert_close(both.jacobians, (4 * one.jacobians + 2 * other.jacobians) / 6)
    torch.testing.assert_close(
        both.jacobians, fit_jacobian_lens(gpt, [long, short], SKIP, batch_size=1).jacobians
    )


def test_last_matrix_is_the_identity(model, ids):
    torch.testing.assert_close(
        fit_jacobian_lens(model, ids.tolist(), SKIP).jacobians[-1], torch.eye(12)
    )


def test_identity_is_the_logit_lens(model, ids):
    lens = JacobianLens(torch.eye(12).expand(3, 12, 12), 1)
    torch.testing.assert_close(lens(model, ids), logit_lens(model, ids))


def test_jacobian_lens_readout_equals_the_formula(gpt, ids):
    lens = fit_jacobian_lens(gpt, ids.tolist(), SKIP)
    with capture(gpt, "blocks.0.hook_resid_post") as acts:
        gpt(ids)
    stream = acts["blocks.0.hook_resid_post"] @ lens.jacobians[1].T
    torch.testing.assert_close(lens(gpt, ids)[1], gpt.out_head(gpt.final_norm(stream)))


def test_short_texts_are_an_error(gpt):
    with pytest.raises(UserError, match="no text has 18 tokens"):
        fit_jacobian_lens(gpt, [[1, 2, 3]])
