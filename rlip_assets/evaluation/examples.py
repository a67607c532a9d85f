"""Test images with the best predicted relations drawn on them: some of all, and one of each class that is found worst."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rlip_assets.datasets.scenes import NO_OBJECT, Scene
from rlip_assets.evaluation.core.results import ClassTable
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionBatch, read_predictions
from rlip_assets.storage.drawing import draw_triplets
from rlip_assets.storage.images import BadImageError, open_image
from rlip_model.boxes import Box, iou
from rlip_model.triplets import Triplet

PICTURES = 2
WORST = 3
BEST = 5
SAME_PAIR_IOU = 0.5


@dataclass(frozen=True)
class Example:
    """One drawn test image; `name` is fit for a file, `caption` for a page."""

    name: str
    caption: str
    picture: Image.Image


def first_examples(path: Path, scenes: Sequence[Scene], image_root: Path, title: str) -> Iterator[Example]:
    """The first few predicted images that have annotated relations.

    Args:
        path: a predictions file.
        scenes: the images it speaks of.
        title: what to say on top of each picture, usually the network's name.
    """
    by_id = {scene.image_id: scene for scene in scenes}
    wanted = [scene.image_id for scene in scenes if len(scene.relation)]
    reader = read_predictions(path)
    for found in _of_images(reader, wanted[:PICTURES]).values():
        scene = by_id[found.image_id]
        note = f"annotated: {annotated(scene)}"
        triplets = best_triplets(found, reader.objects, reader.verbs)
        yield Example(_file_name(found.image_id), note, _drawn(triplets, scene, image_root, title, note))


def worst_examples(
    table: ClassTable,
    vocabulary: Vocabulary,
    batches: Iterable[PredictionBatch],
    scenes: Sequence[Scene],
    image_root: Path,
) -> Iterator[Example]:
    """A test image of each of the classes with the lowest AP: what is annotated there, and what the network says instead.

    Args:
        table: results by class of one task.
        batches: the predictions that it judges.
        scenes: the benchmark's test images; those whose file cannot be read are passed over for the next one of the class.
    """
    chosen = {index: _images_of(table.names[index], vocabulary, scenes) for index in worst_classes(table)}
    found = _of_images(batches, [scene.image_id for images in chosen.values() for scene in images])
    for rank, (index, images) in enumerate(chosen.items(), start=1):
        name = " ".join(table.names[index])
        title = f"{name}: AP {100 * table.ap[index]:.1f}"
        for scene in images:
            if scene.image_id not in found:
                continue
            words = annotated(scene)
            triplets = best_triplets(found[scene.image_id], vocabulary.objects, vocabulary.verbs)
            try:
                picture = _drawn(triplets, scene, image_root, title, f"annotated: {words}")
            except BadImageError:
                continue
            yield Example(f"worst_{rank}_{_file_name(name)}", f"{title}. Annotated: {words}", picture)
            break


def worst_classes(table: ClassTable, number: int = WORST) -> list[int]:
    """The annotated classes of the lowest AP; of equal ones those with more annotations, for they cost more."""
    annotated_classes = np.flatnonzero(table.ranks.positives > 0)
    order = np.lexsort((-table.ranks.positives[annotated_classes], table.ap[annotated_classes]))
    return [int(index) for index in annotated_classes[order][:number]]


def _images_of(names: Sequence[str], vocabulary: Vocabulary, scenes: Sequence[Scene]) -> list[Scene]:
    """The first images that annotate a class: (verb, object), (subject, verb, object) or (action, role) of V-COCO."""
    actions: Mapping[str, str] = dict(zip(vocabulary.groups.get("actions", ()), vocabulary.verbs, strict=False))
    verb = actions.get("_".join(names))
    found = []
    for scene in scenes:
        for subject, relation, target in zip(
            scene.subject.tolist(), scene.relation, scene.object.tolist(), strict=True
        ):
            end = () if target == NO_OBJECT else (scene.labels[target],)
            texts = (scene.labels[subject], relation, *end)
            if relation == verb if verb is not None else tuple(names) == texts[-len(names) :]:
                found.append(scene)
                break
        if len(found) == PICTURES:
            break
    return found


def _of_images(batches: Iterable[PredictionBatch], image_ids: Sequence[str]) -> dict[str, ImagePredictions]:
    """Predictions of some images, in the order of `batches`, which are read as far as needed."""
    wanted = set(image_ids)
    found: dict[str, ImagePredictions] = {}
    for batch in batches:
        found |= {image.image_id: image for image in batch.images() if image.image_id in wanted}
        if len(found) == len(wanted):
            break
    return found


def _drawn(triplets: Sequence[Triplet], scene: Scene, image_root: Path, title: str, note: str) -> Image.Image:
    size = (scene.width, scene.height) if scene.width else None
    return draw_triplets(open_image(image_root / scene.file_name, size), triplets, title, note)


def _file_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def annotated(scene: Scene, limit: int = 3) -> str:
    """The first `limit` annotated relations in words, and how many more there are."""
    triplets = zip(scene.subject.tolist(), scene.relation, scene.object.tolist(), strict=True)
    texts = [
        " ".join([scene.labels[subject], relation, *([] if target == NO_OBJECT else [scene.labels[target]])])
        for subject, relation, target in triplets
    ]
    more = [f"{len(texts) - limit} more"] if len(texts) > limit else []
    return ", ".join(texts[:limit] + more)


def best_triplets(
    image: ImagePredictions, objects: Sequence[str], relations: Sequence[str], limit: int = BEST
) -> list[Triplet]:
    """The highest scores of an image, one for each relation between two entities."""
    chosen: list[Triplet] = []
    for cell in np.argsort(-image.scores, axis=None, kind="stable").tolist():
        pair, relation = divmod(cell, len(relations))
        if image.scores[pair, relation] <= 0:
            break
        label = int(image.obj_labels[pair])
        triplet = Triplet(
            objects[int(image.sub_labels[pair])],
            relations[relation],
            objects[label] if label < len(objects) else "nothing",
            _box(image.sub_boxes[pair]),
            _box(image.obj_boxes[pair]) if label < len(objects) else None,
            float(image.scores[pair, relation]),
        )
        if not any(_same(triplet, other) for other in chosen):
            chosen.append(triplet)
        if len(chosen) == limit:
            break
    return chosen


def _same(first: Triplet, second: Triplet) -> bool:
    if (first.relation, first.object) != (second.relation, second.object):
        return False
    if iou(first.subject_box, second.subject_box) < SAME_PAIR_IOU:
        return False
    if first.object_box is None or second.object_box is None:
        return first.object_box is second.object_box
    return bool(iou(first.object_box, second.object_box) >= SAME_PAIR_IOU)


def _box(values: np.ndarray) -> Box:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
