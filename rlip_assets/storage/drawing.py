"""Relations drawn on a photo: thin boxes, one numbered arrow a relation, and the sentences beside the picture.

Text on a photo hides what it names, so only short entity names and small numbers stand on it; the relations themselves are
listed in a panel on the right, each with the number of its arrow.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFont

from rlip_model.boxes import Box, iou
from rlip_model.triplets import Triplet

PHOTO_SIDE = (
    560,
    960,
    1200,
)  # the longer side of the drawn photo in pixels: at least, wished for by doubling at most, at most
PALETTE = ("#e6194b", "#0082c8", "#f58231", "#3cb44b", "#911eb4", "#008080", "#d4a017", "#e754b5", "#6a5acd", "#808000")
PANEL_BACKGROUND, INK, FAINT = "#ffffff", "#1a1a1a", "#767676"
SAME_ENTITY_IOU = 0.7
MOST_DRAWN, MOST_LETTERS = 100, 100  # relations on a picture, letters of a text
SCORE_WIDTH = 50  # room for the score on the right of a row, in pixels


@dataclass(frozen=True)
class Entity:
    """A box that takes part in at least one drawn relation."""

    name: str
    box: Box
    color: str


def _entity_of(entities: list[Entity], name: str, box: Box) -> int:
    """Index of the entity with this name at about this place; a new one is added where there is none."""
    for index, entity in enumerate(entities):
        if entity.name == name and iou(entity.box, box) >= SAME_ENTITY_IOU:
            return index
    entities.append(Entity(name, box, PALETTE[len(entities) % len(PALETTE)]))
    return len(entities) - 1


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _freest(candidates: Sequence[Box], taken: Sequence[Box]) -> Box:
    """Return the first candidate that covers nothing of `taken`, else the one that covers least."""

    def covered(a: Box) -> float:
        return sum(
            max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0) for b in taken
        )

    return min(candidates, key=covered)


def _chip(
    draw: ImageDraw.ImageDraw, entity: Entity, font: ImageFont.FreeTypeFont, bounds: tuple[int, int], taken: list[Box]
) -> None:
    """The entity's name in white on its colour at a corner of its box, within `bounds` (width, height) and clear of `taken`."""
    left, top, right, bottom = draw.textbbox((0, 0), entity.name, font=font)
    pad = max(2, font.size // 5)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x1, y1, x2, y2 = entity.box
    corners = [(x1, y1), (x2 - width, y1), (x1, y1 - height), (x1, y2 - height), (x2 - width, y2 - height), (x1, y2)]
    places = [
        (min(max(x, 0), max(bounds[0] - width, 0)), min(max(y, 0), max(bounds[1] - height, 0))) for x, y in corners
    ]
    place = _freest([(x, y, x + width, y + height) for x, y in places], taken)
    taken.append(place)
    draw.rectangle(place, fill=entity.color)
    draw.text((place[0] + pad - left, place[1] + pad - top), entity.name, font=font, fill="white")


def _arrow(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], color: str, width: int
) -> None:
    """A line with a filled head at `end`, on a white edge so that it shows on any photo."""
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    head = 5.0 * width
    neck = (end[0] - head * math.cos(angle), end[1] - head * math.sin(angle))
    wings = [(end[0] - head * math.cos(angle + turn), end[1] - head * math.sin(angle + turn)) for turn in (0.45, -0.45)]
    draw.line((start, neck), fill="white", width=width + 2)
    draw.polygon([end, *wings], fill=color, outline="white")
    draw.line((start, neck), fill=color, width=width)


Line = tuple[tuple[float, float], tuple[float, float]]


def _lines(links: Sequence[tuple[Entity, Entity | None]], gap: float) -> list[Line]:
    """Start and end of each relation's arrow: `gap` pixels apart between the same two boxes; a point where there is no object."""
    seen: dict[frozenset[Box], int] = {}
    lines = []
    for subject, target in links:
        start = end = _centre(subject.box)
        if target is not None:
            end = _centre(target.box)
            key = frozenset((subject.box, target.box))
            lane = seen.get(key, 0)
            seen[key] = lane + 1
            length = max(math.hypot(end[0] - start[0], end[1] - start[1]), 1.0)
            shift = (lane + 1) // 2 * (1 if lane % 2 else -1) * gap
            dx, dy = -(end[1] - start[1]) / length * shift, (end[0] - start[0]) / length * shift
            start, end = (start[0] + dx, start[1] + dy), (end[0] + dx, end[1] + dy)
        lines.append((start, end))
    return lines


def _badge(
    draw: ImageDraw.ImageDraw, number: int, line: Line, color: str, font: ImageFont.FreeTypeFont, taken: list[Box]
) -> None:
    """The relation's number on its arrow, or beside one that it would hide, clear of `taken`."""
    (x1, y1), (x2, y2) = line
    radius = font.size * 0.75
    length = math.hypot(x2 - x1, y2 - y1)
    side = 1.6 * radius if 0 < length < 5 * radius else 0.0
    candidates = []
    for share in (0.45, 0.35, 0.55, 0.25, 0.65, 0.75):
        for turn in (side, -side) if side else (0.0,):
            x = x1 + (x2 - x1) * share - (y2 - y1) / max(length, 1.0) * turn
            y = y1 + (y2 - y1) * share + (x2 - x1) / max(length, 1.0) * turn
            candidates.append((x - radius, y - radius, x + radius, y + radius))
    place = _freest(candidates, taken)
    taken.append(place)
    draw.ellipse(place, fill="white", outline=color, width=2)
    draw.text(_centre(place), str(number), font=font, fill=INK, anchor="mm")


