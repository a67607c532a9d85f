"""Sends journals to the tracking store: in order, each operation with one effect however often it is sent.

`witness.py` does so beside running stages, `rlip tracking send` on request.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from rlip_assets.lineage.profiles import PROJECT_ROOT
from rlip_assets.storage.errors import RlipError
from rlip_assets.tracking.address import STORE_VARIABLE, StoreAwayError, fingerprint, store_uri
from rlip_assets.tracking.journal import END, OPEN, Journal, State, waiting_journals
from rlip_assets.tracking.references import link_copies

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_PARAM_KEY, _PARAM_VALUE, _AT_ONCE = 250, 6000, 100
_METRICS_AT_ONCE = 1000
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"}
"""Errors of MLflow that sending again does not cure."""
_LINES_AT_ONCE = 2000

Operation = Mapping[str, Any]


class Sender:
    """Sends the journals of one project; opens the store at the first operation."""

    def __init__(self, project: Path = PROJECT_ROOT) -> None:
        self._project = project
        self._client: MlflowClient | None = None

    def send(self, journal: Journal) -> bool:
        """Send what the store does not have yet; return whether the journal is at its end and the store has all of it.

        Raises:
            RlipError: the store is away; the journal's state tells why.
        """
        state = journal.state
        try:
            for operations, after in _batches(journal, state.sent):
                ended = state.ended or operations[0]["op"] == END
                state = self._apply(journal, operations, replace(state, sent=after, ended=ended, trouble=None))
                journal.note(state)
        except Exception as error:  # whatever it is, the journal waits
            from rlip_assets.tracking.store import first_line

            journal.note(replace(state, trouble=first_line(error)))
            raise error if isinstance(error, RlipError) else StoreAwayError(store_uri(), first_line(error)) from error
        return state.ended

    def _apply(self, journal: Journal, operations: list[Operation], state: State) -> State:
        """Send operations of one kind; return the state with what they made."""
        from mlflow.exceptions import MlflowException

        if self._client is None:
            from rlip_assets.tracking.store import open_store

            os.environ[STORE_VARIABLE] = store_uri(self._project)  # MLflow's registry looks models up there
            self._client = open_store(self._project)
        kind = operations[0]["op"]
        if kind == OPEN:
            experiment, run = self._open(journal, operations[0])
            return replace(state, experiment=experiment, run=run)
        if state.run is None or state.experiment is None:
            return replace(state, refused=state.refused + len(operations))  # a kill cut off the first line
        try:
            _HANDLERS[kind](self._client, state.run, state.experiment, journal, operations)
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            print(f"{kind} is refused: {error}", flush=True)
            return replace(state, refused=state.refused + len(operations))
        return state

    def _open(self, journal: Journal, operation: Operation) -> tuple[str, str]:
        """Return experiment and run, made where an earlier try has not."""
        from rlip_assets.tracking.store import (
            KEY_TAG,
            PARENT_TAG,
            PROJECT_TAG,
            experiment_id,
            parent_run,
            project_id,
            run_of_key,
        )

        client = self._client
        assert client is not None
        experiment = experiment_id(client, operation["experiment"], self._project)
        run = run_of_key(client, journal.key, [experiment])
        if run is None:
            tags = {**operation["tags"], KEY_TAG: journal.key, PROJECT_TAG: project_id(self._project)}
            if operation["grouped"]:
                tags[PARENT_TAG] = parent_run(client, experiment, operation["profile"], self._project)
            made = client.create_run(experiment, operation["time"], tags, operation["name"])
            run = str(made.info.run_id)
        return experiment, run


def _batches(journal: Journal, start: int) -> Iterator[tuple[list[Operation], int]]:
    """Yield operations that follow each other and are of one kind, and the bytes at their end."""
    lines = journal.read(start)
    for kind, group in groupby(lines, key=lambda line: line[0]["op"]):
        most = _LINES_AT_ONCE if kind == "metrics" else 1
        part: list[Operation] = []
        for operation, after in group:
            part.append(operation)
            if len(part) == most:
                yield part, after
                part = []
        if part:
            yield part, after


def _send_params(client: MlflowClient, run: str, _experiment: str, _journal: Journal, given: list[Operation]) -> None:
    from mlflow.entities import Param

    params = [Param(key[:_PARAM_KEY], value[:_PARAM_VALUE]) for key, value in given[0]["values"].items()]
    for first in range(0, len(params), _AT_ONCE):
        client.log_batch(run, params=params[first : first + _AT_ONCE])


def _send_metrics(client: MlflowClient, run: str, _experiment: str, _journal: Journal, given: list[Operation]) -> None:
    from mlflow.entities import Metric

    metrics = [
        Metric(key, value, each["time"], each.get("step", 0)) for each in given for key, value in each["values"].items()
    ]
    for first in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run, metrics=metrics[first : first + _METRICS_AT_ONCE])


def _send_measured(client: MlflowClient, _run: str, experiment: str, journal: Journal, given: list[Operation]) -> None:
    from rlip_assets.tracking.store import run_of_key

    named = str(given[0]["run"])
    if run := run_of_key(client, named) if "-" in named else named:
        _send_metrics(client, run, experiment, journal, given)


def _send_dataset(client: MlflowClient, run: str, _experiment: str, _journal: Journal, given: list[Operation]) -> None:
    from mlflow.entities import Dataset, DatasetInput

    content = given[0]
    source = json.dumps({"uri": content["uri"]})
    client.log_inputs(run, [DatasetInput(Dataset(content["name"], content["digest"][:36], "local", source))])


def _send_file(client: MlflowClient, run: str, _experiment: str, journal: Journal, given: list[Operation]) -> None:
    path = journal.attached(given[0]["file"])
    place = Path(given[0]["file"]).parent.as_posix()
    if path.exists():
        client.log_artifact(run, str(path), None if place == "." else place)


def _send_outputs(client: MlflowClient, run: str, _experiment: str, journal: Journal, given: list[Operation]) -> None:
    files = given[0]["files"]
    client.log_dict(run, files, "outputs.json")
    place = urlsplit(str(client.get_run(run).info.artifact_uri))
    if place.scheme == "file":
        link_copies(Path(unquote(place.path)) / "pictures", journal.root, files)


def _send_model(client: MlflowClient, run: str, experiment: str, journal: Journal, given: list[Operation]) -> None:
    from rlip_assets.tracking.models import register_model

    register_model(client, run, experiment, journal.key, given[0])


def _send_end(client: MlflowClient, run: str, _experiment: str, _journal: Journal, given: list[Operation]) -> None:
    client.set_terminated(run, given[0]["status"], given[0]["time"])


_HANDLERS: Mapping[str, Callable[..., None]] = {
    "params": _send_params,
    "metrics": _send_metrics,
    "measured": _send_measured,
    "dataset": _send_dataset,
    "file": _send_file,
    "outputs": _send_outputs,
    "model": _send_model,
    END: _send_end,
}
"""Operation -> what brings it to the store; a second time changes nothing."""


def send_waiting(root: Path, sender: Sender, redirect: bool = False) -> Iterator[str]:
    """Send what waits in the profile at `root` for this store, the oldest first; yield a sentence about each run that is not running.

    Args:
        redirect: send what was meant for other stores to this one too, from the beginning.

    Raises:
        RlipError: the store is away.
    """
    for journal in waiting_journals(root):
        with journal.sending() as mine:
            header = journal.header if mine and journal.folder.exists() else {}
            if not header:
                continue
            if header["store"] != fingerprint(store_uri()):
                if not redirect or journal.alive:
                    yield f"{header['item']} waits for {header['store_name']}"
                    continue
                journal.restart()
            killed = journal.close_dead()
            if sender.send(journal):
                state = journal.state
                journal.remove()
                words = "; it was killed" if killed else ""
                words += f"; {state.refused} records were refused" if state.refused else ""
                yield f"{header['item']} is sent: run {state.run}{words}"
