"""The micro world, written in the official layouts, comes back whole through the readers of real data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.stage import WRITERS

SMALL = WorldParams(
    visual_genome=30,
    coco_train=20,
    coco_val=10,
    objects365_train=20,
    objects365_val=10,
    hico_det_train=400,
    hico_det_test=200,
    v_coco_trainval=20,
    v_coco_test=10,
    open_images_train=20,
    open_images_val=10,
    open_images_test=10,
)


def read(dataset: str, raw: Any, lineage: Callable[..., Any]) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Figures of the writer, the lineage, and the figures of the table; no image may be quarantined."""
    written = WRITERS[dataset](raw.root, SMALL, lambda count: None)
    lines = lineage(dataset, quarantine_limit=0.0)
    figures = lines.run()
    assert figures["quarantined"] == 0
    assert figures["input"] == figures["images"]
    return written[0] if isinstance(written, tuple) else written, lines, figures


@pytest.mark.parametrize("dataset", ["coco", "objects365"])
def test_detection_datasets(dataset: str, raw: Any, lineage: Callable[..., Any]) -> None:
    written, lines, figures = read(dataset, raw, lineage)
    assert figures["images"] == 30
    assert figures["boxes"] == sum(split["boxes"] for split in written.values())
    assert figures["rules"] == {}
    assert {scene.split for scene in lines.rows().values()} == {"train", "val"}
    assert {label for scene in lines.rows().values() for label in scene.labels} <= set(lines.classes.objects)


def test_visual_genome(raw: Any, lineage: Callable[..., Any]) -> None:
    written, _, figures = read("visual_genome", raw, lineage)
    rules = figures["rules"]
    assert (figures["images"], figures["boxes"]) == (30, written["objects"])
    assert rules["relations_read"] == written["relations"]
    dropped = sum(count for rule, count in rules.items() if rule.startswith("relations_") and rule != "relations_read")
    assert figures["triplets"] == written["relations"] - dropped


def test_hico_det(raw: Any, lineage: Callable[..., Any]) -> None:
    written, lines, figures = read("hico_det", raw, lineage)
    assert figures["triplets"] == written["train"]["pairs"] + written["test"]["pairs"]
    classes = lines.classes
    instances = written["train"]["instances"]
    names = [f"{classes.relations[verb]} {classes.objects[noun]}" for verb, noun in classes.hois]
    assert classes.rare == [hoi for hoi, name in enumerate(names) if instances.get(name, 0) < 10]
    assert set(classes.splits) == {"uc_rf", "uc_nf", "uo"}


def test_v_coco(raw: Any, lineage: Callable[..., Any]) -> None:
    written, lines, figures = read("v_coco", raw, lineage)
    rows = lines.rows().values()
    assert figures["images"] == sum(split["images"] for split in written.values()) == 30
    assert sum(label == "person" for scene in rows for label in scene.labels) == sum(
        split["persons"] for split in written.values()
    )
    stands = sum(text == "stand" for scene in rows for text in scene.relation)
    assert stands == sum(split["actions"]["stand"] for split in written.values()) > 0


def test_open_images(raw: Any, lineage: Callable[..., Any]) -> None:
    written, lines, figures = read("open_images", raw, lineage)
    assert figures["boxes"] == sum(split["boxes"] for split in written.values())
    assert figures["triplets"] == sum(split["relations"] for split in written.values())
    assert {scene.split for scene in lines.rows().values()} == {"train", "val", "test"}
