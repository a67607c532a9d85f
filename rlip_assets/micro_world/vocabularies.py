"""Names of the world's things in each dataset, and the class tables that its raw root brings along."""

from __future__ import annotations

from functools import cache
from typing import Any

from rlip_assets.datasets.sources.classes import official_table
from rlip_assets.micro_world.plans import REFERENCE_TRAIN, train_instances
from rlip_assets.micro_world.wording import accepted
from rlip_assets.micro_world.world import (
    CATEGORIES,
    COCO_CATEGORIES,
    HICO_VERBS,
    OBJECTS365_BY_SPRITE,
    OPEN_IMAGES_PERSONS,
    RARE_BELOW,
    VISUAL_GENOME_WORDING,
    hico_objects,
    interactions,
    unseen_nonrare_first,
    unseen_objects,
    unseen_rare_first,
)

OPEN_IMAGES_RELATIONS: tuple[str, ...] = tuple(official_table("open_images")["relations"])


@cache
def objects365_text(number: int) -> str:
    """Text of an Objects365 category by its id (1..365)."""
    return next(str(row["text"]) for row in official_table("objects365")["objects"] if row["id"] == number)


def objects365_id(category: str, sprite: str) -> int:
    """Objects365 id of a thing; the sprite decides where Objects365 divides finer."""
    return OBJECTS365_BY_SPRITE.get(sprite, CATEGORIES[category].o365_id)


def category_text(category: str, sprite: str, vocabulary: str) -> str | None:
    """Text of a thing in the vocabulary "coco" or "objects365"; None where COCO does not know it."""
    if vocabulary == "objects365":
        return objects365_text(objects365_id(category, sprite))
    return category if CATEGORIES[category].coco_id is not None else None


def open_images_name(category: str, look: str) -> str:
    """Open Images name of a thing; persons are men, women and boys there."""
    return OPEN_IMAGES_PERSONS.get(look, CATEGORIES[category].open_images)


def coco_classes() -> dict[str, Any]:
    """The COCO categories of the world."""
    return {"dataset": "coco", "objects": list(COCO_CATEGORIES)}


def objects365_classes() -> dict[str, Any]:
    """The Objects365 categories of the world, by id."""
    numbers = {category.o365_id for category in CATEGORIES.values()} | set(OBJECTS365_BY_SPRITE.values())
    return {"dataset": "objects365", "objects": [objects365_text(number) for number in sorted(numbers)]}


def hico_classes(train_images: int = REFERENCE_TRAIN) -> dict[str, Any]:
    """The interaction classes of the world, with zero-shot splits and, per verb, how Visual Genome speaks of it.

    `groups["visual_genome"]`: verb -> "exact", "synonym" or "absent"; `groups["accepted_texts"]`: verb -> all texts that name it.
    """
    objects, verbs = hico_objects(), list(HICO_VERBS)
    ids = [item.hoi_id for item in interactions()]
    return {
        "dataset": "hico_det",
        "objects": objects,
        "relations": verbs,
        "hois": [[verbs.index(item.verb), objects.index(item.object)] for item in interactions()],
        "rare": [
            number for number, item in enumerate(interactions()) if train_instances(item, train_images) < RARE_BELOW
        ],
        "splits": {
            name: [ids.index(hoi_id) for hoi_id in unseen]
            for name, unseen in (
                ("uc_rf", unseen_rare_first()),
                ("uc_nf", unseen_nonrare_first()),
                ("uo", unseen_objects()),
            )
        },
        "groups": {
            "visual_genome": {verb: VISUAL_GENOME_WORDING[verb] for verb in verbs},
            "accepted_texts": {verb: accepted(verb) for verb in verbs},
        },
    }


def v_coco_classes() -> dict[str, Any]:
    """The COCO categories of the world with the 29 official action texts."""
    verbs = official_table("v_coco")["verbs"]
    return {
        "dataset": "v_coco",
        "objects": list(COCO_CATEGORIES),
        "relations": [row["text"] for row in verbs],
        "groups": {"actions": [row["name"] for row in verbs]},
    }


def open_images_objects() -> list[str]:
    """Open Images names of the world, sorted."""
    names = {category.open_images for name, category in CATEGORIES.items() if category.coco_id is not None}
    return sorted(names - {"Person"} | set(OPEN_IMAGES_PERSONS.values()))
