"""The index of annotation files, kept from run to run: renewed when a file or the splits of a dataset change."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from rlip_assets.datasets.sources.coco_style import CocoStyleReader
from rlip_assets.datasets.sources.readers import RawImage
from rlip_assets.datasets.sources.record_index import RecordIndex
from tests.support.coco_form import box, image, instances


def test_the_index_is_renewed_when_an_annotation_file_changes(raw: Any, tmp_path: Path) -> None:
    raw.json("a.json", instances([image(1)], [box(1, 1, 18, [1, 2, 3, 4])]))
    reader = CocoStyleReader("shop", raw.root, {"train": ("a.json", "photos")})
    assert len(list(RecordIndex(reader, 1, tmp_path / "cache").images(0))) == 1
    raw.json("a.json", instances([image(1), image(2)], [box(1, 1, 18, [1, 2, 3, 4]), box(2, 2, 18, [1, 2, 3, 4])]))
    assert len(list(RecordIndex(reader, 1, tmp_path / "cache").images(0))) == 2
    assert len([path for path in (tmp_path / "cache/shop").iterdir() if path.is_dir()]) == 1


FILES = st.tuples(st.sampled_from(["a.json", "b.json"]), st.sampled_from(["photos", "other"]))


@hypothesis.settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.permutations(["train", "val", "test"]), min_size=2, max_size=4),
    files=st.lists(FILES, min_size=1, max_size=3),
    buckets=st.integers(1, 2),
)
def test_an_index_made_with_other_settings_equals_a_fresh_one(
    names: list[list[str]], files: list[tuple[str, str]], buckets: int
) -> None:
    """Splits exchanged in place, renamed, in another order, or of other images."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "raw"
        root.mkdir()
        for number, name in enumerate(["a.json", "b.json"]):
            content = instances(
                [image(number), image(7)], [box(1, number, 18, [1, 2, 3, 4]), box(2, 7, 1, [1, 2, 3, 4])]
            )
            (root / name).write_text(json.dumps(content))

        def read(splits: Any, cache: str) -> list[Any]:
            index = RecordIndex(CocoStyleReader("shop", root, splits), buckets, Path(folder) / cache)
            return [list(index.images(bucket)) for bucket in range(buckets)]

        for number, splits in enumerate(dict(zip(order, files, strict=False)) for order in names):
            assert read(splits, "kept") == read(splits, f"fresh{number}")


def test_the_index_is_renewed_when_splits_are_exchanged(raw: Any, tmp_path: Path) -> None:
    for number, name in enumerate(["a.json", "b.json"]):
        raw.json(name, instances([image(number)], [box(1, number, 18, [1, 2, 3, 4])]))
    found = []
    for first, second in (("train", "val"), ("val", "train"), ("test", "val")):
        reader = CocoStyleReader("shop", raw.root, {first: ("a.json", ""), second: ("b.json", "")})
        images = RecordIndex(reader, 1, tmp_path / "cache").images(0)
        found.append([entry.split for entry in images if isinstance(entry, RawImage)])
    assert found == [["train", "val"], ["val", "train"], ["test", "val"]]


def test_the_index_is_renewed_for_a_file_of_the_same_size_and_time(raw: Any, tmp_path: Path) -> None:
    found = []
    for width in (3, 4):
        path = raw.json("a.json", instances([image(1)], [box(1, 1, 18, [1, 2, width, 4])]))
        os.utime(path, (1, 1))
        reader = CocoStyleReader("shop", raw.root, {"train": ("a.json", "photos")})
        found += [entry.record[0][2] for entry in RecordIndex(reader, 1, tmp_path / "cache").images(0)]  # type: ignore[union-attr]
    assert found == [[1, 2, 3, 4], [1, 2, 4, 4]]
