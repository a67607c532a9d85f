"""An image with its captions written below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_WIDTH, _LINE, _MARGIN = 480, 18, 8


def captioned_picture(image: Image.Image, captions: Sequence[str]) -> Image.Image:
    """The image at a width of 480 pixels above its captions, the most frequent first, each with its count."""
    scale = _WIDTH / image.width
    photo = image.convert("RGB").resize((_WIDTH, max(1, round(image.height * scale))), Image.Resampling.BICUBIC)
    lines = [f"{count}x  {text}" if count > 1 else text for text, count in Counter(captions).most_common()]
    picture = Image.new("RGB", (_WIDTH, photo.height + 2 * _MARGIN + _LINE * len(lines)), (255, 255, 255))
    picture.paste(photo)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, photo.height + _MARGIN + number * _LINE), line, fill=(20, 20, 20), font=font)
    return picture
