"""V-COCO annotations in the form that its official evaluation works with: persons, their actions, and the boxes of their roles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.ragged import Offsets, offsets_of, owners_of
from rlip_assets.evaluation.v_coco.actions import Actions
from rlip_assets.storage.errors import DataError

UNLABELLED = -1
PERSON_CATEGORY = 1


@dataclass(frozen=True)
class OfficialTruth:
    """P persons of N images, with A actions and up to S roles each.

    Attributes:
        image_ids: N ids, in the order in which ties between images are broken.
        sizes: (N, 2) width and height, 0 where unknown.
        actions: actions, their roles and verbs.
        person_offsets: (N + 1,)
        persons: (P, 4) float64 xyxy.
        labels: (P, A) int8: 1 does it, 0 does not, -1 the person was never labelled.
        role_boxes: (P, A, S, 4) float64 box that fills a role, NaN where none does.
    """

    image_ids: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    actions: Actions
    person_offsets: Offsets
    persons: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int8]
    role_boxes: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.image_ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Image id to its number."""
        return {image_id: i for i, image_id in enumerate(self.image_ids)}


def official_truth_of_pairs(truth: GroundTruth, actions: Actions, person: int) -> OfficialTruth:
    """Official annotations from relation annotations (a scene table).

    A person without any relation counts as never labelled: relations do not tell it from a person labelled as doing nothing.
    Where a person fills one role with several objects, the first listed stands; the official form has room for one.

    Args:
        person: label of the person class.
    """
    rows = np.flatnonzero(truth.labels == person)
    number = np.full(len(truth.labels), -1, np.int64)
    number[rows] = np.arange(len(rows))
    labels = np.full((len(rows), len(actions.names)), UNLABELLED, np.int8)
    places = max((len(roles) for roles in actions.roles), default=0)
    role_boxes = np.full((len(rows), len(actions.names), places, 4), np.nan)
    subject = number[truth.subject]
    if (subject < 0).any():
        place = truth.place(truth.image[int(np.flatnonzero(subject < 0)[0])])
        raise DataError(f"{place}: the subject of a relation is no person; drop the relation")
    labels[subject] = 0
    verbs = np.array(actions.verbs, np.int64).reshape(-1, 2)
    action, place = verbs[truth.relations[:, 2]].T
    labels[subject, action] = 1
    filled = np.flatnonzero(truth.has_object & (place >= 0))[::-1]  # reversed, so that the first listed is written last
    role_boxes[subject[filled], action[filled], place[filled]] = truth.boxes[truth.object[filled]]
    counts = np.bincount(owners_of(truth.box_offsets)[rows], minlength=len(truth))
    return OfficialTruth(
        truth.image_ids,
        truth.sizes,
        actions,
        offsets_of(counts),
        truth.boxes[rows].astype(np.float64),
        labels,
        role_boxes,
    )


@dataclass(frozen=True)
class CocoBoxes:
    """B boxes of a COCO instances file.

    Attributes:
        ids, image: (B,) annotation id, and number of the image.
        category: (B,) COCO category id.
        boxes: (B, 4) float64 x, y, width, height.
        area: (B,) area of the segment.
        ignored: (B,) the `ignore` flag.
    """

    ids: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]
    category: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]
    ignored: npt.NDArray[np.bool_]

    def cleaned(self, sizes: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """(B, 4) xyxy clipped to the images, and which boxes the official evaluation keeps."""
        low = self.boxes[:, :2]
        high = low + np.maximum(0.0, self.boxes[:, 2:] - 1.0)
        last = (sizes[self.image] - 1).astype(np.float64)
        low, high = (np.minimum(np.maximum(corner, 0.0), last) for corner in (low, high))
        keep = (self.area > 0) & (high > low).all(axis=1) & ~self.ignored
        return np.concatenate([low, high], axis=1), keep


def official_truth_of_coco(
    image_ids: tuple[str, ...],
    sizes: npt.NDArray[np.int64],
    actions: Actions,
    coco: CocoBoxes,
    agents: npt.NDArray[np.int64],
    does: npt.NDArray[np.int64],
    fillers: npt.NDArray[np.int64],
) -> OfficialTruth:
    """Official annotations from the official parts.

    Args:
        agents: (K,) annotation ids of the labelled persons.
        does: (A, K) 1 where the person does the action.
        fillers: (A, K, S) annotation id of what fills a role, 0 for nothing. A filler whose box was not kept counts as nothing.
    """
    boxes, keep = coco.cleaned(sizes)
    kept = np.flatnonzero(keep)
    box_of = {int(key): row for row, key in zip(kept, coco.ids[kept], strict=True)}
    rows = kept[coco.category[kept] == PERSON_CATEGORY]
    rows = rows[np.argsort(coco.image[rows], kind="stable")]
    labels = np.full((len(rows), len(actions.names)), UNLABELLED, np.int8)
    role_boxes = np.full((len(rows), len(actions.names), fillers.shape[2], 4), np.nan)
    column_of = {int(key): column for column, key in enumerate(agents)}
    for person, row in enumerate(rows):
        column = column_of.get(int(coco.ids[row]))
        if column is None:
            continue
        labels[person] = does[:, column] == 1
        for action in np.flatnonzero(labels[person]):
            for place, filler in enumerate(fillers[action, column]):
                if int(filler) in box_of:
                    role_boxes[person, action, place] = boxes[box_of[int(filler)]]
    counts = np.bincount(coco.image[rows], minlength=len(image_ids))
    return OfficialTruth(image_ids, sizes, actions, offsets_of(counts), boxes[rows], labels, role_boxes)
