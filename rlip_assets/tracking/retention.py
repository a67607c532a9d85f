"""Bound what the tracking store keeps: old runs go for good, with their models and artifacts; what anyone needs stays.

A run of a stage goes when it ended more than `execution.keep_days` ago, unless it is the newest of its item that succeeded, made a result
in the tree, or has a registered version with an alias or by another's hand. Versions without an alias go with their run, as `rlip gc` does
not keep their files either. Runs of other projects, and runs that people log, are not looked at.

A database forgets runs at once. An MLflow server deletes their artifacts and moves the runs to its trash, which `mlflow gc` empties there;
for a database that command would empty the trash of other projects too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from rlip_assets.lineage.profiles import PROJECT_ROOT, profile_name, profile_names, profile_root
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import read_object
from rlip_assets.tracking.address import artifacts_folder, own_store_uri, server_address, store_uri
from rlip_assets.tracking.comparisons import PARTITION
from rlip_assets.tracking.journal import waiting_journals
from rlip_assets.tracking.references import model_name
from rlip_assets.tracking.store import (
    KEY_TAG,
    PROJECT_TAG,
    all_runs,
    first_line,
    open_store,
    project_id,
    versions_with_alias,
)

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class OldRun:
    """A run that may go, with the versions of registered models that go with it."""

    run: Run
    versions: list[ModelVersion]

    def __str__(self) -> str:
        ended = time.strftime("%Y-%m-%d", time.gmtime(self.run.info.end_time / 1000))
        versions = "".join(f", {each.name} version {each.version}" for each in self.versions)
        return f"run {self.run.info.run_id} of {self.run.info.run_name}, {ended}{versions}"


def old_runs(client: MlflowClient, root: Path, days: float, project: Path = PROJECT_ROOT) -> Iterator[OldRun]:
    """Yield the runs of the profile at `root` that ended more than `days` ago and that nothing needs, the newest first."""
    of_profile = f"tags.profile = '{profile_name(root)}'"
    mine = project_id(project)
    untagged = mine if store_uri(project) == own_store_uri(project) else None

    def ours(run: Run) -> bool:
        return KEY_TAG in run.data.tags and run.data.tags.get(PROJECT_TAG, untagged) == mine

    before = int(max(0.0, time.time() * 1000 - days * _DAY_MS))
    old = list(filter(ours, all_runs(client, f"attributes.end_time < {before} and {of_profile}")))
    if not old:
        return
    newest: dict[tuple[str | None, str | None], str] = {}
    for run in filter(ours, all_runs(client, f"attributes.status = 'FINISHED' and {of_profile}")):
        newest.setdefault(_item(run), run.info.run_id)
    # studies take results over from their base, with the provenance of these
    results = {key for name in profile_names(project) for key in _of_results(profile_root(name, project))}
    needed = {*newest.values(), *results, *_of_results(root), *(journal.key for journal in waiting_journals(root))}
    with_alias = versions_with_alias(client)
    for run in old:
        if needed & {run.info.run_id, run.data.tags[KEY_TAG]}:
            continue
        versions = list(client.search_model_versions(f"run_id = '{run.info.run_id}'"))
        # a copy of a version has its tags, but not the name that its run gave it
        name = model_name(profile_name(root), *_item(run))
        if all(
            KEY_TAG in each.tags and each.name == name and (each.name, str(each.version)) not in with_alias
            for each in versions
        ):
            yield OldRun(run, versions)


def _item(run: Run) -> tuple[str | None, str | None]:
    """Return stage and partition of a run."""
    return run.data.tags.get("stage"), run.data.tags.get(PARTITION)


def sweep(root: Path, days: float, project: Path = PROJECT_ROOT, seconds: float = float("inf")) -> str:
    """Delete the old runs of a profile, and reports that waited as long for a store; return what went in a sentence, empty for nothing.

    Args:
        seconds: nothing more is deleted this long after the first run was found; the next sweep goes on.

    Raises:
        InputError: the store does not answer.
    """
    journals, until = delete_old_journals(root, days), None
    client, gone, trouble = open_store(project), 0, ""
    home = artifacts_folder(project)
    for each in old_runs(client, root, days, project):
        until = time.monotonic() + seconds if until is None else until
        if time.monotonic() > until:
            break
        try:
            _delete(client, each, home)
            gone += 1
        except Exception as error:  # of whatever keeps the artifacts; the next sweep tries again
            trouble = f"; run {each.run.info.run_id} cannot be deleted ({first_line(error)})"
    server = server_address(store_uri(project))
    trash = f"; {server} keeps their parameters and metrics until `mlflow gc` is run there" if gone and server else ""
    waited = f" and {journals} reports that no store took" if journals else ""
    return (
        f"deleted {gone} runs{waited}, older than {days:g} days{trash}{trouble}" if gone or journals or trouble else ""
    )


def delete_old_journals(root: Path, days: float) -> int:
    """Delete reports that wait for a store since more than `days`, unless their result lies in the tree; return how many."""
    before, results, gone = time.time() * 1000 - days * _DAY_MS, _of_results(root), 0
    for journal in waiting_journals(root):
        with journal.sending() as mine:
            if not mine or journal.alive or journal.key in results or journal.last_time >= before:
                continue
            journal.remove()
            gone += 1
    return gone


def _of_results(root: Path) -> set[str]:
    """Return the ids and keys of the runs that made what lies in the tree of a profile."""
    found: set[str] = set()
    for file in (root / "provenance").glob("*.json"):
        content: Mapping[str, Any] = {}
        with suppress(DataError, FileNotFoundError):
            content = read_object(file, "remove it")
        found |= {str(content[name]) for name in ("mlflow_run", "tracking_key") if content.get(name)}
    return found


def _delete(client: MlflowClient, old: OldRun, home: Path | None) -> None:
    """Delete a run, what it registered first and the run last: a sweep that was killed finds it again.

    Args:
        home: folder of the artifacts of a SQLite store; others are not this store's to delete: a copy of it names the original's.
    """
    store: Any = client._tracking_client.store
    run = old.run.info.run_id
    for version in old.versions:
        client.delete_model_version(version.name, str(version.version))
    for model in client.search_logged_models([old.run.info.experiment_id], f"source_run_id = '{run}'"):
        _delete_artifacts(client, model.artifact_location, home)
        client.delete_logged_model(model.model_id)
        if hasattr(store, "_hard_delete_logged_model"):  # of databases
            store._hard_delete_logged_model(model.model_id)
    _delete_artifacts(client, str(old.run.info.artifact_uri), home)
    if hasattr(store, "_hard_delete_run"):
        store._hard_delete_run(run)
    else:
        client.delete_run(run)


def _delete_artifacts(client: MlflowClient, uri: str, home: Path | None) -> None:
    place = urlsplit(uri)
    local = place.scheme in ("", "file")
    if local and home and not Path(unquote(place.path)).resolve().is_relative_to(home.resolve()):
        return
    get_artifact_repository(uri, tracking_uri=client.tracking_uri).delete_artifacts()
    if local:
        with suppress(OSError):
            Path(unquote(place.path)).parent.rmdir()  # the run's own folder, which held the one of its artifacts
