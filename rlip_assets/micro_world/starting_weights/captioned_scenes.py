"""The captioner's images: a scene is drawn once, with what each region shows and with sentences, and shown mirrored, moved and recoloured.

Shape legend: B images, n statements of one image, G x G patches, H x W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from rlip_assets.micro_world.captions import corpus_picture, corpus_pictures, describe
from rlip_assets.micro_world.group import STATURE
from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.render import encode_jpeg, render
from rlip_assets.micro_world.wording import FORMS
from rlip_assets.micro_world.world import CATEGORIES

KINDS = {kind: number for number, kind in enumerate(sorted({*CATEGORIES, *STATURE} - {"person"}))}
EVENTS = {event: number for number, event in enumerate(FORMS)}
SHOWS = 0
DOES = SHOWS + len(KINDS)
UNDERGOES = DOES + len(EVENTS)
ACTS_ON = UNDERGOES + len(EVENTS)
SUFFERS_FROM = ACTS_ON + len(KINDS)
STATEMENTS = SUFFERS_FROM + len(KINDS)
"""Statements about a region: it shows a thing of a kind; the thing does an event; undergoes it; does something to a thing of a kind; has
something done to it by one."""
SENTENCES = 6
"""Drawn per scene; doubles are dropped."""


@dataclass(frozen=True)
class CaptionedScene:
    """One image in memory.

    Attributes:
        pixels: (H, H, 3) uint8, resized to a square as the captioner reads it.
        statements: (n,) int64, numbers of statements that are true.
        boxes: (n, 4) float32, the region of each, x1 y1 x2 y2 as fractions of the image.
        sentences: captions.
    """

    pixels: npt.NDArray[np.uint8]
    statements: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    sentences: Sequence[str]


def captioned_scene(number: int, seed: int, side: int) -> CaptionedScene:
    """Draw a scene of the caption corpus; every other image has been through JPEG, as those of the datasets have."""
    picture, rng = corpus_picture("captions", seed, number)
    sentences = list(dict.fromkeys(describe(picture, rng) for _ in range(SENTENCES)))
    image = render(picture).convert("RGB")
    if number % 4 < 2:
        image = Image.open(io.BytesIO(encode_jpeg(image)))
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    return CaptionedScene(pixels, *region_statements(picture), sentences)


def scene_sentences(seed: int, scenes: int) -> Iterator[str]:
    """Sentences of the first scenes, nothing drawn."""
    for picture, rng in corpus_pictures("captions", seed, scenes):
        yield from (describe(picture, rng) for _ in range(SENTENCES))


def region_statements(picture: Picture) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the true statements (n,) and their regions (n, 4) as fractions of the image."""
    found = [(SHOWS + KINDS[thing.kind], thing) for thing in picture.things]
    for relation in picture.relations:
        subject, target = picture.things[relation.subject], picture.things[relation.object]
        found += [(DOES + EVENTS[relation.text], subject), (UNDERGOES + EVENTS[relation.text], target)]
        if not relation.spatial:
            found += [(ACTS_ON + KINDS[target.kind], subject), (SUFFERS_FROM + KINDS[subject.kind], target)]
    boxes = np.array([thing.box for _, thing in found]) / np.array([picture.width, picture.height] * 2)
    return np.array([statement for statement, _ in found]), boxes.astype(np.float32)
