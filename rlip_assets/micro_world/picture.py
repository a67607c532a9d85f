"""A scene before it is drawn: things, marks and the relations that hold between the things."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rlip_assets.micro_world.anatomy import anchor_fraction
from rlip_assets.micro_world.world import Event

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(eq=False)
class Thing:
    """A sprite in the scene and the entity it shows. Coordinates are pixels, y grows downwards, the box is tight."""

    category: str
    sprite: str
    x: float  # left
    y: float  # top
    width: float
    height: float
    depth: float = 0.0  # drawn later, the larger it is
    look: str = ""  # man, woman or child
    pose: str = ""  # stand, walk, run, kneel, squat, sit, ride, kick, surf or lie; persons only
    angle: int = 0  # degrees counter-clockwise, before mirroring
    flip: bool = False  # a sprite looks to the left; a mirrored one to the right
    grounded: bool = True  # stands on the ground, as opposed to held, carried, flying or put on another thing
    busy: bool = False  # a person whose hands have something to do

    @property
    def kind(self) -> str:
        """The look of a person, the category of anything else."""
        return self.look or self.category

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.x, self.y, self.x + self.width, self.y + self.height

    @property
    def centre(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def facing(self) -> int:
        """-1 looks to the left, +1 to the right."""
        return 1 if self.flip else -1

    def anchor(self, name: str) -> Point:
        """Position of a named point of the sprite (mouth, shoulder, seat ...); for things that are not turned."""
        fx, fy = anchor_fraction(self.sprite, self.pose, name)
        return self.x + self.width * (1 - fx if self.flip else fx), self.y + self.height * fy


@dataclass(eq=False)
class Mark:
    """A small cue that is no entity: arm, leash, string, motion line, bubble."""

    kind: Literal["line", "disc"]
    points: list[Point]  # of a line; a disc has one, its centre
    colour: Colour
    width: float  # of a line; radius of a disc
    depth: float = 0.0
    outline: Colour | None = None  # of a disc


@dataclass(frozen=True)
class Relation:
    """A true relation between two things of a picture, by index."""

    subject: int
    object: int
    text: str  # base text, "sit on"
    spatial: bool = False  # follows from where things stand, as opposed to what happens


@dataclass(eq=False)
class Picture:
    """A whole scene. `things` are entities with boxes inside the canvas; `scenery` is background without boxes."""

    width: int
    height: int
    ground: int  # y of the horizon
    sky_colour: Colour
    ground_colour: Colour
    things: list[Thing] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    scenery: list[Thing] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)

    def event(self, relation: Relation) -> Event:
        """The relation in terms of categories."""
        return Event(relation.text, self.things[relation.subject].category, self.things[relation.object].category)
