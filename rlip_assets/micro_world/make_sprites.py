"""Re-make the sprite sheet of the micro world from the Noto Color Emoji font.

    python -m rlip_assets.micro_world.make_sprites [FONT]

Needs the font (Debian: fonts-noto-color-emoji) only to make the sheet anew; the world itself reads the shipped `sprites.png` and
`sprites.json`. Three kinds of sprites stand in the sheet: glyphs of the font, trimmed; persons in poses that the font lacks (a torso of
the walking person on legs drawn here); a few things without a glyph (bench, table, surfboard) drawn from shapes.
All sprites that have a side look to the left.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from rlip_assets.micro_world.world import DATA
from rlip_assets.storage.files import write_bytes, write_json

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FOLDER = Path(__file__).parent
CELL = 72
COLUMNS = 12
FONT_PIXELS = 109  # the only bitmap strike of the font
PERSON_SCALE = CELL / 120  # one scale for all poses, so that a sitting person is as big as a standing one
FINE = 4  # supersampling of what is drawn here

GLYPHS: dict[str, str] = DATA["glyphs"]
SKINS = {"light": "", "dark": "🏾"}
GENDERS = {"man": "‍♂️", "woman": "‍♀️", "child": ""}
POSES = {"stand": "🧍", "walk": "🚶", "run": "🏃", "kneel": "🧎", "squat": "🧘"}
TROUSERS, SHOES = (118, 118, 118, 255), (66, 91, 172, 255)
TORSO = 74  # rows of the walking person above the legs, of 119


@dataclass(frozen=True)
class Sprite:
    name: str
    codepoints: list[str]  # of the glyph it is made from; empty where it was drawn
    image: Image.Image


class Font:
    """Glyphs of the emoji font as trimmed RGBA images of about 120 pixels."""

    def __init__(self, path: Path) -> None:
        self._font = ImageFont.truetype(str(path), FONT_PIXELS)

    def glyph(self, text: str) -> Image.Image:
        canvas = Image.new("RGBA", (176, 176))
        ImageDraw.Draw(canvas).text((16, 16), text, font=self._font, embedded_color=True)
        return trimmed(canvas)


def trimmed(image: Image.Image) -> Image.Image:
    """Cut transparent margins (alpha below 8 counts as transparent)."""
    return image.crop(image.getchannel("A").point([0] * 8 + list(range(8, 256))).getbbox())


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def limb(
    draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], width: float, colour: tuple[int, int, int, int]
) -> None:
    """A thick line with round joints; points and width in final pixels of the 120 pixel person."""
    fine = [(x * FINE, y * FINE) for x, y in points]
    draw.line(fine, fill=colour, width=round(width * FINE))
    radius = width * FINE / 2
    for x, y in fine:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def on_legs(
    walking: Image.Image, legs: list[list[tuple[float, float]]], size: tuple[int, int], left: int
) -> Image.Image:
    """The torso of a walking person, `left` pixels from the left margin, on legs given as hip-knee-foot polylines."""
    drawn = Image.new("RGBA", (size[0] * FINE, size[1] * FINE))
    draw = ImageDraw.Draw(drawn)
    for leg in legs:
        foot = leg[-1]
        limb(draw, [(foot[0] + 3, foot[1]), (foot[0] - 7, foot[1] + 1)], 9, SHOES)
        limb(draw, leg, 14, TROUSERS)
    person = drawn.resize(size, Image.Resampling.LANCZOS)
    person.alpha_composite(walking.crop((0, 0, walking.width, TORSO)), (left, 0))
    return person


def derived_poses(walking: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Poses that the font lacks: sitting on a seat, riding astride, kicking, riding a board."""
    yield "sit", on_legs(walking, [[(46, 70), (22, 74), (20, 106)]], (82, 116), 20)
    yield "ride", on_legs(walking, [[(46, 70), (30, 84), (38, 108)]], (82, 116), 20)
    yield "kick", on_legs(walking, [[(54, 72), (58, 96), (60, 113)], [(52, 72), (34, 82), (14, 78)]], (92, 120), 28)
    yield "surf", on_legs(walking, [[(50, 72), (66, 90), (70, 113)], [(50, 72), (30, 88), (28, 113)]], (92, 120), 24)


def persons(font: Font) -> Iterator[Sprite]:
    for gender, suffix in GENDERS.items():
        for skin, tone in SKINS.items():
            for pose, base in POSES.items():
                text = base + tone + suffix
                yield Sprite(f"{gender}_{skin}_{pose}", codepoints(text), scaled(font.glyph(text), PERSON_SCALE))
            text = POSES["walk"] + tone + suffix
            for pose, image in derived_poses(font.glyph(text)):
                yield Sprite(f"{gender}_{skin}_{pose}", codepoints(text), scaled(trimmed(image), PERSON_SCALE))


