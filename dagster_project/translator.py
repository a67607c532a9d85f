"""Translation of the pipeline's stages into assets, as far as `dvc.yaml` does not say it: versions, policies, checks, MLflow runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_dvc import DvcProject, DvcTranslator, Item, Stage
from dagster_dvc.lock import Found, LockEntry
from dagster_project.checks import check_results, check_specs
from dagster_project.instance import WORKER_TAG, this_worker
from dagster_project.metadata import describe
from rlip_assets.cli import warm_client
from rlip_assets.dvc.lock import holds
from rlip_assets.dvc.repair import repair
from rlip_assets.labelling.retagging import LABELS
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.lineage.spec import PROVENANCE_FOLDER, Registry
from rlip_assets.lineage.versions import VERSIONS_FILE
from rlip_assets.storage.errors import TRY_AGAIN

JUDGED = ("label_quality", "benchmark", "report")
_SECOND_TRY_HELPS = re.compile(rf"exited with ({TRY_AGAIN}|-9|137)$")
"""DVC's words for the end of a stage that lacked a worker, a lock or a store, or was killed; its finished shards are kept."""
ERROR_PREFIX = "rlip: "
"""The beginning of `rlip`'s one sentence about an error that the user can act on."""


class PipelineTranslator(DvcTranslator):
    """Stages of a registry; asset keys are `prefix/stage`.

    Args:
        execution: partitions in one run of a backfill, and hours that a re-tagging may take.
    """

    def __init__(self, registry: Registry, prefix: str, execution: ExecutionParams | None = None) -> None:
        super().__init__([prefix])
        execution = execution or ExecutionParams()
        self._registry, self._per_run = registry, execution.buckets_per_run
        self._overdue_after = timedelta(weeks=1, hours=execution.retag_hours)

    def code_version(self, stage: Stage) -> str:
        """Return the declared version alone: other parameters are DVC's to compare, and it says whether results may change."""
        declared = [
            values for item in stage.items for path, values in item.params.items() if path.endswith(VERSIONS_FILE)
        ]
        return ", ".join(sorted({str(version) for values in declared for version in values.values()}))

    def backfill_policy(self, stage: Stage) -> dg.BackfillPolicy | None:
        many = dg.BackfillPolicy
        policy = many.single_run() if self._per_run is None else many.multi_run(self._per_run)
        return policy if stage.partitioned else None

    def retry_policy(self, stage: Stage) -> dg.RetryPolicy:
        return dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

    def transient(self, lines: Sequence[str], status: int) -> bool:
        return any(_SECOND_TRY_HELPS.search(line) for line in lines)

    def automation_condition(self, stage: Stage) -> dg.AutomationCondition[Any] | None:
        """Judge and report new results by themselves, once the automation sensor is on; a person asks for trainings, sensors for labels.

        A result that was made or confirmed anew without a change of its data version is not new.
        """
        changed = dg.AutomationCondition.any_deps_updated().replace(
            "newly_updated", dg.AutomationCondition.data_version_changed()
        )
        return dg.AutomationCondition.eager().replace("any_deps_updated", changed) if stage.name in JUDGED else None

    def freshness_policy(self, stage: Stage) -> dg.FreshnessPolicy | None:
        """Call labels overdue that no re-tagging has made or found current for a week and the hours that one may take."""
        return dg.FreshnessPolicy.time_window(self._overdue_after) if stage.name == LABELS else None

    def check_specs(self, stage: Stage) -> Sequence[dg.AssetCheckSpec]:
        return check_specs(stage.name, self.key(stage))

    def check_results(self, project: DvcProject, stage: Stage) -> Sequence[dg.AssetCheckResult]:
        return check_results(self._registry, project.root, stage.name, self.key(stage))

    def recorded(self, item: Item, entry: LockEntry) -> LockEntry:
        """Leave out provenance: who made a result, and when, is no part of it."""
        outs = {path: md5 for path, md5 in entry.outs.items() if not path.startswith(f"{PROVENANCE_FOLDER}/")}
        return replace(entry, outs=outs)

    def in_tree(self, project: DvcProject, found: Found) -> Found:
        at = self._registry.at
        return [(item, entry) for item, entry in found if holds(project.root, at(item.address), entry.outs)]

    def metadata(self, project: DvcProject, item: Item, entry: LockEntry) -> Mapping[str, Any]:
        return {**describe(project.root, self._registry.at(item.address)), **super().metadata(project, item, entry)}

    def dvc(self) -> Sequence[str]:
        """Return DVC's command, run by the warm server where there is one."""
        return [sys.executable, "-m", warm_client.__name__, "dvc"]

    def before_run(self, context: dg.AssetExecutionContext, root: Path) -> None:
        context.instance.add_run_tags(context.run.run_id, {WORKER_TAG: this_worker()})
        for sentence in repair(root):
            context.log.warning(sentence)

    def cause(self, lines: Sequence[str], status: int) -> str:
        """Return the sentence of the stage where it said one."""
        spoken = [line.removeprefix(ERROR_PREFIX) for line in lines if line.startswith(ERROR_PREFIX)]
        return spoken[-1] if spoken else super().cause(lines, status)
