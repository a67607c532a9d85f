"""Requests to a served R-Tagger: an image, its boxes and relation texts in; scored triplets out.

    {"dataframe_records": [{"image": "<base64>", "boxes": [[10, 20, 90, 200], [0, 120, 200, 240]],
                            "labels": ["person", "horse"], "relations": ["ride", "feed"]}],
     "params": {"threshold": 0.2, "limit": 10}}

Boxes are x1, y1, x2, y2 in pixels. Every ordered pair of boxes is asked about every relation.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.datasets.scenes import Scene
from rlip_assets.inference.serving import Answering, decoded_image, row_texts
from rlip_assets.labelling.label_tables import CandidateRow
from rlip_assets.labelling.tagging.candidate_tagger import CandidateTagger, TaggingImage
from rlip_assets.lineage.params.labels import TaggingParams
from rlip_assets.storage.errors import DataError, ParameterError
from rlip_assets.training.transforms import resize, target_size
from rlip_model import Checkpoint
from rlip_model.triplets import Triplet
from rlip_model.vision.images import image_tensor

MAX_BOXES = 64
"""Boxes per row."""


class ServedTagger(Answering):
    """An R-Tagger that answers the rows of a request."""

    columns = (
        *Answering.columns,
        ("boxes", "a list of boxes x1, y1, x2, y2 in pixels"),
        ("labels", "the label of each box"),
        ("relations", "a list of relation texts"),
    )

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self._checkpoint = checkpoint

    def answer(self, row: Mapping[str, Any], number: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one row: the scored triplets of all ordered pairs of boxes."""
        threshold, limit = float(settings["threshold"]), int(settings["limit"])
        if not 0 <= threshold <= 1:
            raise ParameterError(f"The threshold is {threshold}: give a score between 0 and 1")
        if limit < 1:
            raise ParameterError(f"The limit is {limit}: ask for at least one relation")
        labels, relations = (row_texts(row[name], name, number) or [] for name in ("labels", "relations"))
        if not all(text.strip() for text in (*labels, *relations)):
            raise DataError(f"Row {number} has an empty text among its labels or relations")
        image = decoded_image(row["image"], number)
        boxes = _boxes(row["boxes"], len(labels), number)
        nothing = np.zeros(0, np.int32)
        scene = Scene(
            str(number),
            "",
            "test",
            "",
            *image.size,
            boxes,
            tuple(labels),
            nothing,
            nothing,
            (),
            np.zeros(0, np.float32),
        )
        asked = [(s, o, relation) for s, o in permutations(range(len(labels)), 2) for relation in relations]
        subjects, objects, texts = (list(column) for column in zip(*asked, strict=True)) if asked else ([], [], [])
        candidates = CandidateRow(scene.image_id, "", subjects, objects, texts, texts, [1] * len(texts))
        metadata = self._checkpoint.metadata
        short, longest = metadata.get("image_size", (800, 1333))
        shown, _ = resize((image, scene), target_size(*image.size, int(short), int(longest)))
        tagger = CandidateTagger(self._checkpoint, list(dict.fromkeys(labels)), TaggingParams())
        (found,) = tagger.tag([TaggingImage(scene, candidates, image_tensor(shown))]) if asked else (None,)
        best = [] if found is None else [found.ranked().take([i]) for i in range(min(limit, len(found)))]
        corners = [tuple(map(float, box)) for box in boxes]
        triplets = [
            Triplet(labels[s], one.relation[0], labels[o], corners[s], corners[o], float(one.confidence[0]))  # type: ignore[arg-type]
            for one in best
            for s, o in [(int(one.subject[0]), int(one.object[0]))]
            if float(one.confidence[0]) >= threshold
        ]
        return {
            "model": str(metadata.get("name", "r_tagger")),
            "trained_on": str(metadata.get("trained_on", "")),
            "width": image.width,
            "height": image.height,
            "relations": [triplet.as_dict() for triplet in triplets],
        }


def _boxes(value: Any, labels: int, row: int) -> npt.NDArray[np.float32]:
    """Return (n, 4) boxes, one for each label; DataError where they are something else."""
    try:
        boxes = np.asarray([list(box) for box in value], np.float32).reshape(-1, 4)
    except (TypeError, ValueError):
        raise DataError(f'"boxes" of row {row} must be a list of [x1, y1, x2, y2]') from None
    if len(boxes) != labels or len(boxes) > MAX_BOXES:
        raise DataError(
            f"Row {row} has {len(boxes)} boxes and {labels} labels: give as many of both, at most {MAX_BOXES}"
        )
    if not np.isfinite(boxes).all() or not (boxes[:, :2] < boxes[:, 2:]).all():
        raise DataError(f"A box of row {row} has no area: give x1 < x2 and y1 < y2 in pixels")
    return boxes
