"""Rows, hashes, buckets and Parquet tables."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_assets.datasets.scenes import (
    NO_OBJECT,
    SCENE_SCHEMA,
    Scene,
    SceneWriter,
    bucket_of,
    check_scene,
    count_scenes,
    finish_table,
    make_scene,
    part_files,
    read_scenes,
    scene_hash,
    table_digest,
    write_part,
    write_scenes,
)
from rlip_assets.storage.errors import DataError, InputError


def example(image_id: str = "1", **changes: Any) -> Scene:
    scene = make_scene(
        image_id,
        "coco",
        "train",
        "train2017/1.jpg",
        40,
        30,
        [[1, 2, 3, 4], [5, 6, 7, 8]],
        ["man", "dog"],
        [(0, 1, "walks"), (0, NO_OBJECT, "stands")],
        [0.5, float("nan")],
    )
    return dataclasses.replace(scene, **changes)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_table_reads_back_what_was_written(
    data: st.DataObject, tables: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scenes = data.draw(tables)
    folder = tmp_path_factory.mktemp("table")
    assert write_scenes(folder, scenes, rows_per_shard=data.draw(st.integers(1, 4))) == len(scenes)
    assert list(read_scenes(folder)) == scenes
    assert count_scenes(folder) == len(scenes)
    for part in part_files(folder):
        assert pq.read_schema(part).names == SCENE_SCHEMA.names
        assert pq.read_schema(part).metadata == SCENE_SCHEMA.metadata


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_equal_rows_have_equal_bytes_and_hashes(
    data: st.DataObject, tables: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scenes = data.draw(tables)
    one, two = (tmp_path_factory.mktemp("table") for _ in range(2))
    write_scenes(one, scenes, 3)
    write_scenes(two, list(read_scenes(one)), 3)
    assert [path.read_bytes() for path in sorted(one.iterdir())] == [
        path.read_bytes() for path in sorted(two.iterdir())
    ]
    assert [scene_hash(scene) for scene in read_scenes(one)] == [scene_hash(scene) for scene in scenes]


def test_the_hash_stands_for_id_boxes_and_labels() -> None:
    scene = example()
    assert scene_hash(scene) == "06e33828fd30716312cc996e16be0b3a"
    moved = scene.boxes.copy()
    moved[1, 3] = np.nextafter(moved[1, 3], np.float32(9))
    changed = [
        example("2"),
        example(labels=("man", "dogs")),
        example(labels=("mand", "og")),
        example(boxes=moved),
        example(boxes=scene.boxes[::-1].copy()),
    ]
    assert len({scene_hash(other) for other in [scene, *changed]}) == 6
    same = [
        example(split="val"),
        example(width=41),
        example(file_name="x"),
        example(relation=("a", "b")),
        example(confidence=np.array([0, 0], np.float32)),
        example(boxes=scene.boxes.astype(np.float64)),
    ]
    assert {scene_hash(other) for other in same} == {scene_hash(scene)}
    zero = make_scene("1", "coco", "train", "a", 1, 1, [[0.0, 0.0, 1.0, 1.0]], ["a"])
    minus = make_scene("1", "coco", "train", "a", 1, 1, [[-0.0, 0.0, 1.0, 1.0]], ["a"])
    assert scene_hash(zero) == scene_hash(minus)


@given(st.text(), st.integers(1, 200))
def test_a_bucket_depends_on_the_id_alone(image_id: str, buckets: int) -> None:
    bucket = bucket_of(image_id, buckets)
    assert 0 <= bucket < buckets
    assert bucket == bucket_of(image_id, buckets)
    assert bucket_of(image_id, 1) == 0


def test_buckets_are_the_documented_ones_and_even() -> None:
    assert bucket_of("1", 64) == 0x6B86B273 % 64  # the SHA-256 of "1" begins with 6b86b273
    assert bucket_of("1", 1000) == 0x6B86B273 % 1000
    sizes = Counter(bucket_of(str(number), 64) for number in range(64_000))
    assert len(sizes) == 64
    assert 850 < min(sizes.values()) <= max(sizes.values()) < 1150


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": ""}, "empty image id"),
        ({"labels": ("man",)}, r"1 labels and boxes of shape \(2, 4\)"),
        ({"boxes": np.array([[1, 2, 3, np.nan], [1, 2, 3, 4]], np.float32)}, "not finite"),
        ({"subject": np.array([0], np.int32)}, "different lengths"),
        ({"subject": np.array([0, 2], np.int32)}, "points outside its 2 boxes"),
        ({"subject": np.array([-1, 0], np.int32)}, "points outside"),
        ({"object": np.array([-2, 0], np.int32)}, "points outside"),
        ({"confidence": np.array([0.5, 1.5], np.float32)}, r"confidence outside 0\.\.1"),
        ({"confidence": np.array([-0.5, np.nan], np.float32)}, r"confidence outside 0\.\.1"),
    ],
)
def test_rows_that_no_reader_may_produce_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_scene(example(**changes))
    with pytest.raises(DataError, match=message):
        write_part(tmp_path / "part-00000.parquet", [example(**changes)])
    assert not list(tmp_path.iterdir())


def test_an_image_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="image id 1 appears twice"):
        write_scenes(tmp_path / "a", [example(), example()], rows_per_shard=1)
    assert not (tmp_path / "a" / "table.json").exists()
    with pytest.raises(DataError, match="image id 1 appears twice"):
        write_part(tmp_path / "part-00000.parquet", [example(), example()])


def test_a_writer_that_fails_leaves_no_complete_table(tmp_path: Path) -> None:
    def fails() -> None:
        with SceneWriter(tmp_path / "a", rows_per_shard=1) as writer:
            writer.write(example())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["part-00000.parquet"]


def test_scenes_compare_by_content() -> None:
    assert example() == example()
    for changes in (
        {"confidence": np.array([0.5, 0.5], np.float32)},
        {"boxes": example().boxes + 1},
        {"labels": ("a", "b")},
    ):
        assert example() != example(**changes)
    assert example() != "1"
    with pytest.raises(TypeError, match="unhashable"):
        hash(example())


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    for name, scenes in (("a", [example()]), ("b", [example()]), ("c", [example("2")])):
        write_scenes(tmp_path / name, scenes)
    assert table_digest(tmp_path / "a") == table_digest(tmp_path / "b") != table_digest(tmp_path / "c")
    (tmp_path / "a" / "table.json").unlink()
    assert table_digest(tmp_path / "a") == table_digest(tmp_path / "b")
    assert finish_table(tmp_path / "a") == table_digest(tmp_path / "b")


def _truncate(folder: Path) -> None:
    part = folder / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-20])


def _other_version(folder: Path) -> None:
    part = folder / "part-00000.parquet"
    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata({"schema": "rlip.scenes", "version": "0"}), part)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "part-00001.parquet").unlink(),
            r"part-00001\.parquet is listed in table\.json but missing",
        ),
        (_truncate, r"part-00000\.parquet is not a whole Parquet file"),
        (_other_version, r"part-00000\.parquet has scene schema version 0, this program reads 1; rebuild the table"),
        (lambda folder: pq.write_table(pa.table({"a": [1]}), folder / "part-00000.parquet"), "is not a scene table"),
        (lambda folder: (folder / "table.json").write_text("{}"), r"table\.json is not the list of a table's parts"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], r"holds no part-\*\.parquet"),
    ],
)
def test_damaged_tables_are_refused_by_name(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    write_scenes(tmp_path / "a", [example("1"), example("2")], rows_per_shard=1)
    damage(tmp_path / "a")
    with pytest.raises(InputError, match=message):
        list(read_scenes(tmp_path / "a"))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere is not a folder of a scene table"):
        list(read_scenes(tmp_path / "nowhere"))


def test_the_columns_are_those_of_the_design(tmp_path: Path) -> None:
    write_scenes(tmp_path, [example()])
    (row,) = pq.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert row == {
        "image_id": "1",
        "dataset": "coco",
        "split": "train",
        "file_name": "train2017/1.jpg",
        "width": 40,
        "height": 30,
        "x1": [1, 5],
        "y1": [2, 6],
        "x2": [3, 7],
        "y2": [4, 8],
        "label": ["man", "dog"],
        "subject": [0, 0],
        "object": [1, -1],
        "relation": ["walks", "stands"],
        "confidence": [0.5, None],
    }
    listing = json.loads((tmp_path / "table.json").read_text())
    assert (listing["rows"], [part["name"] for part in listing["parts"]]) == (1, ["part-00000.parquet"])
