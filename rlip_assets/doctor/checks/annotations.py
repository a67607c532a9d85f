"""Annotation files: damaged ones, rows that cost their image, and numbers beside the official ones."""

from __future__ import annotations

from collections.abc import Iterator

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, Level, fault, guarded, ok, skipped, warning
from rlip_assets.doctor.official_counts import ANNOTATIONS, IMAGES
from rlip_assets.doctor.raw_data import RawData

_SHOWN = 10


def check(case: Examination) -> Iterator[Finding]:
    """Read the annotations of each dataset whose root is there."""
    for dataset in case.datasets():
        if case.folder(dataset).is_dir():
            yield from guarded(dataset, lambda name=dataset: _of(case, name))  # type: ignore[misc]


def _of(case: Examination, dataset: str) -> Iterator[Finding]:
    assert case.params is not None
    raw = case.raw(dataset)
    for error in raw.faults:
        yield fault(dataset, error)
    if raw.reader is None or not raw.images:
        return
    listed = raw.images.total()
    limit = case.params.sources.of(dataset).quarantine_limit
    level = Level.FAILED if len(raw.rejected) > limit * listed else Level.WARNING
    for reason in raw.rejected[:_SHOWN]:
        yield Finding(level, dataset, reason, "correct or fetch the file; the image goes to quarantine")
    if len(raw.rejected) > _SHOWN:
        more = len(raw.rejected) - _SHOWN
        yield Finding(level, dataset, f"{more} more images cannot be used", "see quarantine.parquet of the scenes")
    if not raw.whole:
        size = raw.annotation_bytes / 1e9
        yield skipped(dataset, f"rows of {size:.1f} GB of annotations are counted, not read", "rlip doctor --thorough")
    if not case.params.sources.is_drawn(dataset):
        yield from _compared(raw)
    if not raw.faults and not raw.rejected:
        yield ok(dataset, f"{listed:,} images listed")


def _compared(raw: RawData) -> Iterator[Finding]:
    """Compare with the official numbers; a rehearsal, or a part of a dataset, has others on purpose."""
    for (dataset, split), official in IMAGES.items():
        if dataset == raw.dataset and split in raw.images and raw.images[split] not in official:
            yield _differs(raw, f"{split} images", raw.images[split], official[0])
    for (dataset, what), number in ANNOTATIONS.items():
        if dataset == raw.dataset and what in raw.rows and raw.rows[what] != number:
            yield _differs(raw, what, raw.rows[what], number)


def _differs(raw: RawData, what: str, found: int, official: int) -> Finding:
    return warning(
        raw.dataset,
        f"{found:,} {what} are listed, officially {official:,}",
        "fetch the whole official files, or leave it where a part is meant",
    )
