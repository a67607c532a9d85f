"""HICO-DET: HOIA files, the official class table, and the real test annotations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlip_assets.datasets.sources.classes import coco_names, hico_classes, hico_verbs
from rlip_assets.datasets.sources.hico_det import HicoDetReader
from rlip_assets.datasets.sources.readers import RawImage
from rlip_assets.datasets.sources.record_index import RecordIndex
from rlip_assets.storage.errors import DataError
from tests.support.facts import FACTS

RIDE, HORSE, RIDE_HORSE = 77, 19, 140


def record(name: str, boxes: list[Any], pairs: list[tuple[int, int, Any]]) -> dict[str, Any]:
    return {
        "file_name": name,
        "annotations": [{"bbox": box, "category_id": category} for box, category in boxes],
        "hoi_annotation": [
            {"subject_id": s, "object_id": o, "category_id": verb, "hoi_category_id": RIDE_HORSE}
            for s, o, verb in pairs
        ],
    }


PERSON, MOUNT = ([12, 3, 38, 29], 1), ([2, 10, 45.5, 28], "19\n")


@pytest.fixture
def hico(raw: Any) -> Any:
    train = [
        record("HICO_train2015_00000001.jpg", [PERSON, MOUNT], [(0, 1, RIDE), (0, 1, 37)]),
        record("HICO_train2015_00000002.jpg", [PERSON, MOUNT], [(0, 2, RIDE)]),  # no box 2
        record("HICO_train2015_00000003.jpg", [PERSON, ([1, 1, 2, 2], 12)], []),  # 12 is no COCO id
        record("HICO_train2015_00000004.jpg", [PERSON, MOUNT], [(0, 1, 118)]),  # no verb 118
        record("HICO_train2015_00000005.jpg", [([5, None, 6, 7], 1)], []),  # no number
    ]
    test = [record("HICO_test2015_00000001.jpg", [PERSON, ([30, 20, 30, 10], 19)], [])]
    raw.json("annotations/trainval_hico.json", train)
    raw.json("annotations/test_hico.json", test)
    for row in [*train, *test]:
        raw.image(f"images/{row['file_name'].split('_')[1]}/{row['file_name']}")
    return raw


def test_pairs_keep_their_raw_boxes(hico: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("hico_det")
    figures = lines.run()
    rows = lines.rows()
    first = rows["HICO_train2015_00000001"]
    np.testing.assert_array_equal(first.boxes, np.array([[12, 3, 38, 29], [2, 10, 45.5, 28]], np.float32))
    assert (first.labels, first.relation) == (("person", "horse"), ("ride", "hold"))
    assert (first.subject.tolist(), first.object.tolist()) == ([0, 0], [1, 1])
    assert np.isnan(first.confidence).all()
    assert (first.split, first.file_name) == ("train", "images/train2015/HICO_train2015_00000001.jpg")
    assert (first.width, first.height) == (40, 30)
    assert rows["HICO_test2015_00000001"].split == "test"
    assert figures["rules"] == {"boxes_kept_inverted": 1}


def test_rows_that_break_the_format_are_quarantined(hico: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("hico_det")
    figures = lines.run()
    reasons = {row.image_id[-1]: row.reason for row in lines.quarantined()}
    assert reasons["2"] == "interaction 0 refers to boxes 0 and 2 of 2 (annotations/trainval_hico.json row 1)"
    assert reasons["3"].startswith("box 1 has category id 12, which is no class")
    assert reasons["4"].startswith("interaction 0 has verb id 118, which is no class")
    assert reasons["5"].startswith(
        "annotations[0].bbox is not four finite numbers ([5, None, 6, 7]; annotations/trainval_hico.json row 4)"
    )
    assert figures["input"] == figures["images"] + figures["quarantined"] == 6


def test_a_row_of_another_shape_is_quarantined(hico: Any, lineage: Callable[..., Any]) -> None:
    rows = [
        {"file_name": "HICO_test2015_00000002.jpg", "annotations": [7], "hoi_annotation": []},
        {**record("HICO_test2015_00000001.jpg", [PERSON, MOUNT], []), "file_name": 17},
        record("HICO_test2015_00000001.jpg", [PERSON, MOUNT], []),
    ]
    hico.json("annotations/test_hico.json", rows)
    lines = lineage("hico_det")
    lines.run()
    reasons = {row.image_id: row.reason for row in lines.quarantined()}
    assert reasons["HICO_test2015_00000002"] == "annotations[0] is not an object (7; annotations/test_hico.json row 0)"
    assert reasons["17"] == "file_name is not a text (17; annotations/test_hico.json row 1)"
    assert "HICO_test2015_00000001" in lines.rows()


def test_rare_classes_are_counted_on_the_training_split(raw: Any, lineage: Callable[..., Any]) -> None:
    frequent = [record(f"HICO_train2015_{n:08d}.jpg", [PERSON, MOUNT], [(0, 1, RIDE)]) for n in range(10)]
    raw.json("annotations/trainval_hico.json", frequent)
    lines = lineage("hico_det")
    lines.manifest()
    classes = hico_classes()
    assert classes.hois
    assert classes.relations
    ride_horse = classes.hois.index((classes.relations.index("ride"), classes.objects.index("horse")))
    assert ride_horse == RIDE_HORSE - 1
    assert lines.classes.rare == [hoi for hoi in range(600) if hoi != ride_horse]


def test_without_a_training_split_the_official_rare_list_stands(raw: Any, lineage: Callable[..., Any]) -> None:
    raw.json("annotations/test_hico.json", [record("HICO_test2015_00000001.jpg", [PERSON, MOUNT], [(0, 1, RIDE)])])
    lines = lineage("hico_det")
    lines.manifest()
    assert len(lines.classes.rare) == 138
    assert {name: len(hois) for name, hois in lines.classes.splits.items()} == {"uc_rf": 120, "uc_nf": 120, "uo": 100}


def test_a_vocabulary_of_the_dataset_wins(hico: Any, lineage: Callable[..., Any]) -> None:
    own = {
        "dataset": "hico_det",
        "objects": ["person", "horse"],
        "relations": ["ride"],
        "hois": [[0, 1]],
        "splits": {"uc_rf": [0]},
        "groups": {"by_source": {"vg": ["ride"]}},
    }
    hico.json("classes.json", own)
    lines = lineage("hico_det")
    lines.run()
    assert lines.classes.model_dump(include={"objects", "relations", "splits", "groups", "rare"}) == {
        "objects": ["person", "horse"],
        "relations": ["ride"],
        "splits": {"uc_rf": [0]},
        "groups": {"by_source": {"vg": ["ride"]}},
        "rare": [0],
    }
    reasons = {row.image_id: row.reason for row in lines.quarantined()}
    assert reasons["HICO_train2015_00000001"].startswith("interaction 1 has verb id 37, which is no class")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "coco"}, "is the class table of coco, not of hico_det"),
        ({"hois": [[1, 0]]}, r"hois\[0\] = \[1, 0\] points outside"),
        ({"objects": ["person", "person"]}, "objects lists 'person' twice"),
        ({"splits": {"uo": [1]}}, "uo points outside hois"),
        ({"verbs": []}, "verbs: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_class_table_is_refused(
    hico: Any, lineage: Callable[..., Any], change: dict[str, Any], message: str
) -> None:
    own = {"dataset": "hico_det", "objects": ["person"], "relations": ["ride"], "hois": [[0, 0]]}
    hico.json("classes.json", {**own, **change})
    with pytest.raises(DataError, match=message):
        lineage("hico_det").manifest()


def test_the_official_table_is_the_published_one() -> None:
    """Against a table of another project: verbs, objects, the 600 interactions, the rare list and the unseen lists."""
    folder = FACTS / "hico_det"
    published = json.loads((folder / "classes.json").read_text())
    classes = hico_classes()
    spaced = [name.replace("_", " ") for name in published["objects"]]
    assert classes.relations == [name.replace("_", " ") for name in published["verbs"]]
    assert [(verb, classes.objects[noun]) for verb, noun in classes.hois or []] == [
        (verb, spaced[noun]) for _, noun, verb in published["correspondence"]
    ]
    assert classes.rare == sorted(published["rare"])
    for split, name in (("uc_rf", "rf_first"), ("uc_nf", "nf_first"), ("uo", "uo")):
        assert classes.splits[split] == json.loads((folder / f"hico_unseen_{name}.json").read_text())


@pytest.mark.real_annotations
def test_the_real_test_split_reads_whole(facts: Path, raw: Any, tmp_path: Path) -> None:
    """The 9,658 real test images, put into HOIA form: every pair arrives with its boxes, verb and object."""
    published = json.loads((facts / "hico_det/instances_test2015.json").read_text())
    ids = {name.replace(" ", "_"): number for number, name in coco_names().items()}
    rows = []
    for name, image in zip(published["filenames"], published["annotation"], strict=True):
        boxes: list[dict[str, Any]] = []
        pairs = []
        for person, target, noun, verb, hoi in zip(
            *(image.get(key, []) for key in ("boxes_h", "boxes_o", "object", "verb", "hoi")), strict=True
        ):
            boxes += [
                {"bbox": person, "category_id": 1},
                {"bbox": target, "category_id": ids[published["objects"][noun]]},
            ]
            ends = {"subject_id": len(boxes) - 2, "object_id": len(boxes) - 1}
            pairs.append({**ends, "category_id": verb + 1, "hoi_category_id": hoi + 1})
        rows.append({"file_name": name, "annotations": boxes, "hoi_annotation": pairs})
    raw.json("test_hico.json", rows)
    reader = HicoDetReader(raw.root)
    index = RecordIndex(reader, 4, tmp_path / "cache")
    classes = reader.classes(Counter())
    sizes = dict(zip(published["filenames"], published["size"], strict=True))
    images = triplets = 0
    found: Counter[tuple[str, str]] = Counter()
    for bucket in range(4):
        for image in index.images(bucket):
            assert isinstance(image, RawImage)
            size = sizes[Path(image.file_name).name]
            scene = reader.scene(image, (size[0], size[1]), classes, Counter())
            images += 1
            triplets += len(scene.relation)
            found.update(
                (relation, scene.labels[target]) for relation, target in zip(scene.relation, scene.object, strict=True)
            )
    assert (images, triplets) == (9658, 33405)
    expected = Counter(hoi for image in published["annotation"] for hoi in image.get("hoi", []))
    relations = classes.relations or []
    names = [(relations[verb], classes.objects[noun]) for verb, noun in classes.hois or []]
    assert found == Counter({names[hoi]: count for hoi, count in expected.items()})
    assert len(found) == 600
    assert len(hico_verbs()) == 117
