"""The predictions file: what is written comes back bit for bit, and whatever is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlip_assets.evaluation.formats import predictions
from rlip_assets.evaluation.formats.predictions import (
    ImagePredictions,
    PredictionBatch,
    PredictionWriter,
    read_predictions,
)
from rlip_assets.storage.errors import DataError, InputError

OBJECTS, VERBS = ("person", "dog", "kite"), ("hold", "fly")


def image(image_id: str, pairs: int, seed: int = 0) -> ImagePredictions:
    rng = np.random.default_rng(seed)
    return ImagePredictions(
        image_id,
        rng.uniform(0, 100, (pairs, 4)).astype(np.float32),
        rng.uniform(0, 100, (pairs, 4)).astype(np.float32),
        np.zeros(pairs, np.int32),
        rng.integers(0, len(OBJECTS) + 1, pairs).astype(np.int32),
        rng.random((pairs, len(VERBS)), np.float32),
    )


def write(path: Path, images: list[ImagePredictions]) -> None:
    with PredictionWriter(path, "hico_det", OBJECTS, VERBS, {"recipe": "full"}) as writer:
        for each in images:
            writer.write(each)


def test_round_trip_over_row_groups_of_uneven_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "ROW_GROUP_BYTES", 150)
    images = [image(f"i{k}", pairs, k) for k, pairs in enumerate((3, 0, 5, 1, 0, 7, 2))]
    write(tmp_path / "p.parquet", images)
    reader = read_predictions(tmp_path / "p.parquet")
    assert (reader.benchmark, reader.objects, reader.verbs) == ("hico_det", OBJECTS, VERBS)
    assert reader.metadata == {"recipe": "full"}
    assert len(reader) == 7
    batches = list(reader)
    assert len(batches) > 2
    back = [each for batch in batches for each in batch.images()]
    for wrote, read in zip(images, back, strict=True):
        assert wrote.image_id == read.image_id
        for name in ("sub_boxes", "obj_boxes", "sub_labels", "obj_labels", "scores"):
            np.testing.assert_array_equal(getattr(wrote, name), getattr(read, name))


def test_same_content_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, [image("x", 4)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_file_without_images(tmp_path: Path) -> None:
    write(tmp_path / "p.parquet", [])
    assert list(read_predictions(tmp_path / "p.parquet")) == []


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="written before"):
        write(tmp_path / "p.parquet", [image("x", 1), image("x", 1)])
    assert list(tmp_path.iterdir()) == []


def spoiled(field: str, at: tuple[int, ...], value: float) -> ImagePredictions:
    good = image("bad", 3)
    array = getattr(good, field).copy()
    array[at] = value
    return replace(good, **{field: array})


@pytest.mark.parametrize(
    ("field", "at", "value"),
    [
        ("scores", (1, 0), np.nan),
        ("scores", (1, 1), np.inf),
        ("sub_boxes", (1, 2), -np.inf),
        ("obj_boxes", (1, 3), np.nan),
        ("sub_labels", (1,), 3),
        ("obj_labels", (1,), 4),
        ("obj_labels", (1,), -1),
    ],
)
def test_bad_values_name_image_and_pair(tmp_path: Path, field: str, at: tuple[int, ...], value: float) -> None:
    with pytest.raises(DataError, match=rf"p.parquet, row 1: image 'bad', pair 1: {field}"):
        write(tmp_path / "p.parquet", [image("good", 2), spoiled(field, at, value)])


def test_reader_checks_values_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(predictions, "check_batch", lambda *_: None)
        write(tmp_path / "p.parquet", [spoiled("scores", (2, 1), np.nan)])
    with pytest.raises(DataError, match=r"p\.parquet, row 0: image 'bad', pair 2: scores must be finite"):
        list(read_predictions(tmp_path / "p.parquet"))


def test_wrong_shape(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scores has shape \(3, 5\), expected \(3, 2\)"):
        write(tmp_path / "p.parquet", [replace(image("x", 3), scores=np.zeros((3, 5), np.float32))])


def rewrite(path: Path, change: Callable[[list[dict]], None], keep_metadata: bool = True) -> None:
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    schema = table.schema if keep_metadata else table.schema.remove_metadata()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def test_duplicate_ids_in_a_foreign_file(tmp_path: Path) -> None:
    write(tmp_path / "p.parquet", [image("x", 2), image("y", 2)])
    rewrite(tmp_path / "p.parquet", lambda rows: rows[1].update(image_id="x"))
    with pytest.raises(DataError, match=r"p\.parquet, row 1: image 'x' occurs twice, first in row 0"):
        list(read_predictions(tmp_path / "p.parquet"))


def test_row_with_missing_bytes(tmp_path: Path) -> None:
    write(tmp_path / "p.parquet", [image("x", 2), image("y", 2)])
    rewrite(tmp_path / "p.parquet", lambda rows: rows[1].update(scores=rows[1]["scores"][:-4]))
    with pytest.raises(DataError, match=r"p\.parquet, row 1: image 'y': scores holds 12 bytes, 2 pairs need 16"):
        list(read_predictions(tmp_path / "p.parquet"))


def test_null_column(tmp_path: Path) -> None:
    write(tmp_path / "p.parquet", [image("x", 2)])
    rewrite(tmp_path / "p.parquet", lambda rows: rows[0].update(obj_boxes=None))
    with pytest.raises(DataError, match=r"p\.parquet, row 0: column 'obj_boxes' is null"):
        list(read_predictions(tmp_path / "p.parquet"))


def test_not_a_predictions_file(tmp_path: Path) -> None:
    write(tmp_path / "p.parquet", [image("x", 2)])
    rewrite(tmp_path / "p.parquet", lambda rows: None, keep_metadata=False)
    with pytest.raises(InputError, match="not a predictions file"):
        read_predictions(tmp_path / "p.parquet")


def test_missing_and_truncated_files(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    with pytest.raises(InputError, match="does not exist"):
        read_predictions(path)
    write(path, [image(str(k), 50, k) for k in range(20)])
    content = path.read_bytes()
    for length in (0, 3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="write the predictions again"):
            list(read_predictions(path))


def test_batch_of_nothing() -> None:
    batch = PredictionBatch.of([], 5)
    assert len(batch) == 0
    assert batch.scores.shape == (0, 5)
