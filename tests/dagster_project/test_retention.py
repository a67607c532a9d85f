"""Old runs go; what anyone needs stays, and a sweep that was killed is finished by the next."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.defs.retention import retention
from dagster_project.location import Location
from dagster_project.profile import ActiveProfile
from dagster_project.retention import delete_old_runs, sweep
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.tracking.journal import Journal, waiting_journals

NOW = 1e-9
"""Days after which everything is old."""


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def labels() -> None:
    print("tagged")


@dg.asset(check_specs=[dg.AssetCheckSpec("sound", asset="report")])
def report() -> Iterator[dg.MaterializeResult[None]]:
    yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="sound", passed=True)])


def make(instance: dg.DagsterInstance, asset: dg.AssetsDefinition, partition: str | None = None) -> str:
    return dg.materialize([asset], instance=instance, partition_key=partition).run_id


def left(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def traces(instance: dg.DagsterInstance, run_id: str) -> list[Path]:
    """Files and folders of a run in the instance's home."""
    return list(Path(os.environ["DAGSTER_HOME"]).rglob(f"{run_id}*"))


def test_last_materialisations_and_young_runs_stay(instance: dg.DagsterInstance) -> None:
    old = [make(instance, labels, "a"), make(instance, labels, "b"), make(instance, report)]
    last = [make(instance, labels, "a"), make(instance, report)]
    assert all(traces(instance, run) for run in old)
    assert list(delete_old_runs(instance, days=1)) == []
    assert list(delete_old_runs(instance, NOW)) == [old[0], old[2]]
    assert left(instance) == {old[1], *last}
    assert not traces(instance, old[0])
    assert not traces(instance, old[2])
    assert list(delete_old_runs(instance, NOW)) == []
    assert instance.get_materialized_partitions(labels.key) == {"a", "b"}
    check = instance.get_latest_asset_check_evaluation_record(dg.AssetCheckKey(report.key, "sound"))
    assert check
    assert check.run_id == last[1]


def test_runs_in_progress_stay(instance: dg.DagsterInstance) -> None:
    @dg.job
    def nothing() -> None:
        pass

    states = (getattr(dg.DagsterRunStatus, name) for name in ("NOT_STARTED", "STARTING", "STARTED", "CANCELING"))
    runs = {instance.create_run_for_job(nothing, status=status).run_id for status in states}
    assert list(delete_old_runs(instance, NOW)) == []
    assert left(instance) == runs


def test_failed_runs_go(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def broken() -> None:
        raise ValueError

    run = dg.materialize([broken], instance=instance, raise_on_error=False).run_id
    assert list(delete_old_runs(instance, NOW)) == [run]
    assert not traces(instance, run)


@pytest.mark.parametrize("killed_in", ["event_log_storage.delete_events", "run_storage.delete_run"])
def test_a_killed_sweep_is_finished_by_the_next(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    old, last = make(instance, report), make(instance, report)
    part, _, method = killed_in.partition(".")

    def kill(run_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(getattr(instance, part), method, kill)
        with pytest.raises(KeyboardInterrupt):
            list(delete_old_runs(instance, NOW))
    assert left(instance) == {old, last}
    assert list(delete_old_runs(instance, NOW)) == [old]
    assert not traces(instance, old)
    event = instance.get_latest_materialization_event(report.key)
    assert event
    assert event.run_id == last


def test_a_sweep_out_of_time_leaves_the_rest_to_the_next(instance: dg.DagsterInstance) -> None:
    for _ in range(2):
        make(instance, report)
    assert list(delete_old_runs(instance, NOW, seconds=-1)) == []
    assert len(list(delete_old_runs(instance, NOW))) == 1


def test_the_work_folder_keeps_unsent_journals_and_young_leftovers(
    instance: dg.DagsterInstance, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = ActiveProfile("toy", location.root, location.registry, ExecutionParams(keep_days=1))
    stage = next(iter(location.registry.specs))
    journal = Journal.create(location.root, stage, {})
    old, young = (location.root / "work" / stage / name for name in ("0" * 16, "1" * 16))
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "part").write_text("x")
    past = time.time() - 2 * 86400
    for path in (old, old / "part", *journal.folder.rglob("*"), journal.folder):
        os.utime(path, (past, past))
    never = replace(profile, execution=ExecutionParams(keep_days=None))
    assert sweep(instance, never) == ""
    assert old.exists()
    assert sweep(instance, profile) == "deleted 0 runs and 1 leftovers of stages older than 1 days"
    assert not old.exists()
    assert young.exists()
    assert [one.key for one in waiting_journals(location.root)] == [journal.key]
    monkeypatch.setattr("dagster_project.defs.retention.active_profile", lambda: profile)
    said = retention(dg.build_sensor_context(instance=instance))
    assert isinstance(said, dg.SkipReason)
    assert said.skip_message == "nothing is old enough to be deleted"
    journal.end("FINISHED")
