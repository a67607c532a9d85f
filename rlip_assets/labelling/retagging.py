"""Changes that re-tagging follows, in raw folders, manifests, `dvc.lock` and promotions: pure functions of files, cheap enough for a tick.

What is there is compared with what was seen, never the time of one with that of the other: they may be of two machines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlip_assets.datasets.sources.raw_folder import OBSERVED, folder_state
from rlip_assets.dvc.lock import DvcLock
from rlip_assets.lineage.params.sources import SourcesParams
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.lineage.spec import Registry, StageItem

TAGGER = "r_tagger"
LABELS = "pseudo_labels"


@dataclass(frozen=True)
class Due:
    """A partition that should run, the state of what it follows from, and why."""

    stage: str
    partition: str
    state: str
    reason: str

    @property
    def key(self) -> str:
        """Equal for equal states."""
        return f"{self.stage}@{self.partition}:{self.state}"


def raw_changes(registry: Registry, root: Path) -> list[Due]:
    """Return the detection datasets whose raw folder is not in the state that their manifest was made from."""
    due = []
    for dataset in detection_datasets(registry):
        item = registry.item("raw_manifest", dataset)
        made, raw = read_provenance(root, item), item.untracked.get("raw")
        if not made or raw is None or not (root / raw).is_dir():
            continue
        state = folder_state(root / raw)
        if made.get("observed", {}).get(OBSERVED) != state:
            due.append(Due("raw_manifest", dataset, state, f"{raw} differs from what its manifest was made from"))
    return due


def object_changes(sources: SourcesParams, registry: Registry, root: Path) -> list[Due]:
    """Datasets in an object store whose prefix differs from its mirror; lists each prefix once and fetches nothing.

    Their manifests, made again, tell which buckets the objects fall in.

    Raises:
        RlipError: a prefix that cannot be listed.
    """
    from rlip_assets.datasets.sources.roots import is_remote, raw_root, source_params  # with readers, numpy and pyarrow

    due = []
    for dataset in sources.names:
        url = source_params(sources, dataset).root
        folder = raw_root(sources, dataset, root) if is_remote(url) else None
        if folder is None or not read_provenance(root, registry.item("raw_manifest", dataset)):
            continue
        from rlip_assets.storage.mirror import difference
        from rlip_assets.storage.object_store import ObjectStore

        if found := difference(ObjectStore.connect(), url, folder):
            reason = (
                f"{url} has {len(found.fetch)} new or changed objects and {len(found.remove)} fewer than its mirror"
            )
            due.append(Due("raw_manifest", dataset, found.digest[:32], reason))
    return due


def bucket_changes(registry: Registry, root: Path, lock: DvcLock) -> list[Due]:
    """Buckets of detection datasets whose manifest is not the one that their scene table was made from."""
    due = []
    for item in _detection_items(registry, "scenes"):
        entry, manifest = lock.get(item.address), root / item.inputs["manifest"]
        if entry is None or not manifest.is_file():
            continue
        found = hashlib.md5(manifest.read_bytes(), usedforsecurity=False).hexdigest()
        if entry.deps.get(item.inputs["manifest"]) != found:
            due.append(_due(item, found, "its manifest changed: images were added, removed or replaced"))
    return due


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
