"""From DVC to Dagster: report what `dvc repro`, `dvc pull` or `dvc add` did by itself as external materialisations.

An item is reported when the tree holds its outputs as recorded and its entry is not the one of its last materialisation. Reports go in the
order of the graph and carry the versions of what they were made from, so that Dagster shows as current what DVC holds to be current.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import dagster as dg

from dagster_dvc.lock import Found, read_lock
from dagster_dvc.project import DvcProject, Item
from dagster_dvc.translator import DvcTranslator

LOCK_TAG = "dvc/lock_entry"
"""Tag of a materialisation: fingerprint of the recorded entry that it reports."""
DATA_VERSION_TAG, CODE_VERSION_TAG = "dagster/data_version", "dagster/code_version"
_USER_PROVIDED_TAG = "dagster/data_version_is_user_provided"
_INPUT_VERSION_TAG, _INPUT_POINTER_TAG = "dagster/input_data_version", "dagster/input_event_pointer"
"""Tags that Dagster itself reads and writes; the tests compare them with Dagster's."""


def unknown(
    instance: dg.DagsterInstance, project: DvcProject, translator: DvcTranslator, again: Collection[str] = ()
) -> Found:
    """Return the items with outputs in the tree whose recorded entry Dagster does not know, or `again` names, in the graph's order."""
    recorded, found = read_lock(project), []
    for item in project.items:
        if item.address in recorded and all((project.root / path).exists() for path in item.outs):
            entry, stage = translator.recorded(item, recorded[item.address]), project.stage_of[item.address]
            known, _ = _newest(instance, translator.key(stage), item.key if stage.partitioned else None)
            if item.address in again or known.get(LOCK_TAG) != entry.fingerprint:
                found.append((item, entry))
    return found


def unreported(instance: dg.DagsterInstance, project: DvcProject, translator: DvcTranslator) -> Found:
    """Return those unknown items that the tree holds as recorded."""
    return translator.in_tree(project, unknown(instance, project, translator))


def report_external(
    instance: dg.DagsterInstance, project: DvcProject, translator: DvcTranslator, current: Collection[str] = ()
) -> list[Item]:
    """Report every unreported item and the checks of its stage; return the items reported.

    Those at the addresses `current`, just found up to date by DVC, are reported anew: freshness policies hear of it.
    """
    found = translator.in_tree(project, unknown(instance, project, translator, current))
    for item, entry in found:
        stage = project.stage_of[item.address]
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                translator.key(stage),
                description=f"{'found current' if item.address in current else 'made outside Dagster, recorded'} by DVC",
                metadata={"ran": False, **translator.metadata(project, item, entry)},
                partition=item.key if stage.partitioned else None,
                tags={
                    **_provenance(instance, project, translator, item),
                    DATA_VERSION_TAG: entry.data_version,
                    LOCK_TAG: entry.fingerprint,
                },
            )
        )
    for stage in {id(s): s for s in (project.stage_of[item.address] for item, _ in found)}.values():
        for result in translator.check_results(project, stage):
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    translator.key(stage),
                    check_name=str(result.check_name),
                    passed=result.passed,
                    severity=result.severity,
                    description=result.description,
                )
            )
    return [item for item, _ in found]


def _newest(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None
) -> tuple[Mapping[str, str], str]:
    """Return tags and storage id of an asset's or partition's last materialisation; no tags without one."""
    chosen = dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition])
    records = instance.fetch_materializations(chosen, limit=1).records
    materialization = records[0].asset_materialization if records else None
    return (materialization.tags or {}, str(records[0].storage_id)) if materialization else ({}, "NULL")


def _provenance(
    instance: dg.DagsterInstance, project: DvcProject, translator: DvcTranslator, item: Item
) -> dict[str, str]:
    """Return Dagster's tags for what a materialisation was made from: code version, and version and event of each parent asset."""
    stage = project.stage_of[item.address]
    tags = {_USER_PROVIDED_TAG: "true"}
    if not stage.is_source:
        tags[CODE_VERSION_TAG] = translator.code_version(stage)
    for parent in project.parents(stage):
        key = translator.key(parent)
        made, pointer = _newest(instance, key)
        tags[f"{_INPUT_VERSION_TAG}/{key.to_user_string()}"] = made.get(DATA_VERSION_TAG, "INITIAL")
        tags[f"{_INPUT_POINTER_TAG}/{key.to_user_string()}"] = pointer
    return tags
