"""A relation source beside the R-Tagger: an image-text-to-text model that answers for one pair of boxes, yes or no.

The pair is marked on the photo, the subject in red and the object in blue, and the question names both classes and the relation. The
confidence is the model's probability of "yes" against "no" at the first token of its answer. A model that answers neither, in another
language say, has no confidence: such candidates become no labels and are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from PIL import Image, ImageDraw

from rlip_assets.datasets.scenes import Scene
from rlip_assets.labelling.image_shards import Unreadable, unreadable
from rlip_assets.labelling.label_tables import CandidateRow
from rlip_assets.labelling.tagging.filters import Labels
from rlip_assets.lineage.shard_progress import rows_done
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.images import BadImageError

if TYPE_CHECKING:
    from rlip_assets.labelling.image_text_model import ImageTextModel

SUBJECT_COLOUR, OBJECT_COLOUR = (255, 0, 0), (0, 0, 255)
ANSWERED = 0.01
"""Least probability of "yes" and "no" together that is an answer."""
_ENOUGH = 20
"""Candidates of a bucket without any answer that say that none will ever come."""


class PairSource(Protocol):
    """The interface of relation sources that look at one pair, both boxes of which can be seen: the confidences of some relation texts,
    each in 0..1, or None without an answer."""

    def __call__(
        self, photo: Image.Image, scene: Scene, subject: int, target: int, relations: Sequence[str]
    ) -> Sequence[float | None]:
        """
        Args:
            subject, target: entities of the scene.

        Raises:
            BadImageError: the source cannot look at the photo.
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
    ) -> list[float | None]:
        """Return the probability of "yes" for each relation between two entities of a scene."""
        marked = mark_pair(photo, scene, subject, target)
        names = {"subject": scene.labels[subject], "object": scene.labels[target]}
        return [self._answer(marked, self.question.format(relation=relation, **names)) for relation in relations]

    def _answer(self, marked: Image.Image, question: str) -> float | None:
        chances = self.model.first_token(marked, question)
        yes, no = float(chances[self._yes].sum()), float(chances[self._no].sum())
        return yes / (yes + no) if yes + no >= ANSWERED else None  # nor of a model whose numbers overflow


def mark_pair(photo: Image.Image, scene: Scene, subject: int, target: int) -> Image.Image:
    """Return a copy of a photo with the box of the object in blue and, above it, that of the subject in red."""
    marked = photo.convert("RGB")
    pen, width = ImageDraw.Draw(marked), max(2, round(max(photo.size) / 200))
    for entity, colour in ((target, OBJECT_COLOUR), (subject, SUBJECT_COLOUR)):
        pen.rectangle(_upright(scene, entity), outline=colour, width=width)
    return marked


def _upright(scene: Scene, entity: int) -> list[float]:
    """Return a box as x1 y1 x2 y2 with x1 <= x2 and y1 <= y2; benchmarks have some that are turned round."""
    x1, y1, x2, y2 = scene.boxes[entity].tolist()
    return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]


def _is_outside(scene: Scene, *entities: int) -> bool:
    """Return whether one of some boxes has no part in the photo."""
    boxes = [_upright(scene, entity) for entity in entities]
    return any(x1 >= scene.width or y1 >= scene.height or x2 < 0 or y2 < 0 for x1, y1, x2, y2 in boxes)


def judge_scenes(
    source: PairSource, items: Iterable[tuple[Scene, CandidateRow]], photos: Photos
) -> tuple[list[tuple[str, Labels]], Unreadable]:
    """Return the scores of every readable image, in the order of `items`, and the unreadable ones with reasons.

    A pair is looked at once with all of its candidate relations; images without candidates are read by nobody. Candidates without an
    answer have no score, nor have those with a box outside the photo, about which nobody is asked.

    Raises:
        DataError: the source answers with something else than one number in 0..1, or None, per relation.
    """
    scores: list[tuple[str, Labels]] = []
    left_out: Unreadable = []
    for scene, row in items:
        try:
            labels = _judged(source, photos.open(scene), scene, row) if row.relation else Labels.of([], [], [], [])
            scores.append((scene.image_id, labels))
        except BadImageError as error:
            left_out.append(unreadable(scene, error))
        rows_done()
    return scores, left_out


def count_unscored(items: Iterable[tuple[Scene, CandidateRow]], scores: Iterable[tuple[str, Labels]]) -> dict[str, int]:
    """Return the numbers of candidates of scored images that have no score: `unanswered`, and `outside` with a box outside the photo."""
    scored = {image_id: len(labels) for image_id, labels in scores}
    read = [(scene, row) for scene, row in items if scene.image_id in scored]
    candidates = sum(len(row.relation) for _, row in read)
    outside = sum(
        _is_outside(scene, *pair) for scene, row in read for pair in zip(row.subject, row.object, strict=True)
    )
    return {"unanswered": candidates - outside - sum(scored.values()), "outside": outside}


def check_answers(figures: Mapping[str, int], model: str) -> None:
    """Check that a source answers at all.

    Args:
        figures: `scored` and `unanswered` candidates of a whole bucket.

    Raises:
        DataError: many candidates and no answer.
    """
    unanswered = figures.get("unanswered", 0)
    if unanswered >= _ENOUGH and not figures["scored"]:
        raise DataError(
            f"{model} answers none of {unanswered} candidates of this bucket with yes or no; change tagging.question so that it does, or "
            "name another tagging.model"
        )


def _judged(source: PairSource, photo: Image.Image, scene: Scene, row: CandidateRow) -> Labels:
    """Return the candidates of an image that have an answer, each with its confidence."""
    pairs: dict[tuple[int, int], list[str]] = {}
    for subject, target, relation in zip(row.subject, row.object, row.relation, strict=True):
        pairs.setdefault((subject, target), []).append(relation)
    found: dict[tuple[int, int, str], float | None] = {}
    for pair, relations in pairs.items():
        if _is_outside(scene, *pair):
            continue
        answers = source(photo, scene, *pair, relations)
        if len(answers) != len(relations) or not all(answer is None or 0 <= answer <= 1 for answer in answers):
            raise DataError(
                f"the relation source gives {[*answers]} for {len(relations)} relations of boxes {pair} of image {scene.image_id}; it must "
                "give one number in 0..1, or None, per relation"
            )
        found |= {(*pair, relation): answer for relation, answer in zip(relations, answers, strict=True)}
    keys = zip(row.subject, row.object, row.relation, strict=True)
    scored = [(*key, answer) for key in keys if (answer := found.get(key)) is not None]
    return Labels.of(*(list(column) for column in zip(*scored, strict=True))) if scored else Labels.of([], [], [], [])
