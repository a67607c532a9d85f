"""Re-tagging as it runs in operation: the daemon, its sensors, schedule, queue and backfills on a miniature lineage."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import AssetKey, DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import PARTITION_NAME_TAG, SCHEDULED_EXECUTION_TIME_TAG
from mlflow.tracking import MlflowClient

from rlip_assets.datasets.scenes import bucket_of, read_scenes
from rlip_assets.dvc.lock import DvcLock
from rlip_assets.dvc.pipeline import render_dvc_yaml
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.lineage.provenance import read_provenance
from rlip_assets.lineage.registry import build_registry
from rlip_assets.lineage.shards import shard_count
from rlip_assets.lineage.spec import Registry
from tests.support.killed import preload, run_whole
from tests.support.miniature import make_project

pytestmark = pytest.mark.deep

MODULE = "dagster_project.definitions"
HEAVY = ("rlip_assets.lineage.runner", "rlip_assets.training.stage", "rlip_assets.labelling.captions.captioner")
CHAIN = ("captions", "caption_triplets", "candidates", "pseudo_labels")
BUCKETS = ("coco-0", "coco-1", "objects365-0")
LABELS = [f"pseudo_labels@{bucket}" for bucket in BUCKETS]
AT_ONCE = 2
"""`max_concurrent_runs` of `dagster_home/dagster.yaml`."""
SOONER = (
    (
        "automation",
        "renew_scenes, retag], minimum_interval_seconds=30",
        "renew_scenes, retag], minimum_interval_seconds=3",
    ),
    ("automation", 'cron_schedule="0 3 * * 1"', 'cron_schedule="* * * * *"'),
    ("retention", "minimum_interval_seconds=3600", "minimum_interval_seconds=5"),
)
"""Waits that are too long for a test: the seconds between two ticks, and Monday."""
ASSET_BACKFILL = """
mutation ($assets: [AssetKeyInput!], $partitions: [String!]) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, partitionNames: $partitions}) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@dataclass(frozen=True)
class Site:
    """A project in a folder of its own whose daemon is running."""

    root: Path
    registry: Registry
    instance: DagsterInstance
    variables: dict[str, str]
    daemon: subprocess.Popen[bytes]
    log: Path

    def command(self, *words: str) -> str:
        """Output of a program beside this Python, run to its end in the project."""
        program = Path(sys.executable).with_name(words[0])
        done = subprocess.run([program, *words[1:]], cwd=self.root, env=self.variables, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout

    def runs_of(
        self, work: Callable[[], object], count: int, then: Callable[[], object] | None = None
    ) -> list[RunRecord]:
        """The runs that follow from `work`, once there are `count` and all have succeeded; `then` is called as soon as there are."""
        known = {record.dagster_run.run_id for record in self.instance.get_run_records()}
        work()
        deadline = time.monotonic() + 1200
        while True:
            records = [r for r in self.instance.get_run_records() if r.dagster_run.run_id not in known]
            statuses = Counter(record.dagster_run.status for record in records)
            assert not statuses[DagsterRunStatus.FAILURE], f"a run failed; see {self.log}"
            if len(records) >= count and then is not None:
                then()
                then = None
            if len(records) >= count and set(statuses) == {DagsterRunStatus.SUCCESS}:
                return records
            assert self.daemon.poll() is None, f"the daemon ended; see {self.log}"
            assert time.monotonic() < deadline, f"{dict(statuses)} after twenty minutes; see {self.log}"
            time.sleep(1)

    def made(self, records: list[RunRecord]) -> Counter[tuple[str, bool]]:
        """Return what runs of one partition have materialised: address of the item, and whether its stage ran."""
        found = Counter[tuple[str, bool]]()
        for record in records:
            logs = self.instance.all_logs(record.dagster_run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
            for event in (entry.asset_materialization for entry in logs):
                assert event is not None
                found[f"{event.asset_key.path[-1]}@{event.partition}", bool(event.metadata["ran"].value)] += 1
        return found

    def shards(self) -> dict[str, int]:
        """Every finished shard of the factory, and when it was made."""
        store = self.root / "work"
        return {
            str(file.parent.relative_to(store)): file.stat().st_mtime_ns
            for stage in CHAIN
            for file in (store / stage / "shards").rglob("shard.json")
        }

    def state(self) -> dict[str, str]:
        """Check what every run of a stage leaves: the lock, and who made what when."""
        files = [self.root / "dvc.lock", *(self.root / "provenance").iterdir()]
        return {file.name: file.read_text() for file in files}

    def changes(self, bucket: str) -> dict[str, float]:
        """Return what the MLflow run of a bucket's labels says of its difference to the last ones."""
        run = read_provenance(self.root, self.registry.item("pseudo_labels", bucket))["mlflow_run"]
        metrics = MlflowClient(f"sqlite:///{self.root}/mlruns/mlflow.db").get_run(run).data.metrics
        return {name.removeprefix("changes/"): value for name, value in metrics.items() if name.startswith("changes/")}


def most_at_once(records: list[RunRecord]) -> int:
    """Return how many of some runs were under way at the same time."""
    moments = []
    for record in records:
        assert record.start_time is not None
        assert record.end_time is not None
        moments += [(record.start_time, 1), (record.end_time, -1)]
    under_way = most = 0
    for _, step in sorted(moments):
        under_way += step
        most = max(most, under_way)
    return most


def copy_program(root: Path) -> None:
    """The packages and settings of the project, with an automation that does not keep a test waiting."""
    for package in ("rlip_assets", "rlip_model", "dagster_project"):
        shutil.copytree(PROJECT_ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".dvcignore"):
        shutil.copyfile(PROJECT_ROOT / name, root / name)
    (root / "home").mkdir()
    shutil.copyfile(PROJECT_ROOT / "dagster_home/dagster.yaml", root / "home/dagster.yaml")
    for name, usual, sooner in SOONER:
        module = root / f"dagster_project/defs/{name}.py"
        text = module.read_text()
        assert usual in text
        module.write_text(text.replace(usual, sooner))


def change(root: Path, section: str, name: str, value: object) -> None:
    """Another value of one parameter."""
    content = yaml.safe_load((root / "params.yaml").read_text())
    content[section][name] = value
    (root / "params.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The labels of all buckets are made and known to DVC; the daemon is at work, no sensor and no schedule is on."""
    root = tmp_path_factory.mktemp("site") / "project"
    root.mkdir()
    copy_program(root)
    preload(*HEAVY)
    make_project(root)
    change(root, "execution", "buckets_per_run", 2)
    change(root, "sources", "objects365", {"root": "data/raw/objects365", "buckets": 1})
    registry = build_registry(load_params(root / "params.yaml"))
    (root / "dvc.yaml").write_text(render_dvc_yaml(registry))
    needed = set(LABELS)
    while above := {parent for address in needed for parent in registry.parents[address]} - needed:
        needed |= above
    order = [address for address in registry.order if address in needed]
    for address in order:
        run_whole(root, address)
    variables = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | {
        "PYTHONPATH": str(root),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DAGSTER_HOME": str(root / "home"),
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
    }
    for words in (["init", "--no-scm", "--quiet"], ["commit", "--quiet", "--force", *order]):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, env=variables, check=True)
    log = root / "daemon.log"
    with DagsterInstance.from_config(str(root / "home")) as instance, running_daemon(root, variables, log) as daemon:
        yield Site(root, registry, instance, variables, daemon, log)


@contextmanager
def running_daemon(root: Path, variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon of the project at `root`, which ends with the block."""
    with log.open("ab") as stream:
        daemon = subprocess.Popen(
            [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-m", MODULE],
            cwd=root,
            env=variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield daemon
    finally:
        end_daemon(daemon)


def end_daemon(daemon: subprocess.Popen[bytes]) -> None:
    """End a daemon, and servers and runs that it leaves behind."""
    daemon.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        daemon.wait(timeout=30)
    with suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)


def add_image(root: Path, bucket: int) -> str:
    """A copy of an image of COCO under a new name, with its boxes, that falls into `bucket`; returns its id."""
    raw = root / "data/raw/coco"
    listing = raw / "annotations/instances_train2017.json"
    content = json.loads(listing.read_text())
    labelled = {
        scene.image_id for scene in read_scenes(root / f"data/pseudo_labels/coco/bucket-{bucket}") if scene.relation
    }
    image = next(image for image in content["images"] if str(image["id"]) in labelled)
    new = next(n for n in range(900_000, 1_000_000) if bucket_of(str(n), 2) == bucket)
    copy = {**image, "id": new, "file_name": f"{new:012d}.jpg"}
    shutil.copyfile(raw / "train2017" / image["file_name"], raw / "train2017" / copy["file_name"])
    boxes = [box for box in content["annotations"] if box["image_id"] == image["id"]]
    content["images"].append(copy)
    content["annotations"] += [{**box, "id": 9_000_000 + n, "image_id": new} for n, box in enumerate(boxes)]
    listing.write_text(json.dumps(content))
    return str(new)


def roomy_bucket(root: Path) -> int:
    """A bucket of COCO that has as many shards with one image more."""
    for bucket in range(2):
        images = sum(1 for _ in read_scenes(root / f"data/scenes/coco/bucket-{bucket}"))
        if shard_count(images, 4) == shard_count(images + 1, 4):
            return bucket
    raise AssertionError("both buckets are full")


def test_a_new_image_reaches_the_labels_of_its_bucket_alone(site: Site) -> None:
    """The sensor: manifest, then scene table, then labels; one new shard a stage, the rest found; MLflow says what changed."""
    lock, shards = DvcLock.read(site.root), site.shards()
    bucket = roomy_bucket(site.root)
    site.command("dagster", "sensor", "start", "new_images", "-m", MODULE)
    added = ""

    def work() -> None:
        nonlocal added
        added = add_image(site.root, bucket)

    records = site.runs_of(work, 3)
    site.command("dagster", "sensor", "stop", "new_images", "-m", MODULE)
    key = f"coco-{bucket}"
    started = [(record.dagster_run.job_name, record.dagster_run.tags[PARTITION_NAME_TAG]) for record in records]
    assert sorted(started) == [("renew_manifest", "coco"), ("renew_scenes", key), ("retag", key)]
    touched = {"raw_manifest@coco", *(f"{stage}@{key}" for stage in ("scenes", *CHAIN))}
    assert site.made(records) == dict.fromkeys([(address, True) for address in touched], 1)
    now = DvcLock.read(site.root)
    assert {address for address, entry in now.entries.items() if entry != lock.get(address)} == touched
    after = site.shards()
    assert Counter(name.split("/")[0] for name, _ in after.items() - shards.items()) == dict.fromkeys(CHAIN, 1)
    rows = {scene.image_id: scene for scene in read_scenes(site.root / f"data/pseudo_labels/coco/bucket-{bucket}")}
    changes = site.changes(key)
    assert len(rows[added].relation) > 0
    assert (changes["new_images"], changes["added"]) == (1, len(rows[added].relation))
    assert (changes["removed"], changes["moved"], changes["lost_images"]) == (0, 0, 0)


def test_the_schedule_takes_what_is_out_of_date_and_computes_no_shard_again(site: Site) -> None:
    """Another threshold: the labels of all buckets follow, from the scores that are there, two buckets at a time."""
    shards = site.shards()
    tables = [site.root / site.registry.item("pseudo_labels", bucket).outputs["pseudo_labels"] for bucket in BUCKETS]
    confidences = [float(value) for table in tables for scene in read_scenes(table) for value in scene.confidence]
    change(site.root, "tagging", "store_threshold", statistics.median(confidences))
    records = site.runs_of(
        lambda: site.command("dagster", "schedule", "start", "weekly_retag", "-m", MODULE),
        len(BUCKETS),
        then=lambda: site.command("dagster", "schedule", "stop", "weekly_retag", "-m", MODULE),
    )
    ticks = {record.dagster_run.tags[SCHEDULED_EXECUTION_TIME_TAG] for record in records}
    first = [r.dagster_run for r in records if r.dagster_run.tags[SCHEDULED_EXECUTION_TIME_TAG] == min(ticks)]
    assert sorted(run.tags[PARTITION_NAME_TAG] for run in first) == list(BUCKETS)
    assert most_at_once(records) == AT_ONCE
    made = site.made(records)  # of a second tick too, where a minute was too short to stop the schedule
    assert {address: times for (address, ran), times in made.items() if ran} == dict.fromkeys(LABELS, 1)
    assert site.shards() == shards
    changes = [site.changes(bucket) for bucket in BUCKETS]
    assert sum(one["removed"] for one in changes) > 0
    assert sum(one["added"] + one["moved"] for one in changes) == 0


def test_a_backfill_of_all_buckets_is_bounded_and_does_nothing_twice(site: Site) -> None:
    """A run a bucket, by the command; what is current is reported and not run."""
    state = site.state()
    records = site.runs_of(
        lambda: site.command("dagster", "job", "backfill", "-m", MODULE, "-j", "retag", "--all", "all", "--noprompt"),
        len(BUCKETS),
    )
    assert sorted(record.dagster_run.tags[PARTITION_NAME_TAG] for record in records) == list(BUCKETS)
    assert most_at_once(records) == AT_ONCE
    items = [f"{stage}@{bucket}" for stage in CHAIN for bucket in BUCKETS]
    assert site.made(records) == dict.fromkeys([(address, False) for address in items], 1)
    assert site.state() == state


def test_a_backfill_of_assets_puts_several_buckets_into_a_run(site: Site) -> None:
    """As the UI starts it: `execution.buckets_per_run` buckets of the whole chain in one run."""
    state = site.state()
    values: dict[str, Any] = {
        "assets": [{"path": ["micro", stage]} for stage in CHAIN],
        "partitions": list(BUCKETS),
    }

    def work() -> None:
        answer = site.command("dagster-graphql", "-m", MODULE, "-t", ASSET_BACKFILL, "-v", json.dumps(values))
        assert "LaunchBackfillSuccess" in answer, answer

    records = site.runs_of(work, 2)
    assert most_at_once(records) <= AT_ONCE
    sizes = []
    for record in records:
        assert record.dagster_run.asset_selection == {AssetKey(["micro", stage]) for stage in CHAIN}
        logs = site.instance.all_logs(record.dagster_run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
        events = [entry.asset_materialization for entry in logs]
        made = {(event.asset_key, event.partition) for event in events if event is not None}
        buckets = {bucket for _, bucket in made}
        assert made == {(AssetKey(["micro", stage]), bucket) for stage in CHAIN for bucket in buckets}
        assert len(events) == len(made) * min(len(buckets), 2)  # Dagster's, which several share, and each one's own
        sizes.append(len(buckets))
    assert sorted(sizes) == [1, 2]
    assert site.state() == state


def test_a_daemon_deletes_what_later_runs_have_superseded(site: Site) -> None:
    """The sensor `retention` is on by itself; it knows `execution.keep_days` of the daemon's start."""
    last: dict[tuple[AssetKey, str | None], str] = {}
    for key in site.instance.get_asset_keys():
        for record in site.instance.fetch_materializations(key, limit=1000).records:
            last.setdefault((key, record.partition_key), record.run_id)
    runs, state = {run.run_id for run in site.instance.get_runs()}, site.state()
    needed = runs & {*last.values()}
    assert needed < runs
    end_daemon(site.daemon)
    change(site.root, "execution", "keep_days", 1e-9)
    with running_daemon(site.root, site.variables, site.log) as daemon:
        deadline = time.monotonic() + 300
        while {run.run_id for run in site.instance.get_runs()} != needed:
            assert daemon.poll() is None, f"the daemon ended; see {site.log}"
            assert time.monotonic() < deadline, f"nothing is deleted; see {site.log}"
            time.sleep(1)
    gone = runs - needed
    assert not [path for path in (site.root / "home").rglob("*") if gone & {path.name, path.stem}]
    assert site.state() == state
