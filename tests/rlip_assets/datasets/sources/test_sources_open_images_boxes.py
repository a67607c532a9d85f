"""Open Images boxes as a detection dataset to label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlip_assets.datasets.sources.open_images_boxes import OpenImagesBoxesReader
from rlip_assets.datasets.sources.readers import RawImage, RecordError
from rlip_assets.datasets.sources.record_index import RecordIndex
from rlip_assets.storage.errors import DataError, InputError

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
ROWS = """
00aa,xclick,/m/01g317,1,0.1,0.5,0.2,0.8,0,0,0,0,0
00aa,xclick,/m/0bt9lr,1,0.5,1.1,0.0,0.4,0,0,0,0,0
00aa,xclick,/m/0bt9lr,1,0.5,0.9,0.0,0.4,0,0,1,0,0
00ab,xclick,/m/unknown,1,0.5,0.9,0.0,0.4,0,0,0,0,0
"""


@pytest.fixture
def boxes(raw: Any) -> Any:
    raw.text("class-descriptions-boxable.csv", '/m/01g317,Person\n/m/0bt9lr,"Dog, small"\n')
    raw.text("validation-annotations-bbox.csv", HEADER + ROWS)
    return raw


def test_fractions_become_pixels(boxes: Any, tmp_path: Path) -> None:
    reader = OpenImagesBoxesReader(boxes.root)
    person, unknown = RecordIndex(reader, 1, tmp_path / "cache").images(0)
    counts: Counter[str] = Counter()
    classes = reader.classes(Counter())
    assert isinstance(person, RawImage)
    assert isinstance(unknown, RawImage)
    scene = reader.scene(person, (100, 50), classes, counts)
    assert classes.objects == ["person", "dog, small"]
    assert (scene.labels, scene.split, scene.file_name) == (("person", "dog, small"), "val", "validation/00aa.jpg")
    assert scene.boxes.tolist() == [[10, 10, 50, 40], [50, 0, 100, 20]]
    assert counts == {"boxes_group": 1, "boxes_clipped": 1}
    with pytest.raises(RecordError, match="box 0 has label '/m/unknown'"):
        reader.scene(unknown, (100, 50), classes, counts)


def test_other_files_are_refused(boxes: Any, tmp_path: Path) -> None:
    boxes.text("validation-annotations-bbox.csv", "ImageID,LabelName\n00aa,/m/1\n")
    with pytest.raises(DataError, match="has no column 'XMin'"):
        RecordIndex(OpenImagesBoxesReader(boxes.root), 1, tmp_path / "cache")


def test_boxes_that_are_no_fractions_are_dropped_and_counted(boxes: Any, tmp_path: Path) -> None:
    rows = [
        f"00aa,x,/m/01g317,1,{value},0.5,0.2,0.8,0,0,0,0,0" for value in ("a", "", "nan", "inf", "1e400", "7", "0.1")
    ]
    boxes.text("validation-annotations-bbox.csv", "\n".join(["\ufeff" + HEADER, *rows]) + "\n")
    reader = OpenImagesBoxesReader(boxes.root)
    (image,) = RecordIndex(reader, 1, tmp_path / "cache").images(0)
    counts: Counter[str] = Counter()
    assert isinstance(image, RawImage)
    assert len(reader.scene(image, (100, 50), reader.classes(Counter()), counts).labels) == 1
    assert counts == {"boxes_not_finite": 5, "boxes_not_fractions": 1}


def test_class_names_are_needed(boxes: Any) -> None:
    (boxes.root / "class-descriptions-boxable.csv").unlink()
    with pytest.raises(InputError, match=r"class-descriptions-boxable\.csv does not exist"):
        OpenImagesBoxesReader(boxes.root).classes(Counter())
