"""Named points on sprites, as fractions of width and height, for sprites that look to the left."""

from __future__ import annotations

from rlip_assets.micro_world.world import DATA

Points = dict[str, dict[str, tuple[float, float]]]
PERSON: Points = DATA["points"]["person"]
THINGS: Points = DATA["points"]["things"]


def anchor_fraction(sprite: str, pose: str, name: str) -> tuple[float, float]:
    """Return where the point `name` lies on a sprite; the middle of a thing that has no such point."""
    x, y = PERSON[pose][name] if pose else THINGS.get(sprite, {}).get(name, (0.5, 0.5))
    return x, y
