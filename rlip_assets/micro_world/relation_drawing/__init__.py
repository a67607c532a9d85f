"""Drawing of relations: poses, positions, depth and small cues, so that a person names the relation at a glance."""

from __future__ import annotations

from random import Random

from rlip_assets.micro_world.group import Group
from rlip_assets.micro_world.picture import Thing
from rlip_assets.micro_world.relation_drawing.body import BODY_EVENTS
from rlip_assets.micro_world.relation_drawing.care import CARE_EVENTS
from rlip_assets.micro_world.relation_drawing.hands import HAND_EVENTS, can_take, poses_for
from rlip_assets.micro_world.relation_drawing.others import OTHER_EVENTS
from rlip_assets.micro_world.relation_drawing.seats import SEAT_EVENTS
from rlip_assets.micro_world.world import Event

JOIN = 0.85  # how often an event joins a group that has room for it
LEAVE_HANDS_FREE = ("ride", "sit on", "stand on", "walk", "wear", "kick")
WIDE_SEATS = ("bench", "couch", "bed")


def goes_with(first: Event, second: Event) -> bool:
    """Return whether `second` may share a person or an object with `first`."""
    if first == second and second.relation not in SEAT_EVENTS:
        return False
    if second.object == first.object:
        return second.relation in CARE_EVENTS or (second.relation in SEAT_EVENTS and second.object in WIDE_SEATS)
    persons = first.subject == second.subject == "person"
    return persons and second.relation in HAND_EVENTS and first.relation in LEAVE_HANDS_FREE


def _persons(group: Group) -> list[Thing]:
    return [thing for thing in group.things if thing.category == "person"]


def _join_by_hand(group: Group, event: Event) -> bool:
    """A person who has a hand free does this as well."""
    for person in _persons(group):
        if can_take(group, person, event.relation, event.object):
            HAND_EVENTS[event.relation](group, person, event.object)
            return True
    return False


def _join_with_care(group: Group, event: Event) -> bool:
    """A second person does it to the animal or vehicle of the first."""
    for thing in group.things:
        free = thing.category == event.object and thing.grounded and len(_persons(group)) == 1
        if free and event.relation not in {relation.text for relation in group.relations}:
            CARE_EVENTS[event.relation](group, thing)
            return True
    return False


def _join_on_seat(group: Group, event: Event) -> bool:
    """Another one sits or stands on the free end of a bench, couch or bed."""
    for seat in group.things:
        users = [
            group.things[relation.subject] for relation in group.relations if group.things[relation.object] is seat
        ]
        if seat.category == event.object and seat.category in WIDE_SEATS and len(users) == 1 and users[0].pose != "lie":
            side = -1 if users[0].centre[0] > seat.centre[0] else 1
            SEAT_EVENTS[event.relation](group, event.subject, seat, seat.centre[0] + side * 0.3 * seat.width)
            return True
    return False


def _join(groups: list[Group], event: Event) -> bool:
    if event.relation in HAND_EVENTS and event.subject == "person":
        join = _join_by_hand
    elif event.relation in CARE_EVENTS:
        join = _join_with_care
    elif event.relation in SEAT_EVENTS:
        join = _join_on_seat
    else:
        return False
    return any(join(group, event) for group in groups)


def _start(rng: Random, event: Event) -> Group:
    group = Group(rng)
    if event.subject != "person":
        OTHER_EVENTS[event.relation](group, event)
    elif event.relation in BODY_EVENTS:
        BODY_EVENTS[event.relation](group, event.object)
    elif event.relation in CARE_EVENTS:
        CARE_EVENTS[event.relation](group, group.put(event.object))
    else:
        person = group.person(rng.choice(poses_for(event.relation, event.object)))
        HAND_EVENTS[event.relation](group, person, event.object)
    return group


def act_out(rng: Random, events: list[Event]) -> list[Group]:
    """Groups that show all events, each exactly once; events that go together often share a person or an animal."""
    groups: list[Group] = []
    for event in sorted(events, key=lambda event: event.relation in HAND_EVENTS or event.relation in CARE_EVENTS):
        if not (groups and rng.random() < JOIN and _join(groups, event)):
            groups.append(_start(rng, event))
    return groups