def bench() -> Image.Image:
    image = Image.new("RGBA", (144 * FINE, 64 * FINE))
    draw = ImageDraw.Draw(image)

    def plank(x0: int, y0: int, x1: int, y1: int, colour: str) -> None:
        draw.rounded_rectangle((x0 * FINE, y0 * FINE, x1 * FINE, y1 * FINE), 3 * FINE, fill=colour)

    for x in (14, 122):
        plank(x, 2, x + 8, 62, "#4a4a4a")
    for y in (4, 16):
        plank(2, y, 142, y + 10, "#a8642c")
    plank(0, 32, 144, 40, "#c07a3a")
    plank(0, 40, 144, 44, "#8a4f20")
    return image.resize((144, 64), Image.Resampling.LANCZOS)


def table() -> Image.Image:
    image = Image.new("RGBA", (144 * FINE, 78 * FINE))
    draw = ImageDraw.Draw(image)
    for x in (12, 122):
        draw.rectangle((x * FINE, 10 * FINE, (x + 10) * FINE, 78 * FINE), fill="#7b5a3c")
    draw.rounded_rectangle((0, 0, 144 * FINE, 14 * FINE), 5 * FINE, fill="#b98b5e")
    draw.rectangle((10 * FINE, 14 * FINE, 134 * FINE, 20 * FINE), fill="#94683f")
    return image.resize((144, 78), Image.Resampling.LANCZOS)


def surfboard() -> Image.Image:
    image = Image.new("RGBA", (144 * FINE, 30 * FINE))
    draw = ImageDraw.Draw(image)
    draw.ellipse((0, 0, 144 * FINE, 24 * FINE), fill="#f4f1e0", outline="#1f6f8b", width=3 * FINE)
    draw.line((4 * FINE, 12 * FINE, 140 * FINE, 12 * FINE), fill="#e4572e", width=5 * FINE)
    draw.polygon([(116 * FINE, 21 * FINE), (132 * FINE, 17 * FINE), (132 * FINE, 30 * FINE)], fill="#1f6f8b")
    return image.resize((144, 30), Image.Resampling.LANCZOS)


def couch(font: Font) -> Image.Image:
    """The couch of the glyph 'couch and lamp'; the lamp stands behind its upper right part and ends above its back."""
    glyph = font.glyph("🛋️")
    return trimmed(glyph.crop((0, 54, glyph.width, glyph.height)))


def things(font: Font) -> Iterator[Sprite]:
    for name, text in GLYPHS.items():
        yield fitted(name, codepoints(text), font.glyph(text))
    yield fitted("couch", codepoints("🛋️"), couch(font))
    level = font.glyph("🛹").rotate(-29, Image.Resampling.BICUBIC, expand=True)
    yield fitted("skateboard", codepoints("🛹"), trimmed(level))
    for name, image in (("bench", bench()), ("dining_table", table()), ("surfboard", surfboard())):
        yield fitted(name, [], image)


def fitted(name: str, points: list[str], image: Image.Image) -> Sprite:
    return Sprite(name, points, scaled(image, CELL / max(image.size)))


def codepoints(text: str) -> list[str]:
    return [f"U+{ord(character):04X}" for character in text]


def make_sheet(font_file: Path, folder: Path) -> None:
    """Write `sprites.png` (palette with alpha) and `sprites.json` (name -> place in the sheet, codepoints) to `folder`."""
    font = Font(font_file)
    sprites = [*persons(font), *things(font)]
    sheet = Image.new("RGBA", (COLUMNS * CELL, -(-len(sprites) // COLUMNS) * CELL))
    index = {}
    for number, sprite in enumerate(sprites):
        x, y = number % COLUMNS * CELL, number // COLUMNS * CELL
        sheet.paste(sprite.image, (x, y))
        index[sprite.name] = {
            "box": [x, y, x + sprite.image.width, y + sprite.image.height],
            "codepoints": sprite.codepoints,
        }
    temporary = folder / "sprites.png.tmp"
    sheet.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        temporary, "PNG", optimize=True
    )
    write_bytes(folder / "sprites.png", temporary.read_bytes())
    temporary.unlink()
    write_json(folder / "sprites.json", {"cell": CELL, "font": "Noto Color Emoji", "sprites": index})


if __name__ == "__main__":
    make_sheet(Path(sys.argv[1]) if len(sys.argv) > 1 else FONT, FOLDER)
