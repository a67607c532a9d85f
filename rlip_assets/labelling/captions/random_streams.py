"""Random numbers that depend on what they are for, and on nothing else: not on batches, shards or order of work."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def uniform_table(seed: int, image_id: str, captions: int, steps: int) -> npt.NDArray[np.float64]:
    """(captions, steps) numbers in [0, 1): entry [c, t] decides token t of caption c of this image.

    Each caption has a counter-based generator (Philox) keyed by seed, image and caption number, so the entry is the same whatever else
    is computed, and more captions or steps extend the table without changing it.
    """
    table = np.empty((captions, steps))
    for caption in range(captions):
        key = hashlib.sha256(f"{seed}/{caption}/{image_id}".encode()).digest()
        words = np.frombuffer(key[:16], dtype="<u8")
        table[caption] = np.random.Generator(np.random.Philox(key=words)).random(steps)
    return table
