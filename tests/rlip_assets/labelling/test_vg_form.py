"""Import and export of the published json."""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_assets.datasets.scenes import Scene, check_scene, make_scene
from rlip_assets.labelling.exchange.vg_form import read_file_names, read_vg_form, write_vg_form
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.images import BadImageError
from rlip_assets.storage.quarantine import Quarantine

EXAMPLE: list[dict[str, Any]] = [
    {
        "image_id": 7,
        "dataset": "coco2017",
        "data_split": "val2017",
        "objects": [
            {"object_id": 1, "x": 10.0, "y": 20.0, "w": 80.0, "h": 200.0, "names": "person"},
            {"object_id": 2, "x": 60.0, "y": 120.0, "w": 150.0, "h": 90.0, "names": "bicycle"},
        ],
        "relationships": [
            {"relationship_id": 5, "predicate": "leaning on", "subject_id": 1, "object_id": 2, "confidence": 0.41},
            {"relationship_id": 6, "predicate": "leaning on", "subject_id": 1, "object_id": 2, "confidence": 0.63},
            {"relationship_id": 7, "predicate": "near", "subject_id": 1, "object_id": 2, "confidence": 0.2},
            {"relationship_id": 8, "predicate": "near", "subject_id": 1, "object_id": 9, "confidence": 0.2},
        ],
    },
    {
        "image_id": 61,
        "objects": [{"object_id": 3, "x": 0, "y": 0, "w": 5, "h": 5, "names": ["sky", "air"]}],
        "relationships": [],
    },
    {"image_id": "HICO_test2015_00000003.jpg", "dataset": "hico", "objects": [], "relationships": []},
    {"image_id": 400001, "dataset": "o365", "data_split": "train", "objects": [], "relationships": []},
]


class Squares:
    """Images of 4,000 x 4,000 pixels; those of `damaged` datasets cannot be decoded."""

    def __init__(self, *damaged: str) -> None:
        self.damaged = damaged

    def place(self, dataset: str, split: str, file_name: str) -> str:
        return f"{split}/{file_name}"

    def size(self, dataset: str, place: str) -> tuple[int, int]:
        if dataset in self.damaged:
            raise BadImageError(Path(place), "it is damaged")
        return (4000, 4000)


@dataclass
class Reading:
    """Result of reading a file."""

    scenes: list[Scene]
    counts: Counter[str]
    reasons: dict[str, str]


def read(path: Path, own: Sequence[str] = (), images: Squares | None = None) -> Reading:
    counts, quarantine = Counter[str](), Quarantine()
    files = {"400001": "patch0/objects365_v1_00400001.jpg"}
    scenes = list(read_vg_form(path, images or Squares(), files, own, counts, quarantine))
    counts.pop("boxes", None)
    return Reading(scenes, +counts, {row.image_id: row.reason for row in quarantine.rows})


def test_a_published_file_becomes_scenes(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(EXAMPLE))
    found = read(path)
    coco, genome, hico, o365 = found.scenes
    assert coco == make_scene(
        7,
        "coco",
        "val",
        "val/000000000007.jpg",
        4000,
        4000,
        [[10, 20, 90, 220], [60, 120, 210, 210]],
        ["person", "bicycle"],
        [(0, 1, "leaning on"), (0, 1, "near")],
        [0.63, 0.2],
    )
    assert (genome.dataset, genome.labels, genome.file_name) == ("visual_genome", ("sky",), "train/61.jpg")
    assert (hico.image_id, hico.split, hico.file_name) == (
        "HICO_test2015_00000003",
        "test",
        "test/HICO_test2015_00000003.jpg",
    )
    assert o365.file_name == "train/patch0/objects365_v1_00400001.jpg"
    assert found.counts == {"relations_repeated": 1, "relations_unknown_end": 1}
    assert not found.reasons


