"""Jobs, the weekly re-tagging schedule, and sensors for DVC's own runs, new images and a newly promoted R-Tagger.

New images reach the labels one step per tick: a changed raw folder renews its manifest, a changed manifest the scene table of its bucket,
a changed scene table its captions and labels. Buckets without new images are not touched. A sensor's cursor holds what was due when it was
last looked at, so that a state is asked for once, however its run ends, and again when it comes back.

The sensors are written by hand where an `AutomationCondition` would do too much: to Dagster all buckets of a dataset follow from its one
manifest, and labels from a retrained R-Tagger that nobody has promoted. Benchmarks and report have conditions (see the translator).
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

import dagster as dg

from dagster_dvc import report_external
from dagster_dvc.translator import FORCE_TAG
from dagster_project.launcher import launch_changed
from dagster_project.location import active_location, active_project, active_translator
from dagster_project.profile import active_profile
from rlip_assets.dvc.lock import DvcLock, present
from rlip_assets.dvc.status import changed_items
from rlip_assets.labelling.retagging import (
    LABELS,
    TAGGER,
    Due,
    bucket_changes,
    label_changes,
    object_changes,
    promoted_tagger,
    raw_changes,
)
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.profiles import PARAMS_FILE
from rlip_assets.storage.errors import BusyError, RlipError
from rlip_assets.tracking.promotion import promotion

LABEL_CHAIN = tuple(
    stage
    for stage in ("captions", "caption_triplets", "candidates", "decontamination", "calibration", "pseudo_labels")
    if stage in active_profile().registry.specs
)
REASON_TAG = "rlip/reason"
JOB_OF = {"raw_manifest": "renew_manifest", "scenes": "renew_scenes", "captions": "retag", LABELS: "retag"}
"""Stage that is due -> job that runs it."""
_NO_LOCK = dg.SkipReason("dvc.lock is missing or empty: no stage has been run, or git is checking it out")


def assets(*stages: str) -> dg.AssetSelection:
    """Return the assets of these stages."""
    return dg.AssetSelection.assets(*(dg.AssetKey([active_profile().name, stage]) for stage in stages))


pseudo_label = dg.define_asset_job(
    "pseudo_label", assets(*LABEL_CHAIN), description="Caption, parse, match and tag a bucket."
)
retag = dg.define_asset_job(
    "retag",
    assets(*LABEL_CHAIN),
    description="Bring the labels of a bucket up to date; what is current is not run again. Started by the schedule and the sensors.",
)
pretrain_job = dg.define_asset_job("pretrain", assets("pretrain"), description="Pre-train by a recipe.")
benchmark_job = dg.define_asset_job("benchmark", assets("benchmark"), description="Evaluate a model's predictions.")
renew_manifest = dg.define_asset_job("renew_manifest", assets("raw_manifest"), description="List a raw dataset again.")
renew_scenes = dg.define_asset_job(
    "renew_scenes", assets("scenes"), description="Read a bucket into its scene table again."
)


@dg.op(description="Launch what differs from dvc.lock, in order, two items at a time, each as a run of its own.")
def bring_up_to_date(context: dg.OpExecutionContext) -> int:
    """Do what `rlip demo` does; return the number of items launched."""
    location = active_location()
    target = f"{active_location.__module__}:{active_location.__name__}"
    summary = launch_changed(location, target, context.log.info)
    report_external(context.instance, location.project, location.translator)
    return len(summary.addresses)


@dg.job(description="The whole lineage: everything that is not current, in order.")
def whole_lineage() -> None:
    """Launch a run per item: one asset job cannot span stages with different partitions."""
    bring_up_to_date()


@dg.schedule(job=retag, cron_schedule="0 3 * * 1", execution_timezone="UTC")
def weekly_retag(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """Re-tag every Monday at 03:00 UTC the buckets whose labels are out of date according to DVC.

    Requests all buckets if DVC is busy and cannot tell: runs wait for it, and current buckets are skipped. Where all are current, no run
    says so to the freshness policy, which looks at the newest materialisation, whichever bucket it is of; so the schedule does.
    """
    profile = active_profile()
    known = buckets = list(profile.registry.spec(LABELS).partitions)
    with suppress(BusyError):
        changed = changed_items(profile.registry, profile.root)
        buckets = [key for key in known if any(f"{stage}@{key}" in changed for stage in LABEL_CHAIN)]
    if not buckets:
        report_external(context.instance, active_project(), active_translator(), [f"{LABELS}@{known[0]}"])
        return dg.SkipReason("the labels of all buckets are current")
    needed = [profile.registry.item("r_tagger"), *(profile.registry.item("scenes", key) for key in buckets)]
    if absent := [item.address for item in needed if not present(item, profile.root)]:
        return dg.SkipReason(f"{', '.join(absent)} are not in the tree; run the job whole_lineage or `dvc pull` first")
    week = context.scheduled_execution_time.strftime("%G-%V")
    return [
        dg.RunRequest(f"{week}:{key}", partition_key=key, tags={REASON_TAG: "weekly re-tagging"}) for key in buckets
    ]


@dg.sensor(jobs=[renew_manifest, renew_scenes, retag], minimum_interval_seconds=30)
def new_images(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """Rerun the buckets of a detection dataset that received new images."""
    profile = active_profile()
    lock = DvcLock.read(profile.root)
    if not lock.entries:
        return _NO_LOCK
    folders, unseen = raw_changes(profile.registry, profile.root)
    buckets, absent = bucket_changes(profile.registry, profile.root, lock)
    due = [*folders, *buckets, *label_changes(profile.registry, lock)]
    nothing = "no raw folder, manifest or scene table of a detection dataset has changed"
    return _requests(context, due, {**unseen, **absent}, nothing)


@dg.sensor(job=renew_manifest, minimum_interval_seconds=600)
def new_objects(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """Renew mirror and manifests when objects below a dataset's prefix changed; `new_images` then reruns the changed buckets."""
    profile = active_profile()
    try:
        sources = load_params(profile.root / PARAMS_FILE).sources
    except RlipError as problem:
        return dg.SkipReason(str(problem))
    due, unseen = object_changes(sources, profile.registry, profile.root)
    return _requests(context, due, unseen, "no dataset in an object store has changed")


