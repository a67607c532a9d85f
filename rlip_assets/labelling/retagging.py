"""Changes that re-tagging follows, in raw folders, manifests, `dvc.lock` and promotions: pure functions of files, cheap enough for a tick.

What is there is compared with what was seen, never the time of one with that of the other: they may be of two machines. Functions that
look at more than `dvc.lock` return what is due, and by address why others could not be judged: one that fails does not hide the rest.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlip_assets.datasets.sources.raw_folder import OBSERVED, folder_state
from rlip_assets.dvc.lock import DvcLock
from rlip_assets.lineage.params.sources import SourcesParams
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.lineage.spec import Registry, StageItem
from rlip_assets.storage.errors import RlipError, explain

TAGGER = "r_tagger"
LABELS = "pseudo_labels"
_NOT_LISTED = "it was never listed, or a run is listing it"
_FAILURES = (RlipError, OSError, sqlite3.Error)


@dataclass(frozen=True)
class Due:
    """A partition that should run, the state that it should follow (however far a run has come), and why."""

    stage: str
    partition: str
    state: str
    reason: str

    @property
    def key(self) -> str:
        """Equal for equal states."""
        return f"{self.stage}@{self.partition}:{self.state}"


def raw_changes(registry: Registry, root: Path) -> tuple[list[Due], dict[str, str]]:
    """Return the detection datasets whose raw folder is not in the state that their manifest was made from."""
    due: list[Due] = []
    unseen: dict[str, str] = {}
    for dataset in detection_datasets(registry):
        item = registry.item("raw_manifest", dataset)
        made, raw = read_provenance(root, item), item.untracked.get("raw")
        if raw is None:
            continue
        if not made:
            unseen[item.address] = _NOT_LISTED
            continue
        try:
            state = folder_state(root / raw)
        except _FAILURES as error:
            unseen[item.address] = _why(error)
            continue
        if made.get("observed", {}).get(OBSERVED) != state:
            due.append(Due("raw_manifest", dataset, state, f"{raw} differs from what its manifest was made from"))
    return due, unseen


def object_changes(sources: SourcesParams, registry: Registry, root: Path) -> tuple[list[Due], dict[str, str]]:
    """Datasets in an object store whose prefix differs from its mirror; lists each prefix once and fetches nothing.

    Their manifests, made again, tell which buckets the objects fall in.
    """
    from rlip_assets.datasets.sources.roots import is_remote, raw_root, source_params  # with readers, numpy and pyarrow

    due: list[Due] = []
    unseen: dict[str, str] = {}
    for dataset in sources.names:
        url = source_params(sources, dataset).root
        if not is_remote(url):
            continue
        item = registry.item("raw_manifest", dataset)
        if not read_provenance(root, item):
            unseen[item.address] = _NOT_LISTED
            continue
        from rlip_assets.storage.mirror import difference
        from rlip_assets.storage.object_store import ObjectStore

        try:
            found = difference(ObjectStore.connect(), url, raw_root(sources, dataset, root))
        except _FAILURES as error:
            unseen[item.address] = _why(error)
            continue
        if found:
            reason = (
                f"{url} has {len(found.fetch)} new or changed objects and {len(found.remove)} fewer than its mirror"
            )
            due.append(Due("raw_manifest", dataset, found.listing[:32], reason))
    return due, unseen


def bucket_changes(registry: Registry, root: Path, lock: DvcLock) -> tuple[list[Due], dict[str, str]]:
    """Buckets of detection datasets whose manifest is not the one that their scene table was made from."""
    due: list[Due] = []
    unseen: dict[str, str] = {}
    for item in _detection_items(registry, "scenes"):
        entry, manifest = lock.get(item.address), item.inputs["manifest"]
        if entry is None:
            continue
        try:
            found = hashlib.md5((root / manifest).read_bytes(), usedforsecurity=False).hexdigest()
        except FileNotFoundError:
            unseen[item.address] = f"{manifest} is not there, or a run is making it"
        except OSError as error:
            unseen[item.address] = _why(error)
        else:
            if entry.deps.get(manifest) != found:
                due.append(_due(item, found, "its manifest changed: images were added, removed or replaced"))
    return due, unseen


def label_changes(registry: Registry, lock: DvcLock) -> list[Due]:
    """Buckets whose scene table is not the one that was captioned."""
    due = []
    for item in _detection_items(registry, "captions"):
        entry, current = lock.get(item.address), lock.output_hash(item.inputs["scenes"])
        if entry is not None and current is not None and entry.deps.get(item.inputs["scenes"]) != current:
            due.append(_due(item, current, "its scene table changed"))
    return due


def promoted_tagger(registry: Registry, lock: DvcLock, version: str, data_version: str) -> tuple[list[Due], str]:
    """Buckets that another R-Tagger than the promoted one (its registered version and its hash) has tagged, and why there are none."""
    item = registry.item(TAGGER)
    entry = lock.get(item.address)
    if entry is None or entry.data_version != data_version:
        why = f"the promoted R-Tagger (version {version}) is not the one in the tree; bring it back or promote the new one"
        return [], why
    path = item.outputs["checkpoint"]
    due = []
    for labels in registry.spec(LABELS).items:
        made = lock.get(labels.address)
        if made is not None and made.deps.get(path) != entry.outs.get(path):
            due.append(_due(labels, data_version, f"R-Tagger version {version} was promoted"))
    return due, f"all labels are those of the promoted R-Tagger (version {version})"


def _why(error: Exception) -> str:
    return explain(error) or str(error)


def _due(item: StageItem, state: str, reason: str) -> Due:
    return Due(item.stage, str(item.partition), state, f"{item.partition}: {reason}")


def _detection_items(registry: Registry, stage: str) -> Iterator[StageItem]:
    for item in registry.spec(stage).items:
        if _dataset(item) in detection_datasets(registry):
            yield item


def detection_datasets(registry: Registry) -> list[str]:
    """Datasets that receive pseudo labels."""
    return list(dict.fromkeys(_dataset(item) for item in registry.spec(LABELS).items))


def _dataset(item: StageItem) -> str:
    return str(item.partition).rpartition("-")[0]
