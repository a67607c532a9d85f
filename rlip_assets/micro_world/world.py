"""What there is in the micro world and what can happen in it: categories, relations, interaction classes.

Names and ids are those of the benchmarks: COCO ids (1..90), Objects365 v2 ids (1..365), Open Images names, HICO-DET verb ids
(1..117) and interaction ids (1..600). A `Deed` is one thing that happens: a relation between a subject and an object category.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal


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
class Deed:
    """Something that happens between a subject and an object."""

    relation: str
    subject: str
    object: str


def _category(name: str, height: float, coco: int | None, o365: int, oi: str, *sprites: str) -> Category:
    return Category(name, height, sprites or (name.replace(" ", "_"),), coco, o365, oi)


CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        _category("person", 52, 1, 1, "Person", "man", "woman", "child"),
        _category("bicycle", 36, 2, 47, "Bicycle"),
        _category("car", 36, 3, 6, "Car", "car_red", "car_blue"),
        _category("motorcycle", 34, 4, 59, "Motorcycle"),
        _category("bus", 42, 6, 56, "Bus"),
        _category("bench", 27, 15, 25, "Bench"),
        _category("bird", 22, 16, 57, "Bird", "bird_blue", "bird_green"),
        _category("cat", 27, 17, 140, "Cat", "cat_orange", "cat_black"),
        _category("dog", 30, 18, 93, "Dog", "dog_spotted", "dog_grey"),
        _category("horse", 46, 19, 79, "Horse"),
        _category("sheep", 34, 20, 100, "Sheep"),
        _category("cow", 40, 21, 97, "Cattle"),
        _category("elephant", 54, 22, 145, "Elephant"),
        _category("backpack", 24, 27, 39, "Backpack"),
        _category("umbrella", 32, 28, 40, "Umbrella"),
        _category("sports ball", 19, 37, 157, "Ball", "ball_soccer", "ball_basket"),
        _category("kite", 28, 38, 155, "Kite"),
        _category("skateboard", 18, 41, 146, "Skateboard"),
        _category("surfboard", 12, 42, 147, "Surfboard"),
        _category("cup", 20, 47, 11, "Coffee cup", "cup_coffee", "cup_straw"),
        _category("banana", 20, 52, 113, "Banana"),
        _category("apple", 18, 53, 83, "Apple"),
        _category("pizza", 20, 59, 144, "Pizza"),
        _category("chair", 36, 62, 3, "Chair"),
        _category("couch", 35, 63, 51, "Couch"),
        _category("potted plant", 32, 64, 26, "Houseplant"),
        _category("bed", 37, 65, 76, "Bed"),
        _category("dining table", 30, 67, 99, "Table"),
        _category("tv", 26, 72, 38, "Television"),
        _category("laptop", 22, 73, 74, "Laptop"),
        _category("cell phone", 20, 77, 62, "Mobile phone"),
        _category("book", 20, 84, 19, "Book", "book_red", "book_open"),
        _category("teddy bear", 26, 88, 71, "Teddy bear"),
        _category("hat", 13, None, 5, "Hat"),
        _category("guitar", 28, None, 60, "Guitar"),
        _category("balloon", 26, None, 91, "Balloon"),
        _category("camera", 18, None, 64, "Camera"),
        _category("basket", 22, None, 53, "Picnic basket"),
        _category("flower", 24, None, 24, "Flower"),
        _category("watermelon", 18, None, 224, "Watermelon"),
        _category("tent", 36, None, 78, "Tent"),
        _category("rabbit", 28, None, 343, "Rabbit"),
        _category("pig", 32, None, 301, "Pig"),
        _category("duck", 26, None, 137, "Duck"),
        _category("deer", 42, None, 241, "Deer"),
        _category("camel", 50, None, 308, "Camel"),
        _category("penguin", 34, None, 258, "Penguin"),
    )
}

OBJECTS365_BY_SPRITE = {"ball_soccer": 119, "ball_basket": 178, "bird_green": 320, "car_blue": 35}
"""Where Objects365 divides finer than COCO: sprite -> id of Soccer, Basketball, Parrot, SUV."""

COCO_CATEGORIES: tuple[str, ...] = tuple(name for name, category in CATEGORIES.items() if category.coco_id is not None)
LOOKS: tuple[str, ...] = CATEGORIES["person"].sprites
OPEN_IMAGES_PERSONS = {"man": "Man", "woman": "Woman", "child": "Boy"}

# HICO-DET: verb -> (verb id, {object: (interaction id, instances in a training split of 2,400 images)}).
HICO_VERBS: dict[str, tuple[int, dict[str, tuple[int, int]]]] = {
    "carry": (
        9,
        {
            "backpack": (209, 30),
            "chair": (87, 24),
            "dog": (112, 9),
            "sheep": (175, 5),
            "skateboard": (454, 70),
            "surfboard": (517, 80),
        },
    ),
    "chase": (11, {"bird": (25, 40), "cat": (85, 8), "dog": (128, 70)}),
    "eat": (24, {"apple": (201, 70), "banana": (218, 60), "pizza": (423, 80)}),
    "feed": (
        27,
        {
            "bird": (26, 60),
            "cat": (78, 40),
            "cow": (97, 50),
            "dog": (114, 70),
            "elephant": (314, 30),
            "horse": (130, 80),
            "sheep": (176, 50),
        },
    ),
    "fly": (31, {"kite": (371, 120)}),
    "hold": (
        37,
        {
            "apple": (202, 50),
            "banana": (219, 45),
            "book": (249, 90),
            "cat": (79, 40),
            "cup": (298, 120),
            "kite": (372, 7),
            "pizza": (424, 40),
            "sports ball": (494, 90),
            "teddy bear": (530, 80),
            "umbrella": (578, 160),
        },
    ),
    "kick": (45, {"sports ball": (496, 130)}),
    "lie on": (50, {"bed": (241, 120), "bench": (245, 50), "couch": (94, 90), "surfboard": (522, 8)}),
    "pet": (66, {"cat": (82, 90), "cow": (104, 24), "dog": (121, 100), "horse": (138, 70), "sheep": (181, 9)}),
    "push": (72, {"bicycle": (17, 70), "motorcycle": (152, 30)}),
    "ride": (
        77,
        {
            "bicycle": (19, 150),
            "cow": (105, 7),
            "elephant": (321, 50),
            "horse": (140, 150),
            "motorcycle": (154, 110),
            "sheep": (182, 4),
            "skateboard": (460, 110),
            "surfboard": (524, 100),
        },
    ),
    "sit on": (
        88,
        {"bed": (242, 60), "bench": (246, 130), "chair": (90, 150), "couch": (95, 90), "skateboard": (461, 8)},
    ),
    "stand on": (94, {"chair": (91, 60), "skateboard": (462, 70), "surfboard": (525, 40)}),
    "throw": (105, {"sports ball": (501, 120)}),
    "walk": (111, {"bicycle": (22, 40), "cow": (106, 9), "dog": (126, 160), "horse": (144, 70), "sheep": (184, 20)}),
    "wash": (
        112,
        {"bicycle": (23, 8), "car": (75, 110), "dog": (127, 40), "elephant": (323, 6), "motorcycle": (159, 20)},
    ),
    "wear": (115, {"backpack": (213, 150)}),
}
RARE_BELOW = 10
UNSEEN_CLASSES = 12
UNSEEN_OBJECTS = 4

# Deeds of persons that are no class of the HICO-DET part; the second row needs categories that only Objects365 has.
OTHER_PERSON_DEEDS = {"read": ("book",), "drink from": ("cup",), "talk on": ("cell phone",), "work on": ("laptop",)}
OBJECTS365_DEEDS = {
    "wear": ("hat",),
    "hold": ("guitar", "balloon", "camera", "flower", "basket"),
    "eat": ("watermelon",),
    "ride": ("camel", "deer"),
    "feed": ("rabbit", "pig", "duck", "deer", "penguin"),
    "pet": ("rabbit", "pig", "deer"),
    "chase": ("rabbit", "duck", "pig"),
    "walk": ("pig", "camel"),
    "carry": ("basket",),
    "wash": ("pig", "bus"),
}
# Deeds without a person: relation -> subject -> objects.
OTHER_DEEDS: dict[str, dict[str, tuple[str, ...]]] = {
    "chase": {"dog": ("cat", "bird", "sheep"), "cat": ("bird",)},
    "lie on": {"dog": ("couch", "bed"), "cat": ("couch", "bed", "bench")},
    "ride": {"dog": ("skateboard",), "cat": ("skateboard",)},
    "eat": {"dog": ("pizza",), "horse": ("apple",), "bird": ("apple",)},
    "carry": {"dog": ("sports ball", "teddy bear")},
    "on": {
        "cat": ("chair", "couch", "bench"),
        "dog": ("couch", "bench"),
        "bird": ("bench", "chair", "elephant", "cow"),
        "cup": ("dining table",),
        "book": ("dining table", "bed"),
        "laptop": ("dining table",),
        "pizza": ("dining table",),
        "apple": ("dining table",),
        "teddy bear": ("bed", "couch", "chair"),
        "backpack": ("bench", "chair"),
        "tv": ("dining table",),
    },
    "under": {
        "cat": ("dining table", "bench"),
        "dog": ("dining table",),
        "sports ball": ("bench", "chair", "dining table"),
        "backpack": ("dining table",),
    },
}
SPATIAL_RELATIONS = ("next to", "behind")
IMPLIED = {
    "ride": ("on",),
    "sit on": ("on",),
    "lie on": ("on",),
    "stand on": ("on",),
    "carry": ("hold",),
    "walk": ("hold",),
}
"""Relations that are true as well whenever another is, though they do not name what happens."""

Wording = Literal["exact", "synonym", "absent"]
VISUAL_GENOME_WORDING: dict[str, Wording] = {
    "ride": "exact",
    "sit on": "exact",
    "hold": "exact",
    "wear": "exact",
    "eat": "exact",
    "walk": "exact",
    "push": "exact",
    "carry": "synonym",
    "lie on": "synonym",
    "stand on": "synonym",
    "feed": "synonym",
    "pet": "synonym",
    "kick": "synonym",
    "chase": "synonym",
    "wash": "absent",
    "throw": "absent",
    "fly": "absent",
}
"""How the Visual Genome part speaks of a verb: also in the benchmark's own words, only in others, or never (nor does it happen there)."""


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
def person_deeds() -> tuple[Deed, ...]:
    """Deeds of persons that every detection part knows: the interaction classes first, then a few more."""
    classes = (Deed(item.verb, "person", item.object) for item in interactions())
    others = (Deed(relation, "person", noun) for relation, nouns in OTHER_PERSON_DEEDS.items() for noun in nouns)
    return (*classes, *others)


@cache
def objects365_deeds() -> tuple[Deed, ...]:
    """Deeds with categories that only Objects365 has."""
    return tuple(Deed(relation, "person", noun) for relation, nouns in OBJECTS365_DEEDS.items() for noun in nouns)


@cache
def other_deeds() -> tuple[Deed, ...]:
    """Deeds of animals and things."""
    return tuple(
        Deed(relation, subject, noun)
        for relation, table in OTHER_DEEDS.items()
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
