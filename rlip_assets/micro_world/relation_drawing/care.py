"""Events done to an animal or vehicle that is there already: feeding, petting, washing."""

from __future__ import annotations

from rlip_assets.micro_world.group import MOTION, REACH, Group, stature
from rlip_assets.micro_world.picture import Thing

FOOD = ((250, 120, 20), (110, 190, 40))
SPONGE = (250, 220, 40)
BUBBLE, BUBBLE_EDGE = (225, 243, 255), (70, 150, 220)
SMALL = 33.0  # below this height one kneels down to an animal


def _helper(group: Group, target: Thing, at: float, facing: int, depth: float) -> Thing:
    """A person whose shoulder is an arm's length from `at`, looking there."""
    person = group.person(
        "kneel" if target.height < SMALL else "walk",
        facing=facing,
        bottom=target.y + target.height,
        depth=target.depth + depth,
    )
    group.move(person, "shoulder", (at - facing * REACH * 0.92 * stature(person), 0.0), along_y=False)
    return person


def feed(group: Group, target: Thing) -> None:
    """Before the animal, a hand with food at its mouth."""
    x, y = target.anchor("mouth")
    ahead = target.facing
    person = _helper(group, target, x + ahead * 4, -ahead, 0.2)
    group.arm(person, (x + ahead * 5, y))
    group.disc((x + ahead * 1.5, y), 3.4, group.rng.choice(FOOD), target.depth + 1.0, (90, 60, 20))
    group.relate(person, "feed", target)


def pet(group: Group, target: Thing) -> None:
    """A hand on the head or the back, two small arcs above it."""
    ahead = target.facing
    from_behind = group.rng.random() < 0.5
    x, y = target.anchor("seat" if from_behind else "head")
    person = _helper(group, target, x, ahead if from_behind else -ahead, -0.3 if from_behind else 0.2)
    group.arm(person, (x, y), depth=target.depth + 0.3)
    for lift in (5, 9):
        group.line([(x - 4, y - lift + 2), (x, y - lift), (x + 4, y - lift + 2)], MOTION, 1.3, target.depth + 1.0)
    group.relate(person, "pet", target)


def wash(group: Group, target: Thing) -> None:
    """A sponge at the flank, bubbles all over."""
    rng = group.rng
    side = rng.choice((-1, 1))
    x = target.centre[0] + side * target.width * 0.36
    y = target.y + target.height * rng.uniform(0.35, 0.6)
    person = _helper(group, target, x, -side, 0.2)
    group.arm(person, (x, y), depth=target.depth + 0.5)
    group.disc((x - side * 3, y), 3.6, SPONGE, target.depth + 1.0, (150, 120, 10))
    for _ in range(7):
        spot = (target.x + target.width * rng.uniform(0.1, 0.9), target.y + target.height * rng.uniform(-0.1, 0.85))
        group.disc(spot, rng.uniform(2.0, 3.8), BUBBLE, target.depth + 0.9, BUBBLE_EDGE)
    group.relate(person, "wash", target)


CARE_EVENTS = {"feed": feed, "pet": pet, "wash": wash}
"""Relation -> function(group, target)."""
