"""Summary that `rlip demo` prints at the end."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path

from rlip_assets.dvc.up_to_date import Launched, Summary
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, profile_name

DETAILS_HEADING = "## Where errors come from"
"""Heading in the report at which details begin."""


def print_summary(root: Path, summary: Summary, unreported: int) -> None:
    """Print seconds by stage, the results table and next commands; `unreported`: items that Dagster does not know yet."""
    if summary.launched:
        print()
        print("\n".join(seconds_table(summary.launched)))
    report = root / "reports" / "benchmark.md"
    if report.exists():
        results, heading, _ = report.read_text().partition(DETAILS_HEADING)
        print(f"\n{results.rstrip()}")
        if heading:
            print(
                f"\nErrors by cause, classes and published figures: {report}; pictures: {report.with_suffix('.html')}"
            )
    known = f"{unreported} are not in Dagster yet: run `rlip sync-dagster`" if unreported else "all are in Dagster"
    made = len(summary.addresses)
    print(f"\n{made} launched, {summary.current} were current, in {summary.seconds:.0f} s; {known}.")
    if summary.changed_results:
        print(
            f"dvc.lock is rewritten: {len(summary.changed_results)} items differ from the recorded results of the same inputs "
            f"({summary.changed_results[0]} first). Float results differ between processors."
        )
    print(f"\nLook further:\n{look_further(profile_name(root))}")


def seconds_table(launched: list[Launched]) -> list[str]:
    """Return seconds of start-up, work and orchestration by stage, and the share of the first and last, as lines."""
    rows: dict[str, list[Launched]] = defaultdict(list)
    for one in launched:
        rows[one.addresses[0].partition("@")[0]].append(one)
    lines = [f"{'stage':20s} {'items':>5s} {'start-up s':>10s} {'work s':>8s} {'orchestration s':>15s}"]
    for stage, group in [*rows.items(), ("all", launched)]:
        items = sum(len(one.addresses) for one in group)
        startup, work, overhead = (
            sum(values) for values in zip(*((i.startup, i.work, i.overhead) for i in group), strict=True)
        )
        lines.append(f"{stage:20s} {items:5d} {startup:10.1f} {work:8.1f} {overhead:15.1f}")
    share = 100 * (startup + overhead) / (startup + work + overhead)
    return [*lines, f"start-up and orchestration are {share:.1f} % of these seconds"]


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
