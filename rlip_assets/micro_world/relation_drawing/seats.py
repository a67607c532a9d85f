"""Taking a place on a seat that is there already."""

from __future__ import annotations

from rlip_assets.micro_world.group import Group
from rlip_assets.micro_world.picture import Thing


def sit_down(group: Group, subject: str, seat: Thing, x: float) -> Thing:
    """A person sits down at `x`, legs hanging in front of the seat."""
    sitter = group.person("sit", depth=seat.depth + 0.5, grounded=False)
    group.move(sitter, "hip", (x, seat.anchor("seat")[1]))
    group.relate(sitter, "sit on", seat)
    return sitter


def put_on(group: Group, subject: str, seat: Thing, x: float) -> Thing:
    """An animal or thing stands on the seat at `x`, upright."""
    bottom = seat.anchor("seat")[1] + 2
    facing = group.rng.choice((-1, 1))
    thing = group.put(subject, x=x, bottom=bottom, depth=seat.depth + 0.5, facing=facing, grounded=False)
    group.relate(thing, "on", seat)
    return thing


SEAT_EVENTS = {"sit on": sit_down, "on": put_on}
"""Relation -> function(group, subject, seat, x)."""
