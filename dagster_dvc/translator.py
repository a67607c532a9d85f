"""The one place for local taste: how stages look in Dagster, and what surrounds their runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_dvc.lock import Found, LockEntry, digest
from dagster_dvc.metadata import describe, fenced
from dagster_dvc.project import DvcProject, Item, Stage, changed_in_tree

FORCE_TAG = "dvc/force"  # with `true`, DVC runs the stage although nothing it tracks has changed (a raw folder has, for instance)
_OWNER = re.compile(r"team:.+|[\w.%+-]+@[\w.-]+\.[A-Za-z]{2,7}", re.ASCII)  # what Dagster takes for one
_ERROR = re.compile(r"ERROR: |'.+' (is invalid|validation failed)")  # how DVC begins to say why it fails


class DvcTranslator:
    """Say how a stage becomes an asset. Subclass it and override what should differ."""

    def __init__(self, prefix: Sequence[str] = (), pool: str | None = None) -> None:
        self.prefix, self._pool = tuple(prefix), pool

    def key(self, stage: Stage) -> dg.AssetKey:
        """Return the asset's key: prefix, folders, stage."""
        return dg.AssetKey([*self.prefix, *stage.path])

    def group(self, stage: Stage) -> str | None:
        """Return the asset's group: `meta.group`, else the folder of its `dvc.yaml`."""
        group = stage.items[0].meta.get("group") or stage.items[0].folder
        return re.sub(r"\W", "_", str(group), flags=re.ASCII) or None

    def description(self, stage: Stage) -> str:
        """Return `desc`, else the command; of partitions that differ in it, the first one's."""
        first = stage.items[0]
        said = first.description or fenced((first.command or first.address).splitlines())
        several = len({(item.description, item.command) for item in stage.items}) > 1
        return f"{said}\n\nThis is of `{first.address}`; the other partitions are alike." if several else said

    def owners(self, stage: Stage) -> Sequence[str]:
        """Return `meta.owners` (or `meta.owner`): e-mail addresses; any other name is a team's."""
        names = _listed(stage, "owners") or _listed(stage, "owner")
        return [name if _OWNER.fullmatch(name) else f"team:{name}" for name in names]

    def kinds(self, stage: Stage) -> set[str]:
        """Return the labels of the asset's kind: `meta.kinds`, of which Dagster shows two, and `dvc`."""
        return {"dvc", *_listed(stage, "kinds")}

    def tags(self, stage: Stage) -> Mapping[str, str]:
        """Return the asset's tags."""
        flags = {"frozen": stage.items[0].frozen, "always_changed": stage.items[0].always_changed}
        return {f"dvc/{name}": "true" for name, on in flags.items() if on}

    def code_version(self, stage: Stage) -> str:
        """Return what changes with a command or a parameter of any item."""
        return digest([[item.address, item.command, item.params] for item in stage.items])

    def pool(self, stage: Stage) -> str | None:
        """Return the concurrency pool that a run takes a slot of: `meta.pool`, else the component's."""
        return next((re.sub(r"\s", "_", pool) for pool in _listed(stage, "pool")), self._pool)

    def backfill_policy(self, stage: Stage) -> dg.BackfillPolicy | None:
        """Return how partitions are divided among the runs of a backfill: one each by default."""
        return dg.BackfillPolicy.multi_run(1) if stage.partitioned else None

    def retry_policy(self, stage: Stage) -> dg.RetryPolicy | None:
        """Return how a failure that may pass by itself is tried again: not at all by default, after DVC was busy for ten minutes."""
        return None

    def transient(self, lines: Sequence[str], status: int) -> bool:
        """Return whether a second try can help, by the last lines of a failed DVC process; the retry policy says when."""
        return False

    def automation_condition(self, stage: Stage) -> dg.AutomationCondition[Any] | None:
        """Return when Dagster runs the stage by itself: never by default."""
        return None

    def freshness_policy(self, stage: Stage) -> dg.FreshnessPolicy | None:
        """Return how old the last materialisation may be before Dagster calls the asset overdue: any age by default."""
        return None

    def check_specs(self, stage: Stage) -> Sequence[dg.AssetCheckSpec]:
        """Declare the asset's checks."""
        return []

    def check_results(self, project: DvcProject, stage: Stage) -> Sequence[dg.AssetCheckResult]:
        """Return what the checks say of the stage as it lies in the tree."""
        return []

    def recorded(self, item: Item, entry: LockEntry) -> LockEntry:
        """Return an entry as Dagster should see it; leave out outputs that say nothing of the result, such as logs."""
        return entry

    def in_tree(self, project: DvcProject, found: Found) -> Found:
        """Return those of `found` that the tree holds as recorded: DVC compares checksums by default."""
        changed = changed_in_tree(project, [item for item, _ in found]) if found else set()
        return [(item, entry) for item, entry in found if item.address not in changed]

    def metadata(self, project: DvcProject, item: Item, entry: LockEntry) -> Mapping[str, Any]:
        """Return what a materialisation of an item shows."""
        return describe(project.root, item, entry)

    def force(self, context: dg.AssetExecutionContext) -> bool:
        """Return whether DVC runs the stage although nothing that it tracks has changed: by the run tag `dvc/force`."""
        return context.run.tags.get(FORCE_TAG) == "true"

    def dvc(self) -> Sequence[str]:
        """Return the command that starts DVC; files of the project hide no module from it (`-P`)."""
        return [sys.executable, "-P", "-m", "dvc"]

    def environment(self, context: dg.AssetExecutionContext) -> Mapping[str, str]:
        """Return variables for the DVC process besides those of this one."""
        return {}

    def before_run(self, context: dg.AssetExecutionContext, root: Path) -> None:
        """Prepare the project for a DVC process, before each attempt."""

    def cause(self, lines: Sequence[str], status: int) -> str:
        """Return why DVC failed in one sentence: its error; of a failed command the status and the last line that it printed."""
        at = max((number for number, line in enumerate(lines) if _ERROR.match(line)), default=len(lines))
        printed = [line for line in lines[:at] if line.strip() and not line.startswith(("> ", "Running stage "))]
        error = " ".join(" ".join(lines[at:]).removeprefix("ERROR: ").split())
        after = f" after the line: {printed[-1]}" if printed and (not error or "failed to run: " in error) else ""
        error = re.sub("failed to run: .*, exited", "the command exited", error)
        return (error[:500] or f"`dvc repro` ended with status {status}") + after


def _listed(stage: Stage, name: str) -> list[str]:
    """Return a value or values of `meta` as a list."""
    value = stage.items[0].meta.get(name) or []
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]
