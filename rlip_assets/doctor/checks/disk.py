"""Disk needed by stage against free space."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, ok
from rlip_assets.doctor.official_counts import IMAGES
from rlip_assets.lineage.spec import StageItem

BYTES_PER_IMAGE = {
    "raw_manifest": 260,
    "scenes": 400,
    "detections": 800,
    "captions": 600,
    "caption_triplets": 400,
    "candidates": 600,
    "decontamination": 1300,
    "human_decontamination": 1300,
    "pseudo_labels": 1500,
    "predictions": 100_000,
}
"""Bytes that a stage keeps per image, results and work: about twice the figures of the micro world, whose captions have ten samples per
image; tables of real images have more boxes. Predictions of 100 pairs with 117 scores each, in shards and joined."""
_INDEX = 0.5
"""Bytes of the index of annotations per byte of their files, without their outlines."""
_STATE = 3
"""Copies of the weights in the state that a running training resumes from: the weights and two moments. It goes when the training ends."""
STATE = "state of a training"


def check(case: Examination) -> Iterator[Finding]:
    """Add up what is not there yet, by stage, and compare the sum with the free space of the profile's file system."""
    if not os.access(case.root, os.W_OK | os.X_OK):
        yield failed("disk", f"{case.root} cannot be written", "make it writable for this user, or copy the project")
    if case.stages is None:
        return
    needed: dict[str, float] = defaultdict(float)
    for item in case.stages.items():
        if not all((case.root / path).exists() for path in item.outputs.values()):
            needed[item.stage] += _bytes(case, item)
            needed[STATE] = max(needed[STATE], _STATE * _weights(case, item))
    free = shutil.disk_usage(case.root).free
    total = sum(needed.values())
    parts = ", ".join(f"{stage} {_size(number)}" for stage, number in _largest(needed))
    message = f"about {_size(total)} needed (estimate: {parts or 'everything is there'}), {_size(free)} free"
    if total > free:
        yield failed("disk", message, "make room, or put the profile on a larger disk")
    else:
        yield ok("disk", message)


def _largest(needed: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(((stage, number) for stage, number in needed.items() if number >= 1e6), key=lambda pair: -pair[1])


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"


def _bytes(case: Examination, item: StageItem) -> float:
    dataset = (item.partition or "").rpartition("-")[0] if item.stage != "raw_manifest" else item.partition or ""
    if item.stage in BYTES_PER_IMAGE and dataset in case.datasets():
        assert case.params is not None
        buckets = 1 if item.stage == "raw_manifest" else case.params.sources.of(dataset).buckets
        index = _INDEX * case.raw(dataset).annotation_bytes if item.stage == "raw_manifest" else 0
        return BYTES_PER_IMAGE[item.stage] * _images(case, dataset) / buckets + index
    if {"checkpoint", "predictions"} & set(item.outputs):
        tests = max((_images(case, name, "test") for name in case.datasets()), default=0)
        return _weights(case, item) + BYTES_PER_IMAGE["predictions"] * tests
    return 0


def _weights(case: Examination, item: StageItem) -> float:
    """Bytes of the checkpoint that a run writes."""
    from rlip_assets.doctor.sizes import weight_bytes

    recipe = case.recipe(item) if "checkpoint" in item.outputs else None
    return weight_bytes(recipe) if recipe else 0


def _images(case: Examination, dataset: str, split: str | None = None) -> int:
    """Images of a dataset or split: the listed ones, else the official number; of the micro world its parameters tell, which are few."""
    found = case.raw(dataset).images
    if found:
        return found[split] if split else found.total()
    assert case.params is not None
    if case.params.sources.is_drawn(dataset):
        return 3000
    return sum(counts[0] for (name, part), counts in IMAGES.items() if name == dataset and split in (None, part))
