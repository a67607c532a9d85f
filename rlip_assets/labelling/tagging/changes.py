"""Changes of a bucket's labels from one run to the next: labels added and removed, confidences that moved.

DVC removes a stage's output before it runs the stage, so the last labels are kept in the work folder, beside the shards. What changed is no
part of the manifest: it follows from what was there before, not from inputs and parameters.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.datasets.scenes import Scene, part_files, read_scenes, scene_hash
from rlip_assets.labelling.candidates import most_frequent
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import atomic_folder

MOVED = 0.01
"""A confidence has moved when it differs by more than this."""
_KEPT, _LISTED = 2, 20
Label = tuple[int, int, str]


def last_labels(folder: Path, digest: str) -> list[Scene] | None:
    """Return the newest labels kept in `folder` that another state of inputs and parameters than `digest` gave, or None.

    A run that is killed at its end and resumed, or forced, is thus compared with what the first one was compared with.
    """
    for entry in _entries(folder):
        if entry.name != digest:
            try:
                return list(read_scenes(entry))
            except InputError:  # of another schema version, or damaged: nothing to compare with
                return None
    return None


def keep_labels(folder: Path, digest: str, table: Path) -> None:
    """Keep a copy of the labels in `table` as those of the state `digest`, and forget all but the newest of another state."""
    with atomic_folder(folder / digest) as temporary:
        for part in part_files(table):
            shutil.copyfile(part, temporary / part.name)
    for entry in _entries(folder)[_KEPT:]:
        shutil.rmtree(entry)


def _entries(folder: Path) -> list[Path]:
    """Kept labels, the newest first."""
    found = [entry for entry in folder.glob("*") if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(found, key=lambda entry: entry.stat().st_mtime_ns, reverse=True)


def compare_labels(before: Iterable[Scene], now: Iterable[Scene]) -> dict[str, Any]:
    """Differences of two states of one bucket's labels.

    A label is (image, subject, object, relation); where an image's boxes changed, all of its labels are others.

    Returns:
        added, removed, kept: labels; moved: kept labels whose confidence differs by more than `MOVED`, with mean and largest absolute
        difference over all kept ones; new_images, lost_images; added_by_relation, removed_by_relation: the most frequent ones.
    """
    old = {scene.image_id: scene for scene in before}
    added, removed = Counter[str](), Counter[str]()
    moves: list[float] = []
    new_images = 0
    for scene in now:
        last = old.pop(scene.image_id, None)
        new_images += last is None
        labels, earlier = _labels(scene), dict[Label, float]()
        if last is not None and scene_hash(last) == scene_hash(scene):
            earlier = _labels(last)
        elif last is not None:
            removed.update(last.relation)
        added.update(label[2] for label in labels if label not in earlier)
        removed.update(label[2] for label in earlier if label not in labels)
        moves += [abs(labels[label] - earlier[label]) for label in labels if label in earlier]
    for lost in old.values():
        removed.update(lost.relation)
    distance = np.asarray(moves or [0.0])
    return {
        "added": added.total(),
        "removed": removed.total(),
        "kept": len(moves),
        "moved": int((distance > MOVED).sum()),
        "mean_move": float(distance.mean()),
        "largest_move": float(distance.max()),
        "new_images": new_images,
        "lost_images": len(old),
        "added_by_relation": most_frequent(added, _LISTED),
        "removed_by_relation": most_frequent(removed, _LISTED),
    }


def _labels(scene: Scene) -> dict[Label, float]:
    keys = zip(scene.subject.tolist(), scene.object.tolist(), scene.relation, strict=True)
    return dict(zip(keys, scene.confidence.tolist(), strict=True))
