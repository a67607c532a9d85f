"""Label lists: the texts that the network is asked for in a step.

In pre-training these are the names in the batch, filled up with negatives drawn by frequency. Published: objects fill two thirds of the
budget and relations the rest; a list that is already longer stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rlip_assets.datasets.language.lemmas import relation_lemma
from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.classes import Classes, learnt_texts
from rlip_assets.storage.errors import DataError
from rlip_model import NO_OBJECTS
from rlip_model.config import LabelTexts

MISSING = "missing objects"
"""The object label of a V-COCO action that has no object; a real label, unlike `NO_OBJECTS`."""


@dataclass(frozen=True)
class LabelList:
    """The texts of one step. Logit columns follow this order: objects, `NO_OBJECTS`, then relations.

    Attributes:
        objects, relations: as in tables.
        form: in which the network learns, or learnt, those of Open Images.
    """

    objects: tuple[str, ...]
    relations: tuple[str, ...]
    form: LabelTexts = "cleaned"

    @property
    def texts(self) -> list[str]:
        """All T texts in the order of encoding, in the network's form."""
        objects, relations = (learnt_texts(kind, getattr(self, kind), self.form) for kind in ("objects", "relations"))
        return [*objects, NO_OBJECTS, *relations]

    @property
    def num_objects(self) -> int:
        """Number of object labels including `NO_OBJECTS`."""
        return len(self.objects) + 1

    @property
    def real_objects(self) -> tuple[str, ...]:
        """Object names without `MISSING`."""
        return tuple(name for name in self.objects if name != MISSING)

    @property
    def missing_label(self) -> int:
        """Object label of a triplet without an object."""
        return self.object_index.get(MISSING, 0)

    def without(self, objects: Collection[str], relations: Collection[str]) -> LabelList:
        """Return the list without some texts, in its order."""
        return replace(
            self,
            objects=tuple(name for name in self.objects if name not in objects),
            relations=tuple(name for name in self.relations if name not in relations),
        )

    @cached_property
    def object_index(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self.objects)}

    @cached_property
    def relation_index(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self.relations)}

    @cached_property
    def inflections(self) -> Mapping[str, tuple[int, ...]]:
        """Relation text -> columns of the texts with the same lemma: "riding" -> those of "riding", "rides", "ride"."""
        columns: dict[str, list[int]] = {}
        for index, name in enumerate(self.relations):
            columns.setdefault(relation_lemma(name), []).append(index)
        return {name: tuple(columns[relation_lemma(name)]) for name in self.relations}


def benchmark_labels(classes: Classes, form: LabelTexts = "cleaned") -> LabelList:
    """Return the full vocabulary of a benchmark; V-COCO gets `MISSING` as its last object (published).

    Raises:
        DataError: the dataset has no closed list of objects or relations.
    """
    if not (classes.relations and classes.objects):
        raise DataError(
            f"classes.json of {classes.dataset} has no closed list of objects and relations; choose another benchmark"
        )
    objects = [name for name in classes.objects if name != MISSING]
    missing = [MISSING] if classes.dataset == "v_coco" else []
    return LabelList((*objects, *missing), tuple(classes.relations), form)


class NameSampler:
    """Draws names with probability proportional to their counts by the alias method of Walker and Vose.

    A draw is O(1), where `Generator.choice` builds a table of all 100,000 names of Visual Genome in every call. Each name owns one cell
    of equal width; a draw picks a cell and then, by the cell's threshold, its owner or its alias.
    """

    def __init__(self, counts: Mapping[str, float]) -> None:
        if not counts or min(counts.values()) <= 0:
            raise DataError(
                "names to draw negatives from need positive counts; check that the training tables are not empty"
            )
        self.names: tuple[str, ...] = tuple(counts)
        self._known = frozenset(self.names)
        size = len(self.names)
        weights = np.fromiter(counts.values(), dtype=np.float64, count=size)
        scaled = weights * (size / weights.sum())
        self._threshold = np.ones(size)
        self._alias = np.arange(size)
        small, large = [list(np.flatnonzero(side)) for side in (scaled < 1, scaled >= 1)]
        while small and large:
            low, high = small.pop(), large.pop()
            self._threshold[low], self._alias[low] = scaled[low], high
            scaled[high] -= 1 - scaled[low]
            (small if scaled[high] < 1 else large).append(high)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def draw(self, number: int, generator: np.random.Generator) -> list[str]:
        """Return `number` independent draws."""
        cells = generator.integers(0, len(self.names), number)
        own = generator.random(number) < self._threshold[cells]
        return [self.names[index] for index in np.where(own, cells, self._alias[cells])]


def fill_with_negatives(
    present: Sequence[str], budget: int, sampler: NameSampler, generator: np.random.Generator, guard: bool = False
) -> tuple[str, ...]:
    """Return `present` followed by drawn names that it lacks, `budget` in all where enough names exist.

    Args:
        guard: draw no inflections of a present name; they would teach that "sits on" is not "sit on".
    """
    chosen = dict.fromkeys(present)
    lemmas = set(map(relation_lemma, chosen)) if guard else set()
    left_to_draw = len(sampler) - sum(name in sampler for name in chosen)
    missing = min(budget - len(chosen), left_to_draw)
    attempts = 20 * budget  # a few very frequent names can use up draws; then the list stays shorter
    while missing > 0 and attempts > 0:
        number = 2 * missing
        attempts -= number
        for name in sampler.draw(number, generator):
            if missing > 0 and name not in chosen and not (guard and relation_lemma(name) in lemmas):
                chosen[name] = None
                missing -= 1
    return tuple(chosen)


@dataclass(frozen=True)
class BatchVocabulary:
    """Makes the label list of a step from the scenes of its batch (pre-training and R-Tagger)."""

    objects: NameSampler
    relations: NameSampler
    budget: int
    guard: bool = False

    def labels(self, scenes: Iterable[Scene], generator: np.random.Generator) -> LabelList:
        """Return the names in order of first appearance, then negatives."""
        batch = list(scenes)
        objects = list(dict.fromkeys(name for scene in batch for name in scene.labels))
        relations = list(dict.fromkeys(name for scene in batch for name in scene.relation))
        object_budget = self.budget * 2 // 3
        return LabelList(
            fill_with_negatives(objects, object_budget, self.objects, generator, self.guard),
            fill_with_negatives(relations, self.budget - object_budget, self.relations, generator, self.guard),
        )


@dataclass(frozen=True)
class FixedVocabulary:
    """The full vocabulary of a benchmark, the same in every step (fine-tuning and evaluation).

    Attributes:
        untrained: objects that are left out of the list; scenes may have boxes of them, but no triplets.
    """

    label_list: LabelList
    untrained: frozenset[str] = frozenset()

    def labels(self, scenes: Iterable[Scene], generator: np.random.Generator) -> LabelList:
        """Return the list, which must have every name of the scenes.

        Raises:
            DataError: a label or relation outside the vocabulary.
        """
        del generator
        for scene in scenes:
            for kind, names, known in (
                ("label", scene.labels, self.label_list.object_index),
                ("relation", scene.relation, self.label_list.relation_index),
            ):
                unknown = [name for name in names if name not in known and name not in self.untrained]
                if unknown:
                    raise DataError(
                        f"scene {scene.image_id} of {scene.dataset} has the {kind} {unknown[0]!r}, "
                        "which classes.json does not list; rebuild the manifest and the scene table together"
                    )
        return self.label_list


Vocabulary = BatchVocabulary | FixedVocabulary
