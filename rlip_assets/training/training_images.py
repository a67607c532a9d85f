"""The training images of a recipe: several scene tables, read as one list.

Rows stay in memory-mapped files; this process holds their numbers only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlip_assets.datasets.image_identity import ImageKey, image_key
from rlip_assets.datasets.scenes import Scene, SceneStore, bucket_of
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import DataError
from rlip_assets.training.few_shot import listed_images, plain_name, read_image_list, select_share
from rlip_assets.training.own_labels import OwnLabels
from rlip_assets.training.transforms import keep_triplets
from rlip_assets.training.unseen import Unseen

HOLDOUT_CELLS = 1000


def is_held_out(image_id: str, share: float) -> bool:
    """Return whether an image is in the share of a source that is held out from training."""
    return bucket_of(f"holdout:{image_id}", HOLDOUT_CELLS) < round(share * HOLDOUT_CELLS)


@dataclass(frozen=True)
class ImageSource:
    """One dataset: its scene tables, its image folder, the ids of images that are excluded from training, and the splits that train."""

    name: str
    tables: tuple[Path, ...]
    image_root: Path
    excluded: frozenset[str] = frozenset()
    splits: tuple[str, ...] = ("train",)


@dataclass(frozen=True)
class SceneFilter:
    """Drops weak pseudo labels and unseen combinations from a scene."""

    relation_threshold: float = 0.0
    unseen: Unseen | None = None

    def __call__(self, scene: Scene) -> Scene:
        if self.relation_threshold:
            scene = keep_triplets(scene, ~(scene.confidence < self.relation_threshold))
        return self.unseen.visible(scene) if self.unseen else scene


class TrainingImages:
    """Training images of some sources, indexed by one running number over all of them.

    Attributes:
        excluded: number of images left out because their source excludes them.
        own_alone: number of images with own labels alone.
        emptied: number of images left out because no seen triplet is left of them (`Recipe.unseen_images`).

    Args:
        sources: datasets in the order of their concatenation.
        weights: by dataset, how often an epoch sees each image.
        scene_filter: applied to every scene.
        holdout: share of the images held out; `part` says which side this object holds.
        with_triplets: leave out images without a triplet that is human or of the filter's confidence.
        own: labels that are added to what the filter shows of a scene.
        listed: file names, without folders, of a few-shot split, whose images are never held out.

    Raises:
        DataError: a source has nothing to train on; the sentence says what left its images out.
    """

    def __init__(
        self,
        sources: Sequence[ImageSource],
        weights: Mapping[str, float],
        scene_filter: SceneFilter,
        cache: Path,
        holdout: float = 0.0,
        part: str = "train",
        with_triplets: bool = True,
        own: OwnLabels | None = None,
        listed: Collection[str] = (),
    ) -> None:
        self.sources, self.own, self.own_alone = list(sources), own, 0
        self.weights = [weights[source.name] for source in sources]
        self._filter = scene_filter
        self._stores = [SceneStore.open(source.tables, cache) for source in sources]
        self._rows: list[npt.NDArray[np.int64]] = []
        self.excluded = self.emptied = 0
        for source, store in self._sources_and_stores():
            found = store.indices(source.splits, with_triplets, scene_filter.relation_threshold)
            chosen = self._on_side(store, found, holdout, part, frozenset(listed))
            allowed = self._allowed(source, store, chosen)
            drops = scene_filter.unseen is not None and scene_filter.unseen.drop_empty
            rows = self._with_visible(store, allowed) if drops else allowed
            if part == "train" and not len(rows):
                raise _nothing_left(source.name, with_triplets, len(found), len(chosen), len(allowed))
            self.excluded += len(chosen) - len(allowed)
            self.emptied += len(allowed) - len(rows)
            self._rows.append(rows)
        self._offsets = np.cumsum([0, *map(len, self._rows)])

    def _sources_and_stores(self) -> Iterator[tuple[ImageSource, SceneStore]]:
        return zip(self.sources, self._stores, strict=True)

    @staticmethod
    def _on_side(
        store: SceneStore, rows: npt.NDArray[np.int64], holdout: float, part: str, listed: frozenset[str]
    ) -> npt.NDArray[np.int64]:
        """The rows of the images that are held out, or of those that are not."""
        if not holdout:
            return rows if part == "train" else rows[:0]

        def held(row: int) -> bool:
            return is_held_out(store.image_id(row), holdout) and not (listed and plain_name(store[row]) in listed)

        return np.compress([held(row) == (part == "holdout") for row in rows.tolist()], rows)

    @staticmethod
    def _allowed(source: ImageSource, store: SceneStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of images that may be trained on."""
        if not source.excluded:
            return rows
        return np.compress([store.image_id(row) not in source.excluded for row in rows.tolist()], rows)

    def _with_visible(self, store: SceneStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of images with a triplet after the filter."""
        return np.compress([len(self._shown(store[row]).relation) > 0 for row in rows.tolist()], rows)

    def _shown(self, scene: Scene) -> Scene:
        """What training sees of a row of an annotated source."""
        scene = self._filter(scene)
        return self.own.added(scene) if self.own else scene

    def keep_share(self, share: float, seed: int) -> None:
        """Reduce to a few-shot share; see `select_share`."""
        self._keep(select_share(self._annotated(), share, seed))

    def keep_listed(self, names: Sequence[str], where: str) -> None:
        """Reduce to the images of a few-shot split; see `listed_images`."""
        self._keep(listed_images(self._annotated(), names, where))

    def _annotated(self) -> list[Scene]:
        """All scenes without own labels."""
        return [
            self._filter(store[row])
            for store, rows in zip(self._stores, self._rows, strict=True)
            for row in rows.tolist()
        ]

    def add_own_alone(self, own: OwnLabels, weight: float, holdout: float) -> None:
        """Add the images that have own labels alone, as one more source of the benchmark's images.

        Args:
            weight: how often an epoch sees each of them.
            holdout: share of the images held out, which stay outside.
        """
        known = {
            store.image_id(row) for store, rows in zip(self._stores, self._rows, strict=True) for row in rows.tolist()
        }
        rows = [row for row in own.rows_alone(known) if not is_held_out(own.store.image_id(row), holdout)]
        self.own_alone = len(rows)
        self.sources.append(self.sources[0])
        self.weights.append(weight)
        self._stores.append(own.store)
        self._rows.append(np.array(rows, np.int64))
        self._offsets = np.cumsum([0, *map(len, self._rows)])

    def _keep(self, chosen: Sequence[int]) -> None:
        for number, rows in enumerate(self._rows):
            low, high = self._offsets[number], self._offsets[number + 1]
            self._rows[number] = rows[[index - low for index in chosen if low <= index < high]]
        self._offsets = np.cumsum([0, *map(len, self._rows)])

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def __iter__(self) -> Iterator[Scene]:
        return map(self.__getitem__, range(len(self)))

    def _locate(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._offsets, index, side="right")) - 1
        return number, int(self._rows[number][index - self._offsets[number]])

    def __getitem__(self, index: int) -> Scene:
        number, row = self._locate(index)
        scene = self._stores[number][row]
        return self.own.alone(scene) if self.own and self._stores[number] is self.own.store else self._shown(scene)

    def image_path(self, index: int, scene: Scene) -> Path:
        """Return the file of image `index`."""
        return self.sources[self._locate(index)[0]].image_root / scene.file_name

    def image_keys(self) -> Iterator[ImageKey]:
        """Yield the key of every image without building its scene."""
        for source, store, rows in zip(self.sources, self._stores, self._rows, strict=True):
            yield from (image_key(source.name, store.image_id(row)) for row in rows.tolist())

    @property
    def epoch_images(self) -> int:
        """Number of images in an epoch, weights included."""
        return sum(round(len(rows) * weight) for rows, weight in zip(self._rows, self.weights, strict=True))

    def epoch_order(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """Return the image numbers of one epoch in training order: whole passes over each source, then a random part, all shuffled."""
        generator = np.random.default_rng([seed, 1, epoch])
        parts = []
        for number, (rows, weight) in enumerate(zip(self._rows, self.weights, strict=True)):
            passes, rest = divmod(round(len(rows) * weight), max(1, len(rows)))
            indices = [np.arange(len(rows))] * passes + [generator.permutation(len(rows))[:rest]]
            parts.append(np.concatenate(indices) + self._offsets[number])
        return generator.permutation(np.concatenate(parts)).astype(np.int64)

    def object_counts(self) -> Counter[str]:
        """Count boxes by class name over all sources."""
        return sum((store.object_counts(source.splits) for source, store in self._sources_and_stores()), Counter())

    def relation_counts(self) -> Counter[str]:
        """Count triplets by relation text over all sources, without weak pseudo labels."""
        least = self._filter.relation_threshold
        counts = (store.relation_counts(least, source.splits) for source, store in self._sources_and_stores())
        return sum(counts, Counter())


def training_images(
    recipe: Recipe,
    sources: Sequence[ImageSource],
    unseen: Unseen | None,
    cache: Path,
    seed: int,
    image_list: Path | None = None,
    own: OwnLabels | None = None,
) -> tuple[TrainingImages, TrainingImages]:
    """Return the training images and the held-out images of a recipe.

    Args:
        image_list: the file that it names, if any.
        own: labels of the training images themselves; held-out ones have human labels alone.
    """
    listed = read_image_list(image_list) if image_list else []
    train = _part_of(recipe, sources, unseen, cache, "train", listed, own)
    if recipe.share < 1:
        train.keep_share(recipe.share, seed)
    if image_list:
        train.keep_listed(listed, str(image_list))
    if own:
        train.add_own_alone(own, recipe.own_images, recipe.holdout)
    return train, held_out_images(recipe, sources, unseen, cache, listed)


def held_out_images(
    recipe: Recipe, sources: Sequence[ImageSource], unseen: Unseen | None, cache: Path, listed: Collection[str] = ()
) -> TrainingImages:
    """Return the held-out images of a recipe; `listed`: the names in its `image_list`, which are trained on."""
    return _part_of(recipe, sources, unseen, cache, "holdout", listed)


def training_splits(recipe: Recipe, source: str) -> tuple[str, ...]:
    """Return the splits of a source that a recipe trains on."""
    return ("train", "val") if source in recipe.trainval else ("train",)


def _part_of(
    recipe: Recipe,
    sources: Sequence[ImageSource],
    unseen: Unseen | None,
    cache: Path,
    part: str,
    listed: Collection[str],
    own: OwnLabels | None = None,
) -> TrainingImages:
    scene_filter = SceneFilter(recipe.relation_threshold, unseen)
    with_triplets = recipe.images_without_triplets == "dropped"
    return TrainingImages(
        sources, recipe.sources, scene_filter, cache, recipe.holdout, part, with_triplets, own, listed
    )


def _nothing_left(name: str, with_triplets: bool, found: int, chosen: int, allowed: int) -> DataError:
    """The error of a source without training images, by the step after which none is left."""
    if allowed:
        reason = (
            f"has unseen triplets alone in all {allowed} training images; shorten unseen, or set unseen_images: keep"
        )
    elif chosen:
        reason = f"shares all {chosen} training images with a benchmark's test split; take it out of the recipe"
    elif found:
        reason = f"has no training image: holdout holds all {found} out; lower it"
    else:
        reason = (
            f"has no training image{' with a relation' * with_triplets}; lower relation_threshold, rebuild its tables, or take the "
            "source out of the recipe"
        )
    return DataError(f"{name} {reason}")
