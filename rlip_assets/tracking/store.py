"""The tracking store: one MLflow run for each run of a tracked stage. The only module that imports mlflow.

Runs live in `mlruns/mlflow.db` (SQLite) and `mlruns/artifacts` of the project, for all profiles together, unless MLFLOW_TRACKING_URI
names another store. Experiments are the groups of the lineage. Large files are not copied: `links.json` names them, relative to the
profile's root.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from filelock import FileLock

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from mlflow.entities import Dataset, DatasetInput, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.utils.async_logging.run_operations import RunOperations

from rlip_assets.dvc.lock import DvcLock
from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.environment import machine, packages
from rlip_assets.lineage.profiles import PROJECT_ROOT, profile_name
from rlip_assets.lineage.provenance import DAGSTER_RUN_VARIABLE, git_commit
from rlip_assets.lineage.runner import flatten
from rlip_assets.storage.errors import InputError
from rlip_assets.tracking.relocation import ARTIFACTS, relocate

if TYPE_CHECKING:
    from PIL.Image import Image

    from rlip_assets.lineage.stage_run import StageRun

LINK_ABOVE = 10 * 1024 * 1024
"""Files of more bytes are linked from the run instead of copied into the store."""
_SQLITE = "sqlite:///"
PROMOTED_ALIAS = "promoted"
STUDY_TAG, PARENT_TAG = "rlip.study", "mlflow.parentRunId"
_ENVIRONMENT = "environment"
"""Folder of a run's artifacts."""
_INPUT_TAG = "dvc."
"""Start of the tags that hold the hashes of a run's inputs."""


def store_uri(project: Path = PROJECT_ROOT) -> str:
    """Return the address of the tracking store: MLFLOW_TRACKING_URI, else the project's SQLite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(project / 'mlruns' / 'mlflow.db').resolve()}"


def open_store(project: Path = PROJECT_ROOT) -> MlflowClient:
    """Return a client of the store, which is created where there is none, and relocated where the project was moved.

    Two processes that create the same SQLite store at once both fail, so creation holds a file lock.

    Raises:
        InputError: the store does not answer, or its file is something else.
    """
    uri = store_uri(project)
    if not uri.startswith(_SQLITE):
        return _answering(MlflowClient(tracking_uri=uri), uri)
    database = Path(uri.removeprefix(_SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(database.with_suffix(".lock"))):
        try:
            with closing(sqlite3.connect(database)) as content:
                content.execute("select name from sqlite_master")
        except sqlite3.DatabaseError as error:
            raise InputError(f"{database} is not an MLflow store ({error}); restore it or move it away") from None
        client = _answering(MlflowClient(tracking_uri=uri), uri)
        relocate(database)
    return client


def _answering(client: MlflowClient, uri: str) -> MlflowClient:
    try:
        client.search_experiments(max_results=1)
    except MlflowException as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(
            f"the tracking store {uri} does not answer ({reason}); start it or unset MLFLOW_TRACKING_URI"
        ) from None
    return client


def experiment_id(client: MlflowClient, name: str, project: Path = PROJECT_ROOT) -> str:
    """Return the id of the experiment `name`, made where it does not exist. Artifacts of a SQLite store lie beside its file."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    uri = store_uri(project)
    folder = Path(uri.removeprefix(_SQLITE)).resolve().parent / ARTIFACTS / name
    location = folder.as_uri() if uri.startswith(_SQLITE) else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