@settings(max_examples=30, deadline=None)
@given(
    boxes=st.lists(st.tuples(*[st.integers(0, 4000)] * 4), min_size=1, max_size=5),
    links=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.text(min_size=1, max_size=5).filter(str.strip)),
        max_size=6,
        unique_by=lambda link: link,
    ),
    pseudo=st.booleans(),
)
def test_export_and_import_are_inverse(
    boxes: list[Any], links: list[Any], pseudo: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    corners = [
        (min(x1, x2, 3999), min(y1, y2, 3999), max(x1, x2, min(x1, x2, 3999) + 1), max(y1, y2, min(y1, y2, 3999) + 1))
        for x1, y1, x2, y2 in boxes
    ]
    triplets = [link for link in links if max(link[:2]) < len(boxes)]
    confidence = np.linspace(0.1, 0.9, len(triplets)).tolist() if pseudo else None
    labels = [f"thing {n}" for n in range(len(boxes))]
    name = "train/000000000007.jpg"
    scene = make_scene(7, "coco", "train", name, 4000, 4000, corners, labels, triplets, confidence)
    path = tmp_path_factory.mktemp("form") / "labels.json"
    assert write_vg_form(path, [scene]) == (1, len(triplets))
    assert read(path).scenes == [scene]


def test_ids_are_unique_through_the_file_and_human_triplets_have_no_confidence(tmp_path: Path) -> None:
    scenes = [
        make_scene(n, "visual_genome", "train", f"images/{n}.jpg", 9, 9, [[0, 0, 1, 1]] * 2, ["a", "b"], [(0, 1, "on")])
        for n in range(3)
    ]
    write_vg_form(tmp_path / "labels.json", scenes)
    images = json.loads((tmp_path / "labels.json").read_text())
    objects = [item["object_id"] for image in images for item in image["objects"]]
    assert len(set(objects)) == 6
    assert all("confidence" not in relation for image in images for relation in image["relationships"])
    assert all("dataset" not in image for image in images)
    write_vg_form(tmp_path / "none.json", [])
    assert json.loads((tmp_path / "none.json").read_text()) == []


BOX: dict[str, Any] = {"object_id": 1, "x": 1, "y": 1, "w": 1, "h": 1, "names": "a"}
LINK: dict[str, Any] = {"subject_id": 1, "object_id": 2, "predicate": "on"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dataset": "lvis"}, "dataset is not one of None, 'coco2017', 'o365', 'hico' (correct it,"),
        ({"dataset": 5}, "dataset is not a text (5; "),
        ({"dataset": []}, "dataset is not a text ([]; "),
        ({"data_split": "minival"}, "data_split is not one of train2017, val2017, train, val ('minival'; "),
        ({"data_split": None}, "data_split is not a text (None; "),
        ({"image_id": None}, "image_id is neither a whole number nor a text (None; "),
        ({"image_id": 7.5}, "image_id is neither a whole number nor a text (7.5; "),
        ({"image_id": "photo"}, "image_id is not a number, as ids of COCO are ('photo'; "),
        ({"objects": None}, "objects is not a list (None; "),
        ({"objects": [{"object_id": 1}]}, "objects[0] has no 'x' ({'object_id': 1}; "),
        ({"objects": [{**BOX, "names": []}]}, "objects[0].names is not a text ([]; "),
        ({"objects": [{**BOX, "names": [" "]}]}, "objects[0].names is empty (' '; "),
        ({"relationships": [{"predicate": "on"}]}, "relationships[0] has no 'subject_id' "),
        *(
            (
                {"relationships": [LINK, {**LINK, "confidence": value}]},
                "relationships[1].confidence is not a number from 0",
            )
            for value in (1.5, -0.1, "high", math.nan, True, list[int]())
        ),
        ({"dataset": "o365", "image_id": 5}, "image_id is not in the table of file names (give it with --files) (5; "),
        ({"image_id": 61.0, "dataset": None}, "image_id is that of row 0, but each image has one row (61; "),
    ],
)
def test_rows_that_break_the_form_are_left_out_by_name(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([EXAMPLE[1], EXAMPLE[1] | {"image_id": 62}, {**EXAMPLE[0], **change}, EXAMPLE[2]]))
    found = read(path)
    assert [scene.image_id for scene in found.scenes] == ["61", "62", "HICO_test2015_00000003"]
    (text,) = found.reasons.values()
    assert text.startswith(reason)
    assert text.endswith("; labels.json row 2)")


@pytest.mark.parametrize("predicate", [None, "", "  ", 5, ["on"], {}])
def test_relations_without_text_are_counted_and_never_become_words(tmp_path: Path, predicate: Any) -> None:
    relations = [{**LINK, "predicate": predicate}, LINK]
    (tmp_path / "a.json").write_text(json.dumps([{**EXAMPLE[0], "relationships": relations}]))
    found = read(tmp_path / "a.json")
    assert [scene.relation for scene in found.scenes] == [("on",)]
    assert found.counts == {"relations_without_text": 1}


def test_boxes_that_no_image_can_contain_take_their_relations_along(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"w": 0},
        {"x": 5000},
        {"w": 1e6},
        {"w": "10"},
        {"w": True},
        {"h": None},
        {"y": 1e39},
        {"y": math.inf},
    ]
    boxes = [{**BOX, **change, "object_id": n} for n, change in enumerate(changes, start=1)]
    relations = [LINK, {**LINK, "object_id": 3}, {**LINK, "object_id": 4}]
    (tmp_path / "a.json").write_text(json.dumps([{**EXAMPLE[0], "objects": boxes, "relationships": relations}]))
    found = read(tmp_path / "a.json")
    assert found.scenes[0].boxes.tolist() == [[1, 1, 2, 2], [1, 1, 4000, 2]]
    assert found.counts == {
        "boxes_inverted": 1,
        "boxes_not_finite": 5,
        "boxes_outside": 1,
        "boxes_clipped": 1,
        "relations_of_dropped_boxes": 2,
    }


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def wrong_rows(draw: st.DrawFn) -> Any:
    """A row with one value of any JSON type in any field, or in the place of the row."""
    row = copy.deepcopy(EXAMPLE[0])
    places: list[tuple[Any, Any]] = [(row, key) for key in row]
    for part in (row["objects"], row["relationships"]):
        places += [(part, 0), *((part[0], key) for key in part[0])]
    holder, key = draw(st.sampled_from([([row], 0), *places]))
    value = draw(ANY_JSON)
    if holder == [row]:
        return value
    holder[key] = value
    return row


