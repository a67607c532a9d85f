"""The tracking store: one MLflow run for each run of a tracked stage.

Runs live in `mlruns/mlflow.db` (SQLite) and `mlruns/artifacts` of the project, for all profiles together, unless MLFLOW_TRACKING_URI
names another store. Experiments are the groups of the lineage.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # MLflow's own seven last for minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import write_text
from rlip_assets.tracking.address import (
    ARTIFACTS,
    StoreAwayError,
    database_file,
    is_database_server,
    require_store,
    store_uri,
)
from rlip_assets.tracking.journal import INPUT_TAG
from rlip_assets.tracking.relocation import relocate

if TYPE_CHECKING:
    from mlflow.entities import Run

_AT_ONCE = 1000
"""Entries of a page of a search."""
CHAMPION, CANDIDATE = "champion", "candidate"
"""Aliases of a registered model: the version that passed the gate of `rlip promote`, and the newest one."""
KEY_TAG = "rlip.key"
"""Tag of a run with the name of its journal, by which it is found when it is sent again."""
PROJECT_TAG = "rlip.project"
"""Tag of a run with the id of the project that made it, for a store may serve several."""
PROFILE_TAG, PARENT_TAG, NOTE_TAG = "rlip.study", "mlflow.parentRunId", "mlflow.note.content"
FILES_TAG = "dvc.files"
"""Tag of a model's version with the hashes of its files in DVC."""
EXPERIMENTS = {
    "captions": "Captions of images by BLIP, one run per bucket: how many, how different, how fast.",
    "pseudo_labels": "R-Tagger trainings, the pseudo labels of each bucket with what they changed, and their measured quality.",
    "pretraining": (
        "Pre-trainings of a relation detector. Compare data mixes by `data_mix` and `zero_shot_mAP`, fusions by `fusion`, and seeds by "
        "`seed`; each profile is one line that opens to its runs."
    ),
    "finetuning": "Fine-tunings on a benchmark. Compare shots by `shots`, unseen combinations by `unseen`; figures are of the test split.",
    "benchmarks": "Predictions judged by the published protocols; the run of the network that predicted has the figures too.",
}
"""Description of each experiment, shown above its runs."""


def open_store(project: Path = PROJECT_ROOT) -> MlflowClient:
    """Return a client of the store, which is created where there is none, and relocated where the project was moved.

    Two processes that create the same SQLite store at once both fail, so creation holds a file lock.

    Raises:
        StoreAwayError: the store does not answer; known at once where nothing listens.
        InputError: its file is something else.
    """
    uri = store_uri(project)
    require_store(project)
    database = database_file(uri)
    if database is None:
        _require_connection(uri)
        return _answering(uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(database.with_suffix(".lock"))):
        try:
            with closing(sqlite3.connect(database)) as content:
                content.execute("select name from sqlite_master")
        except sqlite3.DatabaseError as error:
            raise InputError(f"{database} is not an MLflow store ({error}); restore it or move it away") from None
        client = _answering(uri)
        relocate(database)
    return client


def _require_connection(uri: str) -> None:
    """Raise StoreAwayError where a database refuses a connection: MLflow itself would try for minutes, and end with a traceback."""
    if not is_database_server(uri):
        return
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        create_engine(uri, poolclass=NullPool).connect().close()
    except (SQLAlchemyError, ImportError) as error:
        raise StoreAwayError(uri, first_line(error)) from None


def _answering(uri: str) -> MlflowClient:
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except MlflowException as error:
        raise StoreAwayError(uri, first_line(error)) from None
    return client


def first_line(error: BaseException) -> str:
    """Return the first line of an error, cut where it is long."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def experiment_id(client: MlflowClient, name: str, project: Path = PROJECT_ROOT) -> str:
    """Return the id of the experiment `name` with its description, made where it does not exist.

    Artifacts of a SQLite store lie beside its file.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        database = database_file(store_uri(project))
        location = (database.resolve().parent / ARTIFACTS / name).as_uri() if database else None
        try:
            client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
        assert found is not None
    if name in EXPERIMENTS and NOTE_TAG not in found.tags:
        client.set_experiment_tag(found.experiment_id, NOTE_TAG, EXPERIMENTS[name])
    return str(found.experiment_id)


def run_of_key(client: MlflowClient, key: str, experiments: list[str] | None = None) -> str | None:
    """Return the id of the run that the journal `key` made, None where it made none."""
    places = experiments or [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(places, f"tags.`{KEY_TAG}` = '{key}'", max_results=1) if places else []
    return str(found[0].info.run_id) if found else None


def project_id(project: Path = PROJECT_ROOT) -> str:
    """Return the id of the project, which `mlruns/project_id` keeps, made where it has none."""
    file = project / "mlruns" / "project_id"
    with _locked(project):
        if not file.exists():
            write_text(file, uuid.uuid4().hex)
        return file.read_text().strip()


def parent_run(client: MlflowClient, experiment: str, profile: str, project: Path = PROJECT_ROOT) -> str:
    """Return the id of the parent run of a profile's trainings in one experiment, made where there is none.

    `mlflow ui` shows a profile, such as a study, as one line that opens to what it compares.
    """
    with _locked(project):
        found = client.search_runs([experiment], f"tags.`{PROFILE_TAG}` = '{profile}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        run_id = str(client.create_run(experiment, run_name=profile, tags={PROFILE_TAG: profile}).info.run_id)
        client.set_terminated(run_id)
        return run_id


def _locked(project: Path) -> FileLock:
    """Return the lock of what a project makes once in its stores."""
    lock = project / "mlruns" / "parent_runs.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(str(lock))


def referred_hashes(project: Path = PROJECT_ROOT) -> set[str]:
    """Return the hashes in DVC that the store refers to: inputs of runs, and files of model versions that have an alias."""
    database = database_file(store_uri(project))
    if database is not None and not database.exists():
        return set()
    client = open_store(project)
    found = {value for run in all_runs(client) for tag, value in run.data.tags.items() if tag.startswith(INPUT_TAG)}
    for name, version in versions_with_alias(client):
        found |= set(client.get_model_version(name, version).tags.get(FILES_TAG, "").split())
    return found


def versions_with_alias(client: MlflowClient) -> set[tuple[str, str]]:
    """Return name and version of every registered model's versions that have an alias."""
    models = _every(partial(client.search_registered_models, max_results=_AT_ONCE))
    return {(model.name, str(version)) for model in models for version in model.aliases.values()}


def all_runs(client: MlflowClient, filter_string: str = "") -> Iterator[Run]:
    """Yield every run that is not deleted, the newest first."""
    experiments = [each.experiment_id for each in _every(partial(client.search_experiments, max_results=_AT_ONCE))]
    if experiments:
        yield from _every(partial(client.search_runs, experiments, filter_string, max_results=_AT_ONCE))


def _every(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield what a search of MLflow finds, page after page."""
    token: str | None = None
    while True:
        page = search(page_token=token)
        yield from page
        if not (token := page.token):
            return
