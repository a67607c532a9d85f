"""A relation source beside the R-Tagger: an image-text-to-text model that answers for one pair of boxes, yes or no.

The pair is marked on the photo, the subject in red and the object in blue, and the question names both classes and the relation. The
confidence is the model's probability of "yes" against "no" at the first token of its answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from PIL import Image, ImageDraw

from rlip_assets.datasets.scenes import Scene
from rlip_assets.labelling.image_shards import Unreadable, unreadable
from rlip_assets.labelling.image_text_model import ImageTextModel
from rlip_assets.labelling.label_tables import CandidateRow
from rlip_assets.labelling.tagging.filters import Labels
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.images import BadImageError

SUBJECT_COLOUR, OBJECT_COLOUR = (255, 0, 0), (0, 0, 255)


class PairSource(Protocol):
    """The interface of relation sources that look at one pair: the confidences of some relation texts, each in 0..1."""

    def __call__(
        self, photo: Image.Image, scene: Scene, subject: int, target: int, relations: Sequence[str]
    ) -> list[float]:
        """
        Args:
            subject, target: entities of the scene.
        """


class Photos(Protocol):
    """Opens the photo of a scene."""

    def open(self, scene: Scene) -> Image.Image:
        """
        Raises:
            BadImageError: it cannot be read.
        """


class PairJudge:
    """Asks a model one question per candidate."""

    def __init__(self, model: ImageTextModel, question: str) -> None:
        """
        Args:
            question: with {subject}, {relation} and {object}.

        Raises:
            InputError: the model's tokenizer knows no "yes" or no "no".
        """
        self.model, self.question = model, question
        self._yes, self._no = model.tokens_of("yes", "Yes"), model.tokens_of("no", "No")
        if not self._yes or not self._no or set(self._yes) & set(self._no):
            raise InputError('the tokenizer of tagging.model cannot tell "yes" from "no"; name another model')

    def __call__(
        self, photo: Image.Image, scene: Scene, subject: int, target: int, relations: Sequence[str]
    ) -> list[float]:
        """Return the probability of "yes" for each relation between two entities of a scene."""
        marked = mark_pair(photo, scene, subject, target)
        names = {"subject": scene.labels[subject], "object": scene.labels[target]}
        return [self._answer(marked, self.question.format(relation=relation, **names)) for relation in relations]

    def _answer(self, marked: Image.Image, question: str) -> float:
        chances = self.model.first_token(marked, question)
        yes, no = float(chances[self._yes].sum()), float(chances[self._no].sum())
        return yes / (yes + no) if yes + no > 0 else 0.5


def mark_pair(photo: Image.Image, scene: Scene, subject: int, target: int) -> Image.Image:
    """Return a copy of a photo with the box of the object in blue and, above it, that of the subject in red."""
    marked = photo.convert("RGB")
    pen, width = ImageDraw.Draw(marked), max(2, round(max(photo.size) / 200))
    for entity, colour in ((target, OBJECT_COLOUR), (subject, SUBJECT_COLOUR)):
        pen.rectangle(scene.boxes[entity].tolist(), outline=colour, width=width)
    return marked


def judge_scenes(
    source: PairSource, items: Iterable[tuple[Scene, CandidateRow]], photos: Photos
) -> tuple[list[tuple[str, Labels]], Unreadable]:
    """Return the scores of every readable image, in the order of `items`, and the unreadable ones with reasons.

    A pair is looked at once with all of its candidate relations; images without candidates are read by nobody.
    """
    scores: list[tuple[str, Labels]] = []
    left_out: Unreadable = []
    for scene, row in items:
        try:
            photo = photos.open(scene) if row.relation else None
        except BadImageError as error:
            left_out.append(unreadable(scene, error))
            continue
        scores.append((scene.image_id, _judged(source, photo, scene, row) if photo else Labels.of([], [], [], [])))
    return scores, left_out


def _judged(source: PairSource, photo: Image.Image, scene: Scene, row: CandidateRow) -> Labels:
    """Return the candidates of an image, each with its confidence."""
    pairs: dict[tuple[int, int], list[str]] = {}
    for subject, target, relation in zip(row.subject, row.object, row.relation, strict=True):
        pairs.setdefault((subject, target), []).append(relation)
    found = {
        (*pair, relation): confidence
        for pair, relations in pairs.items()
        for relation, confidence in zip(relations, source(photo, scene, *pair, relations), strict=True)
    }
    keys = list(zip(row.subject, row.object, row.relation, strict=True))
    return Labels.of(row.subject, row.object, row.relation, [found[key] for key in keys])
