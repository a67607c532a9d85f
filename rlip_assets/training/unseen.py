"""Zero-shot splits: the combinations of a benchmark that training does not see, and what becomes of their images, pairs and cells of the
relation loss.

Published training drops unseen triplets alone: an image that held nothing else trains as background, and a true unseen relation of a pair
counts as wrong. A recipe's `unseen_images`, `unseen_pairs` and `unseen_cells` choose otherwise.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from rlip_assets.datasets.scenes import NO_OBJECT, Scene
from rlip_assets.datasets.sources.classes import Classes, interaction_names, zero_shot_splits
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import DataError, ParameterError
from rlip_assets.training.label_lists import LabelList
from rlip_assets.training.transforms import keep_triplets

Combinations = frozenset[tuple[str, str]]
"""(relation, object) texts."""
Texts = frozenset[str]


@dataclass(frozen=True)
class Unseen:
    """The classes that a zero-shot split hides from training.

    Attributes:
        seen: combinations that a target may have. No other label is read, whatever it says.
        combinations: the unseen ones.
        objects, relations: texts that are left out of training's label list.
        drop_empty: leave out images without a seen triplet.
        drop_pairs: leave out pairs that have another triplet than seen ones.
        ignore_cells: leave the unseen combinations out of the relation loss.
        own_labels: a pseudo label may name an unseen combination; a human one never may.
    """

    seen: Combinations
    combinations: Combinations
    objects: Texts = frozenset()
    relations: Texts = frozenset()
    drop_empty: bool = False
    drop_pairs: bool = False
    ignore_cells: bool = False
    own_labels: bool = False

    @classmethod
    def of(cls, recipe: Recipe, classes: Classes | None) -> Unseen | None:
        """Return what a recipe hides; None where it hides nothing.

        Raises:
            ParameterError: the recipe has a zero-shot split, and the stage no benchmark to split.
            DataError: the benchmark has no such split or interaction.
        """
        if recipe.unseen is None:
            return None
        if classes is None:
            raise ParameterError(
                f"the recipe's unseen: {recipe.unseen} needs the classes of a benchmark, which only fine-tuning has; set it to null"
            )
        unseen = unseen_combinations(classes, recipe.unseen)
        removed = unseen_texts(classes, unseen) if recipe.unseen_texts == "removed" else (Texts(), Texts())
        unseen |= combinations_with(classes, *removed)
        return cls(
            frozenset(interaction_names(classes)) - unseen,
            unseen,
            *removed,
            recipe.unseen_images == "drop_empty",
            recipe.unseen_pairs == "drop",
            recipe.unseen_cells == "ignore",
            recipe.own_labels is not None,
        )

    def visible(self, scene: Scene) -> Scene:
        """Return the scene with the triplets that training sees; all boxes stay."""
        pairs = list(zip(scene.subject.tolist(), scene.object.tolist(), strict=True))
        hidden = [not self._is_seen(texts) for texts in triplet_texts(scene)]
        if self.drop_pairs:
            dropped = {pair for pair, is_hidden in zip(pairs, hidden, strict=True) if is_hidden}
            hidden = [pair in dropped for pair in pairs]
        return keep_triplets(scene, ~np.array(hidden, bool))

    def refuse(self, scene: Scene) -> None:
        """Refuse unseen combinations in training targets; one here is a defect of the program.

        Raises:
            AssertionError: a triplet of `scene` is not seen; own labels alone may name unseen combinations.
        """
        human = np.isnan(scene.confidence) | (not self.own_labels)
        for texts, is_human in zip(triplet_texts(scene), human.tolist(), strict=True):
            if is_human and not self._is_seen(texts):
                raise AssertionError(
                    f"the unseen combination {texts} of scene {scene.image_id} reached the training targets"
                )

    def ignored_cells(self, labels: LabelList) -> Tensor | None:
        """Return (No, Nv) True for the cells that take no part in the relation loss, "no objects" last; None where all do."""
        if not self.ignore_cells:
            return None
        cells = torch.zeros(labels.num_objects, len(labels.relations), dtype=torch.bool)
        for relation, thing in self.combinations:
            if relation in labels.relation_index and thing in labels.object_index:
                cells[labels.object_index[thing], labels.relation_index[relation]] = True
        return cells

    def _is_seen(self, texts: tuple[str, str]) -> bool:
        return not texts[1] or texts in self.seen


def unseen_combinations(classes: Classes, unseen: str | Collection[tuple[str, str]]) -> Combinations:
    """Return the combinations of a zero-shot split, named or listed.

    Raises:
        DataError: the benchmark has no such split or interaction.
    """
    names = interaction_names(classes)
    if not isinstance(unseen, str):
        if unknown := sorted(set(unseen) - set(names)):
            raise DataError(f"{classes.dataset} has no interaction {unknown[0]}; correct the recipe's unseen")
        return frozenset(unseen)
    hois = zero_shot_splits(classes).get(unseen)
    if not hois:
        raise DataError(
            f"classes.json of {classes.dataset} has no split {unseen!r}; choose another `unseen` in the recipe"
        )
    return frozenset(names[hoi] for hoi in hois)


def unseen_texts(classes: Classes, unseen: Combinations) -> tuple[Texts, Texts]:
    """Return the object texts and the relation texts that occur only in unseen combinations."""
    seen = set(interaction_names(classes)) - unseen
    relations = {relation for relation, _ in unseen} - {relation for relation, _ in seen}
    objects = {thing for _, thing in unseen} - {thing for _, thing in seen}
    return frozenset(objects), frozenset(relations)


def combinations_with(classes: Classes, objects: Texts, relations: Texts) -> Combinations:
    """Return all combinations with one of these texts, whether or not they are a class."""
    every = product(classes.relations or [], classes.objects)
    return frozenset((relation, thing) for relation, thing in every if relation in relations or thing in objects)


def triplet_texts(scene: Scene) -> list[tuple[str, str]]:
    """Return the (relation, object) texts of the triplets; an absent object is ""."""
    return [
        (relation, scene.labels[index] if index != NO_OBJECT else "")
        for relation, index in zip(scene.relation, scene.object.tolist(), strict=True)
    ]
