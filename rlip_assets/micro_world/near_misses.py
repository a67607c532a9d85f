"""Things without a relation, near each other too: what keeps labels and boxes from telling the relation."""

from __future__ import annotations

from random import Random

from rlip_assets.micro_world.group import Group
from rlip_assets.micro_world.world import CATEGORIES

IN_THE_AIR = {"kite": 1.0, "balloon": 1.0, "sports ball": 0.4}  # how often it hangs or flies by itself
IDLE_POSES = ("stand", "stand", "walk", "walk", "squat", "kneel", "run")
FURNITURE = ("bench", "chair", "couch", "bed", "dining table")
HIDDEN_LEGS = (*FURNITURE, "bicycle", "motorcycle", "car", "horse", "cow", "sheep", "elephant")


def idle_person(rng: Random) -> Group:
    """A person who does nothing with anything."""
    group = Group(rng)
    group.person(rng.choice(IDLE_POSES), facing=rng.choice((-1, 1)))
    return group


def lonely_thing(rng: Random, category: str) -> Group:
    """A thing that nobody uses; a kite hangs in the air without a string, a ball may fly by."""
    group = Group(rng)
    aloft = rng.random() < IN_THE_AIR.get(category, 0.0)
    group.put(category, bottom=-45 if aloft else 0, facing=rng.choice((-1, 1)), grounded=not aloft)
    return group


def unrelated_pair(rng: Random, category: str) -> Group:
    """A person beside, behind or before a thing, with the arms down: no relation though the boxes touch or overlap."""
    group = Group(rng)
    aloft = rng.random() < IN_THE_AIR.get(category, 0.0)
    thing = group.put(
        category, bottom=-rng.uniform(38, 62) if aloft else 0, facing=rng.choice((-1, 1)), grounded=not aloft
    )
    if category in HIDDEN_LEGS and rng.random() < 0.45:
        group.person("stand", x=rng.uniform(-0.3, 0.3) * thing.width, bottom=-6, depth=-0.5)
        return group
    person = group.person(rng.choice(IDLE_POSES), facing=rng.choice((-1, 1)), depth=-0.2)
    side = rng.choice((-1, 1))
    gap = rng.uniform(-4, 6) if CATEGORIES[category].height > 20 else rng.uniform(0, 8)
    person.x = thing.centre[0] + side * (thing.width / 2 + gap) - (0 if side > 0 else person.width)
    return group
