"""Bringing a lineage up to date: what is launched, in which order, and what happens when it is interrupted."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from dagster_dvc import report_external, unreported
from dagster_project.launcher import launch_changed
from dagster_project.location import Location
from dagster_project.worker import materialise
from rlip_assets.dvc.lock import DvcLock
from rlip_assets.dvc.pending import Pending, critical_seconds
from rlip_assets.dvc.status import changed_items
from rlip_assets.dvc.up_to_date import LineageError, Task
from tests.support.toy_lineage import TARGET, recorded_versions, shown_version

pytestmark = pytest.mark.deep


def change(project: Path, section: str, name: str, value: object) -> None:
    path = project / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content[section][name] = value
    path.write_text(yaml.safe_dump(content))


def launched(location: Location) -> list[str]:
    return launch_changed(location, TARGET, print).addresses


def test_only_what_follows_from_a_change_is_launched(
    instance: DagsterInstance, location: Location, project: Path
) -> None:
    report_external(instance, location.project, location.translator)
    assert launched(location) == []
    assert instance.get_runs_count() == 0
    change(project, "training", "precision", "bf16")
    assert sorted(launched(location)) == ["model@more", "model@plain", "report"]
    assert changed_items(location.registry, location.root) == set()
    assert unreported(instance, location.project, location.translator) == []
    assert {run.status for run in instance.get_runs()} == {DagsterRunStatus.SUCCESS}


def test_an_equal_result_stops_there(instance: DagsterInstance, location: Location, project: Path) -> None:
    """A lost output is made again; it is what it was, so nothing that reads it runs."""
    report_external(instance, location.project, location.translator)
    shutil.rmtree(project / "data" / "table" / "a" / "bucket-0")
    assert launched(location) == ["table@a-0"]
    assert changed_items(location.registry, location.root) == set()


def test_a_changed_result_reaches_the_end_in_order(
    instance: DagsterInstance, location: Location, project: Path
) -> None:
    report_external(instance, location.project, location.translator)
    change(project, "training", "seed", 7)
    done = launched(location)
    assert {"table@a-0", "table@a-1", "table@b-0"} < set(done)
    for bucket in ("a-0", "a-1"):
        assert done.index(f"table@{bucket}") < done.index(f"labels@{bucket}") < done.index("model@more")
    assert "world" not in done
    assert done[-1] == "report"
    assert changed_items(location.registry, location.root) == set()


def test_a_lock_of_another_machine_is_rewritten(
    instance: DagsterInstance, location: Location, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh clone brings `dvc.lock` and neither outputs nor a cache; here one table of the reference run was another."""
    for folder in ("data", "reports", "provenance", ".dvc/cache"):
        shutil.rmtree(project / folder)
    lock = DvcLock.read(project)
    entry = lock.get("table@a-0")
    assert entry is not None
    text = (project / "dvc.lock").read_text()
    (project / "dvc.lock").write_text(text.replace(entry.outs["data/table/a/bucket-0"], "0" * 32 + ".dir"))
    assert report_external(instance, location.project, location.translator) == []
    summary = launch_changed(location, TARGET, print)
    assert sorted(summary.addresses) == sorted(location.registry.order)
    assert summary.changed_results == ["table@a-0"]
    assert "9 of 9 items differ from dvc.lock (9 are not in the tree)" in capsys.readouterr().out
    assert changed_items(location.registry, location.root) == set()
    assert DvcLock.read(project).entries == lock.entries
    assert unreported(instance, location.project, location.translator) == []


def test_a_failure_stops_the_lineage_with_one_sentence(
    instance: DagsterInstance, location: Location, project: Path
) -> None:
    (project / "data" / "table" / "a" / "bucket-0" / "rows.txt").unlink()
    change(project, "tagging", "batch_size", 3)
    (project / "dvc.yaml").write_text((project / "dvc.yaml").read_text().replace("stage table", "stage tables"))
    with pytest.raises(
        LineageError,
        match=r"table@(a-0|a-1|b-0).* failed: .*no stage 'tables'.*all it printed is in work/lines/workers.log",
    ):
        launched(location)


def test_cheap_items_of_a_stage_go_in_one_run_and_leave_no_slot_empty(location: Location) -> None:
    lines = [[item.address for item in location.registry.spec(stage).items] for stage in location.registry.specs]
    everything = set(location.registry.order)
    pending = Pending(location.registry, location.root, everything, lambda a: next(line for line in lines if a in line))
    assert pending.take(2) == ("world",)
    assert pending.take(1) == ()
    pending.done(["world"])
    first, second = pending.take(2), pending.take(1)
    assert {*first, *second} == {"table@a-0", "table@a-1", "table@b-0"}
    assert len(first) == 2
    assert all(
        list(batch) in ([*line[:2]], [*line[1:]], [line[2]], [line[0]])
        for batch in (first, second)
        for line in lines[1:2]
    )
    pending.done([*first, *second])
    assert pending.take(1) == ("labels@a-0", "labels@a-1")
    assert pending.take(1) == ("model@plain",)  # of a network: alone
    pending.done(["labels@a-0", "labels@a-1", "model@plain"])
    assert pending.take(1) == ("model@more",)
    pending.done(["model@more"])
    assert (pending.take(2), bool(pending)) == (("report",), False)


def test_the_longest_chain_goes_first(location: Location) -> None:
    seconds = critical_seconds(location.registry, location.root)
    assert seconds["world"] == max(seconds.values())
    assert seconds["report"] == min(seconds.values())


