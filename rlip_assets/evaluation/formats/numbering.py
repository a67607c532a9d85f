"""The class list that the numbers of a prediction list belong to: that of its form, checked against the list itself.

Detectors list interactions that exist, so in the right class list nearly all of the scores lie on pairs of verb and object that the
benchmark has; in another one few do. A list that fits another known class list better is refused, and one whose numbers seem to count
from 1 is called suspicious.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.vocabulary import PERSON, Vocabulary
from rlip_assets.evaluation.formats.class_lists import (
    ClassList,
    coco_ids,
    coco_order,
    interactions,
    is_official,
    own_order,
    pair_order,
    read_class_list,
)
from rlip_assets.evaluation.formats.triplets import NO_LABEL, PERSON_BY_FORM, Ints, Triplets
from rlip_assets.evaluation.suspicions import FITTING
from rlip_assets.storage.errors import DataError

CONFIRMED = 0.9
"""Share of scores on interactions of the benchmark that shows an unpublished class list to be the right one."""
DOUBTED = 0.5
"""A smaller share is called suspicious."""


@dataclass(frozen=True)
class Numbers:
    """The M triplets of a file: (M,) subjects, objects, verbs, scores."""

    subjects: Ints
    objects: Ints
    verbs: Ints
    scores: npt.NDArray[np.float64]

    @classmethod
    def of(cls, images: Sequence[Triplets]) -> Numbers:
        """Join the triplets of single images."""
        names = ("subjects", "objects", "verbs", "scores")
        return cls(*(np.concatenate([getattr(image, name) for image in images]) for name in names))

    def share(self, classes: ClassList, vocabulary: Vocabulary, objects_from: int = 0, verbs_from: int = 0) -> float:
        """Return the share of the scores that lies on interactions of the benchmark, if the numbers mean this list, counted from ..."""
        own_objects, own_verbs = classes.objects_in(vocabulary), classes.verbs_in(vocabulary)
        objects, verbs = self.objects - objects_from, self.verbs - verbs_from
        inside = (objects >= 0) & (objects < len(own_objects)) & (verbs >= 0) & (verbs < len(own_verbs))
        label, verb = own_objects[objects[inside]], own_verbs[verbs[inside]]
        fits = (label >= 0) & (verb >= 0) & vocabulary.valid[verb, label]
        total = self.scores.sum()
        return float(self.scores[inside][fits].sum() / total) if total else 1.0

    def best_shift(self, classes: ClassList, vocabulary: Vocabulary) -> tuple[float, str]:
        """Return the largest share with numbers counted from 1, and which numbers these are."""
        shifts = {"objects": (1, 0), "verbs": (0, 1), "objects and verbs": (1, 1)}
        return max((self.share(classes, vocabulary, *shift), words) for words, shift in shifts.items())


def class_list_of(
    path: Path,
    images: list[Triplets],
    pairs_form: bool,
    vocabulary: Vocabulary,
    given: Path | None,
    with_coco_ids: bool,
) -> tuple[ClassList, list[Triplets], list[str]]:
    """Return the class list of a file's numbers, its triplets by verb and object, and what is suspicious about them.

    Args:
        pairs_form: the form of UPT and PViC.
        given: file that names the classes.
        with_coco_ids: objects are COCO category ids, verbs count from 1.

    Raises:
        DataError: the class list cannot be known, or another one fits better; says how to name it.
    """
    dataset = vocabulary.dataset
    official = is_official(vocabulary)
    if _names_interactions(images, vocabulary, official and given is None and not with_coco_ids):
        classes = coco_order(dataset)
        table = interactions(classes)
        return classes, [_by_verb_and_object(image, table) for image in images], []
    others: list[ClassList] = []
    if given is not None:
        classes = read_class_list(given, dataset)
    elif with_coco_ids and dataset in ("hico_det", "v_coco"):
        classes = coco_ids(dataset)
    elif official:
        known = [coco_order(dataset), pair_order(dataset), coco_ids(dataset)]
        classes = known.pop(1 if pairs_form else 0)
        others = known
    else:
        classes = own_order(vocabulary)
        for image in images:
            image.check_numbers(classes)
    unlabelled = next((image for image in images if (image.subjects == NO_LABEL).any()), None)
    if unlabelled is not None:
        raise DataError(
            f"{unlabelled.where}: its boxes have no category_id, and its triplets name no interaction of HICO-DET"
        )
    numbers = Numbers.of(images)
    share = numbers.share(classes, vocabulary)
    confirmed = bool(vocabulary.hois) and share >= CONFIRMED
    if not (official or with_coco_ids or given or confirmed):
        raise DataError(
            f"{path}: what its numbers stand for cannot be known, since {dataset} has other classes here than the published ones; name "
            "its classes with --list-classes (a classes.json, or a JSON object with objects and verbs)"
        )
    if vocabulary.hois and share < FITTING:
        fits = [(numbers.share(other, vocabulary), other) for other in others]
        fit, other = max(fits, key=lambda each: each[0], default=(0.0, classes))
        if fit >= FITTING and fit >= numbers.best_shift(classes, vocabulary)[0]:
            raise DataError(_misfit(path, classes, share, other, fit))
    return classes, images, list(_suspicions(numbers, classes, vocabulary, share))


def _names_interactions(images: Sequence[Triplets], vocabulary: Vocabulary, published: bool) -> bool:
    """Return whether the "verbs" are HICO-DET's 600 interactions: of boxes without labels, or beyond the verbs of `published` numbers."""
    if vocabulary.dataset != "hico_det":
        return False
    unlabelled = all((image.subjects == NO_LABEL).all() for image in images)
    beyond = published and any(image.verbs.max(initial=0) > len(vocabulary.verbs) for image in images)
    return any(len(image.verbs) for image in images) and (unlabelled or beyond)


