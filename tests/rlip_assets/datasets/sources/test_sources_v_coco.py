"""V-COCO: the official action files joined with boxes, and the real annotations."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlip_assets.datasets.sources.classes import v_coco_classes
from rlip_assets.datasets.sources.readers import RawImage
from rlip_assets.datasets.sources.record_index import RecordIndex
from rlip_assets.datasets.sources.v_coco import VCocoReader
from rlip_assets.storage.errors import DataError, InputError


def action(name: str, roles: list[str], rows: list[tuple[int, int, int, list[int]]]) -> dict[str, Any]:
    """rows: (image id, agent box id, label, box ids of the roles after the agent); written role-major as the original."""
    filled = [[agent for _, agent, _, _ in rows], *([row[3][n] for row in rows] for n in range(len(roles)))]
    return {
        "action_name": name,
        "role_name": ["agent", *roles],
        "include": [[]] * (len(roles) + 1),
        "image_id": [row[0] for row in rows],
        "ann_id": [row[1] for row in rows],
        "label": [row[2] for row in rows],
        "role_object_id": [box for role in filled for box in role],
    }


def box(number: int, image: int, category: int, corner: list[float], crowd: int = 0) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": corner, "iscrowd": crowd}


@pytest.fixture
def vcoco(raw: Any) -> Any:
    names = {
        294: "COCO_val2014_000000000294.jpg",
        368: "COCO_train2014_000000000368.jpg",
        531: "COCO_train2014_000000000531.jpg",
    }
    boxes = [
        box(10, 368, 1, [0, 0, 10, 20]),
        box(11, 368, 1, [20, 0, 10.5, 20]),
        box(12, 368, 41, [0, 18, 10, 4]),
        box(13, 368, 44, [1, 1, 3, 3], crowd=1),
        box(14, 368, 47, [2, 2, 4, 4], crowd=1),
        box(20, 294, 1, [0, 0, 5, 5]),
        box(30, 531, 62, [1, 1, 8, 8]),
        box(99, 777, 1, [0, 0, 5, 5]),
    ]
    images = [{"id": i, "file_name": n, "width": 40, "height": 30} for i, n in names.items()]
    images.append({"id": 777, "file_name": "COCO_val2014_000000000777.jpg", "width": 40, "height": 30})
    raw.json("data/instances_vcoco_all_2014.json", {"images": images, "annotations": boxes})
    trainval = [
        action("skateboard", ["instr"], [(368, 10, 1, [12]), (368, 11, 0, [0])]),
        action("stand", [], [(368, 10, 1, []), (368, 11, 1, [])]),
        action("cut", ["instr", "obj"], [(368, 10, 0, [0, 0]), (368, 11, 1, [14, 0])]),
    ]
    raw.json("data/vcoco/vcoco_trainval.json", trainval)
    raw.json("data/vcoco/vcoco_test.json", [action("smile", [], [(294, 20, 0, [])])])
    raw.text("data/splits/vcoco_trainval.ids", "368\n531\n")
    for name in names.values():
        raw.image(f"images/{name.split('_')[1]}/{name}")
    return raw


def test_actions_become_triplets_by_role(vcoco: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("v_coco")
    figures = lines.run()
    rows = lines.rows()
    scene = rows["368"]
    assert scene.labels == ("person", "person", "skateboard", "cup")
    np.testing.assert_array_equal(scene.boxes[1], np.array([20, 0, 30.5, 20], np.float32))
    triplets = set(zip(scene.subject.tolist(), scene.object.tolist(), scene.relation, strict=True))
    assert triplets == {(0, 2, "skateboard"), (0, -1, "stand"), (1, -1, "stand"), (1, 3, "cut with"), (1, -1, "cut")}
    assert figures["rules"] == {"boxes_crowd": 1}
    assert scene.file_name == "images/train2014/COCO_train2014_000000000368.jpg"


def test_splits_hold_images_without_action_or_person_and_no_others(vcoco: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("v_coco")
    lines.run()
    rows = lines.rows()
    assert {key: row.split for key, row in rows.items()} == {"294": "test", "368": "train", "531": "train"}
    assert rows["294"].relation == ()
    assert rows["531"].labels == ("chair",)
    assert lines.classes.groups["actions"][2] == "sit_instr"
    assert lines.classes.relations[2] == "sit on/at"


def test_a_box_that_the_image_lacks_is_quarantined(vcoco: Any, lineage: Callable[..., Any]) -> None:
    vcoco.json("data/vcoco/vcoco_test.json", [action("kick", ["obj"], [(294, 20, 1, [21])])])
    lines = lineage("v_coco")
    lines.run()
    (row,) = lines.quarantined()
    assert row.reason.startswith("action kick has role box 21, which the image does not have")


def test_a_row_that_tells_no_image_is_refused(vcoco: Any, lineage: Callable[..., Any]) -> None:
    vcoco.text("data/vcoco/vcoco_test.json", '[{"action_name": "kick"}]')
    with pytest.raises(DataError, match=r"has no 'role_name' .*vcoco_test\.json row 0.*tells neither images nor boxes"):
        lineage("v_coco").manifest()


def test_a_line_that_is_no_id_is_quarantined(vcoco: Any, lineage: Callable[..., Any]) -> None:
    vcoco.text("data/splits/vcoco_trainval.ids", "368\nabc\n531\n")
    lines = lineage("v_coco")
    lines.run()
    (row,) = lines.quarantined()
    assert row.reason == "the line is not an image id ('abc'; vcoco_trainval.ids line 2)"
    assert set(lines.rows()) == {"294", "368", "531"}


def _shorter(row: dict[str, Any]) -> None:
    row["role_object_id"].pop()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_shorter, "the row (kick) has parallel lists of different lengths ([1, 1, 1, 1]"),
        (lambda row: row.update(image_id=7), "image_id is not a list (7; data/vcoco/vcoco_test.json row 0)"),
        (lambda row: row.update(image_id=[[294]]), "image_id is neither a whole number nor a text ([294]"),
        (lambda row: row.update(ann_id=[None]), "ann_id is neither a whole number nor a text (None"),
        (
            lambda row: row.update(label=["1"]),
            "label is neither 0 nor 1 ('1'; data/vcoco/vcoco_test.json row 0 entry 0)",
        ),
        (
            lambda row: row.update(role_name="agent"),
            "role_name is not a list ('agent'; data/vcoco/vcoco_test.json row 0)",
        ),
        (lambda row: row.update(action_name=3), "action_name is not a text (3; data/vcoco/vcoco_test.json row 0)"),
    ],
)
def test_an_action_that_cannot_be_read_takes_its_images_with_it(
    vcoco: Any, lineage: Callable[..., Any], change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    broken = action("kick", ["obj"], [(294, 20, 1, [0])])
    change(broken)
    vcoco.json("data/vcoco/vcoco_test.json", [broken])
    vcoco.text("data/splits/vcoco_test.ids", "294\n")
    lines = lineage("v_coco")
    lines.run()
    assert [row.image_id for row in lines.quarantined() if row.reason.startswith(reason) and row.image_id] == ["294"]
    assert set(lines.rows()) == {"368", "531"}


def test_a_root_without_action_files_is_named(raw: Any, lineage: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"holds no vcoco_\*\.json"):
        lineage("v_coco").manifest()


@pytest.mark.real_annotations
def test_real_actions_agree_with_the_pairs_of_another_project(facts: Path, raw: Any, tmp_path: Path) -> None:
    """Official action files joined with stand-in boxes give, image by image, as many filled roles as the published pairs."""
    boxes, persons = {}, set()
    for part in ("train", "val"):
        actions = json.loads((facts / f"v_coco/vcoco_{part}.json").read_text())
        raw.json(f"vcoco_{part}.json", actions)
        for entry in actions:
            count = len(entry["image_id"])
            for position, number in enumerate(entry["role_object_id"]):
                if number:
                    boxes[number] = entry["image_id"][position % count]
            persons.update(entry["ann_id"])
    images = sorted(set(boxes.values()))
    raw.json(
        "instances_vcoco_all_2014.json",
        {
            "images": [
                {"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "width": 640, "height": 640} for i in images
            ],
            "annotations": [
                box(number, image, 1 if number in persons else 62, [number % 600, number % 500, 10, 10])
                for number, image in sorted(boxes.items())
            ],
        },
    )
    reader = VCocoReader(raw.root)
    found: dict[str, Counter[str]] = defaultdict(Counter)
    classes = v_coco_classes()
    relations = classes.relations or []
    for image in RecordIndex(reader, 1, tmp_path / "cache").images(0):
        assert isinstance(image, RawImage)
        scene = reader.scene(image, (640, 640), classes, Counter())
        for relation, target in zip(scene.relation, scene.object.tolist(), strict=True):
            if target >= 0:
                found[image.image_id][classes.groups["actions"][relations.index(relation)]] += 1
    published: dict[str, Counter[str]] = defaultdict(Counter)
    for part in ("train", "val"):
        content = json.loads((facts / f"v_coco/instances_vcoco_{part}.json").read_text())
        for image in content["annotations"]:
            number = str(int(image["file_name"].split("_")[-1][:-4]))
            published[number].update(content["classes"][entry].replace(" ", "_") for entry in image["actions"])
    assert len(published) == 5400
    ours = {key: +(counts - Counter({"point_instr": counts["point_instr"]})) for key, counts in found.items()}
    assert {key: counts for key, counts in ours.items() if counts} == {
        key: counts for key, counts in published.items() if counts
    }
