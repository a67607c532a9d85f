"""A detection dataset of one's own, named in params.yaml: it is read and labelled like COCO."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.sources import SourcesParams
from rlip_assets.lineage.registry import build_registry
from rlip_assets.storage.errors import InputError

SPLITS = {"train": {"annotations": "labels/boxes.json", "images": "photos"}}
CHAIN = ("scenes", "captions", "caption_triplets", "candidates", "pseudo_labels")


def shop(raw: Any) -> None:
    categories = [{"id": 7, "name": "Trolley"}, {"id": 9, "name": "customer"}]
    images = [{"id": n, "file_name": f"aisle/{n}.jpg", "width": 40, "height": 30} for n in (1, 2)]
    boxes = [{"id": n, "image_id": n, "category_id": c, "bbox": [1, 2, 9, 8]} for n, c in ((1, 7), (2, 9))]
    raw.json("labels/boxes.json", {"images": images, "annotations": boxes, "categories": categories})
    for n in (1, 2):
        raw.image(f"photos/aisle/{n}.jpg")


def own(raw: Any, **changes: Any) -> dict[str, Any]:
    return {"root": str(raw.root), "quarantine_limit": 1.0, "splits": SPLITS, **changes}


def test_a_dataset_in_coco_form_becomes_a_scene_table(
    raw: Any, make_lineage: Callable[..., Any], tmp_path: Path
) -> None:
    shop(raw)
    lines = make_lineage(tmp_path / "profile", "shop", own=own(raw))
    assert lines.run()["images"] == 2
    assert lines.classes.objects == ["trolley", "customer"]
    assert {(row.dataset, row.split, row.file_name) for row in lines.rows().values()} == {
        ("shop", "train", "photos/aisle/1.jpg"),
        ("shop", "train", "photos/aisle/2.jpg"),
    }


def test_open_images_boxes_become_a_scene_table(raw: Any, make_lineage: Callable[..., Any], tmp_path: Path) -> None:
    raw.text("class-descriptions-boxable.csv", "/m/01g317,Person\n")
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"
    raw.text("oidv6-train-annotations-bbox.csv", f"{header}\n00aa,xclick,/m/01g317,1,0.1,0.5,0.2,0.8,0,0,0\n")
    raw.image("train/00aa.jpg")
    settings = own(raw, form="open_images_boxes", splits={})
    lines = make_lineage(tmp_path / "profile", "oi_boxes", own=settings)
    assert lines.run()["images"] == 1
    assert lines.rows()["00aa"].boxes.tolist() == [[4, 6, 20, 24]]


def test_it_has_every_stage_up_to_its_labels_and_may_be_trained_on() -> None:
    sources = SourcesParams.model_validate({"own": {"shop": {"root": "/data/shop", "buckets": 3, "splits": SPLITS}}})
    params = Params(sources=sources)
    choice = params.training.pretrain["vg_coco_o365"]
    mixed = choice.model_copy(update={"changes": {"sources": {"visual_genome": 1.0, "shop": 1.0}}})
    training = params.training.model_copy(update={"pretrain": {"vg_coco_o365": choice, "vg_shop": mixed}})
    registry = build_registry(params.model_copy(update={"training": training}))
    for stage in CHAIN:
        assert registry.spec(stage).partitions[-3:] == ("shop-0", "shop-1", "shop-2")
    assert registry.item("raw_manifest", "shop").params == ("sources.own.shop",)
    assert set(registry.parents["pretrain@vg_shop"]) >= {f"pseudo_labels@shop-{k}" for k in range(3)}
    assert not any("shop" in parent for parent in registry.parents["label_quality"])  # its truth is known to nobody
    pipeline = yaml.safe_load(render_dvc_yaml(registry))["stages"]
    assert pipeline["scenes"]["foreach"]["shop-2"]["sources"] == "sources.own.shop"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("coco", {"root": "x", "splits": SPLITS}, "unlike the six datasets"),
        ("my-shop", {"root": "x", "splits": SPLITS}, "lower-case letters"),
        ("shop", {"root": "x"}, "form coco needs splits"),
        ("shop", {"root": "x", "form": "open_images_boxes", "splits": SPLITS}, "takes none"),
        ("shop", {"root": "x", "splits": {"training": SPLITS["train"]}}, "'train', 'val' or 'test'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SourcesParams.model_validate({"own": {name: settings}})


def test_a_missing_root_names_its_key(raw: Any, make_lineage: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set sources\.own\.shop\.root"):
        make_lineage(tmp_path / "profile", "shop", own=own(raw, root=str(tmp_path / "nowhere"))).manifest()


def test_an_annotation_file_that_is_not_there_is_named(
    raw: Any, make_lineage: Callable[..., Any], tmp_path: Path
) -> None:
    shop(raw)
    (raw.root / "labels/boxes.json").rename(raw.root / "labels/other.json")
    with pytest.raises(InputError, match=r"labels/boxes\.json"):
        make_lineage(tmp_path / "profile", "shop", own=own(raw)).manifest()
    assert json.loads((raw.root / "labels/other.json").read_text())["images"]
