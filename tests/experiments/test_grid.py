"""A grid keeps its settings and files, and trains what is missing."""

from __future__ import annotations

import pytest

from llm_scratch.config import RunConfig
from llm_scratch.errors import UserError
from llm_scratch.experiments.grid import claim, n_parameters, positive_number, with_seed
from llm_scratch.model import build


def test_grid_folder_accepts_only_its_settings_and_files(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    configs = {"a": RunConfig()}
    for _ in range(2):
        claim(tmp_path / "out", configs, [file])
    with pytest.raises(UserError, match="holds a run with other settings"):
        claim(tmp_path / "out", {"a": with_seed(RunConfig(), 9)}, [file])
    file.write_text("x = 2\n")
    with pytest.raises(UserError, match="another version of .*mine.py"):
        claim(tmp_path / "out", configs, [file])


def test_parameters_are_counted_without_making_them(base):
    from llm_scratch.config import load_config

    config = load_config(base / "config.yaml")
    assert n_parameters(config) == sum(p.numel() for p in build(config.model).parameters())


@pytest.mark.parametrize("value", ["many", 0, -1, "nan", "inf", True, None, [1]])
def test_grid_number_that_is_not_positive_is_an_error(value):
    with pytest.raises(UserError, match="flops: .* is out of range; give one above 0 such as 1e12"):
        positive_number("flops", value, "1e12")
    assert positive_number("flops", "1e12", "1e12") == 1e12
