"""Perceptual hashes: pictures that look the same have hashes that differ in few bits, whatever their size and compression.

The hash is the signs of the low frequencies of a picture (a "pHash" of 256 bits): 64 x 64 grey values, their discrete cosine transform, and
for the lowest 16 x 16 frequencies whether each is above their median. A picture without contrast has no hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

from rlip_assets.images import open_image

HASH_VERSION = 1
SIDE, FREQUENCIES = 64, 16
WORDS = FREQUENCIES * FREQUENCIES // 64
BITS = 64 * WORDS
LEAST_CONTRAST = 2.0
"""Standard deviation of grey values (0..255) below which a picture says nothing."""
_PAIRS = 4_000_000

Hashes = npt.NDArray[np.uint64]


def picture_hash(picture: Image.Image) -> Hashes | None:
    """The hash of a picture, (`WORDS`,) uint64; None for one without contrast."""
    small = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, np.float32)
    if grey.std() < LEAST_CONTRAST:
        return None
    low = dctn(grey, norm="ortho")[:FREQUENCIES, :FREQUENCIES].ravel()
    low[0] = 0  # brightness
    return np.packbits(low > np.median(low)).view(np.uint64)


def hash_file(path: Path) -> Hashes | None:
    """The hash of an image file, upright as a viewer shows it.

    Raises:
        BadImageError: the file cannot be read.
    """
    return picture_hash(open_image(path))


def near_pairs(first: Hashes, second: Hashes, max_distance: int) -> Iterator[tuple[int, int, int]]:
    """Pairs of rows whose hashes differ in at most `max_distance` bits.

    Args:
        first, second: (n, `WORDS`) and (m, `WORDS`).

    Yields:
        Row of `first`, row of `second`, number of bits that differ; in the order of rows. Every pair is compared, some millions at a time.
    """
    rows = max(1, _PAIRS // max(1, len(second)))
    for start in range(0, len(first), rows):
        part = first[start : start + rows]
        distance = np.zeros((len(part), len(second)), np.uint16)
        for word in range(WORDS):
            distance += np.bitwise_count(part[:, None, word] ^ second[None, :, word])
        for i, j in zip(*np.nonzero(distance <= max_distance), strict=True):
            yield start + int(i), int(j), int(distance[i, j])
