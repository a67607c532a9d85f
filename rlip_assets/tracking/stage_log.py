"""The log of a tracked stage: a journal of what the stage reports, which a process beside it, the witness, brings to the tracking store.

Tracking is never a condition. The stage writes to a journal on its own disk and neither imports MLflow nor waits for a store; a store that
is away at the start, or dies in between, costs nothing but a sentence, and what it did not get waits in the journal for
`rlip tracking send` or the next tracked run of the profile. Where the stage is killed, the witness says so to the store.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlip_assets.dvc.lock import DvcLock
from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.profiles import profile_name
from rlip_assets.lineage.provenance import DAGSTER_RUN_VARIABLE, git_commit
from rlip_assets.lineage.runner import flatten
from rlip_assets.lineage.stage_run import StageRun
from rlip_assets.tracking.address import shown, store_uri, why_away
from rlip_assets.tracking.journal import INPUT_TAG, Journal, State
from rlip_assets.tracking.references import describe_files, model_name
from rlip_assets.tracking.witness import ensure_witness

if TYPE_CHECKING:
    from PIL.Image import Image

_PATIENCE_SECONDS = 60.0
"""Longest time without progress that the end of a stage waits for its witness, which may have to import MLflow on a busy machine first."""


class TrackingLog(NullLog):
    """Reports of a stage as operations of a journal; figures of a stage that measures another's output go to that one's run as well."""

    def __init__(self, run: StageRun, journal: Journal) -> None:
        self.journal = journal
        self.witnessed = False
        self._run, self._state = run, State()
        self._outputs: dict[str, dict[str, Any]] = {}
        self._models: list[Path] = []
        self._broken: str | None = None

    @property
    def tracking_key(self) -> str:
        """The name of the run in the project; the store keeps it as the tag `rlip.key`."""
        return self.journal.key

    @property
    def run_id(self) -> str | None:
        """The id of the run in the store; None where the store is away."""
        return self._reached().run

    @property
    def experiment_id(self) -> str | None:
        """The id of the run's experiment in the store."""
        return self._reached().experiment

    def params(self, values: Mapping[str, object]) -> None:
        with self._spared():
            self.journal.add("params", values={key: str(value) for key, value in flatten(values).items()})

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        plain = {key: float(value) for key, value in values.items()}
        with self._spared():
            self.journal.add("metrics", values=plain, step=step or 0)
            if step is None and self._run.measured_run:
                self.journal.add("measured", run=self._run.measured_run, values=plain)

    def picture(self, name: str, image: Image) -> None:
        with self._spared():
            path = self.journal.attach(f"{name.replace('/', '-')}.png", "pictures")
            image.save(path)
            self.journal.add_file(path)

    def dataset(self, name: str, path: Path, digest: str) -> None:
        with self._spared():
            self.journal.add("dataset", name=name, digest=digest, uri=self._run.final_path(path).as_uri())

    def artifact(self, path: Path) -> None:
        """Refer to outputs, which DVC keeps, by path and hash; copy other files."""
        final = self._run.final_path(path)
        if final != path:
            self._outputs |= describe_files(path, final.relative_to(self._run.root))
            return
        with self._spared():
            copy = self.journal.attach(path.name)
            copy.write_bytes(path.read_bytes())
            self.journal.add_file(copy)

    def model(self, folder: Path) -> None:
        self._models.append(self._run.final_path(folder).relative_to(self._run.root))

    def finish(self, status: str) -> None:
        """Note the outputs, the models where the stage succeeded, and how it ended."""
        with self._spared():
            if self._outputs:
                self.journal.add("outputs", files=self._outputs)
            for folder in self._models if status == "FINISHED" else ():
                self._note_model(folder)
            self.journal.end(status)

    def wait_for_store(self) -> str | None:
        """Wait until the store has everything; return why it has not, None where it has."""
        self._wait(lambda: not self.journal.folder.exists() or self.journal.state.trouble is not None)
        if not self.journal.folder.exists():
            return self._broken
        return self._broken or self.journal.state.trouble or "it is slow"

    def _note_model(self, folder: Path) -> None:
        inside = {Path(path): file["md5"] for path, file in self._outputs.items()}
        self.journal.add(
            "model",
            name=model_name(profile_name(self._run.root), self._run.item.stage, self._run.item.partition),
            item=self._run.item.address,
            description=self._run.spec.description,
            root=str(self._run.root.resolve()),
            profile=profile_name(self._run.root),
            folder=folder.as_posix(),
            files={path.name: md5 for path, md5 in inside.items() if path.parent == folder},
        )

    def _reached(self) -> State:
        """Wait until the run is made in the store, or it is known that it cannot be; return how far the store is."""
        if self._state.run is None and self.witnessed:
            self._wait(lambda: self.journal.state.run is not None or self.journal.state.trouble is not None)
            self._state = self.journal.state
        return self._state

    def _wait(self, done: Callable[[], bool]) -> None:
        """Wait for the witness, as long as it makes progress; start another where it is gone."""
        sent, progressed, ensured = -1, time.monotonic(), 0.0
        while not done() and (now := time.monotonic()) - progressed < _PATIENCE_SECONDS:
            if (state := self.journal.state).sent != sent:
                sent, progressed = state.sent, now
            if now - ensured > 1:
                ensure_witness(self._run.root)
                ensured = now
            time.sleep(0.05)

    @contextmanager
    def _spared(self) -> Iterator[None]:
        """Spare the stage an error of the journal's disk; the end of the run tells it."""
        try:
            yield
        except OSError as error:
            self._broken = f"its journal cannot be written, {error}"


@contextmanager
def track_stage(run: StageRun, say: Callable[[str], None]) -> Iterator[TrackingLog]:
    """Witness one run of a stage: its journal, from parameters and inputs to how it ended, and the process that sends it.

    Args:
        say: takes a sentence for people, where the store is away.
    """
    store, away, log = shown(store_uri()), why_away(store_uri()), None
    later = "waits for `rlip tracking send` or the next tracked run"
    if away:
        say(f"the tracking store {store} does not answer ({away}); the stage goes on, and what it reports {later}")
    try:
        with note_stage(run) as log:
            ensure_witness(run.root)
            log.witnessed = True
            yield log
    finally:
        if log is not None and (why := log.wait_for_store()) and why != away:
            say(f"the tracking store {store} does not have all of this run ({why}); the rest {later}")


@contextmanager
def note_stage(run: StageRun) -> Iterator[TrackingLog]:
    """Write the journal of one run of a stage, without a process that sends it."""
    content: dict[str, Any] = {
        "experiment": run.spec.group,
        "name": run.item.address,
        "profile": profile_name(run.root),
        "grouped": run.spec.distributed,
        "busy": run.spec.torch,
        "tags": stage_tags(run),
    }
    log = TrackingLog(run, Journal.create(run.root, run.item.address, content))
    status = "FAILED"
    try:
        log.params(run.params)
        for name in run.inputs:
            log.dataset(name.replace("/", "."), run.root / run.item.inputs[name], run.inputs[name])
        yield log
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        log.finish(status)


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
            tags[f"{INPUT_TAG}{name}"] = recorded
    return {key: value for key, value in tags.items() if value}


def _in_words(limits: Mapping[str, int] | None) -> str:
    """Return the limits of a rehearsal as the value of a tag; empty for none."""
    return ", ".join(f"{number} {name}" for name, number in (limits or {}).items())
