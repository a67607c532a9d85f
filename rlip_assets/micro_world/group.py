"""A group: the few things and marks that one or two events consist of, before they find their place in a picture.

Coordinates are local: x = 0 is the middle, y = 0 the ground, y grows downwards. Groups are built looking to the left at scale 1; the scene
generator mirrors, scales and moves them.
"""

from __future__ import annotations

from random import Random
from typing import TypedDict, Unpack

from rlip_assets.micro_world.picture import Colour, Mark, Point, Relation, Thing
from rlip_assets.micro_world.sprite_sheet import sprite_size
from rlip_assets.micro_world.world import CATEGORIES, LOOKS

CELL = 72  # height of a standing person in the sheet
STATURE = {"man": 1.0, "woman": 0.97, "child": 0.8}
SLEEVES: dict[str, Colour] = {"man": (18, 158, 132), "woman": (92, 20, 240), "child": (245, 130, 15)}
SKIN: dict[str, Colour] = {"light": (255, 200, 40), "dark": (140, 88, 60)}
MOTION: Colour = (60, 60, 70)
REACH = 0.36  # length of an arm, in statures


class Place(TypedDict, total=False):
    """The options of `Group.put` that a person has too."""

    x: float
    bottom: float
    facing: int
    depth: float
    angle: int
    grounded: bool


class Group:
    """Builder of things, marks and relations in local coordinates."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.things: list[Thing] = []
        self.marks: list[Mark] = []
        self.relations: list[Relation] = []

    # ---- things

    def put(
        self,
        category: str,
        *,
        x: float = 0.0,
        bottom: float = 0.0,
        facing: int = -1,
        depth: float = 0.0,
        angle: int = 0,
        height: float | None = None,
        sprite: str | None = None,
        grounded: bool = True,
    ) -> Thing:
        """Add a thing with its lower edge at `bottom` and its middle at `x`; `height` is that of the upright sprite."""
        sprite = sprite or self.rng.choice(CATEGORIES[category].sprites)
        columns, rows = sprite_size(sprite)
        height = height or CATEGORIES[category].height
        width = height * columns / rows
        if angle in (90, 270):
            width, height = height, width
        thing = Thing(
            category,
            sprite,
            x - width / 2,
            bottom - height,
            width,
            height,
            depth,
            angle=angle,
            flip=facing > 0,
            grounded=grounded,
        )
        self.things.append(thing)
        return thing

    def person(self, pose: str, **place: Unpack[Place]) -> Thing:
        """Add a person in a pose of the sprite sheet."""
        look = self.rng.choice(LOOKS)
        sprite = f"{look}_{self.rng.choice(tuple(SKIN))}_{pose}"
        height = CATEGORIES["person"].height * STATURE[look] * sprite_size(sprite)[1] / CELL
        thing = self.put("person", height=height, sprite=sprite, **place)
        thing.look, thing.pose = look, pose
        return thing

    def move(self, thing: Thing, anchor: str, to: Point, *, along_y: bool = True) -> None:
        """Shift a thing so that its anchor comes to lie on `to`."""
        x, y = thing.anchor(anchor)
        thing.x += to[0] - x
        if along_y:
            thing.y += to[1] - y

    def relate(self, subject: Thing, relation: str, object: Thing) -> None:
        self.relations.append(Relation(self.things.index(subject), self.things.index(object), relation))

    def related(self, thing: Thing) -> set[str]:
        """Relations in which the thing is the subject."""
        index = self.things.index(thing)
        return {relation.text for relation in self.relations if relation.subject == index}

    # ---- marks

    def line(self, points: list[Point], colour: Colour = MOTION, width: float = 1.4, depth: float = 1.0) -> None:
        self.marks.append(Mark("line", points, colour, width, depth))

    def disc(
        self, centre: Point, radius: float, colour: Colour, depth: float = 1.0, outline: Colour | None = None
    ) -> None:
        self.marks.append(Mark("disc", [centre], colour, radius, depth, outline))

    def arm(
        self, person: Thing, hand: Point, *, shoulder: str = "shoulder", bend: float = 0.0, depth: float | None = None
    ) -> None:
        """An arm from the shoulder to `hand`, its elbow `bend` pixels below the straight line; marks the person as busy."""
        depth = person.depth + 0.1 if depth is None else depth
        skin = SKIN[person.sprite.split("_")[1]]
        start = person.anchor(shoulder)
        elbow = ((start[0] + hand[0]) / 2, (start[1] + hand[1]) / 2 + bend)
        self.line([elbow, hand], skin, 3.0, depth)
        self.line([start, elbow], SLEEVES[person.look], 3.6, depth)
        self.disc(hand, 2.4, skin, depth + 0.3)
        person.busy = True

    def speed_lines(self, x: float, top: float, bottom: float, facing: int, length: float = 11.0) -> None:
        """Three motion lines behind a mover that faces `facing`, starting at `x`."""
        for number in range(3):
            y = top + (bottom - top) * number / 2
            inset = 3.0 if number == 1 else 0.0
            self.line([(x - facing * inset, y), (x - facing * (inset + length), y)])

    # ---- the whole

    def extent(self) -> tuple[float, float, float, float]:
        """Box around all things and marks."""
        xs = [x for thing in self.things for x in (thing.x, thing.x + thing.width)] + [
            x for mark in self.marks for x, _ in mark.points
        ]
        ys = [y for thing in self.things for y in (thing.y, thing.y + thing.height)] + [
            y for mark in self.marks for _, y in mark.points
        ]
        return min(xs), min(ys), max(xs), max(ys)

    def mirror(self) -> None:
        """Turn everything to the other side."""
        for thing in self.things:
            thing.x = -(thing.x + thing.width)
            thing.flip = not thing.flip
        for mark in self.marks:
            mark.points = [(-x, y) for x, y in mark.points]

    def transform(self, scale: float, dx: float, dy: float) -> None:
        """Scale about the origin, then move."""
        for thing in self.things:
            thing.x, thing.y = thing.x * scale + dx, thing.y * scale + dy
            thing.width, thing.height = thing.width * scale, thing.height * scale
        for mark in self.marks:
            mark.points = [(x * scale + dx, y * scale + dy) for x, y in mark.points]
            mark.width *= scale


def stature(person: Thing) -> float:
    """Height in pixels of the person when standing."""
    _, rows = sprite_size(person.sprite)
    return (person.height if person.angle == 0 else person.width) * CELL / rows
