"""Stages run from Dagster are DVC's, and what DVC does by itself is shown in Dagster, on projects of several shapes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.definitions import data_version
from dagster._core.loader import LoadingContextForTest

from dagster_dvc import DvcTranslator, read_project, report_external, reporting
from dagster_dvc.assets import build_assets
from dagster_dvc.component import build_sensor
from dagster_dvc.execution import failure_reason
from dagster_dvc.metadata import fenced
from dagster_dvc.project import Stage
from dagster_dvc.reporting import unreported
from tests.support.dvc_shapes import dvc, make

Copy = Callable[[str], Path]
SHAPES = ("get_started", "templates", "monorepo")


def definitions(root: Path, translator: DvcTranslator | None = None) -> dg.Definitions:
    assets = build_assets(read_project(root), translator or DvcTranslator())
    return dg.Definitions(assets=assets, executor=dg.in_process_executor)


def materialise(
    root: Path, instance: dg.DagsterInstance, key: str, partition: str | None = None, tags: Mapping[str, str] = {}
) -> dg.ExecuteInProcessResult:
    """Materialise one asset (and partition) in this process; the run may fail."""
    job = definitions(root).resolve_implicit_global_asset_job_def()
    path = dg.AssetKey(key.split("/"))
    return job.execute_in_process(
        instance=instance, asset_selection=[path], partition_key=partition, tags=dict(tags), raise_on_error=False
    )


def everything(root: Path, instance: dg.DagsterInstance) -> None:
    """Materialise all stages in order."""
    for stage in read_project(root).stages:
        for item in () if stage.is_source else stage.items:
            result = materialise(root, instance, "/".join(stage.path), item.key if stage.partitioned else None)
            assert result.success, item.address


def newest(instance: dg.DagsterInstance, key: str, partition: str | None = None) -> dg.AssetMaterialization:
    chosen = dg.AssetRecordsFilter(dg.AssetKey(key.split("/")), asset_partitions=[partition] if partition else None)
    found = instance.fetch_materializations(chosen, limit=1).records[0].asset_materialization
    assert found is not None
    return found


def stale(root: Path, instance: dg.DagsterInstance, translator: DvcTranslator | None = None) -> dict[str, set[str]]:
    """Addresses of items that Dagster does not call current -> `MISSING`, or categories of why they are stale."""
    project, translator = read_project(root), translator or DvcTranslator()
    graph = definitions(root, translator).resolve_asset_graph()
    resolver = data_version.CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    found = {}
    for stage in project.stages:
        for item in () if stage.is_source else stage.items:
            place = translator.key(stage), item.key if stage.partitioned else None
            causes = {cause.category.name for cause in resolver.get_stale_causes(*place)}
            missing = {"MISSING"} if resolver.get_status(*place) == data_version.StaleStatus.MISSING else set()
            found[item.address] = causes | missing
    return {address: why for address, why in found.items() if why}


def changed(root: Path) -> dict[str, Any]:
    (line,) = [line for line in dvc(root, "status", "--json").splitlines() if line.startswith("{")]
    return dict(json.loads(line))


@pytest.mark.parametrize("shape", ["get_started", pytest.param("templates", marks=pytest.mark.deep), "monorepo"])
def test_after_dagster_dvc_has_nothing_to_do(project: Copy, instance: dg.DagsterInstance, shape: str) -> None:
    root = project(shape)
    everything(root, instance)
    assert set(changed(root)) <= {"clock"}  # the stage that always runs
    lock = {path: path.read_bytes() for path in root.rglob("dvc.lock")}
    if shape != "templates":
        dvc(root, "repro", "--all-pipelines")
        assert {path: path.read_bytes() for path in root.rglob("dvc.lock")} == lock
    sources = {item.address for item in read_project(root).items if item.command is None}
    assert {item.address for item, _ in unreported(instance, read_project(root), DvcTranslator())} == sources


@pytest.mark.parametrize("shape", SHAPES)
def test_after_dvc_dagster_knows_all_and_nothing_is_stale(
    project: Copy, instance: dg.DagsterInstance, shape: str
) -> None:
    root, translator = project(shape), DvcTranslator()
    dvc(root, "repro", "--all-pipelines")
    made = read_project(root)
    assert {item.address for item in report_external(instance, made, translator)} == set(made.at)
    assert report_external(instance, made, translator) == []
    assert stale(root, instance) == {}


def test_a_run_shows_what_dvc_recorded(project: Copy, instance: dg.DagsterInstance) -> None:
    root = project("get_started")
    everything(root, instance)
    shown = newest(instance, "evaluate")
    assert shown.metadata["auc.train"].value == 0.9
    assert "data:image/svg+xml" in str(shown.metadata["picture/roc"].value)
    assert shown.metadata["ran"].value is True
    again = materialise(root, instance, "evaluate")
    assert again.success
    assert newest(instance, "evaluate").metadata["ran"].value is False
    forced = materialise(root, instance, "evaluate", tags={"dvc/force": "true"})
    assert forced.success
    assert newest(instance, "evaluate").metadata["ran"].value is True


def test_what_is_current_can_be_reported_anew(project: Copy, instance: dg.DagsterInstance) -> None:
    """So that a freshness policy hears of a schedule that looked and found nothing to do."""
    root, translator = project("templates"), DvcTranslator()
    dvc(root, "repro", "source", "shout@a")
    made = read_project(root)
    report_external(instance, made, translator)
    first = newest(instance, "shout", "a")
    assert [one.address for one in report_external(instance, made, translator, ["shout@a", "shout@b"])] == ["shout@a"]
    again = newest(instance, "shout", "a")
    assert again.tags == first.tags
    assert (first.description, again.description) == ("recorded by DVC", "found current by DVC")


def test_a_changed_parameter_runs_who_reads_it_and_moves_the_data_version(
    project: Copy, instance: dg.DagsterInstance
) -> None:
    root = project("monorepo")
    everything(root, instance)
    (root / "settings.json").write_text('{"depth": 4}')
    assert set(changed(root)) == {"features/dvc.yaml:build"}
    materialise(root, instance, "features/build")
    assert changed(root) == {}
    assert newest(instance, "features/build").metadata["ran"].value is True


def test_a_failed_stage_says_why_and_is_not_tried_again(project: Copy, instance: dg.DagsterInstance) -> None:
    root = project("templates")
    dvc(root, "repro", "source")
    (root / "a.txt").unlink()
    (root / "dvc.yaml").write_text((root / "dvc.yaml").read_text().replace("echo ${item}", "echo 'broken ```'"))
    assert materialise(root, instance, "source", "a").success
    failed = materialise(root, instance, "shout", "a")
    assert not failed.success
    (event,) = [event for event in failed.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert "shout: the text is broken" in str(failure.description)
    assert "shout: the text is broken" in str(failure.metadata["last lines"].value)


CAUSES = {
    "exit 3": "failed to reproduce 'a': the command exited with 3",
    "echo one; echo two; false": "failed to reproduce 'a': the command exited with 1 after the line: two",
    "echo one\nfalse": "failed to reproduce 'a': the command exited with 1 after the line: one",
    "true": "failed to reproduce 'a': output 'o' does not exist",
}


@pytest.mark.parametrize("command", CAUSES)
def test_the_cause_is_what_dvc_says(tmp_path: Path, command: str) -> None:
    root = make(tmp_path / "project", {"dvc.yaml": {"stages": {"a": {"cmd": command, "outs": ["o"]}}}})
    assert DvcTranslator().cause(dvc(root, "repro", "a", check=False).splitlines(), 255) == CAUSES[command]


def test_the_cause_of_a_bad_file_names_its_line(tmp_path: Path) -> None:
    root = make(tmp_path / "project", {"dvc.yaml": "stages:\n  a: {"})
    said = DvcTranslator().cause(dvc(root, "repro", "a", check=False).splitlines(), 255)
    assert said.startswith("'./dvc.yaml' is invalid. While parsing")
    assert "in line 3" in said
    assert (
        DvcTranslator().cause(["loading", "step 3", ""], 137)
        == "`dvc repro` ended with status 137 after the line: step 3"
    )


class Patient(DvcTranslator):
    """Tries again what says that its text is broken."""

    def retry_policy(self, stage: Stage) -> dg.RetryPolicy:
        return dg.RetryPolicy(max_retries=2, delay=0)

    def transient(self, lines: Sequence[str], status: int) -> bool:
        return any("the text is broken" in line for line in lines)


@pytest.mark.parametrize(("text", "tries"), [("broken", 3), ("missing", 1)])
def test_a_failure_that_may_pass_is_tried_again(
    project: Copy, instance: dg.DagsterInstance, text: str, tries: int
) -> None:
    """As often as the policy says, and the last failure still says why; others once."""
    root = project("templates")
    dvc(root, "repro", "source")
    if text == "broken":
        (root / "a.txt").write_text("broken")
        dvc(root, "commit", "--force", "source@a")
    else:
        (root / "a.txt").unlink()
    job = definitions(root, Patient()).resolve_implicit_global_asset_job_def()
    failed = job.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("shout")], partition_key="a", raise_on_error=False
    )
    assert not failed.success
    (event,) = [event for event in failed.all_events if event.is_step_failure]
    assert (text == "broken") == ("the text is broken" in failure_reason(event))
    started = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED}
    assert sum(event.event_type in started for event in failed.all_events) == tries


def test_a_lost_output_and_a_removed_stage_are_noticed(project: Copy, instance: dg.DagsterInstance) -> None:
    root = project("monorepo")
    everything(root, instance)
    (root / "features/table.txt").unlink()
    assert materialise(root, instance, "features/build").success
    assert (root / "features/table.txt").read_text() == "RAW\n"
    (root / "model/dvc.yaml").unlink()
    assert [stage.path for stage in read_project(root).stages] == [("data", "load"), ("features", "build")]
    assert report_external(instance, read_project(root), DvcTranslator()) == []


def test_a_lock_in_conflict_is_one_sentence_and_the_sensor_waits(project: Copy, instance: dg.DagsterInstance) -> None:
    root = project("monorepo")
    dvc(root, "repro", "--all-pipelines")
    made = read_project(root)
    lock = root / "data/dvc.lock"
    whole = lock.read_text()
    lock.write_text("<<<<<<< HEAD\n" + whole)
    sensor = build_sensor(made, DvcTranslator())
    waiting = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor="before"))
    assert waiting.cursor == "before"
    assert "data/dvc.lock is not a valid DVC file" in str(waiting.skip_message)
    lock.write_text(whole)
    told = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor="before"))
    assert "reported 4 external materialisations" in str(told.skip_message)
    idle = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=told.cursor))
    assert "nothing since" in str(idle.skip_message)


def test_what_is_fetched_is_reported_though_no_record_changed(project: Copy, instance: dg.DagsterInstance) -> None:
    root = project("monorepo")
    dvc(root, "repro", "--all-pipelines")
    (root / "data/raw.txt").rename(root / "away.txt")
    sensor = build_sensor(read_project(root), DvcTranslator())
    first = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
    assert "reported 3" in str(first.skip_message)
    (root / "away.txt").rename(root / "data/raw.txt")
    second = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=first.cursor))
    told = "reported 2 external materialisations: data/dvc.yaml:load, features/dvc.yaml:build"
    assert str(second.skip_message) == told  # what was made from it again, or it would look older
    assert stale(root, instance) == {}


RUN = """
import sys
import dagster as dg
from pathlib import Path
from tests.dagster_dvc.test_both_directions import materialise
with dg.DagsterInstance.from_config(sys.argv[2]) as instance:
    materialise(Path(sys.argv[1]), instance, "data/load" if len(sys.argv) < 4 else sys.argv[3])
