"""From DVC to Dagster: the event of an item, and external ones of what `dvc repro`, `dvc pull` or `dvc add` did by itself.

An item is reported when the tree holds its outputs as recorded and its entry is not the one of its last materialisation. Reports go in the
order of the graph. Every event carries the versions of code and parents that DVC recorded with the item, not those that are there now: so
Dagster shows as current what DVC holds to be current, and as stale what was made from older data or with other parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from dagster_dvc.lock import Found, LockEntry, read_lock
from dagster_dvc.project import DvcProject, Item
from dagster_dvc.translator import DvcTranslator

LOCK_TAG = "dvc/lock_entry"
"""Tag of a materialisation: fingerprint of the recorded entry that it reports."""
DATA_VERSION_TAG, CODE_VERSION_TAG = "dagster/data_version", "dagster/code_version"
_USER_PROVIDED_TAG = "dagster/data_version_is_user_provided"
_INPUT_VERSION_TAG, _INPUT_POINTER_TAG = "dagster/input_data_version", "dagster/input_event_pointer"
"""Tags that Dagster itself reads and writes; the tests compare them with Dagster's."""
Recorded = Mapping[str, LockEntry]


def unknown(instance: dg.DagsterInstance, project: DvcProject, translator: DvcTranslator) -> Found:
    """Return the items with outputs in the tree whose recorded entry Dagster does not know, in the graph's order."""
    present = _present(instance, project, translator, read_lock(project))
    return [(item, entry) for item, entry, known in present if not known]


def unreported(instance: dg.DagsterInstance, project: DvcProject, translator: DvcTranslator) -> Found:
    """Return those unknown items that the tree holds as recorded."""
    return translator.in_tree(project, unknown(instance, project, translator))


def report_external(
    instance: dg.DagsterInstance, project: DvcProject, translator: DvcTranslator, current: Collection[str] = ()
) -> list[Item]:
    """Report every unreported item and the checks of its stage; return the items reported.

    Known items that were made from one of these are reported anew, for Dagster would call them older than it; so are those at the
    addresses `current`, just found up to date by DVC: freshness policies hear of it.
    """
    recorded = read_lock(project)
    present = list(_present(instance, project, translator, recorded))
    new = [(item, entry) for item, entry, known in present if not known or item.address in current]
    found, reported = {item.address for item, _ in translator.in_tree(project, new)}, []
    for item, _, known in present:
        stage, new_parents = project.stage_of[item.address], found.difference(current).intersection(item.parents)
        compared = [_differing(item, recorded, [parent]) for parent in new_parents]
        if item.address in found or (known and compared and all(one and not any(one) for one in compared)):
            said = f"{'found current' if item.address in current else 'recorded'} by DVC"
            metadata, tags = content(project, translator, item, recorded, False)
            tags |= dict(_inputs(instance, project, translator, item, recorded))
            about = said, metadata, item.key if stage.partitioned else None, tags
            instance.report_runless_asset_event(dg.AssetMaterialization(translator.key(stage), *about))
            reported.append(item)
    for stage in {id(s): s for s in (project.stage_of[item.address] for item in reported)}.values():
        for result in translator.check_results(project, stage):
            judged = translator.key(stage), str(result.check_name), result.passed, result.metadata
            told = dg.AssetCheckEvaluation(*judged, severity=result.severity, description=result.description)
            instance.report_runless_asset_event(told)
    return reported


def content(
    project: DvcProject, translator: DvcTranslator, item: Item, recorded: Recorded, ran: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return metadata and tags of an item's materialisation; the versions of data and code are those that DVC recorded."""
    stage, entry = project.stage_of[item.address], translator.recorded(item, recorded[item.address])
    used = item if item.frozen else replace(item, command=entry.command, params=entry.params)
    as_run = tuple(used if one is item else one for one in stage.items)
    tags = {DATA_VERSION_TAG: entry.data_version, _USER_PROVIDED_TAG: "true", LOCK_TAG: entry.fingerprint}
    if not stage.is_source:
        tags[CODE_VERSION_TAG] = translator.code_version(replace(stage, items=as_run))
    return {"ran": ran, **translator.metadata(project, item, entry)}, tags


def newest(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None
) -> tuple[Mapping[str, str], str]:
    """Return tags and storage id of an asset's or partition's last materialisation; no tags without one."""
    chosen = dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition])
    records = instance.fetch_materializations(chosen, limit=1).records
    event = records[0].asset_materialization if records else None
    return (event.tags or {}, str(records[0].storage_id)) if event else ({}, "NULL")


def _present(
    instance: dg.DagsterInstance, project: DvcProject, translator: DvcTranslator, recorded: Recorded
) -> Iterator[tuple[Item, LockEntry, bool]]:
    """Yield recorded items with outputs in the tree, in order, and whether their entry is that of the last materialisation."""
    for address in recorded:
        item, stage = project.at[address], project.stage_of[address]
        if all((project.root / path).exists() for path in item.outs):
            entry = translator.recorded(item, recorded[address])
            known, _ = newest(instance, translator.key(stage), item.key if stage.partitioned else None)
            yield item, entry, known.get(LOCK_TAG) == entry.fingerprint


def _inputs(
    instance: dg.DagsterInstance, project: DvcProject, translator: DvcTranslator, item: Item, recorded: Recorded
) -> Iterator[tuple[str, str]]:
    """Yield Dagster's tags for what an item was made from: version and event of each parent asset."""
    for parent in project.parents(project.stage_of[item.address]):
        key, read = translator.key(parent), {one.address for one in parent.items}.intersection(item.parents)
        made, pointer = newest(instance, key)
        version = made.get(DATA_VERSION_TAG, "INITIAL")
        if not item.frozen and any(_differing(item, recorded, read)):
            version, pointer = "older", "-2"  # to Dagster, every event comes after this one
        yield f"{_INPUT_VERSION_TAG}/{key.to_user_string()}", version
        yield f"{_INPUT_POINTER_TAG}/{key.to_user_string()}", pointer


def _differing(item: Item, recorded: Recorded, parents: Iterable[str]) -> list[bool]:
    """Return of each path that `item` read and a parent wrote whether the parent has recorded something else since.

    A folder above several outputs, or files in it, cannot be compared; nor can hashes of two kinds, as of versioned buckets.
    """
    written = [pair for parent in parents if parent in recorded for pair in recorded[parent].outs.items()]
    pairs = [(old, now) for path, now in written if (old := recorded[item.address].deps.get(path))]
    return [old != now for old, now in pairs if old.endswith(".dir") == now.endswith(".dir")]
