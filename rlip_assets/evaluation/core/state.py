"""State of an evaluator: flat arrays that grow by concatenation and merge by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ragged import Offsets, offsets_of, owners_of, ranges
from rlip_assets.evaluation.core.selection import Cells
from rlip_assets.evaluation.formats.predictions import PredictionBatch

PAIR_FIELDS = ("sub_boxes", "obj_boxes", "sub_labels", "obj_labels", "scores")
CELL_FIELDS = ("pair", "verb", "score", "survives")


@dataclass(frozen=True)
class Detections:
    """Query pairs of N images, R together, and the cells of their score matrices that take part.

    Attributes:
        image: (N,) int32 number of the image in the annotations.
        offsets: (N + 1,) image i owns pairs `offsets[i]:offsets[i + 1]`.
        sub_boxes, obj_boxes: (R, 4) float32.
        sub_labels, obj_labels: (R,) int32.
        scores: (R, V) float32 where the evaluator needs every score, else (R, 0).
        cells: chosen cells by selection name ("top", "all").
    """

    image: npt.NDArray[np.int32]
    offsets: Offsets
    sub_boxes: npt.NDArray[np.float32]
    obj_boxes: npt.NDArray[np.float32]
    sub_labels: npt.NDArray[np.int32]
    obj_labels: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    cells: Mapping[str, Cells]

    @classmethod
    def of(
        cls, image: npt.NDArray[np.int32], batch: PredictionBatch, cells: Mapping[str, Cells], all_scores: bool
    ) -> Detections:
        """The pairs of a batch (copied) with their chosen cells."""
        return cls(
            image,
            batch.offsets,
            batch.sub_boxes.copy(),
            batch.obj_boxes.copy(),
            batch.sub_labels.copy(),
            batch.obj_labels.copy(),
            batch.scores[:, : None if all_scores else 0].copy(),
            cells,
        )

    @classmethod
    def concatenate(cls, parts: list[Detections], selections: tuple[str, ...]) -> Detections:
        """Images after images; a part without images, whose arrays may be of any width, adds nothing."""
        parts = [part for part in parts if len(part.image)]
        if not parts:
            no_boxes, no_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
            nothing = {name: Cells.concatenate([]) for name in selections}
            boxes_and_labels = (no_boxes, no_boxes, no_labels, no_labels)
            return cls(no_labels, np.zeros(1, np.int64), *boxes_and_labels, np.zeros((0, 0), np.float32), nothing)
        return cls(
            np.concatenate([part.image for part in parts]),
            offsets_of(np.concatenate([np.diff(part.offsets) for part in parts])),
            np.concatenate([part.sub_boxes for part in parts]),
            np.concatenate([part.obj_boxes for part in parts]),
            np.concatenate([part.sub_labels for part in parts]),
            np.concatenate([part.obj_labels for part in parts]),
            np.concatenate([part.scores for part in parts]),
            {name: Cells.concatenate([part.cells[name] for part in parts]) for name in selections},
        )

    def images(self, chosen: npt.NDArray[np.int64]) -> Detections:
        """Some of the images, in the order given."""
        if len(chosen) == len(self.image) and (chosen == np.arange(len(chosen))).all():
            return self
        counts = np.diff(self.offsets)[chosen]
        rows = ranges(self.offsets[:-1][chosen], counts)
        return Detections(
            self.image[chosen],
            offsets_of(counts),
            self.sub_boxes[rows],
            self.obj_boxes[rows],
            self.sub_labels[rows],
            self.obj_labels[rows],
            self.scores[rows],
            {name: cells.images(chosen) for name, cells in self.cells.items()},
        )

    def in_annotation_order(self) -> Detections:
        """The same, image by image as the annotations list them."""
        return self.images(np.argsort(self.image, kind="stable"))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As named arrays, to send between processes."""
        arrays = {name: getattr(self, name) for name in PAIR_FIELDS}
        arrays |= {"image": self.image, "pairs": np.diff(self.offsets)}
        for name, cells in self.cells.items():
            arrays[f"{name}.count"] = np.diff(cells.offsets)
            arrays.update({f"{name}.{field}": getattr(cells, field) for field in CELL_FIELDS})
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], selections: tuple[str, ...]) -> Detections:
        """The inverse of `arrays`."""

        def cells(name: str) -> Cells:
            fields = (arrays[f"{name}.{field}"] for field in CELL_FIELDS)
            return Cells(offsets_of(arrays[f"{name}.count"]), *fields)

        own = {name: arrays[name] for name in PAIR_FIELDS}
        chosen = {name: cells(name) for name in selections}
        return cls(image=arrays["image"], offsets=offsets_of(arrays["pairs"]), cells=chosen, **own)


@dataclass(frozen=True)
class FlatCells:
    """Cells of all images, each with its image and its row among all query pairs; n together.

    Attributes:
        image: (n,) int32 number of the image in the annotations.
        row: (n,) int64 row of the query pair among all images' pairs.
        verb, score: (n,) int32, float32.
        order: (n,) int64 settles ties of scores within and between images, smaller first; all different.
    """

    image: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]
    verb: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]
    order: npt.NDArray[np.int64]

    @classmethod
    def of(cls, detections: Detections, cells: Cells, suppressed: bool, last_first: bool) -> FlatCells:
        """Number the cells of `detections` over all images.

        Args:
            suppressed: leave out the cells that suppression drops.
            last_first: of equal scores in one image, the last listed comes first (as one pass of suppression leaves them).
        """
        local = owners_of(cells.offsets)
        order = np.arange(len(local))
        if last_first:
            order = (cells.offsets[:-1] + cells.offsets[1:] - 1)[local] - order
        flat = cls(detections.image[local], detections.offsets[:-1][local] + cells.pair, cells.verb, cells.score, order)
        return flat.where(cells.survives) if suppressed else flat

    def where(self, keep: npt.NDArray[np.bool_]) -> FlatCells:
        """Some of the cells."""
        rows = np.flatnonzero(keep)
        return FlatCells(self.image[rows], self.row[rows], self.verb[rows], self.score[rows], self.order[rows])
