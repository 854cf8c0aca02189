"""Every preset can be built, and the error of an unknown name suggests the nearest."""

import pytest

from llm_scratch.config import RunConfig, from_dict, to_dict
from llm_scratch.errors import UserError
from llm_scratch.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_json_and_states_its_purpose(name):
    config = preset(name)
    assert from_dict(RunConfig, to_dict(config)) == config
    assert PRESETS[name].__doc__


def test_verdict_preset_equals_the_notebooks_run():
    config = preset("verdict")
    assert (config.model.n_params, config.model.context_length) == (162_419_712, 256)
    assert (
        config.train.epochs,
        config.train.batch_size,
        config.train.lr,
        config.train.weight_decay,
    ) == (10, 2, 4e-4, 0.1)
    assert (config.data.split, config.data.order, config.data.val_fraction) == (
        "characters",
        "notebook",
        0.2,
    )


def test_unknown_preset_error_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        preset("quikstart")
