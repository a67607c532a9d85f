"""Compose a picture: act the events out, add what has no relation, find places, read off the spatial relations.

All randomness comes from the generator passed in; a picture depends on nothing else.
"""

from __future__ import annotations

from random import Random

from rlip_assets.micro_world.group import Group
from rlip_assets.micro_world.near_misses import idle_person, lonely_thing, unrelated_pair
from rlip_assets.micro_world.picture import Colour, Mark, Picture, Relation, Thing
from rlip_assets.micro_world.relation_drawing import act_out
from rlip_assets.micro_world.sprite_sheet import sprite_size
from rlip_assets.micro_world.world import Event

HEIGHT = 128
WIDTHS = (128, 136, 144, 152, 160)
MARGIN = 1.0
TRIES = 24
CLOSE_UP = 1.3
"""Factor by which things are drawn larger than on the sheet of categories: a person is about 50 pixels tall."""
SIZES = (1.0, 0.9, 0.8)
CROWDED = 0.08
MOST_THINGS = 8
BACKDROPS: tuple[tuple[Colour, Colour, tuple[str, ...]], ...] = (
    ((176, 216, 240), (150, 196, 120), ("tree", "pine", "house", "cloud", "sun")),  # meadow
    ((186, 222, 244), (234, 214, 160), ("cloud", "sun")),  # beach
    ((206, 214, 222), (176, 176, 180), ("house", "tree", "cloud")),  # street
    ((240, 226, 200), (206, 176, 140), ()),  # room
    ((222, 228, 240), (236, 240, 246), ("pine", "cloud")),  # snow
)


def compose(rng: Random, events: list[Event], bystanders: tuple[str, ...]) -> Picture:
    """A picture in which all `events` happen, and no other, with up to two groups of bystanders of the categories given.

    Args:
        rng: source of all randomness.
        events: one to three.
        bystanders: categories (other than person) that may stand around without a relation.
    """
    picture = _backdrop(rng)
    groups = sorted(act_out(rng, events), key=lambda group: group.extent()[0] - group.extent()[2])
    wanted = len(groups)
    groups += _bystanders(rng, bystanders, sum(len(group.things) for group in groups))
    shrink = 1.0 if len(groups) <= 2 else 0.92 if len(groups) == 3 else 0.86
    placed: list[Thing] = []
    for number, group in enumerate(groups):
        if _place(rng, group, picture, placed, shrink, must=number < wanted):
            _add(picture, group)
            placed += group.things
    picture.relations += _spatial_relations(picture.things, picture.relations)
    return picture


def _backdrop(rng: Random) -> Picture:
    sky, ground, scenery = rng.choice(BACKDROPS)
    picture = Picture(rng.choice(WIDTHS), HEIGHT, rng.randint(52, 74), _shade(rng, sky), _shade(rng, ground))
    for name in rng.sample(scenery, k=min(len(scenery), rng.choice((0, 1, 1, 2)))):
        columns, rows = sprite_size(name)
        aloft = name in ("cloud", "sun")
        height = rng.uniform(14, 20) if aloft else rng.uniform(22, 34)
        y = rng.uniform(2, 12) if aloft else picture.ground + 2 - height
        picture.scenery.append(
            Thing(name, name, rng.uniform(0, picture.width - height), y, height * columns / rows, height)
        )
    return picture


def _shade(rng: Random, colour: Colour) -> Colour:
    light, tints = rng.randint(-14, 10), [rng.randint(-6, 6) for _ in colour]
    red, green, blue = (min(255, max(0, channel + light + tint)) for channel, tint in zip(colour, tints, strict=True))
    return red, green, blue


def _bystanders(rng: Random, categories: tuple[str, ...], things: int) -> list[Group]:
    groups: list[Group] = []
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2))):
        room = MOST_THINGS - things - sum(len(group.things) for group in groups)
        dice = rng.random()
        category = rng.choice(categories)
        if dice < 0.5 and room >= 2:
            groups.append(unrelated_pair(rng, category))
        elif dice < 0.8 and room >= 1:
            groups.append(lonely_thing(rng, category))
        elif room >= 1:
            groups.append(idle_person(rng))
    return groups


