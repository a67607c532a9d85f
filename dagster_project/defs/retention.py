"""The sensor that deletes what is older than `execution.keep_days`, written by hand because Dagster itself never deletes a run."""

import dagster as dg

from dagster_project.profile import active_profile
from dagster_project.retention import sweep


@dg.sensor(minimum_interval_seconds=3600, default_status=dg.DefaultSensorStatus.RUNNING)
def retention(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Delete old runs with their events and logs, and old leftovers in the work folder, an hour's worth at a time."""
    return dg.SkipReason(sweep(context.instance, active_profile()) or "nothing is old enough to be deleted")
