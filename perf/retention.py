"""A simulated year of a Dagster instance, without and with retention: a sensor's ticks and weekly re-taggings of a few buckets.

    python -m perf.retention [--buckets 4] [--json out.json]

Runs and ticks are written by Dagster and dated back; prints the size of runs, events and ticks, each SQLite file without its free pages.
Nearly all ticks of a sensor that looks every 30 s do nothing.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import dagster as dg
import typer
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from dagster_project.retention import delete_old_runs
from perf.command import JsonFile, run_command, write_figures
from rlip_assets.lineage.params.execution import ExecutionParams

_STAGES = ("captions", "caption_triplets", "candidates", "decontamination", "pseudo_labels")
_DAY, _WEEKS, _TICK_SECONDS = 86400, 52, 30
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
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
            figures = {"without": _sizes(instance, home)}
            began = time.monotonic()
            deleted = sum(1 for _ in delete_old_runs(instance, days))
            print(f"{deleted} runs deleted in {time.monotonic() - began:.1f} s")
            _purge_ticks(instance)
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
    for file in (home / "history/runs.db", home / "history/runs/index.db", home / "schedules/schedules.db"):
        database = sqlite3.connect(file)
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
    with sqlite3.connect(home / "schedules/schedules.db") as database:
        ticks = database.execute("SELECT count(*) FROM job_ticks").fetchone()[0]
    return {
        "runs": float(instance.get_runs_count()),
        "MB of runs and events": _megabytes(home / "history"),
        "MB of logs": _megabytes(home / "storage"),
        "ticks": float(ticks),
        "MB of ticks": _megabytes(home / "schedules"),
    }


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


if __name__ == "__main__":
    run_command(main)