def _by_verb_and_object(image: Triplets, table: Ints) -> Triplets:
    image.refuse(
        (image.verbs < 0) | (image.verbs >= len(table)), image.verbs, "interaction", f"is outside 0..{len(table) - 1}"
    )
    verbs, objects = table[image.verbs].T
    subjects = np.where(image.subjects == NO_LABEL, PERSON_BY_FORM, image.subjects)
    return replace(image, subjects=subjects, objects=objects, verbs=verbs)


def _misfit(path: Path, classes: ClassList, share: float, other: ClassList, fit: float) -> str:
    remedy = (
        "read them with --coco-ids"
        if not other.verbs[0]
        else (
            "name its classes with --list-classes (a JSON object with objects and verbs, such as the annotation file of the training)"
        )
    )
    return (
        f"{path}: its numbers are not those of {classes.title}: {100 * share:.0f} % of its scores lie on interactions of the benchmark, "
        f"and {100 * fit:.0f} % if they are those of {other.title}; {remedy}"
    )


def _suspicions(numbers: Numbers, classes: ClassList, vocabulary: Vocabulary, share: float) -> Iterator[str]:
    subjects = numbers.subjects[numbers.subjects != PERSON_BY_FORM]
    if len(subjects) and PERSON in classes.objects and not (subjects == classes.objects.index(PERSON)).any():
        label = int(np.bincount(np.maximum(subjects, 0)).argmax())
        name = classes.objects[label] if label < len(classes.objects) else "no class"
        yield (
            f"no subject is a person: most have label {label} ({name}). Labels count from 0; COCO category ids are read with --coco-ids, "
            "and other classes with --list-classes."
        )
    if not vocabulary.hois or share >= FITTING:
        return
    fit, words = numbers.best_shift(classes, vocabulary)
    if fit >= FITTING:
        yield (
            f"its labels seem to count from 1: {100 * share:.0f} % of the scores lie on interactions of the benchmark, and "
            f"{100 * fit:.0f} % if {words} count from 1. They count from 0."
        )
    elif share < DOUBTED:
        yield (
            f"only {100 * share:.0f} % of the scores lie on interactions of the benchmark, if the numbers are those of {classes.title}; "
            "other classes are named with --list-classes."
        )
