"""Three images of HICO-DET and of V-COCO in every published form, and a random world in the official files of V-COCO."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from rlip_assets.datasets.scenes import make_scene, write_scenes
from rlip_assets.datasets.sources.classes import coco_names, hico_classes, hico_verbs, official_table, v_coco_classes
from rlip_assets.evaluation.formats.class_lists import ClassList, coco_ids, coco_order, pair_order
from rlip_assets.evaluation.formats.mat_cache import NAME
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionWriter
from tests.oracle.v_coco_official import evaluate_vcoco_official
from tests.support.random_official_worlds import make_official_world
from tests.support.random_worlds import Knobs

BOX, OTHER, THIRD = [10.0, 20.0, 110.0, 220.0], [60.0, 120.0, 260.0, 300.0], [300.0, 40.0, 420.0, 200.0]
WORLDS: dict[str, dict[str, list[tuple[list[float], str, str, list[float]]]]] = {
    "hico_det": {
        "HICO_test2015_00000001.jpg": [(BOX, "ride", "horse", OTHER), (BOX, "hold", "cup", THIRD)],
        "HICO_test2015_00000002.jpg": [(OTHER, "sit on", "bench", THIRD)],
        "HICO_test2015_00000004.jpg": [(THIRD, "adjust", "tie", BOX), (THIRD, "ride", "bicycle", OTHER)],
    },
    "v_coco": {
        "COCO_val2014_000000000294.jpg": [(BOX, "ride_instr", "horse", OTHER), (BOX, "hold_obj", "cup", THIRD)],
        "COCO_val2014_000000000328.jpg": [(OTHER, "sit_instr", "bench", THIRD)],
        "COCO_val2014_000000000395.jpg": [(THIRD, "talk_on_phone_instr", "cell phone", BOX)],
    },
}
"""Images of two benchmarks: person box, verb, object, object box."""
COCO = list(coco_names().values())
V_COCO_TEXTS = {row["name"]: row["text"] for row in official_table("v_coco")["verbs"]}
LISTS = {name: (coco_order(name), pair_order(name), coco_ids(name)) for name in WORLDS}
Spell = Callable[[str], Any]


def as_is(name: str) -> str:
    return name


def qpic(dataset: str, classes: ClassList, spell: Spell = as_is, objects_from: int = 0, verbs_from: int = 0) -> Any:
    """The annotations as a list of QPIC's form in the numbers of `classes`."""
    person = classes.objects.index("person")
    records = []
    for name, triplets in WORLDS[dataset].items():
        boxes = [{"bbox": box, "category_id": person + objects_from} for box, *_ in triplets]
        boxes += [
            {"bbox": box, "category_id": classes.objects.index(each) + objects_from} for *_, each, box in triplets
        ]
        pairs = [
            {"subject_id": i, "object_id": i + len(triplets), "category_id": classes.verbs.index(verb) + verbs_from, "score": 0.9}
            for i, (_, verb, _, _) in enumerate(triplets)
        ]  # fmt: skip
        records.append({"filename": spell(name), "predictions": boxes, "hoi_prediction": pairs})
    return records


def upt(dataset: str, classes: ClassList, spell: Spell = as_is, objects_from: int = 0, verbs_from: int = 0) -> Any:
    """The annotations as a list of UPT's form in the numbers of `classes`."""
    records = []
    for row in qpic(dataset, classes, spell, objects_from, verbs_from):
        pairs = row["hoi_prediction"]
        labels = [box["category_id"] for box in row["predictions"]]
        records.append(
            {
                "image_id": row["filename"],
                "boxes": [box["bbox"] for box in row["predictions"]] + [[0, 0, 1, 1]],
                "pairing": [[pair["subject_id"], pair["object_id"]] for pair in pairs],
                "scores": [pair["score"] for pair in pairs],
                "labels": [pair["category_id"] for pair in pairs],
                "objects": [labels[pair["object_id"]] for pair in pairs],
            }
        )
    return {record.pop("image_id"): record for record in records}


def pair_list(folder: Path, dataset: str) -> Path:
    """The annotations in the form of hicodet or vcoco, in their order of the classes."""
    classes, world = pair_order(dataset), WORLDS[dataset]
    rows = [
        {
            "boxes_h": [person for person, *_ in triplets],
            "boxes_o": [box for *_, box in triplets],
            "object": [classes.objects.index(each) for *_, each, _ in triplets],
            "verb": [classes.verbs.index(verb) for _, verb, *_ in triplets],
        }
        for triplets in world.values()
    ]
    if dataset == "v_coco":
        rows = [
            {"file_name": name, "actions": row.pop("verb"), "objects": row.pop("object"), **row}
            for name, row in zip(world, rows, strict=True)
        ]
        content: dict[str, Any] = {
            "annotations": rows,
            "objects": ["background", *COCO],
            "classes": [" ".join(verb.rsplit("_", 1)) for verb in classes.verbs],
            "action_to_object": [list(range(1, 81))] * len(classes.verbs),
        }
    else:
        official = hico_classes()
        content = {
            "annotation": rows,
            "filenames": list(world),
            "size": [[640, 480]] * len(world),
            "objects": [name.replace(" ", "_") for name in classes.objects],
            "verbs": [name.replace(" ", "_") for name in hico_verbs().values()],
            "correspondence": [
                [hoi, classes.objects.index(official.objects[label]), verb]
                for hoi, (verb, label) in enumerate(official.hois or [])
            ],
            "rare": official.rare,
        }
    return written(folder, content, f"instances_{dataset}.json")


