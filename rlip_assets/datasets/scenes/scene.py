"""One image with its entities and triplets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.storage.errors import DataError

NO_OBJECT = -1
"""`Scene.object` of a triplet whose action has a subject alone (V-COCO "stand", or an unfilled role)."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One image: n entities, m triplets. Arrays may be read-only views; copy before writing into them.

    Attributes:
        image_id: the dataset's own id, as text.
        dataset: "visual_genome", "coco", "objects365", "open_images", "hico_det", "v_coco", or a name under `sources.own`.
        split: "train", "val" or "test".
        file_name: path relative to the dataset's raw root.
        width, height: size in pixels that the boxes refer to.
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels, as annotated.
        labels: n class names, as the text that the text encoder reads.
        subject: (m,) int32, index of an entity of this row.
        object: (m,) int32, index of an entity of this row, or `NO_OBJECT`.
        relation: m relation texts.
        confidence: (m,) float32 in 0..1 for a pseudo label, NaN for a human one.
    """

    image_id: str
    dataset: str
    split: str
    file_name: str
    width: int
    height: int
    boxes: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    subject: npt.NDArray[np.int32]
    object: npt.NDArray[np.int32]
    relation: tuple[str, ...]
    confidence: npt.NDArray[np.float32]

    def __eq__(self, other: Any) -> bool:
        """Equal content; two unset (NaN) confidences are equal."""
        if not isinstance(other, Scene):
            return NotImplemented
        plain = ("image_id", "dataset", "split", "file_name", "width", "height", "labels", "relation")
        return (
            all(getattr(self, name) == getattr(other, name) for name in plain)
            and all(
                np.array_equal(getattr(self, name), getattr(other, name)) for name in ("boxes", "subject", "object")
            )
            and np.array_equal(self.confidence, other.confidence, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]


def make_scene(
    image_id: str | int,
    dataset: str,
    split: str,
    file_name: str,
    width: int,
    height: int,
    boxes: npt.ArrayLike,
    labels: Sequence[str],
    triplets: Sequence[tuple[int, int, str]] = (),
    confidence: Sequence[float] | None = None,
) -> Scene:
    """A scene from plain Python values.

    Args:
        boxes: n rows of x1 y1 x2 y2 in pixels.
        labels: n class names.
        triplets: m tuples (subject index, object index or `NO_OBJECT`, relation text).
        confidence: m values, or None for human triplets.
    """
    pairs = np.array([triplet[:2] for triplet in triplets], dtype=np.int32).reshape(-1, 2)
    scores = np.full(len(triplets), np.nan) if confidence is None else confidence
    return Scene(
        image_id=str(image_id),
        dataset=dataset,
        split=split,
        file_name=file_name,
        width=int(width),
        height=int(height),
        boxes=np.asarray(boxes, dtype=np.float32).reshape(-1, 4),
        labels=tuple(labels),
        subject=pairs[:, 0].copy(),
        object=pairs[:, 1].copy(),
        relation=tuple(triplet[2] for triplet in triplets),
        confidence=np.asarray(scores, dtype=np.float32).reshape(-1),
    )


def check_scene(scene: Scene) -> None:
    """Refuse a row that no reader may produce.

    Raises:
        DataError: parallel lists of different length, an index outside the row, a box that is not finite, an empty id, or a confidence
            outside 0..1.
    """
    count, triplets = len(scene.labels), len(scene.relation)
    if not scene.image_id:
        raise DataError(f"a {scene.dataset} scene ({scene.file_name}) has an empty image id; give each image an id")
    where = f"scene {scene.image_id} of {scene.dataset}"
    if scene.boxes.shape != (count, 4):
        raise DataError(
            f"{where} has {count} labels and boxes of shape {scene.boxes.shape}; give one x1 y1 x2 y2 row per label"
        )
    if not np.isfinite(scene.boxes).all():
        raise DataError(f"{where} has a box that is not finite; drop the box or quarantine the image")
    if not (len(scene.subject) == len(scene.object) == len(scene.confidence) == triplets):
        raise DataError(
            f"{where} has triplet lists of different lengths; give one subject, object and confidence per relation"
        )
    if ((scene.confidence < 0) | (scene.confidence > 1)).any():
        raise DataError(f"{where} has a confidence outside 0..1; correct it, or leave it out for a human triplet")
    if triplets and not (
        scene.subject.min() >= 0
        and scene.subject.max() < count
        and scene.object.min() >= NO_OBJECT
        and scene.object.max() < count
    ):
        raise DataError(
            f"{where} has a triplet that points outside its {count} boxes; renumber the triplets with the boxes"
        )


def scene_hash(scene: Scene) -> str:
    """Content hash (32 hex digits) of id, boxes and labels: what triplets and pair indices of a later table rely on.

    Independent of split, file name, size and triplets, so that a table of labels stays valid when only those change.
    """
    digest = hashlib.sha256()
    for text in (scene.image_id, *scene.labels):
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(4, "little"))
        digest.update(encoded)
    boxes = np.ascontiguousarray(scene.boxes, dtype="<f4") + np.float32(0)  # -0.0 and 0.0 are one coordinate
    digest.update(boxes.tobytes())
    return digest.hexdigest()[:32]


def bucket_of(image_id: str, buckets: int) -> int:
    """The bucket of an image: SHA-256 of its id modulo `buckets`. It depends on nothing else, so new images move no
    old one."""
    return int(hashlib.sha256(image_id.encode()).hexdigest()[:8], 16) % buckets
