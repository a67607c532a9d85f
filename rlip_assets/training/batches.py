"""The batch of a training step, as a function of seed and step alone.

Neither the number of workers nor an interruption changes what a step sees. Every random draw comes from a generator seeded by (seed,
purpose, step, place in the batch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rlip_assets.datasets.scenes import Scene
from rlip_assets.lineage.datasets import PERSON_BENCHMARKS
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.images import BadImageError, open_image, refuse_lost_folder
from rlip_assets.training.label_lists import BatchVocabulary, LabelList, Vocabulary
from rlip_assets.training.start import model_config
from rlip_assets.training.targets import (
    pair_targets,
    ranked_pairs,
    tagger_pairs,
)
from rlip_assets.training.training_images import TrainingImages
from rlip_assets.training.transforms import (
    Sample,
    augment,
    clip_boxes,
    for_evaluation,
    keep_boxes,
    keep_triplets,
    mirror_text,
)
from rlip_assets.training.unseen import Unseen
from rlip_model import PairNoise, TaggerPairs, Targets, collate_pairs, perturb_pairs
from rlip_model.vision.images import image_tensor, stack_images

_LABELS, _IMAGE, _NOISE = 2, 3, 4
PUBLISHED_SUBJECT = 1


def seed_of(*numbers: int) -> int:
    """Return a 32-bit seed that depends on all numbers and their order."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@dataclass
class Batch:
    """The input of one step.

    Attributes:
        images: (B, 3, H, W).
        mask: (B, H, W), True = padding.
        targets: one per image.
        pairs: the tagger's queries.
        skipped: files that cannot be read.
        cut_pairs: pairs beyond the network's slots.
        ignored: (No, Nv) cells of object and relation that take no part in the relation loss; None where all do.
    """

    step: int
    labels: LabelList
    images: Tensor
    mask: Tensor
    targets: list[Targets]
    pairs: TaggerPairs | None
    image_ids: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    cut_pairs: int = 0
    ignored: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            targets=[target.to(device) for target in self.targets],
            pairs=None if self.pairs is None else self.pairs.to(device),
            ignored=None if self.ignored is None else self.ignored.to(device),
        )


@dataclass(frozen=True)
class Part:
    """Part `index` of `count` of the batch of a step: that of a process, or a slice for accumulation."""

    index: int = 0
    count: int = 1


