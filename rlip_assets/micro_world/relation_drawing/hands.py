"""Events of the hands, given to a person who is there already: holding, eating, drinking, reading, wearing ..."""

from __future__ import annotations

from rlip_assets.micro_world.group import REACH, Group, stature
from rlip_assets.micro_world.picture import Thing

STRAP = (120, 20, 30)
IN_BOTH_ARMS = ("cat", "teddy bear", "basket", "guitar")
BY_THE_GRIP = ("umbrella", "balloon")
SIDE_POSES = ("walk", "run", "kneel", "sit", "ride", "kick", "surf")


def _held(group: Group, person: Thing, noun: str, **options: float | str) -> Thing:
    return group.put(noun, facing=person.facing, depth=person.depth + 0.2, grounded=False, **options)  # type: ignore[arg-type]


def _centre(thing: Thing, x: float, y: float) -> None:
    thing.x, thing.y = x - thing.width / 2, y - thing.height / 2


def hold(group: Group, person: Thing, noun: str) -> None:
    """One hand at an object before the body; small animals and toys in both arms; umbrella and balloon by the grip."""
    x, y = person.anchor("shoulder")
    tall, ahead = stature(person), person.facing
    thing = _held(group, person, noun, **({"sprite": "book_red"} if noun == "book" else {}))
    if noun in BY_THE_GRIP:
        hand = (x + ahead * 0.2 * tall, y - 0.02 * tall)
        group.move(thing, "grip", hand)
        group.arm(person, hand)
    elif noun in IN_BOTH_ARMS:
        _centre(thing, x + ahead * (0.16 * tall + 4), y + 0.12 * tall)
        group.arm(person, (thing.centre[0] + ahead * 3, y + 0.16 * tall), depth=person.depth + 0.3)
        group.arm(person, (thing.centre[0], y + 0.24 * tall), shoulder="rear", depth=person.depth + 0.3)
    else:
        hand = (x + ahead * REACH * 0.85 * tall, y + 0.14 * tall)
        _centre(thing, hand[0] + ahead * thing.width * 0.3, hand[1])
        group.arm(person, hand)
    group.relate(person, "hold", thing)


def _to_the_mouth(group: Group, person: Thing, noun: str, relation: str) -> None:
    x, y = person.anchor("mouth")
    ahead = person.facing
    thing = _held(group, person, noun)
    _centre(thing, x + ahead * thing.width * 0.34, y + 2)
    group.arm(person, (x + ahead * thing.width * 0.4, y + thing.height * 0.4), bend=6, depth=person.depth + 0.1)
    group.relate(person, relation, thing)


def eat(group: Group, person: Thing, noun: str) -> None:
    """Food at the mouth."""
    _to_the_mouth(group, person, noun, "eat")


def drink_from(group: Group, person: Thing, noun: str) -> None:
    """A cup at the mouth."""
    _to_the_mouth(group, person, noun, "drink from")


def read(group: Group, person: Thing, noun: str) -> None:
    """An open book before the face, in both hands."""
    x, y = person.anchor("shoulder")
    tall, ahead = stature(person), person.facing
    thing = _held(group, person, noun, sprite="book_open", height=16)
    _centre(thing, x + ahead * (0.22 * tall + thing.width * 0.2), y - 0.04 * tall)
    for offset in (-4, 4):
        group.arm(person, (thing.centre[0] + offset, thing.y + thing.height - 2), bend=5)
    group.relate(person, "read", thing)


def talk_on(group: Group, person: Thing, noun: str) -> None:
    """A phone at the ear."""
    x, y = person.anchor("ear")
    thing = _held(group, person, noun, height=17)
    _centre(thing, x, y + 2)
    group.arm(person, (x, y + 7), bend=7)
    group.relate(person, "talk on", thing)


def work_on(group: Group, person: Thing, noun: str) -> None:
    """A laptop before the lap, both hands on it."""
    x, y = person.anchor("hip")
    ahead = person.facing if person.pose in SIDE_POSES else 0
    thing = _held(group, person, noun)
    _centre(thing, x + ahead * 0.34 * stature(person), y - thing.height * 0.3)
    for offset in (-4, 4):
        group.arm(person, (thing.centre[0] + offset, thing.y + thing.height * 0.75), bend=3, depth=person.depth + 0.3)
    group.relate(person, "work on", thing)


def wear(group: Group, person: Thing, noun: str) -> None:
    """A backpack on the back with a strap over the shoulder; a hat on the head."""
    if noun == "hat":
        x, _ = person.anchor("ear")
        thing = _held(group, person, noun)
        thing.x, thing.y = x - thing.width / 2 + person.facing * 2, person.y - thing.height * 0.45
    else:
        x, y = person.anchor("back")
        thing = group.put(noun, facing=person.facing, depth=person.depth - 0.1, grounded=False)
        _centre(thing, x - person.facing * thing.width * 0.34, y - 1)
        shoulder = person.anchor("shoulder")
        group.line(
            [(x, y - 9), (shoulder[0], shoulder[1] - 2), (shoulder[0], shoulder[1] + 9), (x, y + 7)],
            STRAP,
            1.8,
            person.depth + 0.05,
        )
    group.relate(person, "wear", thing)


HAND_EVENTS = {
    "hold": hold,
    "eat": eat,
    "drink from": drink_from,
    "read": read,
    "talk on": talk_on,
    "work on": work_on,
    "wear": wear,
}
"""Relation -> function(group, person, noun). All but `wear` need free hands."""


def poses_for(relation: str, noun: str) -> tuple[str, ...]:
    """Poses in which a person may do it when that is all they do."""
    if relation == "wear" and noun != "hat":
        return ("walk", "walk", "run", "kneel")
    if relation == "work on":
        return ("squat", "kneel")
    return ("stand", "walk", "squat") if relation in ("hold", "talk on") else ("stand", "walk", "squat", "kneel")


def can_take(group: Group, person: Thing, relation: str, noun: str) -> bool:
    """Return whether a person who is doing something else can do this as well."""
    if person.pose not in (*SIDE_POSES, "stand", "squat") or relation == "work on" or relation in group.related(person):
        return False
    if relation == "wear":
        return noun == "hat" or person.pose in SIDE_POSES
    return not person.busy and not (person.pose == "ride" and noun in IN_BOTH_ARMS)
