"""Bound what long life leaves behind: old runs of Dagster with their events and logs, and leftovers of stages in the work folder.

Dagster purges ticks by itself (`retention` in `dagster_home/dagster.yaml`) but never a run. A run goes when it ended more than
`execution.keep_days` ago and holds the last materialisation of no asset and partition. Its row goes last: a sweep that was killed finds
it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from dagster_project.profile import ActiveProfile
from rlip_assets.dvc.garbage import Keep, find_garbage, remove
from rlip_assets.lineage.stage_run import WORK_FOLDER

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_BACKFILL_TAG = "dagster/backfill"
_AT_ONCE = 500


def sweep(instance: dg.DagsterInstance, profile: ActiveProfile, seconds: float = 20.0) -> str:
    """Delete what is older than the profile's `execution.keep_days`; return what went in a sentence, empty if nothing did.

    Args:
        seconds: no more runs are deleted after this time; the next sweep goes on.
    """
    days = profile.execution.keep_days
    if days is None:
        return ""
    runs = sum(1 for _ in delete_old_runs(instance, days, seconds))
    folders = delete_leftovers(profile, days)
    return f"deleted {runs} runs and {folders} leftovers of stages older than {days:g} days" if runs or folders else ""


def delete_old_runs(instance: dg.DagsterInstance, days: float, seconds: float = float("inf")) -> Iterator[str]:
    """Delete ended runs that nothing needs, the oldest first; yield the id of each.

    Runs with the last materialisation of an asset or partition, and those of a backfill that goes on, are kept.
    """
    until = time.monotonic() + seconds
    old = dg.RunsFilter(statuses=_ENDED, updated_before=datetime.now(UTC) - timedelta(days=days))
    if not instance.get_runs(old, limit=1):
        return
    needed = _holders(instance)
    for run in instance.get_runs(old, ascending=True):
        if time.monotonic() > until:
            return
        if run.run_id not in needed and not _backfill_goes_on(instance, run):
            _delete(instance, run.run_id)
            yield run.run_id


def delete_leftovers(profile: ActiveProfile, days: float) -> int:
    """Delete unfinished runs, shards and tables in the profile's work folder that nothing refers to; return how many."""
    from rlip_assets.datasets.scenes.store import current_entries  # imports numpy and pyarrow

    root = profile.root
    tables = (path.relative_to(root).as_posix() for path in current_entries(root / "data", root / "work/scene_cache"))
    found = find_garbage(profile.registry, root, [], Keep(paths=frozenset(tables)), young=days * 86400)
    leftovers = [entry for entry in found if entry.path.is_relative_to(root / WORK_FOLDER)]
    remove(leftovers)
    return len(leftovers)


def _holders(instance: dg.DagsterInstance) -> set[str]:
    """Return the runs that hold the last materialisation of an asset or of one of its partitions."""
    storage, found = instance.event_log_storage, set[str]()
    for key in instance.get_asset_keys():
        latest = instance.get_latest_materialization_event(key)
        ids = storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION).values()
        found |= {latest.run_id} if latest else set()
        for start in range(0, len(ids), _AT_ONCE):
            wanted = dg.AssetRecordsFilter(key, storage_ids=[*ids][start : start + _AT_ONCE])
            records = instance.fetch_materializations(wanted, limit=_AT_ONCE).records
            found |= {record.run_id for record in records}
    return found


def _backfill_goes_on(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    backfill = instance.get_backfill(run.tags[_BACKFILL_TAG]) if _BACKFILL_TAG in run.tags else None
    return backfill is not None and backfill.status.name in ("REQUESTED", "CANCELING", "FAILING")


def _delete(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete a run's logs and events, in SQLite with the file that they fill, and then the run."""
    storage = instance.event_log_storage
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    # SQLite has a file per run and never deletes one; where it is gone, a killed sweep had come past the events
    file = Path(storage.path_for_shard(run_id)) if hasattr(storage, "path_for_shard") else None
    if file is None or file.exists():
        storage.delete_events(run_id)
    for path in [file.with_name(file.name + suffix) for suffix in ("-wal", "-shm", "")] if file else []:
        path.unlink(missing_ok=True)
    instance.run_storage.delete_run(run_id)
