"""Models by name and step: errors, and models kept in memory."""

import pytest
import torch
from playground_server import hand_built, untaught

from llm_scratch.config import GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.model import build
from llm_scratch.serving.model_library import MAX_MODELS, UNTRAINED, ModelLibrary, NamedModel
from llm_scratch.storage.snapshots import save_snapshot
from llm_scratch.tokenizers.chars import CharTokenizer


def gpt():
    return build(
        GPTConfig(vocab_size=11, context_length=16, emb_dim=8, n_heads=2, n_layers=1, drop_rate=0.0)
    ).eval()


def test_unknown_models_and_steps_are_errors(tmp_path):
    library = ModelLibrary({"by hand": hand_built()}, tmp_path)
    for name in (
        "by hnd",
        "/etc/passwd",
        "..",
        UNTRAINED,
    ):  # it has no settings to draw new weights from
        with pytest.raises(UserError, match="unknown model"):
            library.get(name)
    with pytest.raises(UserError, match="no snapshot of step 3; it has: none"):
        library.get(step=3)


def test_model_may_be_called_untrained():
    made = NamedModel(gpt(), CharTokenizer.train(["abcdefghij"]))
    library = ModelLibrary({UNTRAINED: made})
    assert library.names == [UNTRAINED]
    assert library.get().model is made.model


def test_snapshot_does_not_change_the_model(tmp_path):
    named = hand_built()
    save_snapshot(tmp_path, 5, untaught(named.model))
    library = ModelLibrary({"by hand": named}, tmp_path)
    before = {name: weight.clone() for name, weight in named.model.state_dict().items()}
    early = library.get(step=5).model
    assert library.steps == [5]
    assert not early.trf_blocks[1].att.out_proj.weight.any()
    assert all(
        torch.equal(weight, before[name])
        for name, weight in library.get().model.state_dict().items()
    )


def test_few_models_are_kept_and_the_main_one_always(tmp_path):
    named = hand_built()
    for step in range(MAX_MODELS + 5):
        save_snapshot(tmp_path, step, named.model.state_dict())
    library = ModelLibrary({"by hand": named}, tmp_path)
    for step in range(MAX_MODELS + 5):
        library.get(step=step)
    assert len(library._models) == MAX_MODELS
    assert library.get().model is named.model


def test_untrained_model_has_new_weights_of_the_same_settings():
    named = NamedModel(gpt(), hand_built().tokenizer)
    fresh = ModelLibrary({"gpt": named}).get(UNTRAINED).model
    assert fresh.cfg == named.model.cfg
    assert not torch.equal(fresh.tok_emb.weight, named.model.tok_emb.weight)


def test_models_with_other_tokens_cannot_be_compared():
    library = ModelLibrary(
        {"a": hand_built(), "b": NamedModel(gpt(), CharTokenizer.train(["abc"]))}
    )
    with pytest.raises(UserError, match="another vocabulary than a"):
        library.get("b")
