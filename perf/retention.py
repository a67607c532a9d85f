"""A simulated year of Dagster and MLflow, without and with retention: ticks of a sensor, weekly re-taggings of a few buckets and trainings.

    python -m perf.retention [--buckets 4] [--json out.json]

Runs and ticks are written by Dagster, tracked runs by the sender of journals, all dated back; prints the size of runs, events, ticks and
artifacts, each SQLite file without its free pages. Nearly all ticks of a sensor that looks every 30 s do nothing. A tracked run of a
bucket has its environment and three pictures, a training 1,000 points of 8 metrics and a registered model.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from unittest.mock import patch

import dagster as dg
import typer
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from dagster_project.retention import delete_old_runs
from perf.command import JsonFile, run_command, write_figures
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.micro_world.render import render
from rlip_assets.micro_world.starting_weights.caption_quality import held_out_pictures
from rlip_assets.storage.files import write_text
from rlip_assets.tracking.address import STORE_VARIABLE
from rlip_assets.tracking.comparisons import PARTITION
from rlip_assets.tracking.journal import Journal
from rlip_assets.tracking.retention import sweep
from rlip_assets.tracking.sender import Sender, send_waiting

_STAGES = ("captions", "caption_triplets", "candidates", "decontamination", "pseudo_labels")
_DAY, _WEEKS, _TICK_SECONDS = 86400, 52, 30
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
_DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db", "mlruns/mlflow.db")
_PROFILE = "simulated"
_SETTINGS = Path(__file__).parents[1] / "dagster_home/dagster.yaml"


def main(
    buckets: Annotated[int, typer.Option(min=1, help="Buckets that are tagged again each week.")] = 4,
    json: JsonFile = None,
) -> None:
    """Write the year, print its sizes, apply the retention and print them again."""
    days = ExecutionParams().keep_days or 0.0
    with TemporaryDirectory() as folder:
        home = Path(folder)
        shutil.copy(_SETTINGS, home)
        with dg.DagsterInstance.from_config(folder) as instance:
            _tag_again(instance, home, buckets)
            _tick(instance, home)
            _track(home, buckets)
            figures = {"without": _sizes(instance, home)}
            began = time.monotonic()
            deleted = sum(1 for _ in delete_old_runs(instance, days))
            print(f"{deleted} runs of Dagster deleted in {time.monotonic() - began:.1f} s")
            _purge_ticks(instance)
            began = time.monotonic()
            print(f"{sweep(home / _PROFILE, days, home)}, in {time.monotonic() - began:.1f} s")
            figures["with"] = _sizes(instance, home)
    for name, sizes in figures.items():
        print(f"{name} retention: " + ", ".join(f"{what} {value:,.1f}" for what, value in sizes.items()))
    write_figures(json, figures)


def _tag_again(instance: dg.DagsterInstance, home: Path, buckets: int) -> None:
    """Run every bucket's chain once a week."""
    keys = [f"bucket_{number}" for number in range(buckets)]
    chain = [_asset(name, before, keys) for name, before in zip(_STAGES, (None, *_STAGES), strict=False)]
    dated = []
    for week in range(_WEEKS):
        for key in keys:
            result = dg.materialize(chain, instance=instance, partition_key=key, run_config=_QUIET)
            dated.append((time.time() - (_WEEKS - week) * 7 * _DAY, result.run_id))
    with sqlite3.connect(home / "history/runs.db") as database:
        database.executemany(
            "UPDATE runs SET create_timestamp = datetime(?1, 'unixepoch'), update_timestamp = datetime(?1, 'unixepoch') WHERE run_id = ?2",
            dated,
        )


def _asset(name: str, before: str | None, keys: list[str]) -> dg.AssetsDefinition:
    @dg.asset(name=name, deps=[before] if before else [], partitions_def=dg.StaticPartitionsDefinition(keys))
    def body() -> None:
        print(name)

    return body


