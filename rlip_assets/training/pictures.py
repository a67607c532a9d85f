"""A few test images with the best predicted relations drawn on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rlip_assets.benchmarks.predictions import ImagePredictions, read_predictions
from rlip_assets.drawing import draw_triplets
from rlip_assets.images import open_image
from rlip_assets.scenes import NO_OBJECT, Scene
from rlip_assets.sources.classes import Classes
from rlip_model.triplets import Box, Triplet, iou

PICTURES = 2
BEST = 5
SAME_PAIR_IOU = 0.5


def prediction_pictures(
    path: Path, classes: Classes, scenes: Sequence[Scene], image_root: Path, number: int = PICTURES
) -> Iterator[tuple[str, Image.Image]]:
    """The first `number` predicted images that have annotated triplets, as (name, picture)."""
    by_id = {scene.image_id: scene for scene in scenes}
    reader = read_predictions(path)
    for batch in reader:
        for image in batch.images():
            scene = by_id[image.image_id]
            if len(scene.relation) and number > 0:
                number -= 1
                photo = open_image(image_root / scene.file_name, (scene.width, scene.height))
                best = best_triplets(image, reader.objects, reader.verbs)
                yield (
                    f"{classes.dataset}_{image.image_id.replace('/', '_')}",
                    draw_triplets(photo, best, classes.dataset, f"annotated: {annotated(scene)}"),
                )
        if number <= 0:
            return


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
    """The highest scores of an image, one a relation between two entities."""
    chosen: list[Triplet] = []
    for cell in np.argsort(-image.scores, axis=None, kind="stable").tolist():
        pair, relation = divmod(cell, len(relations))
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
    return iou(first.object_box, second.object_box) >= SAME_PAIR_IOU


def _box(values: np.ndarray) -> Box:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
