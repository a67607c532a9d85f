"""Likeness of two pictures, whatever their size and compression, mirrored or cut at their edges.

A picture is kept as a thumbnail of 32 x 32 grey values. Its *look*, a perceptual hash of real numbers, are its 12 x 12 lowest
frequencies but for the brightness, each reduced to its signed root (or the lowest would decide alone), as a vector of length one. The
likeness of two pictures is the product of their looks: 1 for the same picture. A cut changes the frequencies, so pictures that look a
little alike are compared again with each of them cut at its edges, and the best likeness counts. A picture without contrast has no look.

Shape legend: n, m pictures; S side of a thumbnail; F frequencies; C ways of cutting one direction; L = F F - 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dct

from rlip_assets.storage.images import open_image

LOOK_VERSION = 2
SIDE, FREQUENCIES = 32, 12
LEAST_CONTRAST = 2.0
"""Standard deviation of grey values (0..255) below which a picture says nothing."""
CUTS = (0.0, 0.025, 0.05)
"""Parts of width or height that are cut off at either end."""
WORTH_CUTTING = 0.55
"""Likeness of two whole pictures from which on they are compared cut."""
_PAIRS, _CUT_PAIRS = 4_000_000, 64

Thumbnails = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def _resampling(low: float, high: float) -> npt.NDArray[np.float64]:
    """(S, S): the part between `low` and 1 - `high` of S values as S values, between neighbours linearly."""
    place = ((np.arange(SIDE) + 0.5) / SIDE * (1 - low - high) + low) * SIDE - 0.5
    parts: npt.NDArray[np.float64] = np.maximum(0, 1 - np.abs(place.clip(0, SIDE - 1)[:, None] - np.arange(SIDE)))
    return parts


_COSINES = dct(np.eye(SIDE), norm="ortho", axis=0)[:FREQUENCIES]
_WHOLE = _COSINES[None].astype(np.float32)
_CUT = np.stack([_COSINES @ _resampling(*ends) for ends in product(CUTS, CUTS)]).astype(np.float32)


def thumbnail(picture: Image.Image) -> Thumbnails | None:
    """(S, S) grey values of a picture; None for one without contrast."""
    grey = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
    return None if grey.std() < LEAST_CONTRAST else grey


def thumbnail_of(path: Path) -> Thumbnails | None:
    """The thumbnail of an image file, upright as a viewer shows it.

    Raises:
        BadImageError: the file cannot be read.
    """
    return thumbnail(open_image(path))


def looks(thumbnails: Thumbnails) -> Floats:
    """(n, L) looks of whole pictures (n, S, S)."""
    return _looks(thumbnails, _WHOLE)[:, 0]


def _looks(thumbnails: Thumbnails, views: Floats) -> Floats:
    """(n, C C, L) looks of (n, S, S) under (C, F, S), in both directions each."""
    tall = np.einsum("cfy,nyx->ncfx", views, thumbnails.astype(np.float32))
    found = np.einsum("ncfx,dgx->ncdfg", tall, views, optimize=True)
    found = found.reshape(len(thumbnails), len(views) ** 2, FREQUENCIES**2)
    roots = np.copysign(np.sqrt(np.abs(found)), found)[..., 1:]
    unit: Floats = roots / np.maximum(np.linalg.norm(roots, axis=-1, keepdims=True), 1e-6)
    return unit


def cut_likeness(first: Thumbnails, second: Thumbnails) -> Floats:
    """(n,) likeness of pictures (n, S, S) to those of the same row, with either of them cut as it fits best."""
    one, other = (np.einsum("ncl,nl->nc", _looks(a, _CUT), looks(b)) for a, b in ((first, second), (second, first)))
    likeness: Floats = np.maximum(one.max(1), other.max(1))
    return likeness


def alike(first: Thumbnails, second: Thumbnails, least: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of pictures with a likeness of at least `least`, mirrored or not.

    Args:
        first, second: (n, S, S) and (m, S, S).

    Yields:
        Row of `first`, row of `second`, likeness; in the order of rows. Every pair is compared, some millions at a time.
    """
    sides = [(seen, looks(seen)) for seen in (second, second[:, :, ::-1])]
    rows = max(1, _PAIRS // max(1, len(second)))
    for start in range(0, len(first), rows):
        part = first[start : start + rows]
        own = looks(part)
        found: dict[tuple[int, int], float] = {}
        for seen, their in sides:
            whole = own @ their.T
            pairs = np.argwhere(whole >= min(least, WORTH_CUTTING))
            for some in np.split(pairs, range(_CUT_PAIRS, len(pairs), _CUT_PAIRS)):
                i, j = some.T
                best = np.maximum(whole[i, j], cut_likeness(part[i], seen[j]))
                for a, b, value in zip(i.tolist(), j.tolist(), best.tolist(), strict=True):
                    found[start + a, b] = max(value, found.get((start + a, b), 0.0))
        yield from ((*pair, value) for pair, value in sorted(found.items()) if value >= least)
