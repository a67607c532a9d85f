"""The interface of the relation evaluators: `update(batch)`, then `compute()`; `merge` joins what processes gathered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.selection import Cells
from rlip_assets.evaluation.core.state import Detections
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import PredictionBatch
from rlip_assets.storage.errors import DataError


class Annotated(Protocol):
    """Annotations of any benchmark: a list of images."""

    @property
    def image_ids(self) -> tuple[str, ...]:
        """N unique ids."""

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(N, 2) width and height, 0 where unknown."""

    @property
    def index(self) -> dict[str, int]:
        """Image id to its number."""

    def __len__(self) -> int:
        """Number of images."""


Truth = TypeVar("Truth", bound=Annotated)
Result = TypeVar("Result")


def require_person_subjects(truth: GroundTruth, vocabulary: Vocabulary) -> None:
    """Refuse annotations of a human-object benchmark in which something else acts.

    Raises:
        DataError: names the first such image.
    """
    wrong = np.flatnonzero(truth.labels[truth.subject] != vocabulary.person)
    if len(wrong):
        raise DataError(
            f"{truth.place(truth.image[wrong[0]])}: the subject of a relation is no person; drop the relation"
        )


class Evaluator(ABC, Generic[Truth, Result]):
    """Gathers the predictions of a benchmark's images and scores them.

    Images may come in any order and in any batches: ties between images are settled by the order of the annotations.
    An image without predictions counts as one on which nothing was detected. What is counted and not refused: see
    `counts`.

    Attributes:
        listed_only: the predictions come from lists of triplets; a score of 0 says that the triplet was not listed, and it takes no
            part. Otherwise a score of 0 is a score like any other, which may fill an image's best 100. Set it before `update`.
        resampled: name of the result that `compute` returns with draws of its images; the benchmark's headline protocol can.
    """

    listed_only = False
    resampled = ""
    selections: tuple[str, ...] = ("top",)
    needs_all_scores = False

    def __init__(self, truth: Truth, vocabulary: Vocabulary) -> None:
        self.truth, self.vocabulary = truth, vocabulary
        self._parts: list[Detections] = []
        self._seen = np.zeros(len(truth), bool)
        self._merged_twice = 0
        self._odd_pairs = np.zeros((len(truth), 2), np.int64)  # outside the image, degenerate; by image

    def update(self, batch: PredictionBatch) -> None:
        """Take in the predictions of some images.

        Raises:
            DataError: an image that the annotations do not list, or one that came before; scores for another number
                of verbs.
        """
        if batch.scores.shape[1] != len(self.vocabulary.verbs):
            found, expected = batch.scores.shape[1], len(self.vocabulary.verbs)
            raise DataError(
                f"predictions score {found} verbs, the benchmark has {expected}; predict with its classes.json"
            )
        image = np.array([self._number_of(batch, place) for place in range(len(batch))], np.int32)
        again = np.ones(len(image), bool)
        again[np.unique(image, return_index=True)[1]] = False
        again |= self._seen[image]
        if again.any():
            place = batch.place(int(np.argmax(again)))
            raise DataError(f"{place} was predicted before; give the predictions of each image once")
        self._seen[image] = True
        batch = self.prepare(batch)
        self._count_boxes(image, batch)
        cells = self.select(batch)
        if self.listed_only:
            cells = {name: own.listed() for name, own in cells.items()}
        self._parts.append(Detections.of(image, batch, cells, self.needs_all_scores))

    def prepare(self, batch: PredictionBatch) -> PredictionBatch:
        """Return the predictions as the benchmark changes them before anything else; unchanged by default."""
        return batch

    def select(self, batch: PredictionBatch) -> dict[str, Cells]:
        """Return the cells that take part, one entry for each name in `selections`; none by default."""
        del batch
        return {}

    @abstractmethod
    def compute(self) -> Result:
        """Score what was gathered; more may follow, and `compute` may be called again."""

    def merge(self, other: Evaluator[Truth, Result]) -> None:
        """Take over what another evaluator of the same annotations gathered; an image that both have counts once."""
        self.load_state(other.state())

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the gathered predictions as flat arrays, for `load_state` in another process."""
        gathered = self.gathered()
        counted = {"merged_twice": np.array(self._merged_twice), "odd_pairs": self._odd_pairs[gathered.image]}
        return {**gathered.arrays(), **counted}

    def load_state(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Add the state of another process.

        Images that are here already are left out and counted: samplers pad with them.
        """
        part = Detections.from_arrays(state, self.selections)
        new = np.flatnonzero(~self._seen[part.image])
        image = part.image[new]
        self._seen[image] = True
        self._parts.append(part.images(new))
        self._merged_twice += len(part.image) - len(new) + int(state["merged_twice"])
        self._odd_pairs[image] = state["odd_pairs"][new]

    def gathered(self) -> Detections:
        """Everything gathered so far, in the order of the annotations."""
        self._parts = [Detections.concatenate(self._parts, self.selections).in_annotation_order()]
        return self._parts[0]

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of images and of unusual pairs that the figures rest on.

        `images_without_predictions` count as images without detections; `images_merged_twice` were left out once;
        `pairs_outside_image` (a box reaches more than a pixel over its image's edge) and `pairs_degenerate` (a box
        without width or height, or inside out) are scored as they are, as every published evaluator does.
        """
        return {
            "images": len(self.truth),
            "images_without_predictions": int((~self._seen).sum()),
            "images_merged_twice": self._merged_twice,
            "pairs_outside_image": int(self._odd_pairs[:, 0].sum()),
            "pairs_degenerate": int(self._odd_pairs[:, 1].sum()),
        }

    def _number_of(self, batch: PredictionBatch, place: int) -> int:
        number = self.truth.index.get(batch.image_ids[place])
        if number is None:
            raise DataError(
                f"{batch.place(place)} is not in the annotations; predict the benchmark's test images only, under their ids"
            )
        return number

    def _count_boxes(self, image: npt.NDArray[np.int32], batch: PredictionBatch) -> None:
        sizes = self.truth.sizes[image].astype(np.float32) + 1
        sizes[self.truth.sizes[image] == 0] = np.inf
        limit = np.repeat(sizes, np.diff(batch.offsets), axis=0)
        outside = np.zeros(len(limit), bool)
        degenerate = np.zeros(len(limit), bool)
        for boxes in (batch.sub_boxes, batch.obj_boxes):
            outside |= (
                (boxes[:, 0] < -1) | (boxes[:, 1] < -1) | (boxes[:, 2] > limit[:, 0]) | (boxes[:, 3] > limit[:, 1])
            )
            degenerate |= (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
        odd = np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(np.stack([outside, degenerate], axis=1), axis=0)])
        self._odd_pairs[image] = np.diff(odd[batch.offsets], axis=0)
