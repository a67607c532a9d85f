"""The memory-mapped store."""

from __future__ import annotations

import multiprocessing
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_assets.datasets.scenes import Scene, SceneStore, make_scene, read_scenes, store, write_scenes
from rlip_assets.storage.errors import InputError


def scene(number: int, split: str = "train", triplets: int = 2) -> Scene:
    links = [(0, 1, f"relation {k % 3}") for k in range(triplets)]
    confidence = [0.25 * k for k in range(triplets)] if number % 2 else None
    return make_scene(
        number,
        "coco",
        split,
        f"{number}.jpg",
        40,
        30,
        [[0, 0, 1, number], [1, 1, 2, 2]],
        ["man", f"thing {number % 4}"],
        links,
        confidence,
    )


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_store_holds_what_its_tables_hold(
    data: st.DataObject, tables: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("tables")
    parts = data.draw(st.lists(tables, max_size=3))
    folders = [base / str(number) for number in range(len(parts))]
    for folder, scenes in zip(folders, parts, strict=True):
        write_scenes(folder, scenes, rows_per_shard=data.draw(st.integers(1, 4)))
    expected = [scene for scenes in parts for scene in scenes]
    opened = SceneStore.open(folders, base / "cache")
    assert len(opened) == len(expected)
    assert list(opened) == expected
    assert [opened[number - len(expected)] for number in range(len(expected))] == expected
    assert [opened.image_id(row) for row in range(len(opened))] == [item.image_id for item in expected]
    splits: list[str | tuple[str, ...] | None] = ["train", "val", ("train", "val"), (), None]
    for split in splits:
        wanted = (split,) if isinstance(split, str) else split
        mine = [item for item in expected if wanted is None or item.split in wanted]
        assert opened.indices(split).tolist() == [row for row, item in enumerate(expected) if item in mine]
        assert opened.object_counts(split) == Counter(label for item in mine for label in item.labels)
        for limit in (0.0, 0.5):
            strong = [
                [t for t, c in zip(item.relation, item.confidence, strict=True) if not c < limit] for item in expected
            ]
            assert opened.indices(split, with_triplets=True, min_confidence=limit).tolist() == [
                row for row, item in enumerate(expected) if item in mine and strong[row]
            ]
            assert opened.relation_counts(limit, split) == Counter(
                text for texts, item in zip(strong, expected, strict=True) if item in mine for text in texts
            )


def test_rows_in_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_BATCH_ROWS", 10)
    scenes = [scene(number, triplets=number % 3) for number in range(47)]
    write_scenes(tmp_path / "a", scenes, rows_per_shard=3)
    opened = SceneStore.open([tmp_path / "a"], tmp_path / "cache")
    assert list(opened) == scenes
    with pytest.raises(IndexError, match="scene 47 of 47"):
        opened[47]
    with pytest.raises(IndexError, match="scene -1 of 47"):
        opened[-48]


def test_the_derived_file_is_made_once_and_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    derive = store._derive
    monkeypatch.setattr(store, "_derive", lambda parts, folder: (made.append(folder), derive(parts, folder))[1])
    write_scenes(tmp_path / "a", [scene(1)])
    write_scenes(tmp_path / "b", [scene(1)])
    for folder in ("a", "a", "b"):
        SceneStore.open([tmp_path / folder], tmp_path / "cache")
    assert len(made) == 1
    write_scenes(tmp_path / "a", [scene(2)])
    assert SceneStore.open([tmp_path / "a"], tmp_path / "cache")[0] == scene(2)
    assert len(made) == 2


def test_arrays_are_read_only_views(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", [scene(1)])
    row = SceneStore.open([tmp_path / "a"], tmp_path / "cache")[0]
    with pytest.raises(ValueError, match="read-only"):
        row.boxes[0, 0] = 1
    assert row.boxes.dtype == np.float32


def _first_id(opened: SceneStore, results: Any) -> None:
    results.put(opened[len(opened) - 1].image_id)


def test_a_worker_process_maps_the_same_files(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", [scene(number) for number in range(2000)])
    opened = SceneStore.open([tmp_path / "a"], tmp_path / "cache")
    assert len(pickle.dumps(opened)) < 1000
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    worker = context.Process(target=_first_id, args=(opened, results))
    worker.start()
    assert results.get(timeout=60) == "1999"
    worker.join()


def test_a_damaged_table_leaves_no_cache_entry(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", [scene(1)])
    part = tmp_path / "a/part-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"part-00000\.parquet is not a whole Parquet file"):
        SceneStore.open([tmp_path / "a"], tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_no_tables_and_empty_tables(tmp_path: Path) -> None:
    assert list(SceneStore.open([], tmp_path / "cache")) == []
    write_scenes(tmp_path / "a", [])
    opened = SceneStore.open([tmp_path / "a"], tmp_path / "cache")
    assert (len(opened), opened.indices().tolist(), opened.object_counts()) == (0, [], Counter())
    assert list(read_scenes(tmp_path / "a")) == []
