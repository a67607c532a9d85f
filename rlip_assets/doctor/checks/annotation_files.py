"""Annotation files: damaged ones, rows that cost their image, and numbers beside the official ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, Level, fault, guarded, ok, skipped, warning
from rlip_assets.doctor.official_counts import ANNOTATIONS, IMAGES
from rlip_assets.doctor.raw_data import RawData

_SHOWN = 10


def check(case: Examination) -> Iterator[Finding]:
    """Read the annotations of each dataset whose root is there."""
    for dataset in case.present():
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
    reasons = _by_reason(raw)
    for reason in reasons[:_SHOWN]:
        yield Finding(level, dataset, reason, "correct or fetch the file; what is wrong goes to quarantine")
    if len(reasons) > _SHOWN:
        more = len(reasons) - _SHOWN
        yield Finding(level, dataset, f"{more} more reasons against images", "see quarantine.parquet of the scenes")
    for words, number in raw.dropped.items():
        yield warning(dataset, f"{number:,} boxes are dropped: {words}", "correct or fetch the annotation files")
    if not raw.whole:
        size = raw.annotation_bytes / 1e9
        yield skipped(dataset, f"rows of {size:.1f} GB of annotations are counted, not read", "rlip doctor --thorough")
    if not case.params.sources.is_drawn(dataset):
        yield from _compared(raw)
    if not raw.faults and not raw.rejected and not raw.dropped:
        yield ok(dataset, f"{listed:,} images listed")


def _by_reason(raw: RawData) -> list[str]:
    """Reasons against images, each once with the images that it is against."""
    images: dict[str, list[str]] = defaultdict(list)
    for image_id, reason in raw.rejected:
        images[reason].append(image_id)
    return [
        f"image {ids[0]}: {reason}" if len(set(ids)) == 1 else f"image {ids[0]} and {len(ids) - 1} more: {reason}"
        for reason, ids in images.items()
    ]


def _compared(raw: RawData) -> Iterator[Finding]:
    """Compare with the official numbers; a rehearsal, or a part of a dataset, has others on purpose."""
    for (dataset, split), official in IMAGES.items():
        listed = raw.images[split]
        if (
            dataset != raw.dataset
            or not listed
            or any(listed <= number <= listed + raw.images[""] for number in official)
        ):
            continue
        yield _differs(raw, f"{split} images", listed, official[0])
    for (dataset, what), number in ANNOTATIONS.items():
        if dataset == raw.dataset and what in raw.rows and raw.rows[what] != number:
            yield _differs(raw, what, raw.rows[what], number)


def _differs(raw: RawData, what: str, found: int, official: int) -> Finding:
    unusable = f" besides {raw.images['']:,} unusable ones" if raw.images[""] else ""
    return warning(
        raw.dataset,
        f"{found:,} {what} are listed{unusable}, officially {official:,}",
        "fetch the whole official files, or leave it where a part is meant",
    )
