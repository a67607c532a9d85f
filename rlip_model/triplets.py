"""What inference returns: a relation between two boxes of a photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Box = tuple[float, float, float, float]


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes; 0 where they do not overlap."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return intersection / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection)


@dataclass(frozen=True)
class Triplet:
    """One relation found in an image. Boxes are (x1, y1, x2, y2) in pixels of the upright original image; scores are 0..1."""

    subject: str
    relation: str
    object: str
    subject_box: Box
    object_box: Box | None
    score: float

    def as_dict(self) -> dict[str, Any]:
        """The triplet as JSON-ready values; boxes rounded to a tenth of a pixel, the score to four digits."""
        return {
            "subject": self.subject,
            "relation": self.relation,
            "object": self.object,
            "subject_box": [round(v, 1) for v in self.subject_box],
            "object_box": None if self.object_box is None else [round(v, 1) for v in self.object_box],
            "score": round(self.score, 4),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Triplet:
        """Inverse of `as_dict`. Raises KeyError, TypeError or ValueError where a field is missing or no such value."""
        target = values["object_box"]
        return cls(
            subject=str(values["subject"]),
            relation=str(values["relation"]),
            object=str(values["object"]),
            subject_box=_box(values["subject_box"]),
            object_box=None if target is None else _box(target),
            score=float(values["score"]),
        )


def _box(values: Any) -> Box:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
