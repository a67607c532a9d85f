"""Open Images v6 scene graphs: `images/<16 hex>.jpg`, `annotations/vrd-{train,val,test}-anno.json`, `annotations/categories_dict.json`."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.shots import shots
from rlip_assets.micro_world.vocabularies import OPEN_IMAGES_RELATIONS, open_images_name, open_images_objects
from rlip_assets.micro_world.world import DATA, Event
from rlip_assets.micro_world.writers import ON_BOARDS, Progress, save_json, save_picture

OF_RELATION: dict[str, str] = DATA["open_images_relations"]


def predicate(event: Event) -> str | None:
    """Return Open Images' name of a relation, or None."""
    if event.relation == "ride" and event.subject == "person":
        return ON_BOARDS.get(event.object, "ride")
    return OF_RELATION.get(event.relation)


def _record(name: str, picture: Picture, objects: list[str]) -> dict[str, Any]:
    named = [(relation, predicate(picture.event(relation))) for relation in picture.relations]
    return {
        "img_fn": name,
        "img_size": [picture.width, picture.height],
        "bbox": [[int(value) for value in thing.box] for thing in picture.things],
        "det_labels": [objects.index(open_images_name(thing.category, thing.look)) for thing in picture.things],
        "rel": [
            [relation.subject, relation.object, OPEN_IMAGES_RELATIONS.index(text)] for relation, text in named if text
        ],
    }


def write(root: Path, params: WorldParams, progress: Progress) -> dict[str, Any]:
    """Figures: images, boxes and relations by split, and the count of every predicate."""
    objects = open_images_objects()
    figures: dict[str, Any] = {}
    sizes = {"train": params.open_images_train, "val": params.open_images_val, "test": params.open_images_test}
    for split, count in sizes.items():
        records = []
        for shot in shots("open_images", split, count, params.seed):
            name = hashlib.sha256(f"open_images/{split}/{shot.number}".encode()).hexdigest()[:16]
            save_picture(root / "images" / f"{name}.jpg", shot.picture)
            records.append(_record(name, shot.picture, objects))
            progress(1)
        save_json(root / f"annotations/vrd-{split}-anno.json", records)
        counts = Counter(OPEN_IMAGES_RELATIONS[relation[2]] for record in records for relation in record["rel"])
        figures[split] = {
            "images": count,
            "boxes": sum(len(record["bbox"]) for record in records),
            "relations": counts.total(),
            "predicates": dict(sorted(counts.items())),
        }
    save_json(root / "annotations/categories_dict.json", {"obj": objects, "rel": list(OPEN_IMAGES_RELATIONS)})
    return figures
