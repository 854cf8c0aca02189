"""Every sampler and penalty of the package is a flag, and every flag reaches it."""

from __future__ import annotations

import pytest

from llm_scratch.cli.sampling_flags import SamplingFlags
from llm_scratch.errors import UserError


def test_every_sampler_and_penalty_is_a_flag():
    from llm_scratch.generation.penalties import PENALTIES
    from llm_scratch.generation.sampling import SAMPLERS

    assert set(SamplingFlags.__dataclass_fields__) == {*SAMPLERS, *PENALTIES, "mirostat"}


def test_sampling_kwargs_have_only_the_given_flags():
    assert SamplingFlags().kwargs() == {}
    assert SamplingFlags(temperature=0, logit_bias="3=-100, 7=2.5").kwargs() == {
        "temperature": 0,
        "logit_bias": {3: -100.0, 7: 2.5},
    }


@pytest.mark.parametrize("words", ["3", "a=1", "3=", "3=1,,4=2"])
def test_invalid_logit_bias_is_an_error(words):
    with pytest.raises(UserError, match="--logit-bias is"):
        SamplingFlags(logit_bias=words).kwargs()


@pytest.mark.parametrize(
    "flag",
    [
        ("--min-p", "0.99"),
        ("--typical-p", "0.3"),
        ("--eta-cutoff", "0.9"),
        ("--repetition-penalty", "5"),
        ("--presence-penalty", "9"),
        ("--frequency-penalty", "9"),
        ("--no-repeat-ngram-size", "1"),
        ("--logit-bias", "3=50"),
        ("--mirostat", "0.5"),
    ],
)
def test_each_sampling_flag_changes_the_text(flag, llm, trained):
    words = ["generate", trained, "the", "--max-tokens", "15", "--seed", "3", "--temperature", "2"]
    assert llm(*words, *flag).out != llm(*words).out
    assert llm(*words, *flag).out == llm(*words, *flag).out
