"""Few-shot subsets of a benchmark's training images: shares with full coverage, and released lists."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from rlip_assets.datasets.scenes import NO_OBJECT, Scene
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


def plain_name(scene: Scene) -> str:
    """Return the file name of a scene without folders, by which lists name it."""
    return PurePosixPath(scene.file_name).name


def listed_images(scenes: Sequence[Scene], names: Sequence[str], where: str) -> list[int]:
    """Return the indices of the scenes that `names` lists, in its order, repeats included.

    Raises:
        DataError: no scene has a listed name, or the list is empty.
    """
    index = {plain_name(scene): number for number, scene in enumerate(scenes)}
    unknown = [name for name in names if name not in index]
    if unknown or not names:
        problem = (
            f"lists {len(unknown)} images without training triplets, such as {unknown[0]}" if unknown else "is empty"
        )
        raise DataError(
            f"{where} {problem}; give the list of this dataset, without images that unseen_images: drop_empty leaves out"
        )
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
