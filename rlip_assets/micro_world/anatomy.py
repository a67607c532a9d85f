"""Named points on sprites, as fractions of width and height, for sprites that look to the left."""

from __future__ import annotations

Fraction = tuple[float, float]

PERSON: dict[str, dict[str, Fraction]] = {
    "stand": {
        "mouth": (0.5, 0.25),
        "ear": (0.25, 0.17),
        "shoulder": (0.18, 0.41),
        "rear": (0.82, 0.41),
        "back": (0.5, 0.5),
        "hip": (0.5, 0.62),
    },
    "walk": {
        "mouth": (0.2, 0.23),
        "ear": (0.45, 0.17),
        "shoulder": (0.42, 0.41),
        "rear": (0.5, 0.41),
        "back": (0.78, 0.5),
        "hip": (0.45, 0.62),
    },
    "run": {
        "mouth": (0.25, 0.24),
        "ear": (0.42, 0.17),
        "shoulder": (0.4, 0.42),
        "rear": (0.5, 0.4),
        "back": (0.7, 0.46),
        "hip": (0.5, 0.62),
    },
    "kneel": {
        "mouth": (0.16, 0.24),
        "ear": (0.35, 0.18),
        "shoulder": (0.36, 0.42),
        "rear": (0.45, 0.42),
        "back": (0.68, 0.5),
        "hip": (0.4, 0.66),
    },
    "sit": {
        "mouth": (0.46, 0.24),
        "ear": (0.7, 0.18),
        "shoulder": (0.72, 0.42),
        "rear": (0.75, 0.42),
        "back": (1.05, 0.5),
        "hip": (0.72, 0.72),
    },
    "ride": {
        "mouth": (0.15, 0.23),
        "ear": (0.5, 0.17),
        "shoulder": (0.5, 0.42),
        "rear": (0.55, 0.42),
        "back": (1.05, 0.5),
        "hip": (0.55, 0.68),
    },
    "kick": {
        "mouth": (0.45, 0.23),
        "ear": (0.65, 0.17),
        "shoulder": (0.62, 0.41),
        "rear": (0.7, 0.41),
        "back": (0.88, 0.5),
        "hip": (0.65, 0.6),
        "foot": (0.06, 0.68),
    },
    "surf": {
        "mouth": (0.2, 0.23),
        "ear": (0.38, 0.17),
        "shoulder": (0.42, 0.41),
        "rear": (0.52, 0.41),
        "back": (0.72, 0.5),
        "hip": (0.45, 0.6),
    },
    "squat": {
        "mouth": (0.5, 0.26),
        "ear": (0.32, 0.18),
        "shoulder": (0.33, 0.44),
        "rear": (0.67, 0.44),
        "back": (0.5, 0.5),
        "hip": (0.5, 0.75),
    },
}

THINGS: dict[str, dict[str, Fraction]] = {
    "dog_spotted": {"mouth": (0.3, 0.45), "neck": (0.42, 0.56), "head": (0.4, 0.06), "seat": (0.65, 0.5)},
    "dog_grey": {"mouth": (0.04, 0.32), "neck": (0.35, 0.5), "head": (0.28, 0.08), "seat": (0.55, 0.5)},
    "cat_orange": {"mouth": (0.06, 0.4), "neck": (0.38, 0.52), "head": (0.4, 0.16), "seat": (0.6, 0.5)},
    "cat_black": {"mouth": (0.06, 0.4), "neck": (0.38, 0.52), "head": (0.4, 0.16), "seat": (0.6, 0.5)},
    "horse": {"mouth": (0.04, 0.36), "neck": (0.28, 0.4), "head": (0.2, 0.1), "seat": (0.56, 0.43)},
    "cow": {"mouth": (0.02, 0.26), "neck": (0.25, 0.35), "head": (0.15, 0.08), "seat": (0.6, 0.22)},
    "sheep": {"mouth": (0.24, 0.55), "neck": (0.35, 0.6), "head": (0.25, 0.2), "seat": (0.58, 0.16)},
    "elephant": {"mouth": (0.14, 0.6), "neck": (0.3, 0.5), "head": (0.25, 0.1), "seat": (0.6, 0.18)},
    "bird_blue": {"mouth": (0.03, 0.27), "neck": (0.25, 0.5), "head": (0.2, 0.05), "seat": (0.5, 0.45)},
    "bird_green": {"mouth": (0.04, 0.27), "neck": (0.25, 0.4), "head": (0.25, 0.02), "seat": (0.5, 0.5)},
    "rabbit": {"mouth": (0.04, 0.57), "neck": (0.35, 0.7), "head": (0.3, 0.35), "seat": (0.65, 0.62)},
    "pig": {"mouth": (0.14, 0.52), "neck": (0.3, 0.6), "head": (0.3, 0.1), "seat": (0.6, 0.1)},
    "duck": {"mouth": (0.03, 0.16), "neck": (0.35, 0.38), "head": (0.3, 0.02), "seat": (0.6, 0.45)},
    "deer": {"mouth": (0.03, 0.33), "neck": (0.35, 0.45), "head": (0.3, 0.22), "seat": (0.65, 0.52)},
    "camel": {"mouth": (0.03, 0.24), "neck": (0.25, 0.5), "head": (0.15, 0.1), "seat": (0.68, 0.22)},
    "penguin": {"mouth": (0.03, 0.13), "neck": (0.4, 0.3), "head": (0.4, 0.02), "seat": (0.6, 0.5)},
    "bicycle": {"seat": (0.64, 0.2), "handle": (0.37, 0.14), "rear": (0.85, 0.42)},
    "motorcycle": {"seat": (0.58, 0.42), "handle": (0.34, 0.18), "rear": (0.92, 0.34)},
    "chair": {"seat": (0.56, 0.5)},
    "bench": {"seat": (0.5, 0.56)},
    "couch": {"seat": (0.5, 0.66)},
    "bed": {"seat": (0.58, 0.55)},
    "dining_table": {"seat": (0.5, 0.06)},
    "skateboard": {"seat": (0.5, 0.28)},
    "surfboard": {"seat": (0.5, 0.45)},
    "umbrella": {"grip": (0.5, 0.82)},
    "kite": {"grip": (0.55, 0.9)},
    "balloon": {"grip": (0.7, 0.93)},
}


def anchor_fraction(sprite: str, pose: str, name: str) -> Fraction:
    """Where the point `name` lies on a sprite; a thing without such a point answers with its middle."""
    return PERSON[pose][name] if pose else THINGS.get(sprite, {}).get(name, (0.5, 0.5))
