"""From DVC to Dagster: results of `dvc repro` or `dvc pull` become external materialisations.

An item is reported if its outputs in the tree are those of its entry in `dvc.lock`, and its last materialisation had another entry.
Reports follow the order of the lineage and carry the versions of their inputs, so that Dagster and DVC agree on what is current.
"""

from __future__ import annotations

from collections.abc import Mapping

from dagster import AssetCheckEvaluation, AssetKey, AssetMaterialization, DagsterInstance
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    NULL_EVENT_POINTER,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)

from dagster_project.checks import check_results
from dagster_project.location import Location
from dagster_project.metadata import LOCK_TAG, describe
from rlip_assets.dvc.lock import DvcLock, LockEntry, holds, present
from rlip_assets.lineage.runner import read_manifest
from rlip_assets.lineage.spec import StageItem


def unreported(
    instance: DagsterInstance, location: Location, lock: DvcLock | None = None
) -> list[tuple[StageItem, LockEntry]]:
    """Return the items in the tree whose entry in `dvc.lock` is unknown to Dagster, in the order of the lineage."""
    lock = lock or DvcLock.read(location.root)
    found = []
    for address in location.registry.order:
        item, entry = location.registry.at(address), lock.get(address)
        if entry is None or not present(item, location.root):
            continue
        if _last_tags(instance, location, item).get(LOCK_TAG) == entry.fingerprint:
            continue
        if holds(location.root, item, entry):
            found.append((item, entry))
    return found


def report_external(instance: DagsterInstance, location: Location) -> list[StageItem]:
    """Report every unreported item to Dagster; return these items."""
    reported = unreported(instance, location)
    for item, entry in reported:
        manifest = read_manifest(location.root, item)
        instance.report_runless_asset_event(
            AssetMaterialization(
                location.key(item.stage),
                description="made outside Dagster, recorded by DVC",
                metadata={"ran": False, **describe(location.root, item, entry, manifest)},
                partition=item.partition,
                tags={
                    **_provenance_tags(instance, location, item),
                    DATA_VERSION_TAG: entry.data_version,
                    LOCK_TAG: entry.fingerprint,
                },
            )
        )
    for stage in dict.fromkeys(item.stage for item, _ in reported):
        for result in check_results(location.registry, location.root, stage, location.key(stage)):
            instance.report_runless_asset_event(
                AssetCheckEvaluation(
                    location.key(stage),
                    check_name=str(result.check_name),
                    passed=result.passed,
                    description=result.description,
                )
            )
    return [item for item, _ in reported]


def data_version(instance: DagsterInstance, location: Location, item: StageItem) -> str | None:
    """Return the data version of an item's last materialisation in Dagster, None if it has none."""
    return _last_tags(instance, location, item).get(DATA_VERSION_TAG)


def _last_tags(instance: DagsterInstance, location: Location, item: StageItem) -> Mapping[str, str]:
    record = instance.get_latest_data_version_record(
        location.key(item.stage), is_source=False, partition_key=item.partition
    )
    return (record.event_log_entry.tags or {}) if record else {}


def _provenance_tags(instance: DagsterInstance, location: Location, item: StageItem) -> dict[str, str]:
    """Return Dagster's own provenance tags: code version, and version and event of each parent asset."""
    tags = {CODE_VERSION_TAG: str(location.version_of(item.stage)), DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
    for parent in location.parents(item.stage):
        version, pointer = _latest(instance, parent)
        tags[get_input_data_version_tag(parent)] = version
        tags[get_input_event_pointer_tag(parent)] = pointer
    return tags


def _latest(instance: DagsterInstance, key: AssetKey) -> tuple[str, str]:
    record = instance.get_latest_data_version_record(key, is_source=False)
    if record is None:
        return "INITIAL", NULL_EVENT_POINTER
    return (record.event_log_entry.tags or {}).get(DATA_VERSION_TAG, "INITIAL"), str(record.storage_id)
