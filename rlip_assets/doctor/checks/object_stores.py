"""Roots in an object store: reachable, and not empty."""

from __future__ import annotations

from collections.abc import Iterator

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, fault, ok
from rlip_assets.storage.errors import RlipError
from rlip_assets.storage.object_store import ObjectStore, Prefix

SECONDS = 5


def check(case: Examination) -> Iterator[Finding]:
    """Ask for the first object below each remote root, once and with a short timeout."""
    assert case.params is not None or not case.datasets()
    for dataset in filter(case.is_remote, case.datasets()):
        yield _first_object(dataset, case.params.sources.of(dataset).root)  # type: ignore[union-attr]


def _first_object(subject: str, root: str) -> Finding:
    try:
        store = ObjectStore.connect(attempts=1, seconds=SECONDS)
        first = next(store.list(Prefix.parse(root)), None)
    except (RlipError, ValueError) as error:
        return fault(subject, error)
    if first is None:
        return failed(subject, f"{root} has no objects", "correct the prefix or upload the dataset")
    return ok(subject, f"{root} answers")
