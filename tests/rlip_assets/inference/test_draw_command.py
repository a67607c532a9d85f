"""`rlip draw` on JSON that people edit: a good file is drawn, any other is one sentence with file, relation and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rlip_assets.inference.predict import draw_file, read_relations
from rlip_assets.storage.errors import DataError

ROW = {"subject": "person", "relation": "ride", "object": "horse", "subject_box": [1, 2, 30, 40], "object_box": [5, 6, 60, 47.5],
       "score": 0.5}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)  # fmt: skip


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.new("RGB", (64, 48)).save(file)
    return file


def drawn(photo: Path, content: Any) -> str | None:
    """Draw a file of this content; returns the sentence with which it is refused."""
    file = photo.with_name("relations.json")
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    try:
        draw_file(photo, file, photo.with_name("page.png"))
    except DataError as error:
        sentence = str(error)
    else:
        return None
    assert str(file) in sentence
    return sentence


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from([*ROW, "row", "relations", "model", "trained_on", "file"]), value=JSON)
def test_one_wrong_value_is_drawn_or_named(photo: Path, field: str, value: Any) -> None:
    row = {**ROW, field: value} if field in ROW else value if field == "row" else ROW
    content = {"relations": [ROW, row], **({field: value} if field in ("relations", "model", "trained_on") else {})}
    sentence = drawn(photo, value if field == "file" else content)
    if sentence is not None and field in ROW:
        assert "relation 2: " in sentence
        assert field in sentence


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"subject_box": [30, 2, 1, 40]}, "subject_box"),
        ({"object_box": [5, 47, 60, 6]}, "object_box"),
        ({"subject_box": [1, 2, float("nan"), 40]}, "subject_box"),
        ({"subject_box": [1, 2, float("inf"), 40]}, "subject_box"),
        ({"subject_box": [1, 2, 10**400, 40]}, "subject_box"),
        ({"subject_box": [1, 2, 3]}, "subject_box"),
        ({"subject_box": [1, 2, 3, 4, 5]}, "subject_box"),
        ({"subject_box": "1 2 3 4"}, "subject_box"),
        ({"subject_box": [1, 2, "3", 4]}, "subject_box"),
        ({"subject_box": [True, 2, 3, 4]}, "subject_box"),
        ({"subject_box": None}, "subject_box"),
        ({"subject_box": [100, 2, 300, 40]}, "outside"),
        ({"object_box": [1, -40, 30, -2]}, "outside"),
        ({"relation": None}, "relation"),
        ({"subject": " "}, "subject"),
        ({"object": 5}, "object"),
        ({"object": ""}, "object"),
        ({"score": float("nan")}, "score"),
        ({"score": 1.5}, "score"),
        ({"score": "0.5"}, "score"),
    ],
)
def test_a_wrong_value_is_named(photo: Path, change: dict[str, Any], word: str) -> None:
    sentence = drawn(photo, {"relations": [ROW, {**ROW, **change}]}) or ""
    assert "relation 2" in sentence
    assert word in sentence


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"relations": [1,]}',
        b'{"relations": {}}',
        b"[]",
        b"null",
        b'{"model": "\\ud800"}',
    ],
)
def test_what_holds_no_relations_is_named(photo: Path, content: bytes) -> None:
    assert drawn(photo, content) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"subject_box": [0, 0, 0, 48]},
        {"subject_box": [-1e9, -5, 1e9, 1e9]},
        {"object_box": None},
        {"relation": "ride\nover"},
        {"subject": "a" * 5000, "relation": "ж" * 5000},
        {"note": "of one's own"},
    ],
)
def test_what_can_be_drawn_is(photo: Path, change: dict[str, Any]) -> None:
    assert drawn(photo, b"\xef\xbb\xbf" + json.dumps({"relations": [{**ROW, **change}] * 300}).encode()) is None


def test_values_are_those_of_the_file(photo: Path) -> None:
    drawn(photo, {"relations": [ROW], "model": "mine"})
    content, (triplet,) = read_relations(photo.with_name("relations.json"))
    assert content.model == "mine"
    assert triplet.as_dict() == ROW