def _track(home: Path, buckets: int) -> None:
    """Report every week the captions and labels of every bucket, and a training."""
    os.environ.pop(STORE_VARIABLE, None)
    root, sender = home / _PROFILE, Sender(home)
    root.mkdir()
    picture = render(next(held_out_pictures(1, 1)))
    for week in range(_WEEKS):
        with patch("time.time", return_value=time.time() - (_WEEKS - week) * 7 * _DAY):
            for bucket in range(buckets):
                for stage in ("captions", "pseudo_labels"):
                    journal = _report(root, stage, f"bucket_{bucket}", {f"changes/{n}": 1.0 for n in range(20)}, 1)
                    for number in range(3):
                        picture.save(file := journal.attach(f"{number}.png", "pictures"))
                        journal.add_file(file)
                    journal.end("FINISHED")
            journal = _report(root, "finetune", "hico_full", {f"loss/{n}": 1.0 for n in range(8)}, 1000)
            model = {"name": f"{_PROFILE}-finetune-hico_full", "item": "finetune@hico_full", "description": ""}
            place = {"root": str(root), "profile": _PROFILE, "folder": "data/model", "files": {"weights": "0" * 32}}
            journal.add("model", **model, **place)
            journal.end("FINISHED")
        for sentence in send_waiting(root, sender, redirect=True):
            assert "is sent" in sentence, sentence


def _report(root: Path, stage: str, partition: str, metrics: dict[str, float], steps: int) -> Journal:
    item = f"{stage}@{partition}"
    tags = {"profile": _PROFILE, "stage": stage, PARTITION: partition, "dvc.scenes": "0" * 32}
    content = {
        "experiment": stage,
        "name": item,
        "profile": _PROFILE,
        "grouped": steps > 1,
        "busy": False,
        "tags": tags,
    }
    journal = Journal.create(root, item, content)
    journal.add("params", values={f"training.{n}": "1" for n in range(40)})
    journal.add("dataset", name="scenes", digest=journal.key[:19], uri="file:///data/scenes")
    for step in range(steps):
        journal.add("metrics", values=metrics, step=step)
    write_text(file := journal.attach("packages.txt", "environment"), "package==1.0\n" * 300)
    journal.add_file(file)
    return journal


def _tick(instance: dg.DagsterInstance, home: Path) -> None:
    """Write one tick, and copy it to every time of the year at which the sensor looks."""
    tick = TickData(
        "origin",
        "new_images",
        InstigatorType.SENSOR,
        TickStatus.SKIPPED,
        time.time(),
        selector_id="selector",
        skip_reason="no raw folder, manifest or scene table of a detection dataset has changed",
    )
    instance.create_tick(tick)
    with sqlite3.connect(home / "schedules/schedules.db") as database:
        columns = [
            row[1] for row in database.execute("PRAGMA table_info(job_ticks)") if row[1] not in ("id", "timestamp")
        ]
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            f"INSERT INTO job_ticks (timestamp, {', '.join(columns)}) "
            f"SELECT datetime(timestamp, '-' || (i * ?) || ' seconds'), {', '.join(columns)} FROM n, job_ticks",
            (365 * _DAY // _TICK_SECONDS, _TICK_SECONDS),
        )


def _purge_ticks(instance: dg.DagsterInstance) -> None:
    """Do what Dagster's daemon does at each tick of a sensor."""
    for status, days in instance.get_tick_retention_settings(InstigatorType.SENSOR).items():
        if days > 0:
            instance.purge_ticks("origin", "selector", time.time() - days * _DAY, [status])


def _sizes(instance: dg.DagsterInstance, home: Path) -> dict[str, float]:
    """Return counts, and sizes in MB."""
    for file in (home / name for name in _DATABASES):
        database = sqlite3.connect(file)
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
    with sqlite3.connect(home / "schedules/schedules.db") as database:
        ticks = database.execute("SELECT count(*) FROM job_ticks").fetchone()[0]
    with sqlite3.connect(home / _DATABASES[-1]) as database:
        tracked = float(database.execute("SELECT count(*) FROM runs").fetchone()[0])
    return {
        "runs": float(instance.get_runs_count()),
        "MB of runs and events": _megabytes(home / "history"),
        "MB of logs": _megabytes(home / "storage"),
        "ticks": float(ticks),
        "MB of ticks": _megabytes(home / "schedules"),
        "tracked runs": tracked,
        "MB of their database": (home / _DATABASES[-1]).stat().st_size / 1e6,
        "MB of artifacts": _megabytes(home / "mlruns/artifacts"),
    }


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


if __name__ == "__main__":
    run_command(main)
