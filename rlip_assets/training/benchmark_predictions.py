"""Predictions of a network on a benchmark's test split: all pairs with all relation scores, for the evaluators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.evaluation.core.vocabulary import PERSON
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionWriter
from rlip_assets.lineage.context import StageLog
from rlip_assets.lineage.datasets import PERSON_BENCHMARKS
from rlip_assets.lineage.recipes import Augmentation
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.images import BadImageError, open_image
from rlip_assets.training.label_lists import benchmark_labels
from rlip_assets.training.transforms import for_evaluation
from rlip_model import LabelTokenizer, ModelOutput, Rlip
from rlip_model.postprocess import PairPredictions, hoi_predictions, sgg_predictions
from rlip_model.vision.images import image_tensor, stack_images


class _Images(Dataset[tuple[Scene, torch.Tensor | None]]):
    """Test images at evaluation size; None where a file cannot be read."""

    def __init__(self, scenes: Sequence[Scene], root: Path, settings: Augmentation) -> None:
        self.scenes, self.root, self.settings = scenes, root, settings

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Scene, torch.Tensor | None]:
        scene = self.scenes[index]
        try:
            image = open_image(self.root / scene.file_name, (scene.width, scene.height))
        except BadImageError:
            return scene, None
        return scene, image_tensor(for_evaluation((image, scene), self.settings)[0])


@torch.no_grad()
def predict(
    model: Rlip,
    tokenizer: LabelTokenizer,
    classes: Classes,
    scenes: Sequence[Scene],
    image_root: Path,
    settings: Augmentation,
    *,
    zero_shot: bool = False,
    batch: int = 16,
    workers: int = 0,
    log: StageLog | None = None,
) -> Iterator[tuple[Scene, PairPredictions]]:
    """Yield the predictions of every scene. Images of similar shape share a batch, so the order is not that of `scenes`.

    Args:
        zero_shot: the network was not trained on this benchmark; pairs whose subject looks like something other than a person are
            dropped where the benchmark's subjects are persons.

    Raises:
        DataError: an image cannot be read, or a zero-shot vocabulary does not begin with the person class.
    """
    persons_only = zero_shot and classes.dataset in PERSON_BENCHMARKS
    if persons_only and classes.objects[0] != PERSON:
        raise DataError(
            f"classes.json of {classes.dataset} begins with {classes.objects[0]!r}; put {PERSON!r} first for zero-shot"
        )
    device = next(model.parameters()).device
    labels = benchmark_labels(classes, model.config.label_texts)
    pooled = model.encode_text(*(ids.to(device) for ids in tokenizer(labels.texts)))
    by_shape = sorted(scenes, key=lambda scene: (scene.width / scene.height, scene.width, scene.image_id))
    images = _Images(by_shape, image_root, settings)
    done = 0
    for part in DataLoader(images, batch_size=batch, num_workers=workers, collate_fn=list):
        unreadable = [scene for scene, image in part if image is None]
        if unreadable:
            raise DataError(
                f"test image {image_root / unreadable[0].file_name} cannot be read; restore it, a benchmark needs all its images"
            )
        pixels, mask = stack_images([image for _, image in part])
        output = model(pixels.to(device), mask.to(device), pooled, labels.num_objects)
        sizes = torch.tensor([[scene.height, scene.width] for scene, _ in part])
        for (scene, _), pairs in zip(part, _post_process(output, sizes, classes, persons_only), strict=True):
            yield scene, pairs
        done += len(part)
        if log is not None:
            log.progress(done, len(by_shape), "test images")


def _post_process(
    output: ModelOutput, sizes: torch.Tensor, classes: Classes, persons_only: bool
) -> list[PairPredictions]:
    if classes.dataset in PERSON_BENCHMARKS:
        return hoi_predictions(output, sizes, persons_only=persons_only)
    return sgg_predictions(output, sizes)


def write_predictions(
    path: Path, classes: Classes, predictions: Iterator[tuple[Scene, PairPredictions]], metadata: Mapping[str, Any]
) -> int:
    """Write a predictions file and return its number of images."""
    number = 0
    with PredictionWriter(
        path, classes.dataset, benchmark_labels(classes).real_objects, classes.relations or [], metadata
    ) as writer:
        for scene, pairs in predictions:
            writer.write(
                ImagePredictions(
                    scene.image_id,
                    pairs.sub_boxes.cpu().numpy().astype(np.float32),
                    pairs.obj_boxes.cpu().numpy().astype(np.float32),
                    pairs.sub_labels.cpu().numpy().astype(np.int32),
                    pairs.obj_labels.cpu().numpy().astype(np.int32),
                    pairs.scores.cpu().numpy().astype(np.float32),
                )
            )
            number += 1
    return number
