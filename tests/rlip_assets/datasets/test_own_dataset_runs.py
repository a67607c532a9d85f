"""A detection dataset of one's own through DVC: from its raw manifest to labels, a replaced image, and its labels given away and back."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

from rlip_assets.cli.application import app
from rlip_assets.datasets.scenes import Scene, bucket_folders, bucket_of, read_scenes
from rlip_assets.datasets.sources.manifests import read_manifest
from tests.support.dvc_project import DvcProject

IMAGES = 14
LABELS = ("pseudo_labels@shop-0", "pseudo_labels@shop-1")


def open_shop(project: DvcProject, shop: Path) -> dict[int, str]:
    """The first images of the drawn COCO as a dataset with its own ids and names of classes; returns the ids of its classes."""
    drawn = json.loads((project.root / "data/raw/coco/annotations/instances_train2017.json").read_text())
    images = drawn["images"][:IMAGES]
    for image in images:
        name = f"aisle-{image['id'] % 3}/{image['file_name']}"
        (shop / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project.root / "data/raw/coco/train2017" / image["file_name"], shop / "photos" / name)
        image["file_name"] = name
    listed = {image["id"] for image in images}
    boxes = [
        box | {"category_id": 1000 + box["category_id"]} for box in drawn["annotations"] if box["image_id"] in listed
    ]
    categories = [{"id": 1000 + row["id"], "name": row["name"].title()} for row in drawn["categories"]]
    (shop / "boxes.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return {row["id"]: row["name"].lower() for row in categories}


def ran(output: str) -> set[str]:
    """The items that DVC ran."""
    return set(re.findall(r"Running stage '(\S+)'", output))


def labelled(table: Path) -> dict[str, Scene]:
    return {scene.image_id: scene for folder in bucket_folders(table) for scene in read_scenes(folder)}


@pytest.mark.deep
def test_own_images_are_labelled_renewed_and_given_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = tmp_path / "shop"
    splits = {"train": {"annotations": "boxes.json", "images": "photos"}}
    own = {"shop": {"root": str(shop), "buckets": 2, "splits": splits}}
    project = DvcProject.make(tmp_path / "project", {"sources": {"own": own}})
    project.run("dvc", "repro", "micro_world")
    categories = open_shop(project, shop)
    project.run("dvc", "repro", *LABELS)
    table = project.root / "data/pseudo_labels/shop"
    before = labelled(table)
    assert len(before) == IMAGES
    assert sum(len(scene.relation) for scene in before.values()) > 0
    assert "up to date" in project.run("dvc", "status", *LABELS)

    replaced = next(image for image in read_manifest(project.root / "data/manifests/shop/bucket-0.json").images)
    with Image.open(shop / replaced.file_name) as image:
        other = ImageOps.invert(image.convert("RGB"))
    other.save(shop / replaced.file_name)
    project.run("dvc", "repro", "--force", "--single-item", "raw_manifest@shop")
    assert bucket_of(replaced.image_id, 2) == 0
    output = project.run("dvc", "repro", *LABELS)
    stages = {item.partition("@")[0] for item in ran(output)}
    assert {item.partition("@")[2] for item in ran(output)} == {"shop-0"}
    assert {"scenes", "captions", "decontamination", "pseudo_labels"} <= stages
    assert re.search(r"1 of 2 shards were there already", output)
    after = labelled(table)
    assert {key: after[key] for key in after if bucket_of(key, 2)} == {
        key: before[key] for key in before if bucket_of(key, 2)
    }

    monkeypatch.setattr("rlip_assets.cli.labels.profile_root", lambda name: project.root)
    given, taken = tmp_path / "shop.json", tmp_path / "taken"
    for words in (["export", str(table), "--output", str(given)], ["import", str(given), "--output", str(taken)]):
        result = CliRunner().invoke(app, ["labels", *words])
        assert result.exit_code == 0, result.output
    assert labelled(taken) == after
    for image in json.loads(given.read_text()):
        assert (shop / image["file_name"]).is_file()
        assert all(categories[item["category_id"]] == item["names"] for item in image["objects"])
