"""Helpers for ragged data held flat: image i owns rows `offsets[i]:offsets[i + 1]`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer]
Offsets = npt.NDArray[np.int64]


def offsets_of(counts: npt.ArrayLike) -> Offsets:
    """(N,) counts to (N + 1,) offsets."""
    counts = np.asarray(counts, np.int64)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def owners_of(offsets: Offsets) -> npt.NDArray[np.int64]:
    """The owner of each row, (rows,)."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def ranges(starts: IntArray, counts: IntArray) -> npt.NDArray[np.int64]:
    """Concatenation of `start, start + 1, ... start + count - 1` for every start."""
    counts = np.asarray(counts, np.int64)
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    first: npt.NDArray[np.int64] = np.repeat(np.asarray(starts, np.int64) - (ends - counts), counts)
    return np.arange(total, dtype=np.int64) + first


def argsort_stable(keys: IntArray) -> npt.NDArray[np.int64]:
    """Stable argsort of non-negative integers.

    Key and position are packed into one 64-bit number where they fit, because NumPy sorts plain numbers several times
    faster than it argsorts them.
    """
    count = len(keys)
    bits = max(1, (count - 1).bit_length()) if count else 1
    if count and int(keys.max()).bit_length() + bits > 63:
        return np.argsort(keys, kind="stable")
    packed = keys.astype(np.int64) << bits
    packed |= np.arange(count, dtype=np.int64)
    packed.sort()
    packed &= (1 << bits) - 1
    return packed


def first_of_runs(sorted_keys: IntArray) -> npt.NDArray[np.bool_]:
    """True where a sorted array shows a value for the first time."""
    first = np.ones(len(sorted_keys), bool)
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=first[1:])
    return first
