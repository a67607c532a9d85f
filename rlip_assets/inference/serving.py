"""Requests to a served checkpoint: images and texts in, triplets out; `rlip_assets.tracking.serving` puts it behind MLflow.

One row of a request asks about one photo:

    {"dataframe_records": [{"image": "<base64>", "relations": ["ride", "hold"], "objects": ["person", "horse"]}],
     "params": {"threshold": 0.2, "limit": 10}}

`objects` and `relations` may be left out of all rows: the checkpoint's own texts, or those of its benchmark, are used.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlip_assets.storage.errors import DataError
from rlip_assets.storage.images import BadImageError, open_image

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from rlip_assets.inference.relation_detector import RelationDetector

DEFAULTS = {"threshold": 0.1, "limit": 20}
"""Parameters of a request: lowest score of a triplet, and most triplets per image."""
MAX_BYTES = 32 << 20
"""Size of a request, images in base64 included."""
MAX_ROWS, MAX_PIXELS, MAX_RELATIONS = 16, 25_000_000, 200
"""Rows per request; pixels per image, 75 MB as RGB; highest `limit`."""
MAX_TEXTS, MAX_LETTERS = 1000, 100
"""Object or relation texts per row, and characters per text."""


class Answering:
    """A network that answers the rows of a request; subclasses say what one row's answer is.

    One thread decodes and predicts for all requests, so that memory does not grow with their number (an allocator keeps some for each
    thread that has used it).
    """

    columns: tuple[tuple[str, str], ...] = (("image", "the base64 of an image file"),)
    """Columns that a request must have, and what each holds."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1)

    def answers(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Find the triplets of each photo.

        Args:
            rows: the columns of the module's or the subclass's example.
            params: `threshold` and `limit`; see `DEFAULTS`.

        Returns:
            For each row the model's name, what it was trained on, the photo's size and its `relations`, best first.

        Raises:
            DataError: a column is missing, invalid base64, no image, texts that are no list of texts, or more of anything than the limits
                above allow; names the row.
            ParameterError: a threshold outside 0..1, or a limit below 1.
        """
        settings = DEFAULTS | dict(params or {})
        for name, content in self.columns:
            if name not in rows.columns:
                raise DataError(f'The request has no "{name}": give each row {content}')
        if len(rows) > MAX_ROWS:
            raise DataError(f"The request has {len(rows)} rows: send at most {MAX_ROWS} at a time")
        if settings["limit"] > MAX_RELATIONS:
            raise DataError(f"The limit is {settings['limit']}: ask for at most {MAX_RELATIONS} relations")
        records: list[Any] = rows.to_dict("records")
        return [
            self._worker.submit(self.answer, row, number, settings).result()
            for number, row in enumerate(records, start=1)
        ]

    def answer(self, row: Mapping[str, Any], number: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one row, number `number` from 1."""
        raise NotImplementedError


class ServedDetector(Answering):
    """A detector that answers the rows of a request."""

    def __init__(self, detector: RelationDetector) -> None:
        super().__init__()
        self.detector = detector

    def answer(self, row: Mapping[str, Any], number: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one row; `objects` and `relations` are optional."""
        objects, relations = (row_texts(row.get(name), name, number) for name in ("objects", "relations"))
        image = decoded_image(row["image"], number)
        found = self.detector([image], objects, relations, float(settings["threshold"]), int(settings["limit"]))[0]
        return {
            "model": self.detector.name,
            "trained_on": self.detector.trained_on,
            "width": image.width,
            "height": image.height,
            "relations": [triplet.as_dict() for triplet in found],
        }


def decoded_image(text: Any, row: int) -> Image.Image:
    """Return the upright RGB image whose file is `text` in base64; a `data:image/...;base64,` prefix is allowed.

    Raises:
        DataError: not base64, too large, or no image; names the row (from 1).
    """
    if len(str(text)) > MAX_BYTES:
        raise DataError(f'"image" of row {row} has more than {MAX_BYTES >> 20} MiB: send a smaller file')
    try:
        content = base64.b64decode(str(text).rpartition("base64,")[2], validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f'"image" of row {row} is not base64: encode the bytes of an image file') from None
    try:
        return open_image(Path(f"row {row}"), max_pixels=MAX_PIXELS, content=content)
    except BadImageError as error:
        raise DataError(f'"image" of row {row}: {error.reason}') from None


def row_texts(value: Any, name: str, row: int) -> list[str] | None:
    """Return the texts of a cell; an absent one (None or NaN, as data frames fill gaps) gives None.

    Raises:
        DataError: something else, or more than the limits above allow.
    """
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, str) or not hasattr(value, "__iter__") or not all(isinstance(text, str) for text in value):
        raise DataError(f'"{name}" of row {row} must be a list of texts, such as ["ride", "hold"]')
    if len(value) > MAX_TEXTS or any(len(text) > MAX_LETTERS for text in value):
        raise DataError(f'"{name}" of row {row}: give at most {MAX_TEXTS} texts of at most {MAX_LETTERS} characters')
    return list(value)
