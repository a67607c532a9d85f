"""Events of animals and things, and where things are put: chasing, lying, riding, eating, carrying, on, under."""

from __future__ import annotations

from rlip_assets.micro_world.group import Group
from rlip_assets.micro_world.picture import Thing
from rlip_assets.micro_world.relation_drawing.body import chase
from rlip_assets.micro_world.relation_drawing.seats import put_on
from rlip_assets.micro_world.world import Event


def _on(group: Group, event: Event) -> None:
    """Standing on top, upright."""
    support = group.put(event.object)
    room = support.width * (0.3 if event.object in ("dining table", "bench", "couch", "bed") else 0.0)
    put_on(group, event.subject, support, support.anchor("seat")[0] + group.rng.uniform(-room, room))


def _under(group: Group, event: Event) -> None:
    """On the ground below a raised piece of furniture."""
    roof = group.put(event.object, height=36 if event.object == "dining table" else None)
    room = roof.width * 0.16 if event.object != "chair" else 0.0
    thing = group.put(
        event.subject, x=roof.centre[0] + group.rng.uniform(-room, room), depth=-0.5, facing=group.rng.choice((-1, 1))
    )
    shrink = min(1.0, 0.72 * roof.height / thing.height)
    middle = thing.centre[0]
    thing.width, thing.height = thing.width * shrink, thing.height * shrink
    thing.x, thing.y = middle - thing.width / 2, 1 - thing.height
    group.relate(thing, "under", roof)


def _lie_on(group: Group, event: Event) -> None:
    """On its back, legs in the air."""
    support = group.put(event.object)
    x, y = support.anchor("seat")
    animal = group.put(
        event.subject, x=x + group.rng.uniform(-8, 8), bottom=y + 3, depth=0.5, angle=180, grounded=False
    )
    group.relate(animal, "lie on", support)


def _ride(group: Group, event: Event) -> None:
    """On a rolling board, motion lines behind."""
    board = group.put(event.object)
    rider = group.put(event.subject, bottom=board.anchor("seat")[1] + 2, depth=0.5, grounded=False)
    group.speed_lines(board.x + board.width + 3, rider.y + 6, board.y - 2, -1)
    group.relate(rider, "ride", board)


def _at_the_mouth(group: Group, event: Event, height: float, lower: float) -> Thing:
    animal = group.put(event.subject)
    x, y = animal.anchor("mouth")
    thing = group.put(event.object, depth=0.4, height=height, grounded=False)
    thing.x, thing.y = x - thing.width * 0.75, y - thing.height * lower
    group.relate(animal, event.relation, thing)
    return thing


def _eat(group: Group, event: Event) -> None:
    """Food at the mouth with crumbs falling."""
    food = _at_the_mouth(group, event, 17, 0.4)
    for dx, dy in ((0.3, 1.15), (0.7, 1.3), (0.5, 1.5)):
        group.disc((food.x + food.width * dx, food.y + food.height * dy), 1.3, (150, 90, 30))


def _carry(group: Group, event: Event) -> None:
    """Hanging from the mouth."""
    _at_the_mouth(group, event, 18, 0.15)


def _chase(group: Group, event: Event) -> None:
    chase(group, event.object, event.subject)


OTHER_EVENTS = {
    "chase": _chase,
    "lie on": _lie_on,
    "ride": _ride,
    "eat": _eat,
    "carry": _carry,
    "on": _on,
    "under": _under,
}
"""Relation -> function(group, event)."""