class TrackingLog(NullLog):
    """Reports of a stage as an MLflow run; figures of a stage that measures another's output go to that one's run as well."""

    def __init__(self, client: MlflowClient, run: StageRun, experiment: str, tags: Mapping[str, str]) -> None:
        self._client, self._run = client, run
        self.experiment_id = experiment
        self.run_id: str = client.create_run(experiment, run_name=run.item.address, tags=dict(tags)).info.run_id
        self._sent: RunOperations | None = None
        self._links: dict[str, str] = {}
        self._models: list[tuple[str, Path]] = []

    def params(self, values: Mapping[str, object]) -> None:
        params = [Param(key[:250], str(value)[:6000]) for key, value in flatten(values).items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(self.run_id, params=params[start : start + 100])

    def environment(self) -> None:
        """The machine, and the packages in the form that `pip install -c` takes."""
        listed = "".join(f"{name}=={version}\n" for name, version in packages().items())
        self._client.log_text(self.run_id, listed, f"{_ENVIRONMENT}/packages.txt")
        self._client.log_dict(
            self.run_id, {"python": platform.python_version()} | machine(), f"{_ENVIRONMENT}/machine.json"
        )

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        now = int(time.time() * 1000)
        entries = [Metric(key, float(value), now, step or 0) for key, value in values.items()]
        self._sent = self._client.log_batch(self.run_id, metrics=entries, synchronous=False)
        if step is None and self._run.measured_run:
            self._client.log_batch(self._run.measured_run, metrics=entries)

    def picture(self, name: str, image: Image) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{name.replace('/', '-')}.png"
            image.save(path)
            self._client.log_artifact(self.run_id, str(path), "pictures")

    def dataset(self, name: str, path: Path, digest: str) -> None:
        source = json.dumps({"uri": self._run.final_path(path).as_uri()})
        self._client.log_inputs(self.run_id, [DatasetInput(Dataset(name, digest[:36], "local", source))])

    def artifact(self, path: Path) -> None:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_file():
                continue
            inside = file.parent.relative_to(path.parent).as_posix()
            if file.stat().st_size > LINK_ABOVE:
                final = self._run.final_path(file)
                self._links[file.relative_to(path.parent).as_posix()] = final.relative_to(self._run.root).as_posix()
            else:
                self._client.log_artifact(self.run_id, str(file), None if inside == "." else inside)

    def model(self, name: str, folder: Path) -> None:
        self._models.append((name, self._run.final_path(folder)))

    def finish(self, status: str) -> None:
        """Wait for what was sent, register models where the stage succeeded, and close the run."""
        if self._sent is not None:
            self._sent.wait()  # batches are sent in their order, so this one is the last
        if self._links:
            self._client.log_dict(self.run_id, self._links, "links.json")
        if status == "FINISHED":
            for name, folder in self._models:
                register_model(self._client, name, self._source(folder), self.run_id, self._run.item.address)
        self._client.set_terminated(self.run_id, status)

    def _source(self, folder: Path) -> str:
        """Return the place of a registered checkpoint: its copy in the store, or the tree where a file was too large to copy."""
        if any(link.startswith(f"{folder.name}/") for link in self._links):
            return folder.resolve().as_uri()
        return f"{self._client.get_run(self.run_id).info.artifact_uri}/{folder.name}"


def register_model(client: MlflowClient, name: str, source: str, run_id: str, address: str) -> str:
    """Register the checkpoint at `source`, made by the item at `address`, as the next version of `name`; returns the version."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(name, source=source, run_id=run_id, tags={"item": address}, description=address)
    return str(made.version)


def promote_model(
    name: str, version: str | None = None, made_by: str | None = None, project: Path = PROJECT_ROOT
) -> tuple[str, str]:
    """Give the alias `promoted` to a version of a registered model (the newest by default).

    Args:
        made_by: run that must have made the version. All profiles share the store, so the newest version of a name may be another's.

    Returns:
        The version and the id of the run that made it.

    Raises:
        InputError: there is no such model or version.
    """
    client = open_store(project)
    versions = {str(v.version): str(v.run_id) for v in client.search_model_versions(f"name = '{name}'")}
    if not versions:
        raise InputError(f"No model is registered as '{name}' in {store_uri(project)}; train one first")
    fitting = [number for number, run in versions.items() if made_by in (None, run)]
    chosen = version or max(fitting, key=int, default=None)
    if chosen is None:
        raise InputError(
            f"The model '{name}' in the tree was made by run {made_by}, which is not in {store_uri(project)}; train it here"
        )
    if chosen not in versions:
        raise InputError(f"Model '{name}' has no version {chosen}; it has {', '.join(sorted(versions, key=int))}")
    if chosen not in fitting:
        in_tree = ", ".join(sorted(fitting, key=int)) or "none that is registered"
        raise InputError(
            f"Version {chosen} of '{name}' is not the one in the tree (that is {in_tree}); bring its dvc.lock back, run `dvc checkout`, "
            "then promote it"
        )
    client.set_registered_model_alias(name, PROMOTED_ALIAS, chosen)
    return chosen, versions[chosen]


def input_hashes(project: Path = PROJECT_ROOT) -> set[str]:
    """Return the hashes in DVC of the inputs that runs name, deleted runs left out."""
    if store_uri(project).startswith(_SQLITE) and not Path(store_uri(project).removeprefix(_SQLITE)).exists():
        return set()
    client, found = open_store(project), set()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    token: str | None = None
    while experiments:
        runs = client.search_runs(experiments, max_results=1000, page_token=token)
        found |= {value for run in runs for tag, value in run.data.tags.items() if tag.startswith(_INPUT_TAG)}
        token = runs.token
        if not token:
            break
    return found


@contextmanager
def track_stage(run: StageRun) -> Iterator[TrackingLog]:
    """The MLflow run of one stage run: opened with its parameters and inputs, closed with how it ended."""
    client = open_store()
    experiment = experiment_id(client, run.spec.group)
    tags = stage_tags(run)
    if run.spec.distributed:
        tags[PARENT_TAG] = parent_run(client, experiment, profile_name(run.root))
    log = TrackingLog(client, run, experiment, tags)
    status = "FAILED"
    monitor = SystemMetricsMonitor(log.run_id, tracking_uri=store_uri()) if run.spec.torch else None
    try:
        if monitor:
            monitor.start()
        log.params(run.params)
        log.environment()
        for name in run.inputs:
            log.dataset(name.replace("/", "."), run.root / run.item.inputs[name], run.inputs[name])
        yield log
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        if monitor:
            monitor.finish()
        log.finish(status)


def parent_run(client: MlflowClient, experiment: str, profile: str, project: Path = PROJECT_ROOT) -> str:
    """Return the id of the parent run of a profile's trainings in one experiment, made where there is none.

    `mlflow ui` shows a profile, such as a study, as one line that opens to what it compares.
    """
    lock = project / "mlruns" / "parent_runs.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(lock)):
        found = client.search_runs([experiment], f"tags.`{STUDY_TAG}` = '{profile}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        run_id = str(client.create_run(experiment, run_name=profile, tags={STUDY_TAG: profile}).info.run_id)
        client.set_terminated(run_id)
        return run_id


def _in_words(limits: Mapping[str, int] | None) -> str:
    """Return the limits of a rehearsal as the value of a tag; empty for none."""
    return ", ".join(f"{number} {name}" for name, number in (limits or {}).items())


def stage_tags(run: StageRun) -> dict[str, str]:
    """Tags that lead from the run to the asset, the partition, the Dagster run and the inputs in DVC."""
    lock = DvcLock.read(run.root)
    tags = {
        "profile": profile_name(run.root),
        "stage": run.spec.name,
        "stage.version": str(run.version),
        "rehearsal": _in_words(run.params.get("rehearsal")),
        "dagster.asset": run.spec.name,
        "dagster.partition": run.item.partition or "",
        "dagster.run_id": os.environ.get(DAGSTER_RUN_VARIABLE, ""),
        "mlflow.source.name": f"dvc repro --single-item {run.item.address}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git_commit(run.root) or "",
        "mlflow.note.content": run.spec.description,
    }
    for name, path in run.item.inputs.items():
        if recorded := lock.output_hash(path):
            tags[f"{_INPUT_TAG}{name}"] = recorded
    return {key: value for key, value in tags.items() if value}
