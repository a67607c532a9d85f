"""Seconds and peak memory of every stage, from the provenance of its items."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlip_assets.lineage.registry import load_registry


@dataclass(frozen=True)
class StageTable:
    """One row per stage that ran."""

    rows: list[dict[str, Any]]

    def text(self) -> str:
        """Return the table as Markdown."""
        head = "| stage | items | start-up s | work s | longest item s | peak memory MB |\n| --- | ---: | ---: | ---: | ---: | ---: |\n"
        return head + "\n".join(
            f"| {row['stage']} | {row['items']} | {row['startup']:.1f} | {row['work']:.1f} | {row['longest']:.1f} | {row['memory']} |"
            for row in self.rows
        )


def stage_table(root: Path) -> StageTable:
    """Return the table of the profile at `root`, in the order of the lineage."""
    made: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in (root / "provenance").glob("*.json"):
        made[file.name.removesuffix(".json").partition("@")[0]].append(json.loads(file.read_text()))
    rows = []
    for stage in load_registry(root).specs:
        if runs := made[stage]:
            seconds = [run["seconds"] for run in runs]
            rows.append(
                {
                    "stage": stage,
                    "items": len(runs),
                    "startup": sum(each["startup"] for each in seconds),
                    "work": sum(each["work"] for each in seconds),
                    "longest": max(each["startup"] + each["work"] for each in seconds),
                    "memory": max(run["peak_memory_mb"] for run in runs),
                }
            )
    return StageTable(rows)
