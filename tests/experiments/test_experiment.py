"""An experiment round-trips through its file, and an invalid file is an error with a fix."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_scratch.errors import UserError
from llm_scratch.experiments.experiment import (
    Arm,
    Budget,
    Experiment,
    compare_settings,
    dump_experiment,
    from_dict,
    read_experiment,
    remove_each,
    split_settings,
)

GOOD = {"base": "quickstart", "arms": {"a": ["train.lr=0.01"], "b": ["train.lr=0.02"]}, "seeds": 3}


def test_experiment_file_round_trips(tmp_path):
    (tmp_path / "mine.py").touch()
    mine = str(tmp_path / "mine.py")
    whole = Experiment(
        name="all",
        base="quickstart",
        arms=(Arm("a", ("train.lr=0.01", "train.betas=[0.9, 0.95]")), Arm("b", (), mine)),
        seeds=(3, 5, 8),
        budget=Budget("flops", 1e12),
        metric="skill:count",
        smallest_effect=0.01,
        stop_early=True,
        search=(
            ("train.lr", ("0.01", "2e-2")),
            ("train.schedule", ("cosine", "linear")),
            ("model.tie_embeddings", ("true",)),
        ),
        file=mine,
    )
    for experiment in (whole, compare_settings("quickstart", ["train.lr=0.01"], 2)):
        path = tmp_path / "experiment.yaml"
        path.write_text(dump_experiment(experiment), encoding="utf-8")
        assert read_experiment(path) == experiment
        assert read_experiment(path).fingerprint == experiment.fingerprint


def test_numbers_of_a_search_have_no_quotes_in_the_file():
    experiment = from_dict(GOOD | {"search": {"train.lr": [0.01, "2e-2"]}})
    assert "train.lr: [0.01, 2e-2]" in dump_experiment(experiment)


def test_paths_of_an_experiment_are_relative_to_its_file(tmp_path):
    (tmp_path / "arms").mkdir()
    (tmp_path / "arms" / "mine.py").touch()
    (tmp_path / "e.yaml").write_text(
        "base: quickstart\narms: {a: [], b: {file: arms/mine.py}}\nseeds: 2\n", encoding="utf-8"
    )
    experiment = read_experiment(tmp_path / "e.yaml")
    assert experiment.arms[1].file == str(tmp_path / "arms" / "mine.py")
    assert experiment.name == "e"


def test_fingerprint_changes_with_the_content_of_an_arms_file(tmp_path):
    path = tmp_path / "mine.py"
    experiment = Experiment("x", "quickstart", (Arm("a"), Arm("b", (), str(path))), (1, 2))
    seen = set()
    for code in ("x = 1", "x = 2"):
        path.write_text(code)
        seen.add(experiment.fingerprint)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"armz": 1}, "did you mean 'arms'"),
        ({"arms": {"a": ["train.lr=0.01"]}}, "at least two"),
        ({"arms": ["train.lr=1"]}, "is not a mapping"),
        ({"arms": {"a": ["train.lr"], "b": []}}, "not a list of settings"),
        ({"arms": {"a": {"fil": "x"}, "b": []}}, "did you mean 'file'"),
        ({"seeds": 1}, "2 to 1,000 different seeds"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"seeds": "many"}, "not a number of seeds"),
        ({"budget": {"hours": 3}}, "tokens, flops, seconds, none"),
        ({"budget": {"tokens": -1}}, "above 0"),
        ({"budget": {"tokens": 1, "flops": 1}}, "is not one of"),
        ({"smallest_effect": "small"}, "not a number"),
        ({"smallest_effect": 0}, "above 0"),
        ({"search": {"train.lr": 0.1}}, "mapping of lists"),
        ({"metric": 3}, "not a text"),
        ({"stop_early": "maybe"}, "yes or no"),
        ({"base": None}, "not a text"),
    ],
)
def test_wrong_value_is_an_error_with_a_valid_example(change, message):
    with pytest.raises(UserError, match=message):
        from_dict(GOOD | change)


def test_missing_key_of_an_experiment_is_named():
    for key in GOOD:
        with pytest.raises(UserError, match=f"{key} is missing"):
            from_dict({name: value for name, value in GOOD.items() if name != key})


def test_numbers_that_yaml_reads_as_text_are_numbers():
    assert (
        from_dict(GOOD | {"smallest_effect": "5e-3", "budget": {"tokens": "2e6"}}).budget.amount
        == 2e6
    )


def test_settings_of_an_arm_may_have_values_with_spaces():
    assert split_settings("train.lr=0.01 train.betas=[0.9, 0.95]") == (
        "train.lr=0.01",
        "train.betas=[0.9, 0.95]",
    )


def test_one_arm_is_compared_with_the_base():
    experiment = compare_settings("quickstart", ["train.lr=0.01"], 2)
    assert [arm.name for arm in experiment.arms] == ["base", "train.lr=0.01"]
    assert experiment.arms[0].settings == ()


def test_default_name_of_an_experiment_depends_on_its_command():
    one = compare_settings("quickstart", ["train.lr=0.01", "train.lr=0.01"], 5)
    assert [arm.name for arm in one.arms] == ["train.lr=0.01", "train.lr=0.01 (2)"]
    assert one == compare_settings("quickstart", ["train.lr=0.01", "train.lr=0.01"], 5)
    assert one.name != compare_settings("quickstart", ["train.lr=0.01", "train.lr=0.01"], 6).name


def test_recipe_is_compared_with_itself_less_one_setting():
    experiment = remove_each("quickstart", "train.lr=0.01 model.init=gpt2", 2)
    assert [arm.settings for arm in experiment.arms] == [
        ("train.lr=0.01", "model.init=gpt2"),
        ("model.init=gpt2",),
        ("train.lr=0.01",),
    ]
    with pytest.raises(UserError, match="at least two"):
        remove_each("quickstart", "train.lr=0.01", 2)


def test_two_arms_of_one_name_are_an_error():
    with pytest.raises(UserError, match="two arms are named 'a'"):
        replace(from_dict(GOOD), arms=(Arm("a"), Arm("a")))
