"""The raw trees have the official layouts, and the readers of the datasets accept them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from rlip_assets.labelling.true_relations import read_true_relations
from rlip_assets.micro_world.wording import accepted
from rlip_assets.micro_world.world import VISUAL_GENOME_WORDING

from .conftest import SMALL, World


def content(path: Path) -> Any:
    return json.loads(path.read_text())


def test_visual_genome_is_free_form(world: World) -> None:
    root = world.raw("visual_genome")
    graphs = content(root / "scene_graphs.json")
    assert len(graphs) == SMALL.visual_genome
    names = [name for graph in graphs for item in graph["objects"] for name in item["names"]]
    assert {"bike", "man", "lady"} <= set(names)
    assert any(name != name.lower() for name in names)
    assert any(len(item["names"]) == 2 for graph in graphs for item in graph["objects"])
    ids = [item["object_id"] for graph in graphs for item in graph["objects"]]
    assert len(ids) == len(set(ids))
    for graph in graphs:
        own = {item["object_id"] for item in graph["objects"]}
        assert all({r["subject_id"], r["object_id"]} <= own for r in graph["relationships"])
        with Image.open(root / "images" / f"{graph['image_id']}.jpg") as image:
            assert all(
                item["x"] + item["w"] <= image.width and item["y"] + item["h"] <= 128 for item in graph["objects"]
            )
    assert "bicycle,bike" in (root / "object_alias.txt").read_text().splitlines()
    assert (root / "relationship_alias.txt").read_text().startswith("ride,riding,rides")


def test_visual_genome_words_verbs_as_its_table_says(world: World) -> None:
    said = Counter(world.figures["visual_genome"]["predicates"])
    for verb, wording in VISUAL_GENOME_WORDING.items():
        exact, other = said[verb], sum(said[text] for text in accepted(verb)[1:])
        assert (exact > 0, exact + other > 0) == (wording == "exact", wording != "absent"), verb


@pytest.mark.parametrize("dataset", ["coco", "objects365"])
def test_detection_parts_hold_boxes_alone_and_the_truth_fits_them(world: World, dataset: str) -> None:
    files = {
        "coco": ["annotations/instances_train2017.json", "annotations/instances_val2017.json"],
        "objects365": ["train/zhiyuan_objv2_train.json", "val/zhiyuan_objv2_val.json"],
    }[dataset]
    boxes: dict[str, list[int]] = {}
    names: dict[int, str] = {}
    for name in files:
        part = content(world.raw(dataset) / name)
        assert set(part) == {"images", "annotations", "categories"}
        assert len(part["categories"]) == (80 if dataset == "coco" else 365)
        names |= {row["id"]: row["name"] for row in part["categories"]}
        for box in part["annotations"]:
            boxes.setdefault(str(box["image_id"]), []).append(box["category_id"])
    by_image = read_true_relations(world.folder / "truth" / f"{dataset}.parquet")
    assert set(by_image) <= set(boxes)
    truth = [relation for relations in by_image.values() for relation in relations]
    assert len({relation.image_id for relation in truth if not relation.spatial}) > 0.9 * len(boxes)
    subjects = {"ride": {"person", "dog", "cat"}, "feed": {"person"}, "read": {"person"}, "wear": {"person"}}
    for relation in truth:
        labels = [names[number].lower() for number in boxes[relation.image_id]]
        assert labels[relation.subject] in subjects.get(relation.relation, set(labels))
        assert relation.relation != "read" or labels[relation.object] == "book"
        assert relation.accepted[0] == relation.relation


def test_no_raw_file_of_a_detection_part_speaks_of_relations(world: World) -> None:
    for dataset in ("coco", "objects365"):
        for path in world.raw(dataset).rglob("*.json"):
            assert not re.search(r"subject|relation|predicate|riding|next to", path.read_text()), path


def test_file_names_follow_the_official_patterns(world: World) -> None:
    patterns = {
        "visual_genome": r"images/\d+\.jpg",
        "coco": r"(train|val)2017/\d{12}\.jpg",
        "objects365": r"(train|val)/patch(0|1)/objects365_v1_\d{8}\.jpg|(train|val)/patch16/objects365_v2_\d{8}\.jpg",
        "hico_det": r"images/(train|test)2015/HICO_(train|test)2015_\d{8}\.jpg",
        "v_coco": r"images/(train|val)2014/COCO_(train|val)2014_\d{12}\.jpg",
        "open_images": r"images/[0-9a-f]{16}\.jpg",
    }
    for dataset, pattern in patterns.items():
        names = [path.relative_to(world.raw(dataset)).as_posix() for path in world.raw(dataset).rglob("*.jpg")]
        assert names
        assert not [name for name in names if not re.fullmatch(pattern, name)]


def test_hico_det_counts(world: World) -> None:
    classes = content(world.raw("hico_det") / "classes.json")
    figures = world.figures["hico_det"]
    texts = [f"{classes['relations'][verb]} {classes['objects'][noun]}" for verb, noun in classes["hois"]]
    assert set(figures["test"]["instances"]) == set(texts)
    assert min(figures["test"]["instances"].values()) >= 5
    rare = {text for text in texts if figures["train"]["instances"][text] < 10}
    assert rare == {texts[number] for number in classes["rare"]}


def test_a_few_images_can_hold_every_verb_and_object(world: World) -> None:
    """The published few-shot rule at 1 % of 2,400 images: one image a verb, others at random until all objects are there."""
    classes = content(world.raw("hico_det") / "classes.json")
    records = content(world.raw("hico_det") / "annotations/trainval_hico.json")
    objects = [{box["category_id"] for box in record["annotations"]} for record in records]
    verbs = [{pair["category_id"] for pair in record["hoi_annotation"]} for record in records]
    rng = Random(0)
    base = [rng.choice([i for i, found in enumerate(verbs) if verb in found]) for verb in sorted(set().union(*verbs))]
    assert len(base) == len(classes["relations"]) <= 20
    for _ in range(3000):
        chosen = base + [rng.randrange(len(records)) for _ in range(24 - len(base))]
        if len(set().union(*(objects[number] for number in chosen))) == len(classes["objects"]):
            return
    pytest.fail("24 images never covered all objects")


def test_v_coco_has_26_actions_with_and_without_objects(world: World) -> None:
    root = world.raw("v_coco")
    actions = content(root / "data/vcoco/vcoco_trainval.json")
    instances = content(root / "data/instances_vcoco_all_2014.json")
    category = {box["id"]: box["category_id"] for box in instances["annotations"]}
    assert len(actions) == 26
    done = {}
    for action in actions:
        persons, roles = len(action["ann_id"]), len(action["role_name"])
        assert len(action["role_object_id"]) == persons * roles
        assert action["role_object_id"][:persons] == action["ann_id"]
        assert all(category[number] == 1 for number in action["ann_id"])
        done[action["action_name"]] = sum(action["label"])
    assert sum(count > 0 for count in done.values()) >= 15
    assert min(done[name] for name in ("stand", "walk", "run", "smile")) > 0
    sit = next(action for action in actions if action["action_name"] == "sit")
    half = len(sit["ann_id"])
    filled = {bool(sit["role_object_id"][half + row]) for row in range(half) if sit["label"][row]}
    assert filled == {True, False}
    ids = (root / "data/splits/vcoco_trainval.ids").read_text().split()
    assert len(ids) == SMALL.v_coco_trainval
    assert {str(number) for number in sit["image_id"]} == set(ids)


def test_open_images_refers_to_its_dictionary(world: World) -> None:
    root = world.raw("open_images") / "annotations"
    table = content(root / "categories_dict.json")
    assert len(table["rel"]) == 30
    for split, count in (("train", SMALL.open_images_train), ("test", SMALL.open_images_test)):
        records = content(root / f"vrd-{split}-anno.json")
        assert len(records) == count
        for record in records:
            assert len(record["bbox"]) == len(record["det_labels"])
            for subject, target, predicate in record["rel"]:
                assert max(subject, target) < len(record["bbox"])
                if table["rel"][predicate] == "surf":
                    assert table["obj"][record["det_labels"][target]] == "Surfboard"
