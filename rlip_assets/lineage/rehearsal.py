"""A profile cut down to a rehearsal: same networks, image sizes and stages, a handful of images, a few steps on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

SHORT = {
    "batch_per_process": 1,
    "processes": 1,
    "accumulate": 1,
    "warmup": 0,
    "relation_threshold": 0.0,
    "share": 1.0,
    "holdout": 0.0,
}
"""Fields of every recipe: one image per step; no threshold, for an untrained tagger is sure of nothing; no share of a handful of images."""
HERE = {"device": "auto", "precision": "fp32", "processes": 1, "workers": 0, "threads": 2}
"""Settings of the training stages."""


def rehearsed(content: dict[str, Any], images: int, steps: int) -> dict[str, Any]:
    """Return the plain content of a `params.yaml` as that of a rehearsal.

    Every change is written out where a reader of the file looks for it, and `rehearsal` marks all results.

    Args:
        content: every parameter of a profile, as JSON values.
        images: images read of each split of each dataset.
        steps: optimiser steps of each training.
    """
    content = deepcopy(content)
    content["rehearsal"] = {"images": images, "steps": steps}
    content["captions"]["batch_size"] = content["tagging"]["batch_size"] = images
    content["tagging"]["store_threshold"] = 0.0
    content["training"] |= HERE
    content["execution"] |= {"engine": "here", "workers": 1}
    for source in _sources(content["sources"]):
        source["buckets"] = 1
    for choice in _choices(content["training"]):
        choice["changes"] = {**choice["changes"], **SHORT, "steps": steps}
        choice["changes"].pop("epochs", None)
    return content


def _sources(sources: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, source in sources.items():
        yield from source.values() if name == "own" else filter(None, [source])


def _choices(training: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield training["r_tagger"]
    for kind in ("pretrain", "finetune"):
        yield from training[kind].values()
