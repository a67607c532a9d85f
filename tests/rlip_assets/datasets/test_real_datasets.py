"""A miniature lineage whose Visual Genome and COCO are real: they share images with each other and with test splits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image, ImageOps

from rlip_assets.datasets.scenes import Scene, bucket_folders, read_scenes
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.profiles import relative_project
from rlip_assets.lineage.registry import build_registry
from rlip_assets.lineage.spec import Registry
from rlip_assets.training.training_images import is_held_out
from tests.support.killed import preload, run_whole
from tests.support.miniature import make_project

STAGES = (
    "rlip_assets.lineage.registry",
    "rlip_assets.lineage.runner",
    "rlip_assets.training.stage",
    "rlip_assets.labelling.captions.captioner",
    "rlip_assets.labelling.tagging.candidate_tagger",
)
SHARED, HOLDOUT = 20, 0.2


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


class RealFolders:
    """A miniature profile at `root` with these two datasets moved out of the micro world."""

    def __init__(self, root: Path) -> None:
        make_project(root)
        run_whole(root, "micro_world")
        self.root = root
        self.visual_genome, self.coco = root / "real/visual_genome", root / "real/coco"
        content = yaml.safe_load((root / "params.yaml").read_text())
        for folder in (self.visual_genome, self.coco):
            shutil.copytree(root / "data/raw" / folder.name, folder)
            content["sources"][folder.name]["root"] = str(folder)
        (root / "params.yaml").write_text(yaml.safe_dump(content))
        self.image_data: list[dict[str, Any]] = read(self.visual_genome / "image_data.json")

    def share(self) -> None:
        """Make the first images of Visual Genome the first ones of COCO, with its boxes and one relation."""
        annotations, graphs = (
            read(self.coco / "annotations/instances_train2017.json"),
            read(self.visual_genome / "scene_graphs.json"),
        )
        names = {category["id"]: category["name"] for category in annotations["categories"]}
        triples = list(zip(annotations["images"], graphs, self.image_data, strict=False))
        for image, graph, size in triples[:SHARED]:
            shutil.copyfile(self.coco / "train2017" / image["file_name"], self.file_of(size))
            size |= {"width": image["width"], "height": image["height"], "coco_id": image["id"]}
            boxes = [entry for entry in annotations["annotations"] if entry["image_id"] == image["id"]][:2]
            graph["objects"] = [
                {"object_id": entry["id"], **dict(zip("xywh", map(round, entry["bbox"]), strict=True))}
                | {"names": [names[entry["category_id"]]]}
                for entry in boxes
            ]
            graph["relationships"] = [
                {"predicate": "riding", "subject_id": boxes[0]["id"], "object_id": boxes[-1]["id"]}
            ]
        (self.visual_genome / "scene_graphs.json").write_text(json.dumps(graphs))

    def file_of(self, size: dict[str, Any]) -> Path:
        """The image file of a row of `image_data.json`."""
        return self.visual_genome / f"images/{size['image_id']}.jpg"

    def registry(self) -> Registry:
        return build_registry(load_params(self.root / "params.yaml"), relative_project(self.root))

    def run(self, *addresses: str) -> None:
        """Run the items at `addresses` and what they follow from, as far as that is not there yet."""
        registry, needed, waiting = self.registry(), set[str](), list(addresses)
        while waiting:
            needed.add(address := waiting.pop())
            waiting += [parent for parent in registry.parents[address] if parent not in needed]
        for address in registry.order:
            if address in needed and not (self.root / registry.at(address).manifest).exists():
                run_whole(self.root, address)

    def test_image(self, dataset: str) -> Scene:
        """One test image of a benchmark."""
        tables = bucket_folders(self.root / "data/scenes" / dataset)
        return next(scene for table in tables for scene in read_scenes(table) if scene.split == "test")


@pytest.mark.deep
def test_people_judge_what_was_not_trained_on_and_test_images_are_not_trained_on(tmp_path: Path) -> None:
    preload(*STAGES)
    real = RealFolders(tmp_path)
    real.share()
    trained = [size for size in real.image_data[SHARED:] if not is_held_out(str(size["image_id"]), HOLDOUT)]
    by_id, by_looks = trained[:2]
    real.run("scenes@v_coco-0", "scenes@hico_det-0")
    # an image of V-COCO's test split by its COCO id, and one of HICO-DET's mirrored, cut and compressed
    by_id["coco_id"] = int(real.test_image("v_coco").image_id)
    original = real.test_image("hico_det")
    with Image.open(tmp_path / "data/raw/hico_det" / original.file_name) as picture:
        part = ImageOps.mirror(picture).crop((3, 2, picture.width, picture.height - 4))
        part.resize((by_looks["width"], by_looks["height"])).save(real.file_of(by_looks), quality=60)
    (real.visual_genome / "image_data.json").write_text(json.dumps(real.image_data))

    real.run("label_quality")
    listed = [
        (entry["image_id"], entry["benchmark"], entry["test_image"], entry["found_by"])
        for file in (tmp_path / "data/decontamination/visual_genome").glob("bucket-*/test_images.json")
        for entry in read(file)
    ]
    assert sorted(listed) == [
        (str(by_id["image_id"]), "v_coco", str(by_id["coco_id"]), "id"),
        (str(by_looks["image_id"]), "hico_det", original.image_id, "looks"),
    ]
    figures = read(tmp_path / "data/models/r_tagger/manifest.json")["figures"]
    assert figures["excluded_images"] == 2
    held = [size for size in real.image_data[:SHARED] if is_held_out(str(size["image_id"]), HOLDOUT)]
    human = read(tmp_path / "data/label_quality/label_quality.json")["human"]
    assert (human["images"], human["human_triplets"], human["carried_over"]) == (len(held),) * 3
    assert human["images_trained_on"] == 0
