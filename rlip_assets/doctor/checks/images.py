"""Images: those that are listed and not there, and a sample that is decoded and measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.file_search import annotated_size
from rlip_assets.doctor.finding import Finding, Level, guarded, ok, skipped
from rlip_assets.doctor.raw_data import RawData
from rlip_assets.storage.images import BadImageError, check_image, image_inside, upright_size

_NAMED, _SHOWN = 5, 10


def check(case: Examination) -> Iterator[Finding]:
    """Look for the images of each dataset whose annotations could be read."""
    for dataset in case.present():
        yield from guarded(dataset, lambda name=dataset: _of(case, name))  # type: ignore[misc]


def _of(case: Examination, dataset: str) -> Iterator[Finding]:
    assert case.params is not None
    raw, limit = case.raw(dataset), case.params.sources.of(dataset).quarantine_limit
    if raw.reader is None or not raw.files:
        yield skipped(dataset, "nothing to look for: no annotation file could be read")
        return
    wrong = False
    for split, places in sorted(raw.files.items()):
        there = [place for place in places if raw.reader.disk.is_file(place)]
        missing = len(places) - len(there)
        if missing:
            wrong = True
            yield _missing(raw, split, sorted(set(places) - set(there)), missing, len(places), limit)
        bad = [(place, reason) for place in spread(there, case.sample) if (reason := _fault(raw, place))]
        level = Level.FAILED if len(bad) > limit * min(case.sample, len(there)) else Level.WARNING
        wrong = wrong or bool(bad)
        for place, reason in bad[:_SHOWN]:
            yield Finding(level, dataset, f"{raw.root / place}: {reason}", "fetch the image again")
        if len(bad) > _SHOWN:
            message = f"{len(bad) - _SHOWN} more of {min(case.sample, len(there))} sampled {split} images are unusable"
            yield Finding(level, dataset, message, "fetch the images again")
    if not wrong:
        total = sum(map(len, raw.files.values()))
        sampled = sum(min(case.sample, len(places)) for places in raw.files.values())
        yield ok(dataset, f"{total:,} images are there; {sampled} of them decoded and measured")


def _missing(raw: RawData, split: str, names: Sequence[str], missing: int, listed: int, limit: float) -> Finding:
    folders = sorted({name.rpartition("/")[0] for name in names})
    absent = [folder for folder in folders if not (raw.root / folder).is_dir()]
    if absent:
        what, remedy = f"no folder {', '.join(absent[:_NAMED])}", "unpack the images there"
    else:
        what, remedy = f"{', '.join(names[:_NAMED])}{', ...' if missing > _NAMED else ''}", "fetch these images"
    level = Level.FAILED if missing > limit * listed else Level.WARNING
    return Finding(level, raw.dataset, f"{missing:,} of {listed:,} {split} images are not there: {what}", remedy)


def spread(places: Sequence[str], number: int) -> list[str]:
    """Return at most `number` places, evenly spread in their order."""
    step = max(1.0, len(places) / number)
    return [places[int(k * step)] for k in range(min(number, len(places)))]


def _fault(raw: RawData, place: str) -> str:
    """Return the fault of an image in words; empty where there is none."""
    try:
        path = image_inside(raw.root, place)
        stored = check_image(path)
        annotated = raw.sizes.get(place) if raw.whole else _searched_size(raw, place)
        if annotated and annotated not in (stored, upright_size(path)):
            return f"{stored[0]} x {stored[1]} pixels, annotated {annotated[0]} x {annotated[1]}"
    except BadImageError as error:
        return error.reason
    return ""


def _searched_size(raw: RawData, place: str) -> tuple[int, int] | None:
    """The annotated size of an image of a dataset whose rows were not read."""
    assert raw.reader is not None
    split = next(split for split, places in raw.files.items() if place in places)
    path = raw.reader.official_files()[split]
    if raw.dataset == "visual_genome":
        return None
    return annotated_size(path, place.rpartition("/")[2]) if path.is_file() else None
