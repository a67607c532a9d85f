"""A triplet as users see it: subject, relation and object by name, with their boxes in the photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlip_model.boxes import Box


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
        """Return JSON-ready values; boxes rounded to a tenth of a pixel, the score to four digits."""
        return {
            "subject": self.subject,
            "relation": self.relation,
            "object": self.object,
            "subject_box": [round(v, 1) for v in self.subject_box],
            "object_box": None if self.object_box is None else [round(v, 1) for v in self.object_box],
            "score": round(self.score, 4),
        }
