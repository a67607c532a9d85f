"""Predictions of a network on a benchmark's images: all pairs with all relation scores, for the evaluators.

`predict` yields them; `predict_split` writes them as one file, from shards that a killed run finds again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.evaluation.core.vocabulary import PERSON
from rlip_assets.evaluation.examples import first_examples
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionWriter, read_predictions
from rlip_assets.lineage.context import NullLog, StageLog
from rlip_assets.lineage.datasets import PERSON_BENCHMARKS
from rlip_assets.lineage.recipes import Augmentation
from rlip_assets.lineage.shards import Shard, ShardStore
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.file_state import content_state
from rlip_assets.storage.files import digest_json
from rlip_assets.storage.images import BadImageError, open_image, save_picture
from rlip_assets.training.label_lists import benchmark_labels
from rlip_assets.training.loading import load
from rlip_assets.training.transforms import for_evaluation
from rlip_model import LabelTokenizer, ModelOutput, Rlip
from rlip_model.checkpoints.files import content_digest
from rlip_model.postprocess import PairPredictions, hoi_predictions, sgg_predictions
from rlip_model.vision.images import image_tensor, stack_images

SHARD_IMAGES = 64
"""Images of a shard, rounded to whole batches: a batch's images are padded to each other, which shows in the results."""
SHARD_FILE = "predictions.parquet"


@dataclass(frozen=True)
class BenchmarkSplit:
    """Annotated images of a benchmark.

    Attributes:
        image_root: folder that their file names are relative to.
    """

    classes: Classes
    scenes: Sequence[Scene]
    image_root: Path


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
    progress: tuple[int, int] | None = None,
) -> Iterator[tuple[Scene, PairPredictions]]:
    """Yield the predictions of every scene. Images of similar shape share a batch, so the order is not that of `scenes`.

    Args:
        zero_shot: the network was not trained on this benchmark; pairs whose subject looks like something other than a person are
            dropped where the benchmark's subjects are persons.
        progress: images that were predicted before these, and the number of all, for the log; by default (0, number of scenes).

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
    done, total = progress or (0, len(scenes))
    images = _Images(by_shape(scenes), image_root, settings)
    for part in load(images, batch_size=batch, num_workers=workers, collate_fn=list):
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
            log.progress(done, total, "test images")


def by_shape(scenes: Iterable[Scene]) -> list[Scene]:
    """Return scenes in the order in which they are predicted: images of similar shape follow each other."""
    return sorted(scenes, key=lambda scene: (scene.width / scene.height, scene.width, scene.image_id))


def _post_process(
    output: ModelOutput, sizes: torch.Tensor, classes: Classes, persons_only: bool
) -> list[PairPredictions]:
    if classes.dataset in PERSON_BENCHMARKS:
        return hoi_predictions(output, sizes, persons_only=persons_only)
    return sgg_predictions(output, sizes)


def predict_split(
    path: Path,
    network: tuple[Rlip, LabelTokenizer],
    split: BenchmarkSplit,
    settings: Augmentation,
    work: Path,
    metadata: Mapping[str, Any],
    *,
    zero_shot: bool = False,
    batch: int = 16,
    workers: int = 0,
    log: StageLog | None = None,
) -> int:
    """Write the predictions file of a benchmark's images and return their number; a killed call goes on where it was.

    Args:
        work: folder of finished shards, which outlives a kill; the caller removes it.
        metadata: kept in the file.
        zero_shot, batch, workers, log: as for `predict`.

    Raises:
        DataError: as `predict`.
    """
    model, tokenizer = network
    log = log or NullLog()
    scenes = by_shape(split.scenes)
    size = batch * max(1, SHARD_IMAGES // batch)
    starts = range(0, len(scenes), size)
    parts = [scenes[start : start + size] for start in starts]
    content = [
        digest_json([[s.image_id, content_state(split.image_root / s.file_name), s.width, s.height] for s in part])
        for part in parts
    ]
    first = {part[0].image_id: start for part, start in zip(parts, starts, strict=True)}

    def make(part: list[Scene], folder: Path) -> dict[str, Any]:
        found = predict(
            model,
            tokenizer,
            split.classes,
            part,
            split.image_root,
            settings,
            zero_shot=zero_shot,
            batch=batch,
            workers=workers,
            log=log,
            progress=(first[part[0].image_id], len(scenes)),
        )
        return {"images": write_predictions(folder / SHARD_FILE, split.classes, found, {})}

    follows_from = {
        "weights": content_digest({name: value.cpu() for name, value in model.state_dict().items()}),
        "network": model.config.to_dict(),
        "texts": tokenizer(benchmark_labels(split.classes, model.config.label_texts).texts).input_ids.tolist(),
        "classes": split.classes.dataset,
        "sizes": [settings.test_short_side, settings.longest],
        "batch": batch,
        "device": next(model.parameters()).device.type,
        "zero_shot": zero_shot,
    }
    shards = [Shard(index, *each) for index, each in enumerate(zip(parts, content, strict=True))]
    finished = ShardStore(work, follows_from).make_all(shards, make, NullLog(), "test images")
    log.progress(len(scenes), len(scenes), "test images")
    with _writer(path, split.classes, metadata) as writer:
        for shard in finished:
            for found in read_predictions(shard.folder / SHARD_FILE):
                for image in found.images():
                    writer.write(image)
    return len(scenes)


def draw_examples(path: Path, split: BenchmarkSplit, title: str, log: StageLog) -> None:
    """Draw the first images with annotated relations and their best predictions, beside a predictions file and in the log."""
    for example in first_examples(path, split.scenes, split.image_root, title):
        name = f"{split.classes.dataset}_{example.name}"
        log.picture(name, example.picture)
        save_picture(path.with_name(f"{name}.png"), example.picture)


def write_predictions(
    path: Path, classes: Classes, predictions: Iterator[tuple[Scene, PairPredictions]], metadata: Mapping[str, Any]
) -> int:
    """Write a predictions file and return its number of images."""
    number = 0
    with _writer(path, classes, metadata) as writer:
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


def _writer(path: Path, classes: Classes, metadata: Mapping[str, Any]) -> PredictionWriter:
    objects = benchmark_labels(classes).real_objects
    return PredictionWriter(path, classes.dataset, objects, classes.relations or [], metadata)
