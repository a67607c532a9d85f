"""Files that speak of a whole dataset, such as its class names: whatever changes in them reaches the manifest and the tables, although
no annotation, no image and no class table changed with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rlip_assets.datasets.sources.test_sources_any_value import (
    Raw,
    coco,
    objects365,
    open_images,
    open_images_boxes,
    own,
    prepare,
    visual_genome,
)

NAMES = ["thing 0", "thing 1", "thing 2"]


def own_table(raw: Raw, names: list[str]) -> Raw:
    """The same dataset with a class table, which no change of an annotation file changes."""
    raw.plain["classes.json"] = json.dumps(
        {"dataset": raw.dataset, "objects": sorted(names), "relations": ["at", "holds"]}
    )
    return raw


def renumbered(raw: Raw) -> None:
    """Each category has the id of the next: the names and their order stay."""
    for row in raw.files[next(iter(raw.files))]["categories"]:
        row["id"] += 1


def swapped(raw: Raw) -> None:
    """The first two categories have each other's names."""
    first, second, _ = raw.files[next(iter(raw.files))]["categories"]
    first["name"], second["name"] = second["name"], first["name"]


def of_another_id(raw: Raw) -> None:
    """The first category has an id that sorts before all others and that no annotation has."""
    raw.files[next(iter(raw.files))]["categories"][0]["id"] = -1


def other_objects(raw: Raw) -> None:
    raw.plain["annotations/categories_dict.json"] = json.dumps({"obj": ["Cup", "Man", "Dog"], "rel": ["at", "holds"]})


def other_relations(raw: Raw) -> None:
    raw.plain["annotations/categories_dict.json"] = json.dumps({"obj": ["Man", "Cup", "Dog"], "rel": ["holds", "at"]})


def other_descriptions(raw: Raw) -> None:
    raw.plain["class-descriptions-boxable.csv"] = "/m/1,Thing 0\n/m/0,Thing 1\n/m/2,Thing 2\n"


def object_aliases(raw: Raw) -> None:
    raw.plain["object_alias.txt"] = "thing 0,thing 1,thing 2\n"


def relation_aliases(raw: Raw) -> None:
    raw.plain["relationship_alias.txt"] = "near 0,near 1\n"


def repeated(raw: Raw) -> Raw:
    """Scene graphs whose two relations say the same once their words are aliases."""
    for graph in raw.files["scene_graphs.json"]:
        for relation in graph["relationships"]:
            relation["object_id"] = graph["objects"][1]["object_id"]
    return raw


def scene_graphs() -> Raw:
    """Two relations of one predicate to objects of two names."""
    raw = visual_genome()
    for graph in raw.files["scene_graphs.json"]:
        for relation in graph["relationships"]:
            relation["predicate"] = "near"
    return raw


CASES: dict[str, tuple[Callable[[], Raw], Callable[[Raw], None]]] = {
    "coco renumbered": (coco, renumbered),
    "coco of another id": (coco, of_another_id),
    "objects365 renumbered": (objects365, renumbered),
    "own renumbered": (own, renumbered),
    "own of another id": (own, of_another_id),
    "own swapped": (lambda: own_table(own(), NAMES), swapped),
    "open images objects": (lambda: own_table(open_images(), ["man", "cup", "dog"]), other_objects),
    "open images relations": (lambda: own_table(open_images(), ["man", "cup", "dog"]), other_relations),
    "open images boxes": (lambda: own_table(open_images_boxes(), NAMES), other_descriptions),
    "visual genome object aliases": (scene_graphs, object_aliases),
    "visual genome relation aliases": (lambda: repeated(visual_genome()), relation_aliases),
}


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here outlives the test, so nothing waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize(("make", "change"), CASES.values(), ids=CASES)
def test_changed_names_of_a_dataset_change_its_manifest_and_tables(
    make: Callable[[], Raw], change: Callable[[Raw], None], make_lineage: Any, tmp_path: Path
) -> None:
    raw = make()
    lines = prepare(raw, tmp_path / "raw", tmp_path / "profile", make_lineage)
    lines.run()
    before, manifest, classes = lines.rows(), (lines.manifests / "bucket-0.json").read_bytes(), lines.classes
    change(raw)
    raw.write(tmp_path / "raw", raw.files)
    lines.run()
    anew = prepare(raw, tmp_path / "raw", tmp_path / "anew", make_lineage)
    anew.run()
    assert lines.classes == classes  # so that nothing but the manifest can tell
    assert (lines.manifests / "bucket-0.json").read_bytes() != manifest
    assert lines.rows() == anew.rows() != before
    assert lines.quarantined() == anew.quarantined()
