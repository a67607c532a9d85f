"""How each deed is drawn: poses, positions, depth and small cues, so that a person names the relation at a glance."""

from __future__ import annotations

from random import Random

from rlip_assets.micro_world.deeds.body import BODY_DEEDS
from rlip_assets.micro_world.deeds.care import CARE_DEEDS
from rlip_assets.micro_world.deeds.hands import HAND_DEEDS, can_take, poses_for
from rlip_assets.micro_world.deeds.others import OTHER_DEEDS
from rlip_assets.micro_world.group import Group
from rlip_assets.micro_world.world import Deed

JOIN = 0.6  # how often a deed joins a group that has room for it


def _join(groups: list[Group], deed: Deed) -> bool:
    """Let a person of some group do this as well, or a new person do it to an animal or vehicle of some group."""
    if deed.subject != "person":
        return False
    for group in groups:
        if deed.relation in HAND_DEEDS:
            for person in [thing for thing in group.things if thing.category == "person"]:
                if can_take(group, person, deed.relation, deed.object):
                    HAND_DEEDS[deed.relation](group, person, deed.object)
                    return True
        elif deed.relation in CARE_DEEDS and len([thing for thing in group.things if thing.category == "person"]) == 1:
            for thing in group.things:
                if (
                    thing.category == deed.object
                    and thing.grounded
                    and deed.relation not in {r.text for r in group.relations}
                ):
                    CARE_DEEDS[deed.relation](group, thing)
                    return True
    return False


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