class StepBatches(Dataset[Batch]):
    """All batches of a training, indexed by step; works in worker processes.

    Args:
        images: the training images.
        vocabulary: makes the label list.
        recipe: sizes, augmentation, noise.
        slots: pairs that the network can predict.
        seed: of the run.
        unseen: what a zero-shot split hides; a target that has it is refused.
        part: the share of every batch that this process gets. Label lists are made from the whole batch, so that they are the same
            in all processes (the quirk `part_counts` makes them from the part alone).
        training: False takes evaluation sizes, no noise of any kind and images in their order.
    """

    def __init__(
        self,
        images: TrainingImages,
        vocabulary: Vocabulary,
        recipe: Recipe,
        slots: int,
        seed: int,
        unseen: Unseen | None = None,
        part: Part | None = None,
        training: bool = True,
    ) -> None:
        self.images, self.vocabulary, self.recipe = images, vocabulary, recipe
        self.slots, self.seed, self.unseen, self.training = slots, seed, unseen, training
        self.part = part or Part()
        self.steps_per_epoch = max(1, images.epoch_images // recipe.total_batch)
        dense = recipe.published.file_order and model_config(recipe).is_dense
        self.limit = slots if dense else 2 * slots
        """The published `--num_queries`, at which boxes and relations are cut: pairs of ParSe, queries of the other networks."""
        self._orders: dict[int, npt.NDArray[np.int64]] = {}
        self._swaps_texts = not recipe.published.unchanged_sides and isinstance(vocabulary, BatchVocabulary)

    def __len__(self) -> int:
        if not self.training:
            return -(-len(self.images) // self.recipe.total_batch)
        return self.recipe.total_steps(self.images.epoch_images)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch not in self._orders:
            order = self.images.epoch_order(self.seed, epoch) if self.training else np.arange(len(self.images))
            too_few = self.training and len(order) < self.recipe.total_batch
            self._orders = {epoch: np.resize(order, self.recipe.total_batch) if too_few else order}
        return self._orders[epoch]

    def indices(self, step: int) -> list[int]:
        """Return the image numbers of the whole batch of a step; in training every batch is full."""
        epoch, place = divmod(step, self.steps_per_epoch) if self.training else (0, step)
        start = place * self.recipe.total_batch
        return [int(index) for index in self._order(epoch)[start : start + self.recipe.total_batch]]

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of {len(self)}")
        indices = self.indices(step)
        mine = list(range(len(indices)))[self.part.index :: self.part.count]
        seen = mine if self.recipe.published.part_counts else range(len(indices))
        scenes = {place: self._scene(indices[place]) for place in {*seen, *mine}}
        labels = self._labels(step, [scenes[place] for place in seen])
        loaded, skipped = [], []
        for place in mine:
            try:
                loaded.append((place, self._load(step, place, indices[place], scenes[place])))
            except BadImageError as error:
                refuse_lost_folder(error.file, scenes[place].file_name)
                skipped.append(error.file.as_posix())
        if not loaded:
            raise DataError(
                f"no image of step {step} can be read, such as {skipped[0]}; check the images of the sources"
            )
        return self._batch(step, labels, loaded, tuple(skipped))

    def _scene(self, index: int) -> Scene:
        scene = self.images[index]
        if not self.recipe.published.file_order:
            return scene
        if self.recipe.benchmark:
            return keep_boxes(scene, np.arange(len(scene.labels)) < self.limit)
        mixed = len(self.recipe.sources) > 1
        return keep_triplets(scene, np.arange(len(scene.relation)) < (self.slots if mixed else self.limit))

    def _labels(self, step: int, scenes: Sequence[Scene]) -> LabelList:
        if self._swaps_texts and self.training:
            scenes = [scene for scene in scenes for scene in (scene, _mirrored_texts(scene))]
        return self.vocabulary.labels(scenes, np.random.default_rng([self.seed, _LABELS, step, self._own_list]))

    @property
    def _own_list(self) -> int:
        """Seed that makes processes draw different negatives where each has its own list."""
        return self.part.index if self.recipe.published.part_counts else 0

    def _load(self, step: int, place: int, index: int, scene: Scene) -> Sample:
        image = open_image(self.images.image_path(index, scene), (scene.width, scene.height))
        if image.size != (scene.width, scene.height):
            scene = replace(scene, boxes=_rescaled(scene, image.size), width=image.width, height=image.height)
        scene = clip_boxes(scene)
        if not self.training:
            return for_evaluation((image, scene), self.recipe.augmentation)
        generator = np.random.default_rng([self.seed, _IMAGE, step, place])
        return augment((image, scene), self.recipe.augmentation, generator, self._swaps_texts)

    def _batch(self, step: int, labels: LabelList, loaded: list[tuple[int, Sample]], skipped: tuple[str, ...]) -> Batch:
        images, mask = stack_images([image_tensor(image) for _, (image, _) in loaded])
        targets, cut = [], 0
        for place, (_, scene) in loaded:
            if self.unseen:
                self.unseen.refuse(scene)
            pairs = self._pairs(step, place, scene)
            cut += max(0, len(pairs) - self.slots)
            targets.append(
                pair_targets(
                    scene,
                    pairs if self.recipe.published.file_order else pairs[: self.slots],
                    labels,
                    self.recipe.confidence_weight,
                    self._subject_label,
                    self.recipe.share_inflections,
                )
            )
        queries = self._queries(step, targets, labels) if self.recipe.kind == "tagger" else None
        ids = tuple(scene.image_id for _, (_, scene) in loaded)
        ignored = self.unseen.ignored_cells(labels) if self.unseen else None
        return Batch(step, labels, images, mask, targets, queries, ids, skipped, cut, ignored)

    def _pairs(self, step: int, place: int, scene: Scene) -> list[tuple[int, int]]:
        if self.recipe.kind != "tagger":
            return ranked_pairs(scene)
        number = min(self.recipe.pairs_per_image, self.slots)
        return tagger_pairs(scene, number, np.random.default_rng([self.seed, _NOISE, step, place]))

    @property
    def _subject_label(self) -> int | None:
        quirk = self.recipe.published.bicycle_subjects and self.recipe.benchmark in PERSON_BENCHMARKS
        return PUBLISHED_SUBJECT if quirk else None

    def _queries(self, step: int, targets: list[Targets], labels: LabelList) -> TaggerPairs:
        parts = [(target.sub_boxes, target.obj_boxes, target.sub_labels, target.obj_labels) for target in targets]
        pairs = collate_pairs(parts, self.slots)
        if not self.training:
            return pairs
        published = self.recipe.published.tagger_noise
        noise = PairNoise(
            self.recipe.label_noise,
            self.recipe.box_noise,
            label_range="batch" if published else "labels",
            leak_guard="published" if published else "each_image",
        )
        generator = torch.Generator().manual_seed(seed_of(self.seed, _NOISE, step, self.part.index))
        return perturb_pairs(pairs, noise, len(labels.objects), generator)


def _mirrored_texts(scene: Scene) -> Scene:
    return replace(
        scene, labels=tuple(map(mirror_text, scene.labels)), relation=tuple(map(mirror_text, scene.relation))
    )


def _rescaled(scene: Scene, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Boxes scaled to the size of the image file, which differs from the table's in a resized copy of a dataset."""
    return scene.boxes * np.array([size[0] / scene.width, size[1] / scene.height] * 2, np.float32)
