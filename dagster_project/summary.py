"""Summary that `rlip demo` prints at the end."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path

from dagster_dvc import Item
from dagster_dvc.lock import LockEntry
from dagster_project.lineage import Launched, Summary
from dagster_project.location import Location
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, profile_name

DETAILS_HEADING = "## Where errors come from"
"""Heading in the report at which details begin."""


def print_summary(location: Location, summary: Summary, unreported: list[tuple[Item, LockEntry]]) -> None:
    """Print seconds by stage, the results table and next commands."""
    if summary.launched:
        print()
        print("\n".join(seconds_table(summary.launched)))
    report = location.root / "reports" / "benchmark.md"
    if report.exists():
        results, heading, _ = report.read_text().partition(DETAILS_HEADING)
        print(f"\n{results.rstrip()}")
        if heading:
            print(
                f"\nErrors by cause, classes and published figures: {report}; pictures: {report.with_suffix('.html')}"
            )
    known = (
        "all are in Dagster" if not unreported else f"{len(unreported)} are not in Dagster yet: run `rlip sync-dagster`"
    )
    print(f"\n{len(summary.launched)} launched, {summary.current} were current, in {summary.seconds:.0f} s; {known}.")
    if summary.changed_results:
        print(
            f"dvc.lock is rewritten: {len(summary.changed_results)} items differ from the recorded results of the same inputs "
            f"({summary.changed_results[0]} first). Float results differ between processors."
        )
    print(f"\nLook further:\n{look_further(profile_name(location.root))}")


def seconds_table(launched: list[Launched]) -> list[str]:
    """Return seconds of start-up, work and orchestration by stage, as lines."""
    rows: dict[str, list[Launched]] = defaultdict(list)
    for one in launched:
        rows[one.address.partition("@")[0]].append(one)
    lines = [f"{'stage':20s} {'items':>5s} {'start-up s':>10s} {'work s':>8s} {'orchestration s':>15s}"]
    for stage, items in [*rows.items(), ("all", launched)]:
        startup, work, overhead = (
            sum(values) for values in zip(*((i.startup, i.work, i.overhead) for i in items), strict=True)
        )
        lines.append(f"{stage:20s} {len(items):5d} {startup:10.1f} {work:8.1f} {overhead:15.1f}")
    return lines


def look_further(profile: str) -> str:
    """Return the next commands to try, as lines."""
    option = "" if profile == DEFAULT_PROFILE else f" --profile {profile}"
    folder = "" if profile == DEFAULT_PROFILE else f"cd profiles/{profile}; "
    commands = {
        f"rlip ui{option}": "Dagster (lineage, runs, checks) and MLflow (training curves, comparisons)",
        f"{folder}dvc status; dvc dag": "nothing to do; the graph of stages",
        f"rlip predict PHOTO.jpg{option}": "which relations are in my photo?",
    }
    if sys.prefix != sys.base_prefix and "VIRTUAL_ENV" not in os.environ:
        activate = Path(sys.prefix) / "bin" / "activate"
        commands = {
            f"source {os.path.relpath(activate)}": "once in each shell: puts rlip and dvc on its PATH"
        } | commands
    width = max(map(len, commands))
    return "\n".join(f"  {command:{width}s}  # {words}" for command, words in commands.items())
