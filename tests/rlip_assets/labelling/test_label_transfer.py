"""The commands `labels export` and `labels import`: every layout that the readers take, and names that lead elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from rlip_assets.cli.application import app
from rlip_assets.datasets.scenes import make_scene, read_scenes, write_scenes
from rlip_assets.storage.files import write_json
from rlip_assets.storage.images import save_picture
from rlip_assets.storage.quarantine import read_quarantine

BOXES = [{"object_id": n, "x": 1, "y": 1, "w": 9, "h": 9, "names": "cup"} for n in (1, 2)]
ROW = {"objects": BOXES, "relationships": [{"subject_id": 1, "object_id": 2, "predicate": "near", "confidence": 0.5}]}


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty profile whose raw datasets lie at `data/raw/DATASET`; its own dataset is called shop."""
    folder = tmp_path / "profile"
    split = {"train": {"annotations": "boxes.json", "images": "photos"}}
    write_json(folder / "params.yaml", {"sources": {"own": {"shop": {"root": "data/raw/shop", "splits": split}}}})
    monkeypatch.setattr("rlip_assets.cli.labels.profile_root", lambda name: folder)
    return folder


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["labels", *map(str, words)])


def import_rows(profile: Path, *rows: Any, files: dict[str, str] | None = None) -> Result:
    write_json(profile / "labels.json", list(rows))
    write_json(profile / "files.json", files or {})
    table = ("--output", profile / "table")
    return run("import", profile / "labels.json", *table, "--files", profile / "files.json")


@pytest.mark.parametrize(
    ("dataset", "row", "place"),
    [
        *(("visual_genome", {"image_id": 7}, f"{folder}/7.jpg") for folder in ("images", "VG_100K", "VG_100K_2")),
        *(
            ("coco", {"image_id": 7, "dataset": "coco2017", "data_split": split}, f"{folder}{split}/000000000007.jpg")
            for folder in ("", "images/")
            for split in ("train2017", "val2017")
        ),
        *(
            ("hico_det", {"image_id": f"HICO_{split}_7.jpg", "dataset": "hico"}, f"{folder}{split}/HICO_{split}_7.jpg")
            for folder in ("", "images/")
            for split in ("train2015", "test2015")
        ),
        ("objects365", {"image_id": 7, "dataset": "o365"}, "train/patch1/a.jpg"),
        ("objects365", {"image_id": 8, "dataset": "o365"}, "train/b.jpg"),
        ("objects365", {"image_id": 9, "dataset": "o365", "data_split": "val"}, "val/patch2/c.jpg"),
        ("shop", {"image_id": "x/1", "dataset": "shop", "file_name": "photos/1.jpg"}, "photos/1.jpg"),
    ],
)
def test_images_are_found_in_every_layout_that_the_readers_take(
    dataset: str, row: dict[str, Any], place: str, profile: Path
) -> None:
    save_picture(profile / "data/raw" / dataset / place, Image.new("RGB", (40, 30)))
    files = {"7": "train/patch1/a.jpg", "8": "train/b.jpg", "9": "images/v2/patch2/c.jpg"}
    result = import_rows(profile, {**row, **ROW}, files=files)
    assert result.exit_code == 0, result.output
    (scene,) = read_scenes(profile / "table")
    assert (scene.file_name, scene.width, scene.relation) == (place, 40, ("near",))


def test_rows_without_a_usable_image_are_left_out_and_counted(profile: Path) -> None:
    raw = profile / "data/raw/shop"
    for place in (raw / "photos/good.jpg", profile / "data/raw/secret.jpg"):
        save_picture(place, Image.new("RGB", (40, 30)))
    (raw / "photos/link.jpg").symlink_to(profile / "data/raw/secret.jpg")
    (raw / "photos/loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(raw / "photos/pipe.jpg")
    (raw / "photos/text.jpg").write_text("no image")
    names = [
        "../secret.jpg",
        str(raw / "photos/good.jpg"),
        "photos/../../secret.jpg",
        "photos/link.jpg",
        "photos/loop.jpg",
    ]
    names += [
        "photos/pipe.jpg",
        "photos/text.jpg",
        "photos/none.jpg",
        "photos",
        "x" * 300,
        "a/" * 3000,
        "nul\0.jpg",
        ".",
    ]
    rows = [
        {"image_id": n, "dataset": "shop", "file_name": name, **ROW}
        for n, name in enumerate(["photos/good.jpg", *names])
    ]
    result = import_rows(profile, *rows)
    assert result.exit_code == 0, result.output
    assert f"left out {len(names)} images, for example" in result.output
    assert [scene.image_id for scene in read_scenes(profile / "table")] == ["0"]
    left_out = read_quarantine(profile / "table")
    assert sorted(int(row.image_id) for row in left_out) == list(range(1, len(rows)))
    assert {row.image_id: row.reason for row in left_out}["4"] == "the name leads out of the root of its dataset"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "labels.json gives no image, so nothing was written; it lists none"),
        ([{"image_id": 7, **ROW}], "left out 1 images, for example 7: images/7.jpg: the file is missing"),
        ([{"image_id": 7, **ROW, "objects": 3}], "row 0: objects is not a list (3; labels.json row 0)"),
    ],
)
def test_importing_nothing_is_an_error(rows: list[Any], message: str, profile: Path) -> None:
    (profile / "data/raw/visual_genome").mkdir(parents=True)
    result = import_rows(profile, *rows)
    assert result.exit_code == 1
    assert message in " ".join(str(result.exception).split())
    assert not (profile / "table").exists()


def test_a_dataset_without_folder_is_named(profile: Path) -> None:
    result = import_rows(profile, {"image_id": 7, **ROW})
    assert result.exit_code == 1
    assert "set sources.visual_genome.root in params.yaml" in str(result.exception)


def test_exporting_no_image_or_no_relation_is_an_error(profile: Path) -> None:
    boxes, link = [(0, 0, 9, 9), (3, 3, 20, 20)], [(0, 1, "hold")]
    weak = make_scene("9", "coco", "train", "a", 64, 48, boxes, ["person", "cup"], link, [0.25])
    write_scenes(profile / "weak/bucket-0", [weak])
    write_scenes(profile / "empty/bucket-0", [])
    result = run("export", profile / "empty", "--output", profile / "a.json")
    assert "hold no image, so nothing was written" in str(result.exception)
    result = run("export", profile / "weak", "--output", profile / "a.json", "--threshold", 0.5)
    assert "none of 1 relations reaches the threshold 0.5, so nothing was written; lower it" in str(result.exception)
    assert not (profile / "a.json").exists()
    result = run("export", profile / "weak", "--output", profile / "a.json")
    assert result.output == f"wrote 1 images with 1 relations to {profile / 'a.json'}\n"


def test_exported_labels_are_imported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_labels_of_own_datasets_carry_the_class_ids_of_their_annotation_files(
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
