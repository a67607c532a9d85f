"""Open Images v6 scene graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlip_assets.storage.errors import InputError

CATEGORIES = {"obj": ["Accordion", "Coffee cup", "Man", "Guitar", "Chair"], "rel": ["at", "holds", "inside_of"]}


def record(name: str, **changes: Any) -> dict[str, Any]:
    base = {
        "img_fn": name,
        "img_size": [40, 30],
        "bbox": [[5, 6, 30, 45.5], [9, 9, 20, 20]],
        "det_labels": [2, 1],
        "rel": [[0, 1, 1]],
    }
    return {**base, **changes}


@pytest.fixture
def open_images(raw: Any) -> Any:
    raw.json("annotations/categories_dict.json", CATEGORIES)
    raw.json("annotations/vrd-train-anno.json", [record("00aa"), record("00ab", det_labels=[2, 4], rel=[])])
    raw.json("annotations/vrd-test-anno.json", [record("00ac", rel=[[1, 0, 2], [0, 1, 1]])])
    for name in ("00aa", "00ab", "00ac"):
        raw.image(f"images/{name}.jpg")
    return raw


def test_relations_are_read_with_raw_boxes_and_plain_texts(open_images: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("open_images")
    lines.run()
    rows = lines.rows()
    assert rows["00aa"].labels == ("man", "coffee cup")
    np.testing.assert_array_equal(rows["00aa"].boxes, np.array([[5, 6, 30, 45.5], [9, 9, 20, 20]], np.float32))
    assert rows["00ac"].relation == ("inside of", "holds")
    assert (rows["00ac"].subject.tolist(), rows["00ac"].object.tolist()) == ([1, 0], [0, 1])
    assert {key: row.split for key, row in rows.items()} == {"00aa": "train", "00ab": "train", "00ac": "test"}


def test_the_object_table_holds_what_occurs_in_original_order(open_images: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("open_images")
    lines.manifest()
    assert lines.classes.objects == ["coffee cup", "man", "chair"]
    assert lines.classes.relations == ["at", "holds", "inside of"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"det_labels": [2, 5]}, "a box has label 5, which is not one of the 5 classes"),
        ({"det_labels": [2]}, "2 boxes have 1 labels"),
        ({"rel": [[0, 2, 1]]}, r"relation 0 is [0, 2, 1], not two of 2 boxes and a predicate"),
        ({"rel": [7]}, "rel[0] is not a list (7; annotations/vrd-test-anno.json row 0)"),
        ({"rel": [[0, 1, 3]]}, "relation 0 has predicate 3, which is not one of the 3 classes"),
        (
            {"bbox": [[5, 6, 30], [9, 9, 20, 20]]},
            "bbox[0] is not four finite numbers ([5, 6, 30]; annotations/vrd-test-anno.json row 0)",
        ),
    ],
)
def test_broken_records_are_quarantined(
    open_images: Any, lineage: Callable[..., Any], changes: dict[str, Any], reason: str
) -> None:
    open_images.json("annotations/vrd-test-anno.json", [record("00ac", **changes)])
    lines = lineage("open_images")
    figures = lines.run()
    (row,) = lines.quarantined()
    assert row.reason.startswith(reason)
    assert row.reason.endswith("annotations/vrd-test-anno.json row 0)")
    assert figures["input"] == figures["images"] + 1 == 3


def test_a_table_without_relations_is_refused(open_images: Any, lineage: Callable[..., Any]) -> None:
    open_images.json("annotations/categories_dict.json", {"obj": ["Man"]})
    with pytest.raises(InputError, match=r"categories_dict\.json has no array 'rel', only 'obj'"):
        lineage("open_images").manifest()