def _panel(
    height: int, triplets: Sequence[Triplet], links: Sequence[tuple[Entity, Entity | None]], title: str, note: str
) -> Image.Image:
    """Return the list of relations, `number subject — relation → object score`, as tall as the photo or taller where the list needs it."""
    font, small = _font(17), _font(13)
    row, margin, width = 30, 16, 430
    panel = Image.new("RGB", (width, max(height, 2 * margin + 64 + row * max(len(triplets), 1))), PANEL_BACKGROUND)
    draw = ImageDraw.Draw(panel)
    for y, text, style, color in ((margin, title, _font(19), INK), (margin + 26, note, small, FAINT)):
        draw.text((margin, y), _fitted(text, style, width - 2 * margin), font=style, fill=color)
    line = margin + 58
    if not triplets:
        draw.text((margin, line), "no relation above the threshold", font=font, fill=FAINT)
    for number, (triplet, (subject, target)) in enumerate(zip(triplets, links, strict=True), start=1):
        x = float(margin)
        parts = [(f"{number}", FAINT), (triplet.subject, subject.color), (triplet.relation, INK)]
        if target is not None:
            parts.append((triplet.object, target.color))
        wide = sum(font.getlength(text) + 9 for text, _ in parts) > width - 2 * margin - SCORE_WIDTH
        for text, color in parts:
            shown = _fitted(text, font, (width - 2 * margin - SCORE_WIDTH) / 3 - 18) if wide else text
            draw.text((x, line), shown, font=font, fill=color)
            x += draw.textlength(shown, font=font) + 9
        draw.text((width - margin, line), f"{triplet.score:.2f}", font=font, fill=INK, anchor="ra")
        line += row
    return panel


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the text on one line, cut with an ellipsis where it is wider than `width` pixels."""
    text = " ".join(text.split())[:1000]
    if font.getlength(text) <= width:
        return text
    too_long = bisect(range(len(text)), width, key=lambda n: font.getlength(text[:n] + "…"))
    return text[: max(0, too_long - 1)].rstrip(" ,") + "…"


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; install a Pillow wheel from the package index")
    return font


def _on_one_line(triplet: Triplet) -> Triplet:
    """Return the triplet with every run of white space in its texts as one space, and long texts cut."""
    texts = (" ".join(text.split()) for text in (triplet.subject, triplet.relation, triplet.object))
    subject, relation, target = (text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…" for text in texts)
    return replace(triplet, subject=subject, relation=relation, object=target)


def draw_triplets(
    photo: Image.Image, triplets: Sequence[Triplet], title: str, note: str = "", limit: int = 10
) -> Image.Image:
    """Draw the `limit` best relations on a photo.

    Args:
        photo: the upright RGB image whose pixels the boxes refer to.
        triplets: relations in any order; the best by score are drawn.
        title: what to say on top of the list, usually the model's name.
        note: a second, fainter line, such as what the model was trained on.
        limit: how many relations at most; more than ten are hard to read, and more than `MOST_DRAWN` are not drawn.

    Returns:
        A new RGB image: the photo, scaled to a readable size, and the list beside it.
    """
    best = [_on_one_line(t) for t in sorted(triplets, key=lambda t: -t.score)[: min(limit, MOST_DRAWN)]]
    longest = max(photo.size)
    least, wished, most = PHOTO_SIDE
    scale = min(max(longest, least, min(wished, 2 * longest)), most) / longest
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    canvas = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)

    def scaled(box: Box) -> Box:
        """Return a box of the photo on the canvas, cut off at its edges."""
        x1, x2 = (min(max(x, 0.0), photo.width) * scale for x in box[::2])
        y1, y2 = (min(max(y, 0.0), photo.height) * scale for y in box[1::2])
        return x1, y1, x2, y2

    entities: list[Entity] = []
    ends = [
        (
            _entity_of(entities, t.subject, scaled(t.subject_box)),
            None if t.object_box is None else _entity_of(entities, t.object, scaled(t.object_box)),
        )
        for t in best
    ]
    links = [(entities[s], None if o is None else entities[o]) for s, o in ends]
    draw = ImageDraw.Draw(canvas)
    stroke = max(2, round(max(size) / 320))
    for entity in entities:
        draw.rectangle(entity.box, outline=entity.color, width=stroke)
    names, numbers = _font(max(12, round(max(size) / 55))), _font(max(12, round(max(size) / 60)))
    lines = _lines(links, gap=1.65 * numbers.size)
    for line, (subject, target) in zip(lines, links, strict=True):
        if target is not None:
            _arrow(draw, *line, subject.color, stroke)
    taken: list[Box] = []
    for entity in sorted(entities, key=lambda entity: _area(entity.box)):
        _chip(draw, entity, names, size, taken)
    for number, (line, (subject, _)) in enumerate(zip(lines, links, strict=True), start=1):
        _badge(draw, number, line, subject.color, numbers, taken)

    panel = _panel(size[1], best, links, title, note)
    page = Image.new("RGB", (size[0] + panel.width, max(size[1], panel.height)), PANEL_BACKGROUND)
    page.paste(canvas, (0, 0))
    page.paste(panel, (size[0], 0))
    return page
