"""Untrusted settings: plain ones are parsed as the libraries parse them.

Others are rejected with position and reason.
"""

import json

import pytest
import yaml
from effort import at_most

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.storage.safe_parse import MAX_JSON, MAX_YAML, parse_json, read_json, read_yaml

PLAIN = {"a": 1, "b": [1.5, None, True, "é"], "c": {"d": {"e": []}}}


def test_plain_settings_equal_those_of_the_libraries(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(PLAIN))
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(PLAIN))
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert (
        read_json(tmp_path / "x.json", CHECKPOINT)
        == read_yaml(tmp_path / "x.yaml", CHECKPOINT)
        == PLAIN
    )
    assert read_yaml(tmp_path / "empty.yaml", CHECKPOINT) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1, "b": 2, "a": 3}', "duplicate key 'a'"),
        (b'{"x": {"a": 1, "a": 1}}', "duplicate key 'a'"),
        (b'{"a":' * 100_000, "is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
    ],
)
def test_parse_json_rejects_invalid_json(text, message):
    with pytest.raises(UserError, match=message) as error:
        parse_json(text, "config.json", CHECKPOINT)
    assert error.value.code == CHECKPOINT
    assert "config.json" in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "is not a YAML mapping"),
        ("a: 1\nb: 2\na: 3", "duplicate key 'a'"),
        ("a: &x [1]\nb: *x", r"\*x is an alias"),
        ("a: &x {b: *x}", r"\*x is an alias"),
        ("a: !!python/object/apply:os.system [touch ran]", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("[" * 50_000, "more than 50 nested brackets"),
        ("- " * 5000, "is not YAML"),
        ("\x00", "is not YAML"),
    ],
)
def test_read_yaml_rejects_invalid_yaml(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_yaml(tmp_path / "x.yaml", CHECKPOINT)
    assert error.value.code == CHECKPOINT
    assert len(str(error.value)) < 400


def test_first_duplicate_key_takes_one_pass(tmp_path):
    """Put the duplicate last in the largest file: a search by name takes n * n / 2 comparisons."""
    n = (MAX_JSON - 100) // 11
    text = b"{" + b",".join(b'"%06d":0' % i for i in range(n)) + b',"%06d":1}' % (n - 1)
    lines = [f"k{i:05}: 0" for i in range((MAX_YAML - 100) // 10)]
    (tmp_path / "x.json").write_bytes(text)
    (tmp_path / "x.yaml").write_text("\n".join([*lines, lines[-1]]))
    for name, read, max_size, n_names, lines_per_name in (
        ("x.json", read_json, MAX_JSON, n + 1, 10),
        ("x.yaml", read_yaml, MAX_YAML, len(lines) + 1, 2000),
    ):
        assert (tmp_path / name).stat().st_size > 0.9 * max_size
        one_pass = at_most(lines=lines_per_name * n_names, comparisons=n_names)
        with one_pass, pytest.raises(UserError, match="duplicate key"):
            read(tmp_path / name, CHECKPOINT)


def test_read_json_rejects_a_missing_or_oversized_file(tmp_path):
    with pytest.raises(UserError, match="cannot read .*: No such file"):
        read_json(tmp_path / "x.json", CHECKPOINT)
    for name, read, limit in (("x.json", read_json, MAX_JSON), ("x.yaml", read_yaml, MAX_YAML)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(limit + 1)
        with pytest.raises(UserError, match=f"expected at most {limit:,}"):
            read(tmp_path / name, CHECKPOINT)
