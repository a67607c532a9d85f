"""Pictures and columns among the outputs of an item."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dagster_dvc.metadata import column_schema, pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small picture, a large one, a large file that is none, and two more."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.effect_noise((1500, 900), 80).save(tmp_path / "b](x)<i>.png")
    (tmp_path / "c.jpg").write_bytes(b"\0" * 300_000)
    Image.new("RGB", (4, 4)).save(tmp_path / "d.png")
    (tmp_path / "e.txt").write_text("words")
    return tmp_path


def test_small_pictures_are_stored_as_they_are_and_large_ones_small(folder: Path) -> None:
    shown = {name: str(one.value) for name, one in pictures([folder]).items()}
    assert shown.keys() == {"picture/a", "picture/b](x)<i>"}  # what cannot be read counts as looked at
    kind, _, data = shown["picture/a"].removeprefix("![a](data:").removesuffix(")").partition(";base64,")
    assert (kind, base64.b64decode(data)) == ("image/png", (folder / "a.png").read_bytes())
    text, _, data = shown["picture/b](x)<i>"].partition("](data:image/jpeg;base64,")
    assert text == "![b  x  i "
    with Image.open(io.BytesIO(base64.b64decode(data.removesuffix(")")))) as image:
        assert image.size == (720, 432)


def test_without_pillow_large_pictures_are_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert pictures([folder]).keys() == {"picture/a"}


def test_columns_of_a_table_are_shown(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("x1", pa.list_(pa.float32()))])
    pq.write_table(schema.empty_table(), tmp_path / "part-0.parquet")
    columns = column_schema(tmp_path, [".", "absent"])["dagster/column_schema"].columns
    assert [(one.name, one.type, one.constraints.nullable) for one in columns] == [
        ("image_id", "string", False),
        ("x1", "list<element: float>", True),
    ]
