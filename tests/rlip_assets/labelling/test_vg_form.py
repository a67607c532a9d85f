"""Import and export of the published json."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from rlip_assets.cli import app
from rlip_assets.datasets.scenes import Scene, make_scene, read_scenes, write_scenes
from rlip_assets.labelling.exchange.vg_form import read_file_names, read_vg_form, write_vg_form
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.files import write_json
from rlip_assets.storage.images import BadImageError, save_picture

EXAMPLE = [
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


def size_of(dataset: str, file_name: str) -> tuple[int, int]:
    return (640, 480)


def read(path: Path, **options: Any) -> list[Scene]:
    return list(read_vg_form(path, size_of, {"400001": "train/patch0/objects365_v1_00400001.jpg"}, **options))


def test_a_published_file_becomes_scenes(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(EXAMPLE))
    counts: Counter[str] = Counter()
    coco, genome, hico, o365 = read(path, counts=counts)
    assert coco == make_scene(
        7,
        "coco",
        "val",
        "val2017/000000000007.jpg",
        640,
        480,
        [[10, 20, 90, 220], [60, 120, 210, 210]],
        ["person", "bicycle"],
        [(0, 1, "leaning on"), (0, 1, "near")],
        [0.63, 0.2],
    )
    assert (genome.dataset, genome.labels, genome.file_name) == ("visual_genome", ("sky",), "images/61.jpg")
    assert (hico.image_id, hico.split, hico.file_name) == (
        "HICO_test2015_00000003",
        "test",
        "images/test2015/HICO_test2015_00000003.jpg",
    )
    assert o365.file_name == "train/patch0/objects365_v1_00400001.jpg"
    assert counts == {"relations_repeated": 1, "relations_unknown_end": 1}


@settings(max_examples=30, deadline=None)
@given(
    boxes=st.lists(st.tuples(*[st.floats(0, 4000, width=32)] * 4), min_size=1, max_size=5),
    links=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.text(min_size=1, max_size=5)),
        max_size=6,
        unique_by=lambda link: link,
    ),
    pseudo=st.booleans(),
)
def test_export_and_import_are_inverse(
    boxes: list[Any], links: list[Any], pseudo: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    corners = [(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)) for x1, y1, x2, y2 in boxes]
    triplets = [link for link in links if max(link[:2]) < len(boxes)]
    confidence = np.linspace(0.1, 0.9, len(triplets)).tolist() if pseudo else None
    scene = make_scene(
        7,
        "coco",
        "train",
        "train2017/000000000007.jpg",
        640,
        480,
        corners,
        [f"thing {n}" for n in range(len(boxes))],
        triplets,
        confidence,
    )
    path = tmp_path_factory.mktemp("form") / "labels.json"
    assert write_vg_form(path, [scene]) == 1
    assert read(path) == [scene]


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "lvis"}, r"labels\.json row 0 is of dataset 'lvis', which is none of"),
        ({"data_split": "minival"}, "row 0 has data_split 'minival'"),
        ({"objects": [{"object_id": 1}]}, "row 0 object 0 has no 'x'"),
        (
            {"objects": [{"object_id": 1, "x": 1, "y": None, "w": 1, "h": 1, "names": "a"}]},
            "row 0 object 0 has a box of",
        ),
        ({"objects": [{"object_id": 1, "x": 1, "y": 1, "w": 1, "h": 1, "names": []}]}, r"has names \[\], not a text"),
        ({"relationships": [{"predicate": "on"}]}, "row 0 relation 0 has no 'subject_id'"),
        ({"dataset": "o365", "image_id": 5}, "no file name for Objects365 image 5"),
    ],
)
def test_rows_that_break_the_form_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([{**EXAMPLE[0], **change}]))
    with pytest.raises(DataError, match=message):
        read(path)


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


def test_unreadable_images_are_counted_and_left_out(tmp_path: Path) -> None:
    def refuse_coco(dataset: str, file_name: str) -> tuple[int, int]:
        if dataset == "coco":
            raise BadImageError(Path(file_name), "it is damaged")
        return (640, 480)

    (tmp_path / "a.json").write_text(json.dumps(EXAMPLE[:3]))
    counts: Counter[str] = Counter()
    found = list(read_vg_form(tmp_path / "a.json", refuse_coco, counts=counts))
    assert [scene.dataset for scene in found] == ["visual_genome", "hico_det"]
    assert counts["images_unreadable"] == 1


OWN_IDS = {"shop": {"thing 0": 7, "thing 1": "/m/01", "thing 2": 9}}


@given(
    image_id=st.one_of(st.from_regex("[0-9]{1,14}", fullmatch=True), st.text("ab7_-/", min_size=1)),
    split=st.sampled_from(["train", "val", "test"]),
    links=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.text(min_size=1)), max_size=4, unique=True),
)
def test_labels_of_ones_own_dataset_come_back(
    image_id: str, split: str, links: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    boxes = [[n, 2 * n, n + 9, 2 * n + 5] for n in range(3)]
    labels = ["thing 0", "thing 1", "thing 2"]
    confidence = np.linspace(0.1, 0.9, len(links)).tolist()
    scene = make_scene(image_id, "shop", split, f"photos/{split}/1.jpg", 640, 480, boxes, labels, links, confidence)
    path = tmp_path_factory.mktemp("form") / "labels.json"
    write_vg_form(path, [scene], OWN_IDS.get)
    assert read(path, own=["shop"]) == [scene]
    (image,) = json.loads(path.read_text())
    assert [item["category_id"] for item in image["objects"]] == [7, "/m/01", 9]
    assert str(image["image_id"]) == image_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "store"}, r"'store', which is none of .*'shop'; .*name it under sources\.own"),
        ({"data_split": "train2017"}, "data_split 'train2017'; use one of train, val, test"),
        ({"file_name": "../secret.jpg"}, r"file_name '\.\./secret\.jpg'; give a path relative to the root"),
        ({"file_name": None}, "file_name None"),
    ],
)
def test_rows_of_ones_own_dataset_that_break_the_form_are_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "labels.json"
    row = {"image_id": 1, "dataset": "shop", "data_split": "val", "file_name": "1.jpg"}
    path.write_text(json.dumps([{**row, "objects": [], "relationships": [], **change}]))
    with pytest.raises(DataError, match=message):
        read(path, own=["shop"])


def test_a_label_without_id_is_refused(tmp_path: Path) -> None:
    scene = make_scene(1, "shop", "train", "1.jpg", 9, 9, [[0, 0, 1, 1]], ["trolley"])
    with pytest.raises(DataError, match="scene 1 of shop has the label 'trolley', which its annotation files do not"):
        write_vg_form(tmp_path / "out.json", [scene], OWN_IDS.get)


def test_commands_give_labels_away_and_take_them_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene(
        "9", "coco", "train", "train2017/000000000009.jpg", 64, 48, [(0, 0, 9, 9), (3, 3, 20, 20)], ["person", "cup"],
        [(0, 1, "hold"), (0, 1, "near")], [0.75, 0.25],
    )  # fmt: skip
    write_scenes(tmp_path / "labels/bucket-0", [scene])
    write_scenes(tmp_path / "labels/bucket-1", [])
    command = ["labels", "export", str(tmp_path / "labels"), "--output", str(tmp_path / "a.json"), "--threshold", "0.5"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "wrote 1 images" in result.output
    profile = tmp_path / "profile"
    image = profile / "data/raw/coco/train2017/000000000009.jpg"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(image)
    (profile / "params.yaml").write_text("profile: micro\n")
    monkeypatch.setattr("rlip_assets.cli.labels.profile_root", lambda name: profile)
    result = CliRunner().invoke(
        app, ["labels", "import", str(tmp_path / "a.json"), "--output", str(tmp_path / "table")]
    )
    assert result.exit_code == 0, result.output
    (found,) = read_scenes(tmp_path / "table")
    assert (found.relation, found.confidence.tolist(), found.width) == (("hold",), [0.75], 64)


def test_commands_take_the_class_ids_of_ones_own_annotation_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    categories = [{"id": 8, "name": "Trolley"}, {"id": 3, "name": "customer"}, {"id": 2, "name": "TROLLEY"}]
    write_json(tmp_path / "raw/labels/boxes.json", {"images": [], "annotations": [], "categories": categories})
    save_picture(tmp_path / "raw/photos/1.jpg", Image.new("RGB", (64, 48)))
    boxes = [(0, 0, 9, 9), (3, 3, 20, 20)]
    scene = make_scene(
        "1", "shop", "train", "photos/1.jpg", 64, 48, boxes, ["customer", "trolley"], [(0, 1, "push")], [0.5]
    )
    write_scenes(tmp_path / "labels/bucket-0", [scene])
    profile = tmp_path / "profile"
    profile.mkdir()
    split = {"train": {"annotations": "labels/boxes.json", "images": "photos"}}
    sources = {"own": {"shop": {"root": str(tmp_path / "raw"), "splits": split}}}
    (profile / "params.yaml").write_text(json.dumps({"profile": "micro", "sources": sources}))
    monkeypatch.setattr("rlip_assets.cli.labels.profile_root", lambda name: profile)
    for words in (["export", "labels", "--output", "a.json"], ["import", "a.json", "--output", "table"]):
        paths = [str(tmp_path / word) if word in ("labels", "a.json", "table") else word for word in words]
        result = CliRunner().invoke(app, ["labels", *paths])
        assert result.exit_code == 0, result.output
    assert list(read_scenes(tmp_path / "table")) == [scene]
    (image,) = json.loads((tmp_path / "a.json").read_text())
    assert [item["category_id"] for item in image["objects"]] == [3, 2]
    assert image["file_name"] == "photos/1.jpg"


@pytest.mark.parametrize("text", ["[1]", '{"1": 2}', "{"])
def test_a_table_of_file_names_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        read_file_names(tmp_path / "a.json")
    with pytest.raises(InputError, match="image_id_to_filepath"):
        read_file_names(tmp_path / "nowhere")