def scene_table(folder: Path, dataset: str, buckets: int = 2) -> Path:
    """The annotations as the lineage's scene folder, in our order of the classes and under our image ids."""
    classes = {"hico_det": hico_classes, "v_coco": v_coco_classes}[dataset]()
    scenes = []
    for name, triplets in WORLDS[dataset].items():
        boxes = [box for person, *_, other in triplets for box in (person, other)]
        labels = [label for _, _, each, _ in triplets for label in ("person", each)]
        texts = [verb if dataset == "hico_det" else V_COCO_TEXTS[verb] for _, verb, *_ in triplets]
        relations = [(2 * i, 2 * i + 1, text) for i, text in enumerate(texts)]
        image_id = name[:-4] if dataset == "hico_det" else str(int(name[-16:-4]))
        scenes.append(make_scene(image_id, dataset, "test", f"images/{name}", 640, 480, boxes, labels, relations))
    for bucket in range(buckets):
        write_scenes(folder / "scenes" / f"bucket-{bucket}", scenes[bucket::buckets])
    (folder / "scenes/classes.json").write_text(classes.model_dump_json())
    return folder / "scenes"


def hoia(folder: Path, dataset: str) -> Path:
    """The annotations in HOIA form."""
    first = 0 if dataset == "hico_det" else -1
    rows = [
        {
            "file_name": row["filename"],
            "annotations": [{**box, "category_id": f"{box['category_id']}\n"} for box in row["predictions"]],
            "hoi_annotation": [{**pair, "category_id": pair["category_id"] + first} for pair in row["hoi_prediction"]],
        }
        for row in qpic(dataset, coco_ids(dataset))
    ]
    return written(folder, rows, f"test_{dataset}.json")


ANNOTATIONS = {"pair list": pair_list, "scene table": scene_table, "HOIA": hoia}


def written(folder: Path, content: Any, name: str = "predictions.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def parquet(folder: Path, dataset: str, shift: int = 0, scale: float = 1.0) -> Path:
    """The annotations as this project's predictions, in our order of the classes and under our image ids."""
    classes = {"hico_det": hico_classes, "v_coco": v_coco_classes}[dataset]()
    texts = classes.relations or []
    with PredictionWriter(folder / "own.parquet", dataset, classes.objects, texts) as out:
        for name, triplets in WORLDS[dataset].items():
            verbs = [verb if dataset == "hico_det" else V_COCO_TEXTS[verb] for _, verb, *_ in triplets]
            scores = np.zeros((len(triplets), len(texts)), np.float32)
            scores[np.arange(len(verbs)), [texts.index(verb) for verb in verbs]] = 0.9
            sub, obj = (np.array([row[end] for row in triplets], np.float32) * np.float32(scale) for end in (0, 3))
            labels = np.array([COCO.index(each) + shift for *_, each, _ in triplets], np.int32)
            image_id = name[:-4] if dataset == "hico_det" else str(int(name[-16:-4]))
            out.write(ImagePredictions(image_id, sub, obj, np.full(len(labels), shift, np.int32), labels, scores))
    return folder / "own.parquet"


def mat_cache(folder: Path, order: ClassList) -> Path:
    """The annotations as the cache for Matlab, files in the order of the objects of `order`."""
    official = hico_classes()
    (folder / "cache").mkdir()
    images = sorted(WORLDS["hico_det"])
    for number, name in enumerate(order.objects, 1):
        hois = [verb for verb, label in official.hois or [] if official.objects[label] == name]
        cells = np.empty((len(hois), len(images)), object)
        for row, verb in enumerate(hois):
            for column, image in enumerate(images):
                found = [
                    [*person, *box, 0.9]
                    for person, text, each, box in WORLDS["hico_det"][image]
                    if (text, each) == ((official.relations or [])[verb], name)
                ]
                cells[row, column] = np.array(found, np.float32).reshape(-1, 9) if found else np.zeros((0, 0))
        savemat(folder / "cache" / NAME.format(number), {"all_boxes": cells})
    return folder / "cache"


def cells(rows: int, columns: int, first: Any = None) -> np.ndarray:
    found = np.empty((rows, columns), object)
    for place in np.ndindex(found.shape):
        found[place] = np.zeros((0, 0))
    found[0, 0] = np.zeros((0, 0)) if first is None else first
    return found


KNOBS = Knobs(seed=5, images=5, objects=2, verbs=3, pairs=12, grid=9, levels=5, offset=0.0, density=1.0)


def plain(value: Any) -> Any:
    """As JSON has it: NaN is null."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value.item() if hasattr(value, "item") else value


def official_files(folder: Path) -> tuple[Path, Path, Path, dict[str, float]]:
    """The official three files of a random case, with the oracle's figures."""
    world = make_official_world(KNOBS)
    image_of = {row["id"]: row["image_id"] for row in world.coco_boxes}
    actions = [{**action, "image_id": [image_of[i] for i in action["ann_id"]]} for action in world.actions]
    known = {image for action in actions for image in action["image_id"]}
    detections = [row for row in world.detections if row["image_id"] in known]
    images = [row for row in world.coco_images if row["id"] in known]
    theirs = evaluate_vcoco_official(
        detections, images, [row for row in world.coco_boxes if row["image_id"] in known], world.actions
    )
    instances = {"images": world.coco_images, "annotations": world.coco_boxes}
    return (
        written(folder, plain(detections), "results.json"),
        written(folder, plain(actions), "vcoco_test.json"),
        written(folder, plain(instances), "instances.json"),
        theirs["metrics"],
    )
