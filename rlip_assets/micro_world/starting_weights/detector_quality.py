"""COCO average precision of detections, with pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rlip_assets.micro_world.starting_weights.detection_data import Drawn

if TYPE_CHECKING:
    from rlip_model.dab_deformable_detr import Detections


def average_precision(
    found: Sequence[Detections], true: Sequence[Drawn], class_names: Sequence[str]
) -> dict[str, float]:
    """Return `ap50` and `ap` (mean over IoU 0.50 to 0.95), in percent, averaged over the classes that occur.

    Args:
        found, true: one entry per image, in the same order.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    boxes = [
        (image, label, [x1, y1, x2 - x1, y2 - y1])
        for image, drawn in enumerate(true)
        for (x1, y1, x2, y2), label in zip(drawn.boxes.tolist(), drawn.labels.tolist(), strict=True)
    ]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image} for image in range(len(true))],
        "categories": [{"id": index, "name": name} for index, name in enumerate(class_names)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, (image, label, box) in enumerate(boxes, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results = np.concatenate([_rows(image, one) for image, one in enumerate(found)])
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU thresholds, recall points, classes, area ranges, detection limits); -1 where a class does not occur.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return {"ap50": _mean_percent(precision[:1]), "ap": _mean_percent(precision)}


def _rows(image: int, found: Detections) -> npt.NDArray[np.float64]:
    """Return (n, 7): image, x, y, width, height, score, class."""
    boxes = found.boxes.numpy()
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.column_stack([np.full(len(boxes), image), boxes[:, :2], sides, found.scores, found.labels]).astype(float)


def _mean_percent(precision: npt.NDArray[np.float64]) -> float:
    valid = precision[precision > -1]
    return round(100 * float(valid.mean()), 2) if valid.size else 0.0