@pytest.mark.parametrize("examples", [100, pytest.param(10_000, marks=pytest.mark.deep)])
def test_one_wrong_value_never_costs_another_row(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "labels.json"

    @settings(max_examples=examples)
    @given(wrong_rows())
    def check(row: Any) -> None:
        path.write_text(json.dumps([EXAMPLE[1], row, EXAMPLE[2]]))
        found = read(path)
        good = [scene.image_id for scene in found.scenes if scene.image_id in ("61", "HICO_test2015_00000003")]
        assert good == ["61", "HICO_test2015_00000003"]
        assert len(found.scenes) + len(found.reasons) == 3
        for scene in found.scenes:
            check_scene(scene)
            assert all(text.encode().strip() for text in (scene.image_id, *scene.labels, *scene.relation))
            assert not ((scene.confidence < 0) | (scene.confidence > 1)).any()
            assert "None" not in scene.relation

    check()


def test_truncated_files_and_scenes_without_place_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(EXAMPLE)[:-30])
    with pytest.raises(InputError, match=r"ends after 3 whole rows"):
        read(path)
    alone = make_scene(1, "coco", "train", "a", 9, 9, [[0, 0, 1, 1]], ["a"], [(0, -1, "stands")])
    with pytest.raises(DataError, match="triplet without object"):
        write_vg_form(tmp_path / "out.json", [alone])
    with pytest.raises(DataError, match="is of v_coco, which the VG form does not know"):
        write_vg_form(tmp_path / "out.json", [make_scene(1, "v_coco", "train", "a", 9, 9, [], [])])
    assert not (tmp_path / "out.json").exists()


def test_unreadable_images_are_left_out_with_their_reasons(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(EXAMPLE[:3]))
    found = read(tmp_path / "a.json", images=Squares("coco"))
    assert [scene.dataset for scene in found.scenes] == ["visual_genome", "hico_det"]
    assert found.reasons == {"7": "it is damaged"}


OWN_IDS: dict[str, dict[str, int | str]] = {"shop": {"thing 0": 7, "thing 1": "/m/01", "thing 2": 9}}


@given(
    image_id=st.one_of(st.from_regex("[0-9]{1,14}", fullmatch=True), st.text("ab7_-/", min_size=1)),
    split=st.sampled_from(["train", "val", "test"]),
    links=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.text(min_size=1).filter(str.strip)), max_size=4, unique=True
    ),
)
def test_labels_of_ones_own_dataset_come_back(
    image_id: str, split: str, links: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    boxes = [[n, 2 * n, n + 9, 2 * n + 5] for n in range(3)]
    labels = ["thing 0", "thing 1", "thing 2"]
    confidence = np.linspace(0.1, 0.9, len(links)).tolist()
    scene = make_scene(image_id, "shop", split, f"{split}/1.jpg", 4000, 4000, boxes, labels, links, confidence)
    path = tmp_path_factory.mktemp("form") / "labels.json"
    write_vg_form(path, [replace(scene, file_name="1.jpg")], OWN_IDS.get)
    assert read(path, own=["shop"]).scenes == [scene]
    (image,) = json.loads(path.read_text())
    assert [item["category_id"] for item in image["objects"]] == [7, "/m/01", 9]
    assert str(image["image_id"]) == image_id


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"dataset": "store"},
            "dataset is not one of None, 'coco2017', 'o365', 'hico', 'shop' (correct it, or name it",
        ),
        ({"data_split": "train2017"}, "data_split is not one of train, val, test ('train2017'; labels.json row 0)"),
        ({"file_name": None}, "file_name is not a text (None; labels.json row 0)"),
        ({"file_name": ""}, "file_name is empty (''; labels.json row 0)"),
    ],
)
def test_rows_of_own_datasets_that_break_the_form_are_left_out_by_name(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "labels.json"
    row = {"image_id": 1, "dataset": "shop", "data_split": "val", "file_name": "1.jpg"}
    path.write_text(json.dumps([{**row, "objects": [], "relationships": [], **change}]))
    found = read(path, own=["shop"])
    (text,) = found.reasons.values()
    assert text.startswith(reason)
    path.write_text(json.dumps([{"image_id": 1, "dataset": "shop", "objects": [], "relationships": []}]))
    assert "has no 'file_name', which an image" in read(path, own=["shop"]).reasons["1"]


def test_a_label_without_id_is_refused(tmp_path: Path) -> None:
    scene = make_scene(1, "shop", "train", "1.jpg", 9, 9, [[0, 0, 1, 1]], ["trolley"])
    with pytest.raises(DataError, match="scene 1 of shop has the label 'trolley', which its annotation files do not"):
        write_vg_form(tmp_path / "out.json", [scene], OWN_IDS.get)


@pytest.mark.parametrize("text", ["[1]", '{"1": 2}', "{"])
def test_a_table_of_file_names_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        read_file_names(tmp_path / "a.json")
    with pytest.raises(InputError, match="image_id_to_filepath"):
        read_file_names(tmp_path / "nowhere")
