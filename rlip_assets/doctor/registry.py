"""All checks in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from rlip_assets.doctor.checks import (
    annotation_files,
    disk,
    dvc_remote,
    gpu,
    images,
    label_files,
    labelling_memory,
    layouts,
    object_stores,
    packages,
    parameters,
    pipeline,
    starts,
    tracking_store,
    zero_shot_splits,
)
from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, guarded

Check = Callable[[Examination], Iterator[Finding]]
CHECKS: dict[str, Check] = {
    "parameters": parameters.check,
    "pipeline": pipeline.check,
    "packages": packages.check,
    "layout": layouts.check,
    "annotations": annotation_files.check,
    "images": images.check,
    "label files": label_files.check,
    "zero-shot splits": zero_shot_splits.check,
    "weights": starts.check,
    "disk": disk.check,
    "GPU": gpu.check,
    "memory": labelling_memory.check,
    "tracking": tracking_store.check,
    "object store": object_stores.check,
    "remote": dvc_remote.check,
}


class Row(NamedTuple):
    """A finding with the check that made it."""

    check: str
    finding: Finding


def examine(case: Examination, begin: Callable[[str], None] = lambda name: None) -> Iterator[Row]:
    """Yield the rows of the table; `begin` is told the name of each check before it starts."""
    for name, check in CHECKS.items():
        begin(name)
        yield from (Row(name, finding) for finding in guarded(name, lambda check=check: check(case)))  # type: ignore[misc]
