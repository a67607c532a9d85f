"""HICO-DET in HOIA form: `images/{train,test}2015/HICO_<split>2015_<8 digits>.jpg`, `annotations/{trainval,test}_hico.json`.

Ids are the official ones: COCO ids of boxes, verb ids 1..117, interaction ids 1..600. `classes.json` names the classes of the world.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.shots import shots
from rlip_assets.micro_world.vocabularies import hico_classes
from rlip_assets.micro_world.world import CATEGORIES, Interaction, interactions
from rlip_assets.micro_world.writers import Progress, save_json, save_picture


def _record(name: str, picture: Picture, classes: dict[tuple[str, str], Interaction]) -> dict[str, Any]:
    boxes = [
        {"bbox": [int(value) for value in thing.box], "category_id": CATEGORIES[thing.category].coco_id}
        for thing in picture.things
    ]
    pairs = []
    for relation in picture.relations:
        item = classes.get((relation.text, picture.things[relation.object].category))
        if item is not None and picture.things[relation.subject].category == "person":
            ends = {"subject_id": relation.subject, "object_id": relation.object}
            pairs.append({**ends, "category_id": item.verb_id, "hoi_category_id": item.hoi_id})
    return {"file_name": name, "annotations": boxes, "hoi_annotation": pairs}


def write(root: Path, params: WorldParams, progress: Progress) -> dict[str, Any]:
    """Figures: images, boxes and pairs by split, and the instances of every class."""
    figures: dict[str, Any] = {}
    classes = {(item.verb, item.object): item for item in interactions()}
    names = {item.hoi_id: f"{item.verb} {item.object}" for item in interactions()}
    for split, file, count in (("train", "trainval", params.hico_det_train), ("test", "test", params.hico_det_test)):
        records = []
        for shot in shots("hico_det", split, count, params.seed):
            name = f"HICO_{split}2015_{shot.number + 1:08d}.jpg"
            save_picture(root / f"images/{split}2015" / name, shot.picture)
            records.append(_record(name, shot.picture, classes))
            progress(1)
        save_json(root / f"annotations/{file}_hico.json", records)
        instances = Counter(names[pair["hoi_category_id"]] for record in records for pair in record["hoi_annotation"])
        figures[split] = {
            "images": count,
            "boxes": sum(len(record["annotations"]) for record in records),
            "pairs": instances.total(),
            "instances": dict(sorted(instances.items())),
        }
    save_json(root / "classes.json", hico_classes(params.hico_det_train))
    return figures
