"""What Dagster calls current is what DVC holds to be current, whoever made it, in which order and how many at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
from dvc.lock import make_lock

from dagster_dvc import DvcTranslator, read_project, report_external
from dagster_dvc.component import build_sensor
from dagster_dvc.lock import read_lock
from dagster_dvc.project import Stage, repository_busy
from dagster_dvc.reporting import DATA_VERSION_TAG
from tests.dagster_dvc.test_both_directions import changed, definitions, materialise, newest, stale
from tests.support.dvc_shapes import dvc

Copy = Callable[[str], Path]
BOTH = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}


class Together(DvcTranslator):
    """All partitions in one run."""

    def backfill_policy(self, stage: Stage) -> dg.BackfillPolicy | None:
        return dg.BackfillPolicy.single_run() if stage.partitioned else None


def tick(root: Path, instance: dg.DagsterInstance) -> str:
    """What the sensor says when it looks."""
    sensor = build_sensor(read_project(root), DvcTranslator())
    return str(sensor.evaluate_tick(dg.build_sensor_context(instance=instance)).skip_message)


def edit(root: Path, old: str, new: str) -> None:
    text = (root / "dvc.yaml").read_text()
    assert old in text
    (root / "dvc.yaml").write_text(text.replace(old, new))


def everything(root: Path) -> set[str]:
    return {item.address for item in read_project(root).items}


def test_partitions_of_one_run_have_a_version_each_and_nothing_is_left_to_report(
    project: Copy, instance: dg.DagsterInstance
) -> None:
    """Though the sensor looks while the run is at work, and children run before it looks again."""
    root = project("templates")
    dvc(root, "repro", "source@a")
    assert tick(root, instance) == "reported 1 external materialisations: source@a"
    job = definitions(root, Together()).resolve_implicit_global_asset_job_def()
    selected = [dg.AssetKey("source"), dg.AssetKey("shout")]
    assert job.execute_in_process(instance=instance, asset_selection=selected[:1], tags=BOTH).success
    assert materialise(root, instance, "shout", "a").success
    assert materialise(root, instance, "some").success
    assert tick(root, instance) == "Dagster knows all of it"
    made = {"source@a", "source@b", "shout@a", "some"}
    assert {address for address, why in stale(root, instance).items() if why == {"MISSING"}} == everything(root) - made
    assert not made & stale(root, instance).keys()
    recorded = read_lock(read_project(root))
    for key, ran in (("a", False), ("b", True)):
        shown = newest(instance, "source", key)
        assert (shown.tags or {})[DATA_VERSION_TAG] == recorded[f"source@{key}"].data_version
        assert shown.metadata["ran"].value is ran
        assert shown.metadata["path"].value == str(root / f"{key}.txt")


def test_what_dvc_would_run_again_is_reported_as_stale_and_a_run_mends_it(
    project: Copy, instance: dg.DagsterInstance
) -> None:
    """As in a clone with the outputs and `dvc.lock` of somebody who changed a command and ran a part."""
    root = project("templates")
    dvc(root, "repro", "source", "some", "shout@b")
    edit(root, "echo ${item} >", "echo new ${item} >")
    dvc(root, "repro", "--single-item", "source@a")
    report_external(instance, read_project(root), DvcTranslator())
    made = {address: why for address, why in stale(root, instance).items() if why != {"MISSING"}}
    assert made == {"source@b": {"CODE"}, "shout@a": {"DATA"}}
    assert made.keys() <= changed(root).keys()
    assert materialise(root, instance, "shout", "a").success
    made = {address: why for address, why in stale(root, instance).items() if why != {"MISSING"}}
    assert made == {"source@b": {"CODE"}, "some": {"DATA"}}
    assert made.keys() <= changed(root).keys()


def test_parameters_that_changed_since_are_stale_and_those_that_changed_before_are_not(
    project: Copy, instance: dg.DagsterInstance
) -> None:
    root, translator = project("monorepo"), DvcTranslator()
    loaded = read_project(root)
    (root / "settings.json").write_text('{"depth": 4}')  # after the definitions were loaded
    dvc(root, "repro", "--all-pipelines")
    report_external(instance, loaded, translator)
    assert stale(root, instance) == {}  # as seen by definitions that are loaded again
    (root / "settings.json").write_text('{"depth": 5}')
    assert stale(root, instance) == {"features/dvc.yaml:build": {"CODE"}}
    with dg.DagsterInstance.ephemeral() as other:
        report_external(other, read_project(root), translator)
        assert stale(root, other) == {"features/dvc.yaml:build": {"CODE"}}


def test_a_child_that_ran_before_the_parent_was_reported_stays_current(
    project: Copy, instance: dg.DagsterInstance
) -> None:
    root = project("templates")
    dvc(root, "repro", "source")
    assert tick(root, instance) == "reported 2 external materialisations: source@a, source@b"
    assert materialise(root, instance, "shout", "a").success
    edit(root, "echo ${item} >", "echo new ${item} >")
    dvc(root, "repro", "--single-item", "source@a")
    assert materialise(root, instance, "shout", "a").success
    assert tick(root, instance) == "reported 2 external materialisations: source@a, shout@a"
    assert "shout@a" not in stale(root, instance)
    assert tick(root, instance) == "Dagster knows all of it"


def test_two_code_locations_of_one_project_tell_each_other(project: Copy, instance: dg.DagsterInstance) -> None:
    """Each has its prefix; what one runs, the sensor of the other reports."""
    root, other = project("templates"), DvcTranslator(["other"])
    assert materialise(root, instance, "source", "a").success
    assert [item.address for item in report_external(instance, read_project(root), other)] == ["source@a"]
    assert report_external(instance, read_project(root), DvcTranslator()) == []
    assert "source@a" not in stale(root, instance, other)


def test_a_project_with_hard_links_for_locks(project: Copy, instance: dg.DagsterInstance) -> None:
    root = project("templates")
    dvc(root, "config", "core.hardlink_lock", "true")
    assert materialise(root, instance, "source", "a").success
    assert tick(root, instance) == "Dagster knows all of it"
    lock = make_lock(str(root / ".dvc/tmp/lock"), tmp_dir=str(root / ".dvc/tmp"), hardlink_lock=True)
    with lock:
        assert repository_busy(root)
    assert not repository_busy(root)
