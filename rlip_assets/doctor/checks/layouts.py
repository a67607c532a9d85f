"""Roots of the raw datasets and the annotation files in them: every one that is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, guarded, ok, skipped, warning
from rlip_assets.micro_world.stage import refuse_foreign

_NEEDED = ("val",)
"""Splits that nothing is trained on or tested on unless they are there."""


def check(case: Examination) -> Iterator[Finding]:
    """Look for the root and the official files of each dataset."""
    for dataset in case.datasets():
        yield from guarded(dataset, lambda name=dataset: _of(case, name))  # type: ignore[misc]


def _of(case: Examination, dataset: str) -> Iterator[Finding]:
    assert case.params is not None
    sources = case.params.sources
    key, root = f"{sources.key(dataset)}.root", case.folder(dataset)
    if not root.is_dir():
        if sources.is_drawn(dataset):
            yield skipped(dataset, "is drawn by the stage micro_world when the pipeline runs")
        elif case.is_remote(dataset):
            yield skipped(dataset, f"{sources.of(dataset).root} is fetched by the stage raw_manifest")
        elif root.exists():
            yield failed(dataset, f"{root} is no folder", f"set {key} to the folder of the dataset")
        else:
            yield failed(dataset, f"{root} does not exist", f"mount or fetch the dataset, or set {key}")
        return
    if sources.is_drawn(dataset):
        refuse_foreign(root, dataset)
    if not os.access(root, os.R_OK | os.X_OK):
        yield failed(dataset, f"{root} cannot be read", "give this user permission to read it")
        return
    reader = case.raw(dataset).reader
    if reader is None:
        return
    missing = 0
    for what, path in reader.official_files().items():
        if path.is_file():
            continue
        missing += 1
        say = warning if what in _NEEDED else failed
        yield say(dataset, f"{path} is missing ({what})", "fetch it; docs/datasets.md says where it is")
    for lost, path in reader.optional_files().items():
        if not path.is_file():
            yield warning(dataset, f"{path} is missing: {lost}", "fetch it where you want this")
    if not missing:
        yield ok(dataset, f"{root}: all annotation files are there")