"""


@pytest.mark.deep
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_ending_the_run_ends_dvc_and_the_next_one_goes_on(
    project: Copy, tmp_path: Path, instance: dg.DagsterInstance, ending: signal.Signals
) -> None:
    root = project("monorepo")
    dvc(root, "repro", "data/dvc.yaml:load")
    (tmp_path / "run.py").write_text(RUN)
    (tmp_path / "home/dagster.yaml").touch()
    command = [sys.executable, str(tmp_path / "run.py"), str(root), str(tmp_path / "home"), "features/build"]
    environment = {**os.environ, "SHAPE_SLEEP": "60", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120

    def stages() -> list[psutil.Process]:
        return [p for p in psutil.process_iter(["cmdline"]) if "shout.py" in " ".join(p.info["cmdline"] or [])
                and str(root) in (p.cwd() if p.is_running() else "")]  # fmt: skip

    while not stages() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert stages()
    process.send_signal(ending)
    process.wait(timeout=60)
    if ending == signal.SIGINT:  # whoever is killed cannot end anybody
        assert stages() == []
    for stage in stages():
        stage.kill()
    while any("dvc" in " ".join(p.info["cmdline"] or []) and p.cwd() == str(root)
              for p in psutil.process_iter(["cmdline"])):  # fmt: skip
        time.sleep(0.2)
        assert time.monotonic() < deadline
    assert materialise(root, instance, "features/build").success
    assert changed(root).keys() == {"model/dvc.yaml:fit@small", "model/dvc.yaml:fit@large"}


def test_tags_are_those_that_dagster_reads() -> None:
    assert reporting.DATA_VERSION_TAG == data_version.DATA_VERSION_TAG
    assert reporting.CODE_VERSION_TAG == data_version.CODE_VERSION_TAG
    assert reporting._USER_PROVIDED_TAG == data_version.DATA_VERSION_IS_USER_PROVIDED_TAG
    key = dg.AssetKey(["a", "b"])
    assert f"{reporting._INPUT_VERSION_TAG}/a/b" == data_version.get_input_data_version_tag(key)
    assert f"{reporting._INPUT_POINTER_TAG}/a/b" == data_version.get_input_event_pointer_tag(key)


@pytest.mark.parametrize("text", ["", "plain", "```\n# heading\n```", "a ```` b\n`````\n<b>", "~~~\n", "`" * 50])
def test_a_block_is_closed_by_its_own_fence_only(text: str) -> None:
    first, *lines, last = fenced(text.split("\n")).split("\n")
    assert first == last
    assert set(first) == {"`"}
    assert "\n".join(lines) == text
    assert first not in text
