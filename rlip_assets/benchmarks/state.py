"""What an evaluator remembers: flat arrays that grow by concatenation and merge by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlip_assets.benchmarks.predictions import PredictionBatch
from rlip_assets.benchmarks.ragged import Offsets, offsets_of, owners_of, ranges
from rlip_assets.benchmarks.selection import Cells


@dataclass(frozen=True)
class Detections:
    """Query pairs of N images, R together, and the cells of their score matrices that take part.

    Attributes:
        image: (N,) int32 number of the image in the annotations.
        offsets: (N + 1,) image i owns pairs `offsets[i]:offsets[i + 1]`.
        sub_boxes, obj_boxes: (R, 4) float32.
        sub_labels, obj_labels: (R,) int32.
        cells: chosen cells by selection name ("top", "all").
    """

    image: npt.NDArray[np.int32]
    offsets: Offsets
    sub_boxes: npt.NDArray[np.float32]
    obj_boxes: npt.NDArray[np.float32]
    sub_labels: npt.NDArray[np.int32]
    obj_labels: npt.NDArray[np.int32]
    cells: Mapping[str, Cells]

    @classmethod
    def of(cls, image: npt.NDArray[np.int32], batch: PredictionBatch, cells: Mapping[str, Cells]) -> Detections:
        """The pairs of a batch (copied) with their chosen cells."""
        return cls(
            image,
            batch.offsets,
            batch.sub_boxes.copy(),
            batch.obj_boxes.copy(),
            batch.sub_labels.copy(),
            batch.obj_labels.copy(),
            cells,
        )

    @classmethod
    def concatenate(cls, parts: list[Detections], selections: tuple[str, ...]) -> Detections:
        """Images after images."""
        no_boxes, no_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
        return cls(
            np.concatenate([no_labels, *(part.image for part in parts)]),
            offsets_of(np.concatenate([np.zeros(0, np.int64), *(np.diff(part.offsets) for part in parts)])),
            np.concatenate([no_boxes, *(part.sub_boxes for part in parts)]),
            np.concatenate([no_boxes, *(part.obj_boxes for part in parts)]),
            np.concatenate([no_labels, *(part.sub_labels for part in parts)]),
            np.concatenate([no_labels, *(part.obj_labels for part in parts)]),
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
            {name: cells.images(chosen) for name, cells in self.cells.items()},
        )

    def in_annotation_order(self) -> Detections:
        """The same, image by image as the annotations list them."""
        return self.images(np.argsort(self.image, kind="stable"))

    def arrays(self) -> dict[str, npt.NDArray]:
        """As named arrays, to send between processes."""
        arrays = {name: getattr(self, name) for name in ("image", "sub_boxes", "obj_boxes", "sub_labels", "obj_labels")}
        arrays["pairs"] = np.diff(self.offsets)
        for name, cells in self.cells.items():
            arrays[f"{name}.count"] = np.diff(cells.offsets)
            arrays.update({f"{name}.{field}": getattr(cells, field) for field in ("pair", "verb", "score")})
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray], selections: tuple[str, ...]) -> Detections:
        """The inverse of `arrays`."""

        def cells(name: str) -> Cells:
            fields = (arrays[f"{name}.{field}"] for field in ("pair", "verb", "score"))
            return Cells(offsets_of(arrays[f"{name}.count"]), *fields)

        return cls(
            arrays["image"],
            offsets_of(arrays["pairs"]),
            arrays["sub_boxes"],
            arrays["obj_boxes"],
            arrays["sub_labels"],
            arrays["obj_labels"],
            {name: cells(name) for name in selections},
        )


@dataclass(frozen=True)
class FlatCells:
    """Cells of all images, each with its image and its row among all query pairs; n together.

    Attributes:
        image: (n,) int32 number of the image in the annotations.
        row: (n,) int64 row of the query pair among all images' pairs.
        verb, score: (n,) int32, float32.
        offsets: (N + 1,) cells of each image that has predictions.
    """

    image: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]
    verb: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]
    offsets: Offsets

    @classmethod
    def of(cls, detections: Detections, cells: Cells) -> FlatCells:
        """Number the cells of `detections` over all images."""
        local = owners_of(cells.offsets)
        return cls(
            detections.image[local], detections.offsets[:-1][local] + cells.pair, cells.verb, cells.score, cells.offsets
        )

    def where(self, keep: npt.NDArray[np.bool_]) -> FlatCells:
        """Some of the cells."""
        kept = np.concatenate([[0], np.cumsum(keep)])
        return FlatCells(self.image[keep], self.row[keep], self.verb[keep], self.score[keep], kept[self.offsets])
