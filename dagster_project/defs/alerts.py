"""The sensor that tells of a re-tagging that failed or is overdue.

Dagster's freshness daemon judges by the policy of `pseudo_labels` whether labels are overdue; the sensor passes that on. The rest it looks
up by hand: the policy knows the newest materialisation of an asset, whichever partition it is of, so a bucket whose run hangs leaves it
content, and a run-failure sensor hears neither of a run that waits or never began nor of a schedule that failed.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from dagster_dvc.execution import failure_reason
from dagster_project.defs.automation import REASON_TAG, retag, weekly_retag
from dagster_project.profile import active_profile
from rlip_assets.labelling.retagging import LABELS
from rlip_assets.storage.webhook import post

_UNFINISHED = [getattr(dg.DagsterRunStatus, name) for name in ("QUEUED", "NOT_STARTED", "STARTING", "STARTED")]
_REMEMBERED = 1000


@dg.sensor(minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.RUNNING)
def retagging_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Tell the log, and `execution.webhook` where it is set, once of each re-tagging that failed or is overdue."""
    execution = active_profile().execution
    told: list[str] = json.loads(context.cursor or "[]")
    news = {key: text for key, text in _problems(context.instance, execution.retag_hours) if key not in told}
    for key, text in news.items():
        context.log.error(text)
        try:
            if execution.webhook is not None:
                post(os.path.expandvars(execution.webhook), text)
            told.append(key)
        except (OSError, ValueError) as error:
            context.log.warning(f"execution.webhook could not be told ({error}); tried again at the next tick")
    said = "; ".join(news.values()) or "no re-tagging has failed or is overdue"
    return dg.SensorResult(skip_reason=said, cursor=json.dumps(told[-_REMEMBERED:]))


def _problems(instance: dg.DagsterInstance, hours: float) -> Iterator[tuple[str, str]]:
    """Yield a key and a sentence of each."""
    now, last_week = datetime.now(UTC), datetime.now(UTC) - timedelta(days=7)
    failed = dg.RunsFilter(job_name=retag.name, statuses=[dg.DagsterRunStatus.FAILURE], updated_after=last_week)
    for run in instance.get_runs(failed, limit=100):
        events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        why = next((failure_reason(e.dagster_event) for e in events if e.dagster_event), "its process ended")
        yield run.run_id, f"re-tagging {_spoken(run)} failed: {' '.join(why.split())[:500]} (run {run.run_id})"
    late = dg.RunsFilter(job_name=retag.name, statuses=_UNFINISHED, created_before=now - timedelta(hours=hours))
    for run in instance.get_runs(late, limit=100):
        yield f"{run.run_id}:late", f"re-tagging {_spoken(run)} is not done after {hours:g} hours (run {run.run_id})"
    for state in instance.all_instigator_state():
        if state.instigator_name != weekly_retag.name or not state.is_running:
            continue
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1):
            if tick.is_failure:
                yield f"tick:{tick.timestamp}", f"the schedule {weekly_retag.name} failed: {str(tick.error)[:500]}"
    key = dg.AssetKey([active_profile().name, LABELS])
    if (fresh := instance.get_freshness_state_records([key]).get(key)) and fresh.freshness_state.value == "FAIL":
        text = f"no labels were made or found current for a week and {hours:g} hours; does {weekly_retag.name} run?"
        yield f"overdue:{fresh.updated_at}", text


def _spoken(run: dg.DagsterRun) -> str:
    return f"of {run.tags.get('dagster/partition', 'labels')} ({run.tags.get(REASON_TAG, 'by hand')})"
