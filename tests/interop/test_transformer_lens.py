"""TransformerLens reads the exported model with equal logits and attention patterns.

Residual streams, lenses and Jacobians are equal as well.
"""

import sys

import pytest
import torch
from torch import nn

from llm_scratch.errors import UserError
from llm_scratch.interop.transformer_lens import to_transformer_lens
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.jacobian_lens import fit_jacobian_lens
from llm_scratch.interpretability.lenses import logit_lens
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import ByteBPE

TEXT = "The cat sat on the mat and the dog sat on the log. " * 3


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE.train([TEXT], 270)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    cfg = {
        "vocab_size": tokenizer.n_vocab,
        "context_length": 64,
        "emb_dim": 24,
        "n_heads": 3,
        "n_layers": 3,
    }
    model = GPTModel({**cfg, "drop_rate": 0.0, "qkv_bias": True, "tie_embeddings": True})
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def ids(tokenizer):
    return torch.tensor([tokenizer.encode(TEXT)[:40]])


@pytest.fixture(scope="module")
def lens(model, tokenizer):
    pytest.importorskip(
        "transformer_lens", reason="needs TransformerLens: pip install transformer-lens"
    )
    return to_transformer_lens(model, tokenizer)


@torch.inference_mode()
def test_logits_and_activations_equal_transformer_lens(model, lens, ids):
    logits, cache = lens.run_with_cache(ids)
    torch.testing.assert_close(model(ids), logits, rtol=1e-4, atol=1e-4)
    with capture(model) as acts:
        model(ids)
    missing = []
    for name, ours in acts.items():
        if name.endswith(
            ("hook_rot_q", "hook_rot_k", "hook_result")
        ):  # theirs are stored for rotary models and on demand
            continue
        theirs = name.replace(
            "hook_normalized", "hook_out"
        )  # theirs is without the norm's scale and shift
        if theirs not in cache:
            missing.append(name)
            continue
        hidden = ours == float("-inf")  # theirs mask the future with a very low number
        expected = cache[theirs].reshape(ours.shape if ours.dim() > 2 else (1, *ours.shape))
        torch.testing.assert_close(
            ours.masked_fill(hidden, 0).expand_as(expected),
            expected.masked_fill(hidden, 0),
            rtol=1e-4,
            atol=1e-4,
        )
    assert not missing


@torch.inference_mode()
def test_logit_lens_equals_transformer_lens(model, lens, ids):
    from transformer_lens.tools.analysis.logit_lens import logit_readout

    _, cache = lens.run_with_cache(ids)
    ours = logit_lens(model, ids)
    for layer in range(3):
        theirs = logit_readout(lens, cache[f"blocks.{layer}.hook_resid_post"]).values
        torch.testing.assert_close(ours[layer + 1], theirs, rtol=1e-4, atol=1e-4)


def test_jacobian_lens_equals_transformer_lens(model, lens):
    from transformer_lens.tools.analysis import JacobianLens

    theirs = JacobianLens.fit(
        lens, [TEXT], corpus="test", skip_first_positions=4, max_seq_len=30, show_progress=False
    )
    ours = fit_jacobian_lens(model, [lens.to_tokens(TEXT)[0, :30].tolist()], skip=4)
    assert list(theirs.jacobians) == [0, 1]
    for layer, matrix in theirs.jacobians.items():
        torch.testing.assert_close(ours.jacobians[layer + 1], matrix, rtol=1e-3, atol=1e-4)


def test_missing_transformer_lens_error_names_the_package(model, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformer_lens.model_bridge", None)
    with pytest.raises(
        UserError, match="TransformerLens is not installed; pip install transformer-lens"
    ):
        to_transformer_lens(model, tokenizer)
