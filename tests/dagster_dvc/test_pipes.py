"""What a stage says through Dagster Pipes is kept: messages, metadata and checks."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
import pytest

from dagster_dvc import DvcProject, DvcTranslator, Stage
from tests.dagster_dvc.test_both_directions import definitions, newest
from tests.support.dvc_shapes import make

SCRIPT = """import sys
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    pipes.log.info("it is " + sys.argv[1])
    metadata = {"rows": 3, "loss": float("nan"), "page": {"raw_value": "https://example.com", "type": "url"}}
    pipes.report_asset_materialization(metadata=metadata)
    pipes.report_asset_check("full", passed=sys.argv[1] != "b", metadata={"lines": 1})
    pipes.report_asset_check("spelt", passed=sys.argv[1] != "b")
open(sys.argv[1], "w").write("done")
"""
ITEM = {"cmd": "python say.py ${item}", "outs": ["${item}"]}


class Judging(DvcTranslator):
    """Declares one of the two checks, and judges it by the tree where the stage does not report it."""

    def backfill_policy(self, stage: Stage) -> dg.BackfillPolicy:
        return dg.BackfillPolicy.single_run()

    def check_specs(self, stage: Stage) -> Sequence[dg.AssetCheckSpec]:
        return [dg.AssetCheckSpec("full", asset=self.key(stage))]

    def check_results(self, project: DvcProject, stage: Stage) -> Sequence[dg.AssetCheckResult]:
        return [dg.AssetCheckResult(check_name="full", asset_key=self.key(stage), passed=True, description="tree")]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dg.JobDefinition:
    stages = {"say": {"foreach": ["a", "b", "c"], "do": ITEM}}
    root = make(tmp_path_factory.mktemp("pipes") / "project", {"dvc.yaml": {"stages": stages}, "say.py": SCRIPT})
    return definitions(root, Judging()).resolve_implicit_global_asset_job_def()


def checks(result: dg.ExecuteInProcessResult) -> list[tuple[str, bool, str | None]]:
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    found = [event.asset_check_evaluation_data for event in result.all_events if event.event_type == kind]
    return [(one.check_name, one.passed, one.description) for one in found]


def lines(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(result.run_id)]


def test_metadata_and_checks_of_a_stage_are_shown(job: dg.JobDefinition, instance: dg.DagsterInstance) -> None:
    made = job.execute_in_process(instance=instance, partition_key="c")
    shown = newest(instance, "say", "c").metadata
    assert (shown["rows"].value, shown["loss"].value, shown["ran"].value) == (3, "nan", True)
    assert isinstance(shown["page"], dg.UrlMetadataValue)
    assert checks(made) == [("full", True, None)]
    assert "it is c" in lines(instance, made)
    again = job.execute_in_process(instance=instance, partition_key="c")
    assert "rows" not in newest(instance, "say", "c").metadata  # a stage that is up to date says nothing
    assert checks(again) == [("full", True, "tree")]


def test_of_several_partitions_a_failed_check_is_shown_and_nothing_is_a_warning(
    job: dg.JobDefinition, instance: dg.DagsterInstance
) -> None:
    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    made = job.execute_in_process(instance=instance, tags=tags)
    assert checks(made) == [("full", False, None)]
    said = lines(instance, made)
    assert {"it is a", "it is b", "the stage reports a failed check that no translator declares: spelt"} <= {*said}
    assert not [line for line in said if "unexpected message" in line or "did not receive" in line]
    assert "rows" not in newest(instance, "say", "a").metadata
