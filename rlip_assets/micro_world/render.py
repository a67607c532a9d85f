"""Draw a picture: backdrop, sprites and marks from back to front, at twice the size, then halved."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from rlip_assets.micro_world.picture import Mark, Picture, Thing
from rlip_assets.micro_world.sprite_sheet import sprite_image

FINE = 2
JPEG_QUALITY = 92


def render(picture: Picture) -> Image.Image:
    """RGB image of the size of the picture."""
    size = (picture.width * FINE, picture.height * FINE)
    canvas = Image.new("RGB", size, picture.sky_colour)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, picture.ground * FINE, *size), fill=picture.ground_colour)
    for thing in picture.scenery:
        _paste(canvas, thing)
    parts: list[Thing | Mark] = sorted([*picture.things, *picture.marks], key=lambda part: part.depth)
    for part in parts:
        if isinstance(part, Thing):
            _paste(canvas, part)
        else:
            _draw_mark(draw, part)
    return canvas.reduce(FINE)


def _paste(canvas: Image.Image, thing: Thing) -> None:
    sprite = sprite_image(thing.sprite, round(thing.width) * FINE, round(thing.height) * FINE, thing.angle, thing.flip)
    canvas.paste(sprite, (round(thing.x) * FINE, round(thing.y) * FINE), sprite)


def _draw_mark(draw: ImageDraw.ImageDraw, mark: Mark) -> None:
    points = [(x * FINE, y * FINE) for x, y in mark.points]
    if mark.kind == "line":
        draw.line(points, fill=mark.colour, width=max(1, round(mark.width * FINE)), joint="curve")
    else:
        (x, y), radius = points[0], mark.width * FINE
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=mark.colour,
            outline=mark.outline,
            width=1 if mark.outline else 0,
        )


def encode_jpeg(image: Image.Image) -> bytes:
    """JPEG bytes without colour subsampling, so that thin marks keep their colour."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()
