"""The content of the micro world: categories, relations, interaction classes.

Names and ids are those of the benchmarks: COCO ids (1..90), Objects365 v2 ids (1..365), Open Images names, HICO-DET verb ids
(1..117) and interaction ids (1..600). A `Event` is one thing that happens: a relation between a subject and an object category.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Category:
    """A kind of entity. `height` is that of its sprite in pixels at scale 1 (a grown person is 52 pixels tall)."""

    name: str  # COCO name, or the Objects365 name in lower case where COCO lacks it
    height: float
    sprites: tuple[str, ...]
    coco_id: int | None
    o365_id: int
    open_images: str


@dataclass(frozen=True, order=True)
class Event:
    """Something that happens between a subject and an object."""

    relation: str
    subject: str
    object: str


DATA: dict[str, Any] = tomllib.loads((files(__package__) / "world.toml").read_text(encoding="utf-8"))

CATEGORIES: dict[str, Category] = {
    name: Category(name, height, tuple(sprites) or (name.replace(" ", "_"),), coco_id or None, o365_id, open_images)
    for name, (height, coco_id, o365_id, open_images, *sprites) in DATA["categories"].items()
}
OBJECTS365_BY_SPRITE = {"ball_soccer": 119, "ball_basket": 178, "bird_green": 320, "car_blue": 35}
"""Classes of Objects365 finer than COCO's: sprite -> id of Soccer, Basketball, Parrot, SUV."""

COCO_CATEGORIES: tuple[str, ...] = tuple(name for name, category in CATEGORIES.items() if category.coco_id is not None)
LOOKS: tuple[str, ...] = CATEGORIES["person"].sprites
OPEN_IMAGES_PERSONS = {"man": "Man", "woman": "Woman", "child": "Boy"}

HICO_VERBS: dict[str, tuple[int, dict[str, tuple[int, int]]]] = {
    verb: (table["id"], {name: tuple(value) for name, value in table.items() if name != "id"})
    for verb, table in DATA["hico_verbs"].items()
}
"""Verb -> (verb id, {object: (interaction id, instances in a training split of 2,400 images)})."""

RARE_BELOW = 10
UNSEEN_CLASSES = 12
UNSEEN_OBJECTS = 4
SPATIAL_RELATIONS = ("next to", "behind")
IMPLIED: dict[str, list[str]] = DATA["implied"]
"""Relations that are true as well whenever another is, though they do not name what happens."""

VISUAL_GENOME_WORDING: dict[str, str] = {
    verb: kind for kind, verbs in DATA["visual_genome_wording"].items() for verb in verbs
}
"""The Visual Genome part's wording of a verb: also in the benchmark's own words ("exact"), only in others ("synonym"), or never
("absent": nor does it happen there)."""


@dataclass(frozen=True)
class Interaction:
    """A class of the HICO-DET part."""

    verb: str  # text, "sit on"
    object: str
    verb_id: int  # official, 1..117
    hoi_id: int  # official, 1..600
    frequency: int  # instances among 2,400 training images


@cache
def interactions() -> tuple[Interaction, ...]:
    """The interaction classes, ordered by official id."""
    found = [
        Interaction(verb, noun, verb_id, hoi_id, frequency)
        for verb, (verb_id, objects) in HICO_VERBS.items()
        for noun, (hoi_id, frequency) in objects.items()
    ]
    return tuple(sorted(found, key=lambda item: item.hoi_id))


def hico_objects() -> list[str]:
    """Object names of the HICO-DET part by COCO id, the person first."""
    used = {item.object for item in interactions()} | {"person"}
    return [name for name in COCO_CATEGORIES if name in used]


@cache
def person_events() -> tuple[Event, ...]:
    """Events of persons that every detection part knows: the interaction classes first, then a few more."""
    classes = (Event(item.verb, "person", item.object) for item in interactions())
    others = (Event(relation, "person", noun) for relation, nouns in DATA["events"]["person"].items() for noun in nouns)
    return (*classes, *others)


@cache
def objects365_events() -> tuple[Event, ...]:
    """Events with categories that only Objects365 has."""
    return tuple(
        Event(relation, "person", noun) for relation, nouns in DATA["events"]["objects365"].items() for noun in nouns
    )


@cache
def other_events() -> tuple[Event, ...]:
    """Events of animals and things."""
    return tuple(
        Event(relation, subject, noun)
        for relation, table in DATA["events"]["other"].items()
        for subject, nouns in table.items()
        for noun in nouns
    )


def _seen_elsewhere(unseen: set[int]) -> bool:
    seen = [item for item in interactions() if item.hoi_id not in unseen]
    return {item.verb for item in seen} == set(HICO_VERBS) and {item.object for item in seen} == {
        item.object for item in interactions()
    }


def _unseen(ordered: Iterator[Interaction]) -> list[int]:
    unseen: set[int] = set()
    for item in ordered:
        if len(unseen) < UNSEEN_CLASSES and _seen_elsewhere(unseen | {item.hoi_id}):
            unseen.add(item.hoi_id)
    return sorted(unseen)


def unseen_rare_first() -> list[int]:
    """Official ids of the UC-RF unseen classes: the rarest ones whose verb and object are still seen in other classes."""
    return _unseen(iter(sorted(interactions(), key=lambda item: (item.frequency, item.hoi_id))))


def unseen_nonrare_first() -> list[int]:
    """Official ids of the UC-NF unseen classes: the most frequent ones whose verb and object are still seen in other classes."""
    return _unseen(iter(sorted(interactions(), key=lambda item: (-item.frequency, item.hoi_id))))


def unseen_objects() -> list[int]:
    """Official ids of the UO unseen classes: all classes of a few objects whose verbs stay seen with other objects."""
    chosen: list[str] = []
    for noun in hico_objects()[::-1]:
        left = [item for item in interactions() if item.object not in (*chosen, noun)]
        if noun != "person" and len(chosen) < UNSEEN_OBJECTS and {item.verb for item in left} == set(HICO_VERBS):
            chosen.append(noun)
    return sorted(item.hoi_id for item in interactions() if item.object in chosen)
