"""Translation of the pipeline's stages into assets: the registry's groups, owners and pools, checks, and MLflow runs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_dvc import DvcProject, DvcTranslator, Item, Stage
from dagster_dvc.lock import LockEntry
from dagster_project.checks import check_results, check_specs
from dagster_project.instance import WORKER_TAG, this_worker
from dagster_project.metadata import describe
from rlip_assets.cli import warm_client
from rlip_assets.dvc.lock import holds
from rlip_assets.dvc.repair import repair
from rlip_assets.lineage.provenance import DAGSTER_RUN_VARIABLE
from rlip_assets.lineage.runner import read_manifest
from rlip_assets.lineage.spec import PROVENANCE_FOLDER, Registry
from rlip_assets.lineage.watchdog import REQUESTER_VARIABLE
from rlip_assets.storage.errors import TRY_AGAIN

JUDGED = ("label_quality", "benchmark", "report")
FORCE_TAG = "rlip/force"
"""Run tag that makes DVC run the stage although nothing it tracks has changed (a raw dataset has, for instance)."""
_SECOND_TRY_HELPS = re.compile(rf"exited with ({TRY_AGAIN}|-9|137)$")
"""DVC's words for the end of a stage that lacked a worker, a lock or a store, or was killed; its finished shards are kept."""
ERROR_PREFIX = "rlip: "
"""The beginning of `rlip`'s one sentence about an error that the user can act on."""


class PipelineTranslator(DvcTranslator):
    """Stages of a registry; asset keys are `prefix/stage`.

    Args:
        version_of: declared version of a stage.
        buckets_per_run: partitions in one run of a backfill; None puts all of them into a single run.
    """

    def __init__(
        self, registry: Registry, prefix: str, version_of: Callable[[str], int], buckets_per_run: int | None = 1
    ) -> None:
        super().__init__([prefix])
        self._registry, self._version_of, self._per_run = registry, version_of, buckets_per_run

    def group(self, stage: Stage) -> str:
        return self._registry.spec(stage.name).group

    def owners(self, stage: Stage) -> Sequence[str]:
        return self._registry.spec(stage.name).owners

    def kinds(self, stage: Stage) -> set[str]:
        return {*self._registry.spec(stage.name).kinds, "dvc"}

    def code_version(self, stage: Stage) -> str:
        """Return the declared version alone: parameters are DVC's to compare, and a version says whether results may change."""
        return str(self._version_of(stage.name))

    def pool(self, stage: Stage) -> str | None:
        return self._registry.spec(stage.name).pool

    def backfill_policy(self, stage: Stage) -> dg.BackfillPolicy | None:
        many = dg.BackfillPolicy
        policy = many.single_run() if self._per_run is None else many.multi_run(self._per_run)
        return policy if stage.partitioned else None

    def retry_policy(self, stage: Stage) -> dg.RetryPolicy:
        return dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

    def transient(self, lines: Sequence[str], status: int) -> bool:
        return any(_SECOND_TRY_HELPS.search(line) for line in lines)

    def automation_condition(self, stage: Stage) -> dg.AutomationCondition[Any] | None:
        """Judge and report new results by themselves, once the automation sensor is on; a person asks for trainings, sensors for labels."""
        return dg.AutomationCondition.eager() if stage.name in JUDGED else None

    def check_specs(self, stage: Stage) -> Sequence[dg.AssetCheckSpec]:
        return check_specs(stage.name, self.key(stage))

    def check_results(self, project: DvcProject, stage: Stage) -> Sequence[dg.AssetCheckResult]:
        return check_results(self._registry, project.root, stage.name, self.key(stage))

    def recorded(self, item: Item, entry: LockEntry) -> LockEntry:
        """Leave out provenance: who made a result, and when, is no part of it."""
        outs = {path: md5 for path, md5 in entry.outs.items() if not path.startswith(f"{PROVENANCE_FOLDER}/")}
        return replace(entry, outs=outs)

    def holds(self, project: DvcProject, item: Item, entry: LockEntry) -> bool:
        return holds(project.root, self._registry.at(item.address), entry.outs)

    def metadata(self, project: DvcProject, item: Item, entry: LockEntry) -> Mapping[str, Any]:
        ours = self._registry.at(item.address)
        return describe(project.root, ours, entry, read_manifest(project.root, ours))

    def force(self, context: dg.AssetExecutionContext) -> bool:
        return context.run.tags.get(FORCE_TAG) == "true"

    def dvc(self) -> Sequence[str]:
        """Return DVC's command, run by the warm server where there is one."""
        return [sys.executable, "-m", warm_client.__name__, "dvc"]

    def environment(self, context: dg.AssetExecutionContext) -> Mapping[str, str]:
        return {DAGSTER_RUN_VARIABLE: context.run.run_id, REQUESTER_VARIABLE: str(os.getpid())}

    def before_run(self, context: dg.AssetExecutionContext, root: Path) -> None:
        context.instance.add_run_tags(context.run.run_id, {WORKER_TAG: this_worker()})
        for sentence in repair(root):
            context.log.warning(sentence)

    def cause(self, lines: Sequence[str], status: int) -> str:
        """Return the sentence of the stage where it said one."""
        spoken = [line.removeprefix(ERROR_PREFIX) for line in lines if line.startswith(ERROR_PREFIX)]
        return spoken[-1] if spoken else super().cause(lines, status)
