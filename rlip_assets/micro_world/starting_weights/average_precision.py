"""COCO average precision of detections, with pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Detections:
    """Boxes of one image: boxes (n, 4) x1 y1 x2 y2 in pixels, labels (n,) class numbers, scores (n,)."""

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrueBoxes:
    """Annotation of one image: boxes (n, 4) x1 y1 x2 y2 in pixels, labels (n,) class numbers."""

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def average_precision(
    found: Sequence[Detections], true: Sequence[TrueBoxes], class_names: Sequence[str]
) -> dict[str, float]:
    """`ap50` and `ap` (mean over IoU 0.50 to 0.95), in percent, averaged over the classes that occur.

    Args:
        found, true: one entry per image, in the same order.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = {
        "images": [{"id": image} for image in range(len(true))],
        "categories": [{"id": index, "name": name} for index, name in enumerate(class_names)],
        "annotations": _annotations(true),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(_result_rows(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU thresholds, recall points, classes, area ranges, detection limits); -1 where a class does not occur.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return {"ap50": _mean_percent(precision[:1]), "ap": _mean_percent(precision)}


def _annotations(true: Sequence[TrueBoxes]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for image, boxes in enumerate(true):
        for (x1, y1, x2, y2), label in zip(boxes.boxes.tolist(), boxes.labels.tolist(), strict=True):
            width, height = x2 - x1, y2 - y1
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": [x1, y1, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    return rows


def _result_rows(found: Sequence[Detections]) -> npt.NDArray[np.float64]:
    """(N, 7): image, x, y, width, height, score, class."""
    rows = []
    for image, boxes in enumerate(found):
        corner, far = boxes.boxes[:, :2], boxes.boxes[:, 2:]
        columns = [np.full((len(corner), 1), image), corner, far - corner, boxes.scores[:, None], boxes.labels[:, None]]
        rows.append(np.concatenate(columns, axis=1, dtype=np.float64))
    return np.concatenate(rows)


def _mean_percent(precision: npt.NDArray[np.float64]) -> float:
    valid = precision[precision > -1]
    return round(100 * float(valid.mean()), 2) if valid.size else 0.0
