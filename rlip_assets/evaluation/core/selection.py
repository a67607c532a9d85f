"""Selection of cells of the pair-by-verb score matrices: the valid ones, or the K best per image.

A cell is one (pair, verb) of one image. Cells are listed image by image, pairs in order, verbs in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ragged import Offsets, offsets_of, owners_of, ranges
from rlip_assets.evaluation.formats.predictions import PredictionBatch

Valid = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """Chosen cells of N images, n together.

    Attributes:
        offsets: (N + 1,) image i owns cells `offsets[i]:offsets[i + 1]`.
        pair: (n,) int32 number of the pair within its image.
        verb: (n,) int32.
        score: (n,) float32.
        survives: (n,) False for cells that pair suppression drops.
    """

    offsets: Offsets
    pair: npt.NDArray[np.int32]
    verb: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]
    survives: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, offsets: Offsets, pair: npt.NDArray[Any], verb: npt.NDArray[Any], score: npt.NDArray[Any]) -> Cells:
        """Cells before any suppression."""
        return cls(offsets, pair, verb, score, np.ones(len(score), bool))

    @classmethod
    def concatenate(cls, parts: list[Cells]) -> Cells:
        """Images after images."""
        if len(parts) == 1:
            return parts[0]
        counts = [np.zeros(0, np.int64), *(np.diff(part.offsets) for part in parts)]
        return cls(
            offsets_of(np.concatenate(counts)),
            np.concatenate([np.zeros(0, np.int32), *(part.pair for part in parts)]),
            np.concatenate([np.zeros(0, np.int32), *(part.verb for part in parts)]),
            np.concatenate([np.zeros(0, np.float32), *(part.score for part in parts)]),
            np.concatenate([np.zeros(0, bool), *(part.survives for part in parts)]),
        )

    def listed(self) -> Cells:
        """Without the cells of score 0, which stand for triplets that a list of triplets does not name."""
        keep = self.score > 0
        offsets = offsets_of(np.bincount(owners_of(self.offsets)[keep], minlength=len(self.offsets) - 1))
        return Cells(offsets, self.pair[keep], self.verb[keep], self.score[keep], self.survives[keep])

    def images(self, chosen: npt.NDArray[np.int64]) -> Cells:
        """The cells of some images, in the order given."""
        if len(chosen) == len(self.offsets) - 1 and (chosen == np.arange(len(chosen))).all():
            return self
        counts = np.diff(self.offsets)[chosen]
        rows = ranges(self.offsets[:-1][chosen], counts)
        return Cells(offsets_of(counts), self.pair[rows], self.verb[rows], self.score[rows], self.survives[rows])

    def where(self, keep: npt.NDArray[np.bool_]) -> Cells:
        """Some of the cells."""
        kept = np.concatenate([[0], np.cumsum(keep)])
        rows = np.flatnonzero(keep)
        return Cells(kept[self.offsets], self.pair[rows], self.verb[rows], self.score[rows], self.survives[rows])


def valid_cells(batch: PredictionBatch, valid: Valid | None) -> Cells:
    """All cells whose verb goes with the pair's object label.

    Args:
        valid: (V, O + 1) which verb goes with which object label, or None for all.
    """
    num_verbs = batch.scores.shape[1]
    rows = len(batch.obj_labels)
    if valid is None:
        counts = np.full(rows, num_verbs, np.int64)
        verb = np.tile(np.arange(num_verbs, dtype=np.int32), rows)
        score = batch.scores.reshape(-1)
    else:
        labels, verbs = np.nonzero(valid.T)
        starts = offsets_of(np.bincount(labels, minlength=valid.shape[1]))
        counts = np.diff(starts)[batch.obj_labels]
        verb = verbs.astype(np.int32)[ranges(starts[:-1][batch.obj_labels], counts)]
        score = batch.scores.reshape(-1)[np.repeat(np.arange(rows) * num_verbs, counts) + verb]
    per_pair = offsets_of(counts)
    first_pair = batch.offsets[:-1]
    pair_in_image = np.arange(rows) - np.repeat(first_pair, np.diff(batch.offsets))
    return Cells.of(per_pair[batch.offsets], np.repeat(pair_in_image.astype(np.int32), counts), verb, score)


def top_cells(cells: Cells, k: int) -> Cells:
    """Return the K best cells of each image, of equal scores at the edge the first listed; all where there are no more than K."""
    counts = np.diff(cells.offsets)
    widest = int(counts.max(initial=0))
    if widest <= k:
        return cells
    filled = np.arange(widest) < counts[:, None]
    table = np.full(filled.shape, -np.inf, np.float32)
    table[filled] = cells.score
    edge = np.partition(table, widest - k, axis=1)[:, widest - k]
    keep = np.greater_equal(table, edge[:, None], out=filled, where=filled)
    surplus = keep.sum(axis=1) - k
    for image in np.flatnonzero(surplus > 0):
        ties = np.flatnonzero(table[image] == edge[image])
        keep[image, ties[len(ties) - surplus[image] :]] = False
    kept = keep[np.arange(widest) < counts[:, None]]
    return cells.where(kept)


def masked_top_cells(batch: PredictionBatch, cells: Cells, k: int) -> Cells:
    """The K best cells of each image when every cell takes part and the invalid ones score zero.

    With at least K positive scores these are the K best valid cells. Otherwise the list is filled up with zeros, in
    the order of the cells, valid or not, before any negative score; that is what sorting the whole masked matrix
    gives.

    Args:
        cells: the batch's valid cells.
    """
    best = top_cells(cells, k)
    positive = np.bincount(owners_of(best.offsets)[best.score > 0], minlength=len(batch))
    short = positive < k
    if not short.any():
        return best
    num_verbs = batch.scores.shape[1]
    parts: list[Cells] = []
    for image in range(len(batch)):
        if not short[image]:
            parts.append(best.images(np.array([image])))
            continue
        own = cells.images(np.array([image]))
        flat = np.zeros((int(batch.offsets[image + 1] - batch.offsets[image])) * num_verbs, np.float32)
        flat[own.pair * num_verbs + own.verb] = own.score
        chosen = np.sort(np.argsort(-flat, kind="stable")[:k])
        pair, verb = np.divmod(chosen.astype(np.int32), np.int32(num_verbs))
        parts.append(Cells.of(offsets_of([len(chosen)]), pair, verb, flat[chosen]))
    return Cells.concatenate(parts)
