"""Listed triplets of one image, as files of human-object detectors name them, and as pairs with a row of scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.class_lists import ClassList
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionBatch, check_batch
from rlip_assets.storage.errors import DataError

IMAGES_A_BATCH = 256
Ints = npt.NDArray[np.int64]
PERSON_BY_FORM, NO_LABEL = -1, -2
"""Subject label of a form whose subjects are persons by definition; label of a box that has none."""


@dataclass(frozen=True)
class Triplets:
    """M triplets of one image over n boxes; labels and verbs are numbers of the file's own class list.

    Attributes:
        where: file and row, for messages.
        boxes: (n, 4) float64 xyxy pixels.
        ends: (M, 2) subject and object box.
        subjects, objects: (M,) labels; subjects may be `PERSON_BY_FORM`.
        verbs: (M,).
        scores: (M,) float64.
    """

    image_id: str
    where: str
    boxes: npt.NDArray[np.float64]
    ends: Ints
    subjects: Ints
    objects: Ints
    verbs: Ints
    scores: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        last = len(self.boxes) - 1
        self.refuse((self.ends < 0) | (self.ends > last), self.ends, "box index", f"is outside 0..{last}; count from 0")
        self.refuse(self.scores < 0, self.scores, "score", "is no score of a list; write finite ones, at least 0")

    def check_numbers(self, classes: ClassList) -> None:
        """Refuse numbers that name no class of the file's list.

        Raises:
            DataError: names file, row, triplet and number.
        """
        objects, verbs = np.array([*map(bool, classes.objects), True]), np.array([*map(bool, classes.verbs)])
        person_by_form = self.subjects == PERSON_BY_FORM
        for what, numbers, known in (
            ("subject label", np.where(person_by_form, _first(objects), self.subjects), objects[:-1]),
            ("object label", self.objects, objects),
            ("verb", self.verbs, verbs),
        ):
            inside = (numbers >= 0) & (numbers < len(known))
            wrong = ~inside
            wrong[inside] = ~known[numbers[inside]]
            names = f"{_first(known)}..{len(known) - 1}, the classes of {classes.title}"
            self.refuse(wrong, numbers, what, f"is outside {names}; name the file's own with --list-classes")

    def translated(self, objects: Ints, verbs: Ints, person: int) -> Triplets:
        """Return the triplets in a benchmark's numbers; those of classes that it lacks are left out.

        Args:
            objects, verbs: the benchmark's number for each of the file's, as of `ClassList.objects_in` and `verbs_in`.
            person: the benchmark's label of a person.
        """
        by_form = self.subjects == PERSON_BY_FORM
        subjects = np.where(by_form, person, objects[np.where(by_form, 0, self.subjects)])
        moved = (subjects, objects[self.objects], verbs[self.verbs])
        keep = np.logical_and.reduce([numbers >= 0 for numbers in moved])
        subjects, targets, verbs = (numbers[keep] for numbers in moved)
        return replace(
            self, ends=self.ends[keep], subjects=subjects, objects=targets, verbs=verbs, scores=self.scores[keep]
        )

    def predictions(self, vocabulary: Vocabulary, repeats: bool = False) -> ImagePredictions:
        """Return one row per pair of boxes and their labels, in order of first appearance, with 0 for verbs that are not listed.

        Args:
            repeats: a triplet that is listed again is another detection, as programs list it that look scores up by value; else refused.

        Raises:
            DataError: a triplet listed twice; names file, row and triplet.
        """
        num_verbs, labels = len(vocabulary.verbs), len(vocabulary.objects) + 1
        key = (self.ends[:, 0] * len(self.boxes) + self.ends[:, 1]) * labels**2 + self.subjects * labels + self.objects
        again = _repeats(key * num_verbs + self.verbs)
        if not repeats:
            self.refuse(again > 0, self.verbs, "verb", "was listed before for this pair; keep the better one")
        first, pair = np.unique(key + again * (key.max(initial=0) + 1), return_index=True, return_inverse=True)[1:]
        order = np.argsort(first)
        pair, first = np.argsort(order)[pair], first[order]
        scores = np.zeros((len(first), num_verbs), np.float32)
        scores[pair, self.verbs] = self.scores
        subjects, targets = self.boxes.astype(np.float32)[self.ends[first].T]
        return ImagePredictions(self.image_id, subjects, targets, self.subjects[first], self.objects[first], scores)

    def refuse(self, wrong: npt.NDArray[np.bool_], values: npt.NDArray[Any], what: str, problem: str) -> None:
        """Raise DataError for the first wrong triplet, if there is one: its place, `what` it has, the value and the `problem`."""
        rows = np.argwhere(wrong)
        if len(rows):
            raise DataError(f"{self.where}, triplet {rows[0][0]}: {what} {values[tuple(rows[0])]} {problem}")


def _first(known: npt.NDArray[np.bool_]) -> int:
    return int(np.argmax(known))


def _repeats(keys: Ints) -> Ints:
    """(M,) how many equal keys stand before each."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    place = np.empty(len(keys), np.int64)
    place[order] = np.arange(len(keys)) - np.searchsorted(ranked, ranked)
    return place


class ListedPredictions:
    """The triplets of a file as batches of predictions in a benchmark's numbers.

    Args:
        path: the file, for messages.
        images: the triplets of every image, in numbers of `classes`.
        suspicions: what to tell the user about the file.
        repeats: see `Triplets.predictions`.

    Attributes:
        left_out: number of triplets of classes that the benchmark lacks.

    Raises:
        DataError: a number outside the class list; while iterating, what `check_batch` refuses.
    """

    def __init__(
        self,
        path: Path,
        images: Sequence[Triplets],
        classes: ClassList,
        vocabulary: Vocabulary,
        suspicions: Sequence[str] = (),
        repeats: bool = False,
    ) -> None:
        self.path, self.vocabulary, self.suspicions, self.repeats = path, vocabulary, tuple(suspicions), repeats
        for image in images:
            image.check_numbers(classes)
        maps = classes.objects_in(vocabulary), classes.verbs_in(vocabulary)
        person = vocabulary.person if vocabulary.dataset != "open_images" else 0
        self.images = [image.translated(*maps, person) for image in images]
        self.left_out = sum(len(image.verbs) for image in images) - sum(len(image.verbs) for image in self.images)

    def __iter__(self) -> Iterator[PredictionBatch]:
        for first in range(0, len(self.images), IMAGES_A_BATCH):
            chunk = self.images[first : first + IMAGES_A_BATCH]
            predictions = [image.predictions(self.vocabulary, self.repeats) for image in chunk]
            batch = PredictionBatch.of(predictions, len(self.vocabulary.verbs), str(self.path), first)
            check_batch(batch, len(self.vocabulary.objects), len(self.vocabulary.verbs))
            yield batch
