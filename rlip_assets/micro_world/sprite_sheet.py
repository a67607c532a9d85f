"""The shipped sprite sheet: sizes for the scene generator, images for the renderer."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent


@cache
def _places() -> dict[str, tuple[int, int, int, int]]:
    index = json.loads((FOLDER / "sprites.json").read_text())
    return {name: tuple(sprite["box"]) for name, sprite in index["sprites"].items()}


@cache
def _sheet() -> Image.Image:
    with Image.open(FOLDER / "sprites.png") as image:
        return image.convert("RGBA")


def sprite_size(name: str) -> tuple[int, int]:
    """Width and height of a sprite in the sheet, in pixels."""
    x0, y0, x1, y1 = _places()[name]
    return x1 - x0, y1 - y0


@lru_cache(maxsize=4096)
def sprite_image(name: str, width: int, height: int, angle: int, flip: bool) -> Image.Image:
    """RGBA image of a sprite, turned by `angle` (0, 90, 180 or 270 degrees, counter-clockwise), then mirrored, then scaled."""
    image = _sheet().crop(_places()[name])
    if angle:
        image = image.transpose(Image.Transpose[f"ROTATE_{angle}"])
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=None)