def _covered(thing: Thing, by: Thing) -> float:
    """Share of the box of `thing` that the box of `by` covers."""
    width = min(thing.x + thing.width, by.x + by.width) - max(thing.x, by.x)
    height = min(thing.y + thing.height, by.y + by.height) - max(thing.y, by.y)
    return max(0.0, width) * max(0.0, height) / (thing.width * thing.height)


def _crowding(things: list[Thing], placed: list[Thing], scale: float, dx: float, dy: float) -> float:
    """Return how much the things, scaled and moved, and those placed already would hide of each other."""
    crowding = 0.0
    for thing in things:
        x0, y0 = thing.x * scale + dx, thing.y * scale + dy
        x1, y1 = x0 + thing.width * scale, y0 + thing.height * scale
        for other in placed:
            if other.x < x1 and other.y < y1 and other.x + other.width > x0 and other.y + other.height > y0:
                width = min(x1, other.x + other.width) - max(x0, other.x)
                height = min(y1, other.y + other.height) - max(y0, other.y)
                smaller = min((x1 - x0) * (y1 - y0), other.width * other.height)
                crowding += (width * height / smaller) ** 2
    return crowding


def _place(rng: Random, group: Group, picture: Picture, placed: list[Thing], shrink: float, *, must: bool) -> bool:
    """Mirror, scale and move the group to the least crowded of some random places.

    A group that must be there is tried smaller when all places are crowded; a bystander then stays away (False).
    """
    if rng.random() < 0.5:
        group.mirror()
    x0, y0, x1, y1 = group.extent()
    largest = min((picture.width - 2 * MARGIN) / (x1 - x0), (HEIGHT - 2 * MARGIN) / (y1 - y0))
    best = (float("inf"), 1.0, 0.0, 0.0)  # crowding, scale, dx, dy
    for size in SIZES if must else SIZES[:1]:
        scale = min(CLOSE_UP * size * shrink * rng.uniform(0.92, 1.1), largest)
        for _ in range(TRIES):
            bottom = rng.uniform(picture.ground + 20, HEIGHT - 3)
            bottom = min(max(bottom, MARGIN - y0 * scale), HEIGHT - MARGIN - y1 * scale)
            dx = rng.uniform(MARGIN - x0 * scale, picture.width - MARGIN - x1 * scale)
            crowding = _crowding(group.things, placed, scale, dx, bottom)
            if crowding < best[0]:
                best = crowding, scale, dx, bottom
            if crowding == 0:
                break
        if best[0] <= CROWDED:
            break
    crowding, scale, dx, bottom = best
    if not must and crowding > CROWDED:
        return False
    group.transform(scale, dx, bottom)
    parts: list[Thing | Mark] = [*group.things, *group.marks]
    for part in parts:
        part.depth += 10 * bottom  # who stands further down stands in front
    return True


def _add(picture: Picture, group: Group) -> None:
    first = len(picture.things)
    for thing in group.things:
        x1, y1 = round(thing.x + thing.width), round(thing.y + thing.height)
        thing.x, thing.y = max(0, round(thing.x)), max(0, round(thing.y))
        thing.width, thing.height = min(picture.width, x1) - thing.x, min(picture.height, y1) - thing.y
    picture.things += group.things
    picture.marks += group.marks
    picture.relations += [Relation(r.subject + first, r.object + first, r.text) for r in group.relations]


def _spatial_relations(things: list[Thing], relations: list[Relation]) -> list[Relation]:
    """`next to` (both ways) and `behind`, for all pairs on the ground that fulfil them and are not related otherwise."""
    related = {frozenset((relation.subject, relation.object)) for relation in relations}
    found = []
    for i, one in enumerate(things):
        for j, two in enumerate(things):
            if i == j or not (one.grounded and two.grounded) or frozenset((i, j)) in related:
                continue
            gap = max(one.x, two.x) - min(one.x + one.width, two.x + two.width)
            rise = (two.y + two.height) - (one.y + one.height)
            narrow = min(one.width, two.width)
            if abs(rise) <= 8 and -0.15 * narrow <= gap <= 10:
                found.append(Relation(i, j, "next to", spatial=True))
            elif rise >= 3 and one.depth < two.depth and gap <= -0.45 * narrow and _covered(one, two) >= 0.12:
                found.append(Relation(i, j, "behind", spatial=True))
    return found