def test_a_current_stage_is_reported_as_such(instance: DagsterInstance, location: Location, tmp_path: Path) -> None:
    report_external(instance, location.project, location.translator)
    outcome = materialise(instance, location, Task(("world",), tmp_path / "lines"))
    assert outcome.error is None
    record = instance.get_latest_data_version_record(location.key("world"), is_source=False)
    assert record is not None
    assert record.event_log_entry.asset_materialization is not None
    assert record.event_log_entry.asset_materialization.metadata["ran"].value is False
    assert not [entry.message for entry in instance.all_logs(outcome.run_id) if int(entry.level) >= logging.WARNING]


def test_one_run_makes_several_buckets_and_each_keeps_its_own_version(
    instance: DagsterInstance, location: Location, project: Path
) -> None:
    """A backfill of few runs: one DVC process for all buckets of a run."""
    report_external(instance, location.project, location.translator)
    change(project, "tagging", "batch_size", 3)
    result = location.job.execute_in_process(
        instance=instance,
        asset_selection=[location.key("labels")],
        tags={ASSET_PARTITION_RANGE_START_TAG: "a-0", ASSET_PARTITION_RANGE_END_TAG: "a-1"},
    )
    assert result.success
    assert not {"labels@a-0", "labels@a-1"} & changed_items(location.registry, location.root)
    versions = recorded_versions(location)
    for item in location.registry.spec("labels").items:
        assert shown_version(instance, location, item.address) == versions[item.address]
    assert unreported(instance, location.project, location.translator) == []


def stage_processes(project: Path) -> list[psutil.Process]:
    """Processes of stages and of DVC that work in `project`."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = " ".join(process.info["cmdline"] or [])
        if process.info["cwd"] == str(project) and ("toy_stages" in words or "dvc" in words):
            found.append(process)
    return found


def start_run(project: Path, seconds: int = 0) -> subprocess.Popen[bytes]:
    """A Dagster run of `labels@a-0` in a process of its own; its stage sleeps some seconds. It ends with 0 where it succeeds."""
    code = (
        "from pathlib import Path; from dagster import DagsterInstance; from tests.support.toy_lineage import toy_location;"
        "from dagster_project.worker import materialise; from rlip_assets.dvc.up_to_date import Task;"
        "o = materialise(DagsterInstance.get(), toy_location(), Task(('labels@a-0',), Path('lines'), force=True)); print(o);"
        "raise SystemExit(o.error is not None)"
    )
    variables = {**os.environ, "TOY_SLEEP": str(seconds)}
    return subprocess.Popen([sys.executable, "-c", code], env=variables, cwd=project.parent)


def start_long_stage(project: Path) -> subprocess.Popen[bytes]:
    """Such a run once its stage is at work, where it stays for ten minutes."""
    process = start_run(project, 600)
    deadline = time.monotonic() + 120
    while not any("toy_stages" in " ".join(p.cmdline()) for p in stage_processes(project)):
        assert time.monotonic() < deadline, "the stage did not start"
        time.sleep(0.2)
    time.sleep(2)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ending_a_run_ends_dvc_and_the_stage(
    number: signal.Signals,
    instance: DagsterInstance,
    location: Location,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report_external(instance, location.project, location.translator)
    process = start_long_stage(project)
    process.send_signal(number)
    process.wait(timeout=60)
    deadline = time.monotonic() + 30
    while stage_processes(project):
        assert time.monotonic() < deadline, f"left running: {[p.cmdline() for p in stage_processes(project)]}"
        time.sleep(0.2)
    assert not (project / "data" / "labels" / "a" / "bucket-0").exists()
    monkeypatch.setenv("TOY_SLEEP", "0")
    outcome = materialise(instance, location, Task(("labels@a-0",), project.parent / "lines"))
    assert outcome.error is None
    assert (project / "data" / "labels" / "a" / "bucket-0" / "labels.txt").exists()


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def kill_all(process: subprocess.Popen[bytes], project: Path) -> None:
    """SIGKILL to a worker, the DVC process that it started, and the stage under that, in this order and at once."""
    ours = psutil.Process(process.pid)
    for one in [ours, *ours.children(recursive=True), *stage_processes(project)]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait(timeout=60)


def test_runs_killed_with_all_their_processes_leave_no_trace(
    instance: DagsterInstance, location: Location, project: Path
) -> None:
    """More of them than the pool of their asset has places: the next run starts at once and makes what they would have made."""
    report_external(instance, location.project, location.translator)
    before = content(project / "data/labels")
    limit = instance.event_log_storage.get_pool_config().default_pool_limit
    assert limit == 2
    for number in range(limit + 1):
        process = start_long_stage(project)
        time.sleep(random.Random(number).uniform(0, 2))
        kill_all(process, project)
        assert not stage_processes(project)
    assert not (project / "data/labels/a/bucket-0").exists()
    process = start_run(project)
    assert process.wait(timeout=120) == 0
    assert content(project / "data/labels") == before
    assert not instance.event_log_storage.get_concurrency_run_ids()
    statuses = Counter(run.status for run in instance.get_runs())
    assert statuses == {DagsterRunStatus.FAILURE: limit + 1, DagsterRunStatus.SUCCESS: 1}


def test_a_busy_path_is_waited_for(instance: DagsterInstance, location: Location, project: Path) -> None:
    """Another `dvc repro` holds the path; the run waits until it is free."""
    other = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "labels@a-0"],
        cwd=project,
        env={**os.environ, "TOY_SLEEP": "8"},
    )
    while not any("toy_stages" in " ".join(p.cmdline()) for p in stage_processes(project)):
        time.sleep(0.1)
    outcome = materialise(instance, location, Task(("labels@a-0",), project.parent / "lines"))
    assert other.wait(timeout=60) == 0
    assert outcome.error is None
