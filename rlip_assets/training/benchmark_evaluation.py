"""Figures of a network in training, by the benchmark's own evaluator, on images that it is neither trained nor tested on.

Fine-tuning is evaluated on held-out training images, pre-training zero-shot on training images of HICO-DET, which it does not see.
So no test image decides which checkpoint is the best or how many steps are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.classes import read_classes
from rlip_assets.evaluation.core.ground_truth import ground_truth_of_list
from rlip_assets.evaluation.core.vocabulary import read_vocabulary
from rlip_assets.evaluation.formats.predictions import read_predictions
from rlip_assets.evaluation.headlines import HEADLINE, HEADLINES
from rlip_assets.evaluation.suites import judge, suite
from rlip_assets.lineage.recipes import Augmentation
from rlip_assets.storage.errors import DataError
from rlip_assets.training.benchmark_predictions import predict, write_predictions
from rlip_model import LabelTokenizer, Rlip


@dataclass(frozen=True)
class BenchmarkEvaluation:
    """Predicts annotated scenes and evaluates the predictions.

    Attributes:
        classes: `classes.json` of the benchmark.
        work: folder for the predictions of the last evaluation.
    """

    classes: Path
    scenes: Sequence[Scene]
    image_root: Path
    augmentation: Augmentation
    work: Path
    zero_shot: bool
    workers: int = 0

    def __call__(self, model: Rlip, tokenizer: LabelTokenizer) -> dict[str, float]:
        """Return the figures of the benchmark's headline protocol by name, and as `headline` the one that networks are compared by.

        Raises:
            DataError: no triplet of the scenes counts in it.
        """
        classes, vocabulary = read_classes(self.classes), read_vocabulary(self.classes)
        found = predict(
            model,
            tokenizer,
            classes,
            self.scenes,
            self.image_root,
            self.augmentation,
            zero_shot=self.zero_shot,
            workers=self.workers,
        )
        path = self.work / f"{classes.dataset}.parquet"
        write_predictions(path, classes, found, {})
        truth = ground_truth_of_list(self.scenes, vocabulary, "the evaluated images")
        results = judge(suite(truth, vocabulary, zero_shot=self.zero_shot), read_predictions(path))
        headline = HEADLINES[vocabulary.dataset]
        figures = {
            name: float(value)
            for result in results
            if result.name == headline.protocol
            for name, value in result.figures.items()
            if value == value  # NaN: the mean of no class
        }
        if headline.figure not in figures:
            raise DataError(
                f"{len(self.scenes)} evaluated images of {classes.dataset} have no triplet that counts in {headline.protocol}; hold out "
                "or evaluate more images (holdout, evaluate_images)"
            )
        return {HEADLINE: figures[headline.figure], **figures}


def has_triplets(scenes: Iterable[Scene]) -> bool:
    """Return whether a network can be judged on some scenes: V-COCO counts classes that no image has as 0."""
    return any(scene.relation for scene in scenes)


def evenly(scenes: Sequence[Scene], number: int) -> list[Scene]:
    """Return at most `number` scenes, spread evenly, in their order."""
    step = max(1.0, len(scenes) / number)
    return [scenes[int(place * step)] for place in range(min(number, len(scenes)))]
