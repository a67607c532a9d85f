"""How each deed is drawn: poses, positions, depth and small cues, so that a person names the relation at a glance."""

from __future__ import annotations

from random import Random

from rlip_assets.micro_world.deeds.body import BODY_DEEDS
from rlip_assets.micro_world.deeds.care import CARE_DEEDS
from rlip_assets.micro_world.deeds.hands import HAND_DEEDS, can_take, poses_for
from rlip_assets.micro_world.deeds.others import OTHER_DEEDS
from rlip_assets.micro_world.deeds.seats import SEAT_DEEDS
from rlip_assets.micro_world.group import Group
from rlip_assets.micro_world.picture import Thing
from rlip_assets.micro_world.world import Deed

JOIN = 0.85  # how often a deed joins a group that has room for it
LEAVE_HANDS_FREE = ("ride", "sit on", "stand on", "walk", "wear", "kick")
WIDE_SEATS = ("bench", "couch", "bed")


def goes_with(first: Deed, second: Deed) -> bool:
    """Whether `second` may share a person or an object with `first`."""
    if first == second and second.relation not in SEAT_DEEDS:
        return False
    if second.object == first.object:
        return second.relation in CARE_DEEDS or (second.relation in SEAT_DEEDS and second.object in WIDE_SEATS)
    persons = first.subject == second.subject == "person"
    return persons and second.relation in HAND_DEEDS and first.relation in LEAVE_HANDS_FREE


def _persons(group: Group) -> list[Thing]:
    return [thing for thing in group.things if thing.category == "person"]


def _join_by_hand(group: Group, deed: Deed) -> bool:
    """A person who has a hand free does this as well."""
    for person in _persons(group):
        if can_take(group, person, deed.relation, deed.object):
            HAND_DEEDS[deed.relation](group, person, deed.object)
            return True
    return False


def _join_with_care(group: Group, deed: Deed) -> bool:
    """A second person does it to the animal or vehicle of the first."""
    for thing in group.things:
        free = thing.category == deed.object and thing.grounded and len(_persons(group)) == 1
        if free and deed.relation not in {relation.text for relation in group.relations}:
            CARE_DEEDS[deed.relation](group, thing)
            return True
    return False


def _join_on_seat(group: Group, deed: Deed) -> bool:
    """Another one sits or stands on the free end of a bench, couch or bed."""
    for seat in group.things:
        users = [
            group.things[relation.subject] for relation in group.relations if group.things[relation.object] is seat
        ]
        if seat.category == deed.object and seat.category in WIDE_SEATS and len(users) == 1 and users[0].pose != "lie":
            side = -1 if users[0].centre[0] > seat.centre[0] else 1
            SEAT_DEEDS[deed.relation](group, deed.subject, seat, seat.centre[0] + side * 0.3 * seat.width)
            return True
    return False


def _join(groups: list[Group], deed: Deed) -> bool:
    if deed.relation in HAND_DEEDS and deed.subject == "person":
        join = _join_by_hand
    elif deed.relation in CARE_DEEDS:
        join = _join_with_care
    elif deed.relation in SEAT_DEEDS:
        join = _join_on_seat
    else:
        return False
    return any(join(group, deed) for group in groups)


def _start(rng: Random, deed: Deed) -> Group:
    group = Group(rng)
    if deed.subject != "person":
        OTHER_DEEDS[deed.relation](group, deed)
    elif deed.relation in BODY_DEEDS:
        BODY_DEEDS[deed.relation](group, deed.object)
    elif deed.relation in CARE_DEEDS:
        CARE_DEEDS[deed.relation](group, group.put(deed.object))
    else:
        person = group.person(rng.choice(poses_for(deed.relation, deed.object)))
        HAND_DEEDS[deed.relation](group, person, deed.object)
    return group


def act_out(rng: Random, deeds: list[Deed]) -> list[Group]:
    """Groups that show all deeds, each exactly once; deeds that go together often share a person or an animal."""
    groups: list[Group] = []
    for deed in sorted(deeds, key=lambda deed: deed.relation in HAND_DEEDS or deed.relation in CARE_DEEDS):
        if not (groups and rng.random() < JOIN and _join(groups, deed)):
            groups.append(_start(rng, deed))
    return groups
