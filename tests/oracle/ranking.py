"""From the scores of an image's queries to the list of scored relations that a protocol looks at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .overlap import plain_iou, union_box


@dataclass(frozen=True)
class Relation:
    """One predicted (subject, object, verb) of an image."""

    sub_box: np.ndarray
    obj_box: np.ndarray
    sub_label: int
    obj_label: int
    verb: int
    score: float

    @property
    def triplet(self) -> tuple[int, int, int]:
        return self.sub_label, self.obj_label, self.verb

    @property
    def phrase_box(self) -> np.ndarray:
        return union_box(self.sub_box, self.obj_box)


def relation_of_cell(prediction: Mapping[str, Any], query: int, verb: int, score: float) -> Relation:
    subject, object_ = int(prediction["sub_ids"][query]), int(prediction["obj_ids"][query])
    return Relation(
        sub_box=prediction["boxes"][subject],
        obj_box=prediction["boxes"][object_],
        sub_label=int(prediction["labels"][subject]),
        obj_label=int(prediction["labels"][object_]),
        verb=verb,
        score=score,
    )


def top_relations(prediction: Mapping[str, Any], validity: np.ndarray | None, top_k: int | None) -> list[Relation]:
    """The `top_k` best (query, verb) cells, best first, ties query-major and verb-minor.

    `validity` (verbs, objects) of 0 and 1 multiplies the scores; the zeros that it makes are not removed, they only
    sink. `top_k=None` keeps every cell."""
    cells = []
    for query in range(len(prediction["sub_ids"])):
        obj_label = int(prediction["labels"][int(prediction["obj_ids"][query])])
        for verb in range(prediction["verb_scores"].shape[1]):
            score = float(prediction["verb_scores"][query, verb])
            if validity is not None:
                score *= float(validity[verb, obj_label])
            cells.append((score, query, verb))
    cells.sort(key=lambda cell: -cell[0])
    return [relation_of_cell(prediction, query, verb, score) for score, query, verb in cells[:top_k]]


def by_score(relations: Sequence[Relation]) -> list[Relation]:
    return sorted(relations, key=lambda relation: -relation.score)


def pair_nms(relations: Sequence[Relation], threshold: float = 0.7) -> list[Relation]:
    """Suppress pairs of the same triplet class whose IoU_subject * sqrt(IoU_object) exceeds `threshold`
    (the published exponents: 1 and 0.5)."""

    def too_close(a: Relation, b: Relation) -> bool:
        overlap = plain_iou(a.sub_box, b.sub_box) * np.sqrt(plain_iou(a.obj_box, b.obj_box))
        return not overlap <= threshold  # an overlap that is not a number suppresses too

    return _suppress(relations, too_close)


def phrase_nms(relations: Sequence[Relation], threshold: float = 0.5) -> list[Relation]:
    """Suppress phrases of the same triplet class whose union boxes overlap by more than `threshold`."""

    def too_close(a: Relation, b: Relation) -> bool:
        return not plain_iou(a.phrase_box, b.phrase_box) <= threshold

    return _suppress(relations, too_close)


def _suppress(relations: Sequence[Relation], too_close: Callable[[Relation, Relation], bool]) -> list[Relation]:
    """Greedy suppression inside each triplet class. The result lies class by class, classes in the order of their
    first appearance; inside a class by descending score, of equal scores the LATER first."""
    classes: dict[tuple[int, int, int], list[Relation]] = {}
    for relation in relations:
        classes.setdefault(relation.triplet, []).append(relation)
    kept = []
    for members in classes.values():
        waiting = sorted(members, key=lambda relation: relation.score)[::-1]
        while waiting:
            best = waiting.pop(0)
            kept.append(best)
            waiting = [other for other in waiting if not too_close(best, other)]
    return kept
