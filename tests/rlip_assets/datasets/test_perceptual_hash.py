"""Copies look alike and other pictures do not, however a copy was made."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy.fft import dctn

from rlip_assets.datasets.perceptual_hash import CUTS, FREQUENCIES, SIDE, WORTH_CUTTING, Thumbnails, alike, thumbnail
from rlip_assets.lineage.params import Params
from tests.support.facts import PHOTOS
from tests.support.label_factory import scenery

LEAST = Params().decontamination.min_likeness
CUT_SIDES = [
    (0, 0, 0, 0),
    (0.02, 0.02, 0.02, 0.02),
    (0, 0, 0.02, 0),
    (0.05, 0.05, 0.05, 0.05),
    (0.05, 0, 0, 0.05),
    (0.013, 0.04, 0.03, 0),
]


def copy(picture: Image.Image, sides: tuple[float, ...], scale: float, quality: int, mirrored: bool) -> Image.Image:
    """The picture cut by a part of its width and height at each side, resized and compressed."""
    width, height = picture.size
    left, top, right, bottom = sides
    part = picture.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )
    resized = part.resize((round(part.width * scale), round(part.height * scale)))
    stream = BytesIO()
    (ImageOps.mirror(resized) if mirrored else resized).save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def small(pictures: list[Image.Image]) -> Thumbnails:
    found = [thumbnail(picture) for picture in pictures]
    assert all(each is not None for each in found)
    return np.stack([each for each in found if each is not None])


@pytest.mark.parametrize("sides", CUT_SIDES)
@pytest.mark.parametrize(
    ("scale", "quality", "mirrored"), [(1.0, 95, False), (0.3, 50, False), (1.7, 70, True), (0.8, 30, True)]
)
def test_copies_are_found_and_nothing_else(
    sides: tuple[float, ...], scale: float, quality: int, mirrored: bool
) -> None:
    pictures = [scenery(seed, (480, 360)) for seed in range(12)]
    copies = small([copy(picture, sides, scale, quality, mirrored) for picture in pictures])
    pairs = list(alike(copies, small(pictures), 0.0))
    assert {(i, j) for i, j, likeness in pairs if likeness >= LEAST} == {(i, i) for i in range(12)}
    assert max(likeness for i, j, likeness in [*pairs, (0, 1, 0.0)] if i != j) < LEAST - 0.1
    back = list(alike(small(pictures), copies, LEAST))  # the test split may have the part, and training the whole
    assert {(i, j) for i, j, _ in back} == {(i, i) for i in range(12)}


@pytest.mark.parametrize("sides", CUT_SIDES)
def test_real_photographs(sides: tuple[float, ...]) -> None:
    photos = [Image.open(file).convert("RGB") for file in sorted(PHOTOS.glob("*.jpg"))]
    copies = small([copy(photo, sides, 0.4, 40, mirrored=True) for photo in photos])
    pairs = list(alike(copies, small(photos), 0.0))
    assert {(i, j) for i, j, likeness in pairs if likeness >= LEAST} == {(i, i) for i in range(len(photos))}
    assert all(likeness < 0.8 for i, j, likeness in pairs if i != j)


def test_pictures_without_contrast_have_no_thumbnail() -> None:
    assert thumbnail(Image.new("RGB", (50, 40), "white")) is None


def plain_looks(picture: np.ndarray, ways: tuple[float, ...]) -> Iterator[np.ndarray]:
    """Looks of a thumbnail under every cut, by the definition."""
    middles = (np.arange(SIDE) + 0.5) / SIDE
    for left, right, top, bottom in product(ways, repeat=4):
        along = [(middles * (1 - a - b) + a) * SIDE - 0.5 for a, b in ((top, bottom), (left, right))]
        rows = np.array([np.interp(along[1], np.arange(SIDE), row) for row in picture])
        cut = np.array([np.interp(along[0], np.arange(SIDE), column) for column in rows.T]).T
        low = dctn(cut, norm="ortho")[:FREQUENCIES, :FREQUENCIES].ravel()[1:]
        look = np.sign(low) * np.sqrt(np.abs(low))
        yield look / np.linalg.norm(look)


def plain_likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Of two thumbnails, not mirrored."""
    (a,), (b,) = plain_looks(first, (0.0,)), plain_looks(second, (0.0,))
    if a @ b < WORTH_CUTTING:
        return 0.0
    return float(
        max(*(look @ b for look in plain_looks(first, CUTS)), *(look @ a for look in plain_looks(second, CUTS)))
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), noise=st.floats(0, 60), shift=st.integers(0, 2), mirrored=st.booleans())
def test_alike_is_the_plain_comparison_of_every_pair(seed: int, noise: float, shift: int, mirrored: bool) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, 8, 8)).repeat(4, axis=1).repeat(4, axis=2)
    first = (coarse + rng.normal(0, 10, coarse.shape)).clip(0, 255).astype(np.uint8)
    altered = np.roll(coarse[:2], shift, axis=1) + rng.normal(0, 10 + noise, (2, SIDE, SIDE))
    second = altered.clip(0, 255).astype(np.uint8)[:, :, :: -1 if mirrored else 1]
    found = {(i, j): likeness for i, j, likeness in alike(first, second, 0.7)}
    for (i, a), (j, b) in product(enumerate(first), enumerate(second)):
        plain = max(plain_likeness(a, b), plain_likeness(a, b[:, ::-1]))
        if plain > 0.701:
            assert found[i, j] == pytest.approx(plain, abs=1e-3)
        elif plain < 0.699:
            assert (i, j) not in found