@dg.sensor(job=retag, minimum_interval_seconds=30)
def promoted_r_tagger(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """Re-tag every bucket that was tagged by another R-Tagger than the promoted one."""
    profile = active_profile()
    record = promotion(profile.root, TAGGER)
    if record is None:
        return _requests(context, [], {}, f"no R-Tagger has been promoted; promote one with `rlip promote {TAGGER}`")
    lock = DvcLock.read(profile.root)
    if not lock.entries:
        return _NO_LOCK
    due, nothing = promoted_tagger(profile.registry, lock, record.version, record.data_version)
    return _requests(context, due, {}, nothing)


def _requests(
    context: dg.SensorEvaluationContext, due: Sequence[Due], unseen: Mapping[str, str], nothing: str
) -> list[dg.RunRequest] | dg.SkipReason:
    """Return runs of what is due now and was not at the last tick, in the same state; the reason to skip is `nothing` where nothing is due.

    `unseen` says by address why an item could not be judged; what the cursor holds of it stays. A run key would not do: Dagster never
    starts a second run for one, so a state that comes back would be passed over.
    """
    known = json.loads(context.cursor or "[]")
    kept = [key for key in known if key.rpartition(":")[0] in unseen]
    context.update_cursor(json.dumps([one.key for one in due] + kept))
    requests = []
    for one in (one for one in due if one.key not in known):
        forced = {FORCE_TAG: "true"} if one.stage == "raw_manifest" else {}  # to DVC, its inputs are the same
        tags = {REASON_TAG: one.reason, **forced}
        requests.append(dg.RunRequest(job_name=JOB_OF[one.stage], partition_key=one.partition, tags=tags))
    asked = ", ".join(f"{one.stage}@{one.partition}" for one in due)
    passed_over = "".join(f"; {address} is passed over: {why}" for address, why in unseen.items())
    return requests or dg.SkipReason((f"a run was asked for before: {asked}" if due else nothing) + passed_over)
