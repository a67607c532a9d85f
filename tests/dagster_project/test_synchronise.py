"""From DVC to Dagster: what the shell did is shown as current, and nothing runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from dagster import AssetKey, DagsterInstance
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from dagster_dvc import report_external, unreported
from dagster_project.checks import check_results
from dagster_project.location import Location
from rlip_assets.dvc.lock import DvcLock
from rlip_assets.lineage.versions import VERSIONS_FILE
from tests.support.toy_lineage import recorded_versions, shown_version, toy_location


def statuses(instance: DagsterInstance, location: Location) -> dict[str, StaleStatus]:
    graph = location.definitions.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {
        item.address: resolver.get_status(location.key(item.stage), item.partition)
        for item in location.registry.items()
    }


def test_everything_is_current_after_one_report_and_no_run(instance: DagsterInstance, location: Location) -> None:
    assert set(statuses(instance, location).values()) == {StaleStatus.MISSING}
    reported = report_external(instance, location.project, location.translator)
    assert [item.address for item in reported] == [item.address for item in location.project.items]
    assert set(statuses(instance, location).values()) == {StaleStatus.FRESH}
    assert instance.get_runs_count() == 0
    versions = recorded_versions(location)
    for item in location.registry.items():
        assert shown_version(instance, location, item.address) == versions[item.address]


def test_a_second_report_says_nothing(instance: DagsterInstance, location: Location) -> None:
    report_external(instance, location.project, location.translator)
    assert report_external(instance, location.project, location.translator) == []


def test_outputs_that_are_not_in_the_tree_are_not_reported(instance: DagsterInstance, location: Location) -> None:
    (location.root / "reports" / "benchmark.md").parent.rename(location.root / "elsewhere")
    assert "report" not in [item.address for item in report_external(instance, location.project, location.translator)]


def test_a_lock_that_speaks_of_other_results_is_not_reported(
    instance: DagsterInstance, location: Location, project: Path
) -> None:
    """As after `git pull` of another reference run: what it records was neither made nor fetched here."""
    report_external(instance, location.project, location.translator)
    entry = DvcLock.read(project).get("labels@a-0")
    assert entry is not None
    lock_file, old = project / "dvc.lock", entry.outs["data/labels/a/bucket-0"]
    lock_file.write_text(lock_file.read_text().replace(old, "0" * 32 + ".dir"))
    assert unreported(instance, location.project, location.translator) == []


def test_a_changed_result_is_reported_and_leaves_the_rest_current(
    instance: DagsterInstance, location: Location, project: Path
) -> None:
    report_external(instance, location.project, location.translator)
    folder = project / "data" / "labels" / "a" / "bucket-0"
    for file in folder.iterdir():
        content = file.read_text()
        file.unlink()
        file.write_text(f"{content}\n")
    assert unreported(instance, location.project, location.translator) == []
    command = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force", "labels@a-0"]
    subprocess.run(command, cwd=project, check=True)
    assert [item.address for item, _ in unreported(instance, location.project, location.translator)] == ["labels@a-0"]
    report_external(instance, location.project, location.translator)
    found = statuses(instance, location)
    assert found["labels@a-0"] == StaleStatus.FRESH
    assert found["labels@a-1"] == StaleStatus.FRESH
    assert found["model@plain"] == StaleStatus.FRESH
    assert found["model@more"] == StaleStatus.STALE


def test_results_of_an_earlier_version_of_a_stage_are_reported_as_stale(
    instance: DagsterInstance, location: Location, project: Path
) -> None:
    """As after `dvc pull` of results that were made before the version was raised."""
    versions = json.loads((project / VERSIONS_FILE).read_text())
    versions["labels"]["version"] = 2
    (project / VERSIONS_FILE).write_text(json.dumps(versions))
    raised = toy_location()
    report_external(instance, raised.project, raised.translator)
    old = {address for address, status in statuses(instance, raised).items() if status == StaleStatus.STALE}
    assert old == {"labels@a-0", "labels@a-1"}


def test_reports_carry_figures_and_checks(instance: DagsterInstance, location: Location) -> None:
    report_external(instance, location.project, location.translator)
    key = AssetKey(["toy", "model"])
    event = instance.get_latest_data_version_record(key, is_source=False, partition_key="more")
    assert event is not None
    materialization = event.event_log_entry.asset_materialization
    assert materialization is not None
    assert materialization.metadata["texts"].value == 3
    checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [spec for spec in location.definitions.resolve_asset_graph().asset_check_keys if spec.asset_key == key]
    )
    assert [record.status.value for record in checks.values()] == ["SUCCEEDED"]


def test_a_damaged_manifest_fails_its_check(location: Location, project: Path) -> None:
    manifest = project / "data" / "model" / "more" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.unlink()
    manifest.write_text(json.dumps({**content, "schema": 99}))
    (check,) = check_results(location.registry, project, "model", location.key("model"))
    assert not check.passed
    assert check.description == "model@more: schema 99, this code reads 1"
