"""Annotated relations of a benchmark's images, held flat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlip_assets.datasets.scenes import NO_OBJECT, Scene, bucket_folders, read_scenes
from rlip_assets.evaluation.core.overlaps import Columns, columns_of
from rlip_assets.evaluation.core.ragged import Offsets, offsets_of, owners_of
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.storage.errors import DataError


@dataclass(frozen=True)
class GroundTruth:
    """N images with G boxes and R relations together.

    Attributes:
        image_ids: N unique ids, in the order in which ties between images are broken.
        sizes: (N, 2) int64 width and height in pixels, 0 where unknown.
        box_offsets, boxes, labels: (N + 1,), (G, 4) float32 xyxy as annotated, (G,) int64 object labels.
        relation_offsets, relations: (N + 1,), (R, 3) int64 subject box and object box (numbered within the image;
            -1 = no object) and verb.
        origin: the pixel coordinate of the image's first column: 0, or 1 for annotations in the original HICO-DET form.
        source: the file or folder that they were read from, for messages.
    """

    image_ids: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    box_offsets: Offsets
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    relation_offsets: Offsets
    relations: npt.NDArray[np.int64]
    origin: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        if len(self.index) != len(self.image_ids):
            repeated = next(i for i, image_id in enumerate(self.image_ids) if self.index[image_id] != i)
            raise DataError(f"{self.place(repeated)} is listed twice; keep one entry per image")
        counts = np.diff(self.box_offsets)[self.image]
        bad = (self.relations[:, 0] < 0) | (self.relations[:, 0] >= counts)
        bad |= (self.relations[:, 1] < NO_OBJECT) | (self.relations[:, 1] >= counts)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{self.place(self.image[row])}: a relation points outside its boxes; renumber the boxes")

    def __len__(self) -> int:
        return len(self.image_ids)

    def place(self, image: int | np.integer) -> str:
        """Return source and id of image number `image`, for messages."""
        return annotated_place(self.source, self.image_ids[int(image)])

    @cached_property
    def index(self) -> dict[str, int]:
        """Image id to its number."""
        return {image_id: i for i, image_id in enumerate(self.image_ids)}

    @cached_property
    def image(self) -> npt.NDArray[np.int64]:
        """(R,) the image of each relation."""
        return owners_of(self.relation_offsets)

    @cached_property
    def subject(self) -> npt.NDArray[np.int64]:
        """(R,) row in `boxes` of each relation's subject."""
        return self.box_offsets[self.image] + self.relations[:, 0]

    @cached_property
    def object(self) -> npt.NDArray[np.int64]:
        """(R,) row in `boxes` of each relation's object; the subject's where there is no object."""
        return self.box_offsets[self.image] + np.where(self.has_object, self.relations[:, 1], self.relations[:, 0])

    @cached_property
    def has_object(self) -> npt.NDArray[np.bool_]:
        """(R,) whether the relation has an object."""
        present: npt.NDArray[np.bool_] = self.relations[:, 1] != NO_OBJECT
        return present

    @cached_property
    def columns(self) -> Columns:
        """The boxes as columns, float32."""
        return columns_of(self.boxes)

    def check_classes(self, num_objects: int, num_verbs: int) -> None:
        """Refuse labels and verbs that the benchmark does not have.

        Raises:
            DataError: names the image and the number.
        """
        for name, values, count, offsets in (
            ("object label", self.labels, num_objects, self.box_offsets),
            ("verb", self.relations[:, 2], num_verbs, self.relation_offsets),
        ):
            bad = np.flatnonzero((values < 0) | (values >= count))
            if len(bad):
                image = int(np.searchsorted(offsets, bad[0], side="right")) - 1
                raise DataError(
                    f"{self.place(image)}: {name} {int(values[bad[0]])} is outside 0..{count - 1}; "
                    "use the classes that these annotations were made with"
                )

    def select(self, keep: npt.NDArray[np.bool_]) -> GroundTruth:
        """Some of the images."""
        boxes, relations = keep[owners_of(self.box_offsets)], keep[self.image]
        return GroundTruth(
            tuple(image_id for image_id, kept in zip(self.image_ids, keep, strict=True) if kept),
            self.sizes[keep],
            offsets_of(np.diff(self.box_offsets)[keep]),
            self.boxes[boxes],
            self.labels[boxes],
            offsets_of(np.diff(self.relation_offsets)[keep]),
            self.relations[relations],
            self.origin,
            self.source,
        )


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of the annotations; see `GroundTruth` for the meaning of the fields."""

    image_id: str
    size: tuple[int, int]
    boxes: npt.ArrayLike  # (n, 4)
    labels: npt.ArrayLike  # (n,)
    relations: npt.ArrayLike  # (m, 3)


def annotated_place(source: str, image_id: str) -> str:
    """Return source and id of an annotated image, for messages."""
    return f"{source}: image {image_id!r}" if source else f"annotations of image {image_id!r}"


def ground_truth_of(images: Iterable[AnnotatedImage], origin: int = 0, source: str = "") -> GroundTruth:
    """Join single images.

    Raises:
        DataError: lists of different lengths or boxes that are not finite; the message names `source` and the image.
    """
    images = list(images)
    boxes = [np.asarray(image.boxes, np.float32).reshape(-1, 4) for image in images]
    labels = [np.asarray(image.labels, np.int64).reshape(-1) for image in images]
    relations = [np.asarray(image.relations, np.int64).reshape(-1, 3) for image in images]
    for image, own_boxes, own_labels in zip(images, boxes, labels, strict=True):
        if len(own_boxes) != len(own_labels):
            counts = f"{len(own_boxes)} boxes and {len(own_labels)} labels"
            raise DataError(f"{annotated_place(source, image.image_id)}: {counts}; give each box one label")
        finite = np.isfinite(own_boxes).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            found = own_boxes[row].tolist()
            raise DataError(
                f"{annotated_place(source, image.image_id)}, box {row}: {found} is not finite; remove the box"
            )
    return GroundTruth(
        tuple(image.image_id for image in images),
        np.array([image.size for image in images], np.int64).reshape(-1, 2),
        offsets_of([len(own) for own in boxes]),
        np.concatenate([*boxes, np.zeros((0, 4), np.float32)]),
        np.concatenate([*labels, np.zeros(0, np.int64)]),
        offsets_of([len(own) for own in relations]),
        np.concatenate([*relations, np.zeros((0, 3), np.int64)]),
        origin,
        source,
    )


def benchmark_scenes(folder: Path, split: str = "test") -> list[Scene]:
    """Return the scenes of one split of a scene table; those of several buckets in the order of their ids.

    Raises:
        DataError: a split without images.
    """
    tables = bucket_folders(folder)
    chosen = [scene for table in tables for scene in read_scenes(table) if scene.split == split]
    if not chosen:
        raise DataError(
            f"{folder} has no image of split {split!r}; give the scene table that holds the benchmark's test images"
        )
    return chosen if len(tables) == 1 else sorted(chosen, key=lambda scene: scene.image_id)


def ground_truth_of_list(scenes: Iterable[Scene], vocabulary: Vocabulary, where: str) -> GroundTruth:
    """The annotations of some scenes; `where` names their table in errors.

    Raises:
        DataError: a class name or relation that the vocabulary lacks.
    """
    objects = {name: i for i, name in enumerate(vocabulary.objects)}
    verbs = {name: i for i, name in enumerate(vocabulary.verbs)}
    images = []
    for scene in scenes:
        try:
            labels = [objects[name] for name in scene.labels]
            relation = [verbs[name] for name in scene.relation]
        except KeyError as error:
            raise DataError(
                f"{where}: image {scene.image_id!r} has the class {error}, which the classes.json of "
                f"{vocabulary.dataset} lacks; make both from the same raw data"
            ) from None
        triplets = np.stack([scene.subject, scene.object, np.array(relation, np.int32)], axis=1)
        images.append(AnnotatedImage(scene.image_id, (scene.width, scene.height), scene.boxes, labels, triplets))
    return ground_truth_of(images, source=where)
