"""Subsets of a benchmark's training images: few-shot shares with full coverage, and scenes without unseen combinations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from rlip_assets.datasets.scenes import NO_OBJECT, Scene
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.storage.errors import DataError, InputError

PUBLISHED_ATTEMPTS = 200
"""Random draws by the published rule before missing classes are filled in directly."""


def select_share(scenes: Sequence[Scene], share: float, seed: int) -> list[int]:
    """Return indices of floor(share * n) scenes that together have every relation and every object class of `scenes`.

    Published rule: one random image per relation, then random others, drawn again until the selection covers all relations and object
    classes. Where a small set makes that unlikely, the last places go to images with missing classes. Unlike the published selection
    this one is seeded and has no image twice.

    Raises:
        DataError: so few images cannot cover the classes.
    """
    wanted = int(np.floor(share * len(scenes) + 1e-9))
    classes = [_classes(scene) for scene in scenes]
    every = set().union(*classes) if classes else set()
    holders: dict[str, list[int]] = {}
    for index, found in enumerate(classes):
        for name in found:
            holders.setdefault(name, []).append(index)
    relations = sorted(name for name in every if name.startswith("r:"))
    generator = np.random.default_rng([seed, 0xFE])
    for _ in range(PUBLISHED_ATTEMPTS):
        chosen = list(dict.fromkeys(int(generator.choice(holders[name])) for name in relations))
        rest = np.setdiff1d(np.arange(len(scenes)), chosen)
        if len(chosen) <= wanted:
            chosen += generator.choice(rest, wanted - len(chosen), replace=False).tolist()
            if every == set().union(*(classes[index] for index in chosen)):
                return sorted(chosen)
    return sorted(_covering(classes, every, wanted, generator))


def read_image_list(path: Path) -> list[str]:
    """Read the file names, without folders, of a released few-shot split (HOIA json: records with `file_name`) or a text file of names.

    Raises:
        InputError: the file is missing, or JSON of another form.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; set image_list of the recipe to a file below the profile") from None
    if not text.lstrip().startswith("["):
        return [PurePosixPath(line.strip()).name for line in text.splitlines() if line.strip()]
    try:
        return [PurePosixPath(record["file_name"]).name for record in json.loads(text)]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is no list of records with file_name ({error!r}); give a HOIA json") from None


def listed_images(scenes: Sequence[Scene], names: Sequence[str], where: str) -> list[int]:
    """Return the indices of the scenes that `names` lists, in its order, repeats included.

    Raises:
        DataError: no scene has a listed name, or the list is empty.
    """
    index = {PurePosixPath(scene.file_name).name: number for number, scene in enumerate(scenes)}
    unknown = [name for name in names if name not in index]
    if unknown or not names:
        problem = (
            f"lists {len(unknown)} images without training triplets, such as {unknown[0]}" if unknown else "is empty"
        )
        raise DataError(f"{where} {problem}; give the list of this dataset")
    return [index[name] for name in names]


def _covering(
    classes: Sequence[frozenset[str]], every: set[str], wanted: int, generator: np.random.Generator
) -> list[int]:
    """Greedy cover with random ties, then random images."""
    order = generator.permutation(len(classes)).tolist()
    chosen: list[int] = []
    missing = set(every)
    while missing and len(chosen) < wanted:
        best = max(order, key=lambda index: len(classes[index] & missing))
        chosen.append(best)
        missing -= classes[best]
    if missing:
        names = sorted(name[2:] for name in missing)
        raise DataError(
            f"{wanted} of {len(classes)} images cannot hold every relation and object class (missing {', '.join(names[:3])}); "
            "raise the recipe's share"
        )
    taken = set(chosen)
    return chosen + [index for index in order if index not in taken][: wanted - len(chosen)]


def _classes(scene: Scene) -> frozenset[str]:
    """Relations ("r:...") and object classes ("o:...") of the triplets of a scene."""
    objects = {f"o:{scene.labels[index]}" for index in scene.object.tolist() if index != NO_OBJECT}
    return frozenset(objects | {f"r:{name}" for name in scene.relation})


def unseen_pairs(classes: Classes, split: str) -> frozenset[tuple[str, str]]:
    """Return the (relation, object) texts of a zero-shot split.

    Args:
        classes: of the benchmark.
        split: "uc_rf", "uc_nf" or "uo".

    Raises:
        DataError: the benchmark has no such split.
    """
    ids = classes.splits.get(split)
    if not ids or not classes.hois or not classes.relations:
        raise DataError(
            f"classes.json of {classes.dataset} has no split {split!r}; choose another `unseen` in the recipe"
        )
    hois = [classes.hois[index] for index in ids]
    return frozenset((classes.relations[verb], classes.objects[thing]) for verb, thing in hois)


def unseen_texts(classes: Classes, split: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the object texts and the relation texts that occur only in unseen combinations of a zero-shot split.

    Raises:
        DataError: the benchmark has no such split.
    """
    unseen = unseen_pairs(classes, split)
    combinations = [((classes.relations or [])[verb], classes.objects[thing]) for verb, thing in classes.hois or []]
    seen = [pair for pair in combinations if pair not in unseen]
    relations = {relation for relation, _ in unseen} - {relation for relation, _ in seen}
    objects = {thing for _, thing in unseen} - {thing for _, thing in seen}
    return frozenset(objects), frozenset(relations)


def pairs_with(classes: Classes, objects: frozenset[str], relations: frozenset[str]) -> frozenset[tuple[str, str]]:
    """Return all (relation, object) texts with one of these, whether or not they are a class."""
    every = product(classes.relations or [], classes.objects)
    return frozenset((relation, thing) for relation, thing in every if relation in relations or thing in objects)


def keep_triplets(scene: Scene, kept: npt.NDArray[np.bool_]) -> Scene:
    """Return the scene with only the triplets that `kept` (m,) marks; all boxes stay."""
    if kept.all():
        return scene
    return replace(
        scene,
        subject=scene.subject[kept],
        object=scene.object[kept],
        relation=tuple(text for text, keep in zip(scene.relation, kept, strict=True) if keep),
        confidence=scene.confidence[kept],
    )


def without_unseen(scene: Scene, unseen: frozenset[tuple[str, str]]) -> Scene:
    """Drop unseen triplets; an image without any left stays (published)."""
    return keep_triplets(scene, np.array([pair not in unseen for pair in triplet_pairs(scene)], bool).reshape(-1))


def triplet_pairs(scene: Scene) -> list[tuple[str, str]]:
    """Return the (relation, object) texts of the triplets; an absent object is ""."""
    return [
        (relation, scene.labels[index] if index != NO_OBJECT else "")
        for relation, index in zip(scene.relation, scene.object.tolist(), strict=True)
    ]
