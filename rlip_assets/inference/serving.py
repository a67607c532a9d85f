"""Requests to a served checkpoint: images and texts in, triplets out; `rlip_assets.tracking.serving` puts it behind MLflow.

One row of a request asks about one photo:

    {"dataframe_records": [{"image": "<base64>", "relations": ["ride", "hold"], "objects": ["person", "horse"]}],
     "params": {"threshold": 0.2, "limit": 10}}

`objects` and `relations` may be left out of all rows of a request: the checkpoint's own texts, or those of its benchmark, are used.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlip_assets.storage.errors import DataError
from rlip_assets.storage.images import open_image

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from rlip_assets.inference.relation_detector import RelationDetector

DEFAULTS = {"threshold": 0.1, "limit": 20}
"""Parameters of a request: the least score of a triplet, and how many triplets an image has at most."""


class ServedDetector:
    """A detector that answers the rows of a request."""

    def __init__(self, detector: RelationDetector) -> None:
        self.detector = detector

    def answers(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Triplets of each photo.

        Args:
            rows: column `image` (base64 of an image file) and, optionally, `objects` and `relations` (lists of texts).
            params: `threshold` and `limit`; see `DEFAULTS`.

        Returns:
            For each row the model's name, what it was trained on, the photo's size and its `relations`, best first.

        Raises:
            DataError: no column `image`, base64 that is none, or texts that are no list of texts.
            BadImageError: the bytes are no image.
        """
        settings = DEFAULTS | dict(params or {})
        if "image" not in rows.columns:
            raise DataError('The request has no "image": give each row the base64 of an image file')
        answers = []
        for number, row in enumerate(rows.to_dict("records"), start=1):
            image = decoded_image(row["image"], number)
            objects, relations = (_texts(row.get(name), name, number) for name in ("objects", "relations"))
            found = self.detector([image], objects, relations, float(settings["threshold"]), int(settings["limit"]))[0]
            answers.append(
                {
                    "model": self.detector.name,
                    "trained_on": self.detector.trained_on,
                    "width": image.width,
                    "height": image.height,
                    "relations": [triplet.as_dict() for triplet in found],
                }
            )
        return answers


def decoded_image(text: Any, row: int) -> Image.Image:
    """The upright RGB image whose file is `text` in base64; a `data:image/...;base64,` prefix is allowed.

    Raises:
        DataError: not base64; names the row (from 1).
        BadImageError: the bytes are no image.
    """
    try:
        content = base64.b64decode(str(text).rpartition("base64,")[2], validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f'"image" of row {row} is not base64: encode the bytes of an image file') from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image of row {row}"
        path.write_bytes(content)
        return open_image(path)


def _texts(value: Any, name: str, row: int) -> list[str] | None:
    """Texts of a cell; an absent one (None or NaN, as data frames fill gaps) gives None."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, str) or not hasattr(value, "__iter__") or not all(isinstance(text, str) for text in value):
        raise DataError(f'"{name}" of row {row} must be a list of texts, such as ["ride", "hold"]')
    return list(value)
