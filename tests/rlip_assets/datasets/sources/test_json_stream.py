"""JSON read row by row: the same values as by `json.loads`, whatever the window, and faults where they are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlip_assets.datasets.sources import json_stream
from rlip_assets.datasets.sources.json_stream import Undecodable, stream_arrays, stream_rows
from rlip_assets.storage.errors import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.fixture(params=[1, 7, 1 << 17])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_stream, "_WINDOW", request.param)
    return int(request.param)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(VALUES), other=VALUES, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_rows_are_those_of_json(
    rows: list[Any], other: Any, indent: int | None, ascii_only: bool, window: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    content = {"info": other, "rows": rows, "more": rows}
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_only), encoding="utf-8", errors="replace")
    expected = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [row for _, row in stream_rows(path, "rows")] == expected
    path.write_text(json.dumps(expected, indent=indent), encoding="utf-8")
    assert list(stream_rows(path)) == list(enumerate(expected))


def test_what_tools_write_beyond_the_standard_is_read(window: int, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\ufeff[NaN, -Infinity, 1e999, " + "9" * 40 + "]")
    values = [row for _, row in stream_rows(path)]
    assert math.isnan(values[0])
    assert values[1:] == [-math.inf, math.inf, int("9" * 40)]


def test_a_row_that_cannot_be_decoded_is_passed_over(window: int, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    deep = "[" * 3000 + '"]\\""' + "]" * 3000
    path.write_text(f'[1, {deep}, {{"a": {"8" * 5000}}}, {"7" * 5000}, {{"b": 2}}]')
    rows = [row for _, row in stream_rows(path)]
    assert rows[::4] == [1, {"b": 2}]
    assert rows[1:4] == ["a value nested too deeply", *["a number of thousands of digits"] * 2]
    assert all(isinstance(row, Undecodable) for row in rows[1:4])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("[1, 2", "ends after 2 whole rows of its array"),
        ("[1, 2,]", r"not valid JSON after 2 whole rows of its array \(Expecting value at character 6\)"),
        ("[1, 2] 3", r"after 2 whole rows of its array \(something follows its end at character 7\)"),
        ('{"a": 1}', "is an object, not a list"),
        ("null", "is null, not a list"),
        (b"[1, \xff]", "is not UTF-8"),
        ("[" * 3000, "ends after 0 whole rows"),
    ],
)
def test_faults_of_a_list_are_named(window: int, tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        list(stream_rows(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [1, 2], "b": [3, 4,]}', r"not valid JSON after 2 whole rows of the array 'b'"),
        ('{"a": [1, 2], "b": [3, {"x": 1', "ends after 1 whole rows of the array 'b'"),
        ('{"a": [1], "b": [2], "c": [{"x": 1 2}]}', "after 0 whole rows of the array 'c'"),
        ('{"a": [1], "b": [2], "c": tru}', "not valid JSON at 'c'"),
        ('{"a": [1], "c": {}}', "has no array 'b', only 'a', 'c'"),
        ('{"a": [1], "b": {"1": 2}}', "'b' is an object, not a list"),
        ('{"a": [1], "b": null}', "'b' is null, not a list"),
        ("[1]", "is a list, not an object with 'a' and 'b'"),
        ("{1: [2]}", "a key is not a text"),
        ('{"a" [1]}', ": is missing"),
    ],
)
def test_faults_of_an_object_name_their_array(window: int, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        list(stream_arrays(path, "a", "b"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.json does not exist"):
        list(stream_rows(tmp_path / "nothing.json"))
    with pytest.raises(InputError, match="cannot be read"):
        list(stream_rows(tmp_path))
