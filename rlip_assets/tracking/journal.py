"""The journal of a tracked run: what its stage reported, in order, until the tracking store has all of it.

A journal is a folder `work/tracking/KEY` of the profile. Lines of `journal.jsonl` are operations and are only appended, `files/` holds what
they attach, and `state.json` tells how far the store has them. The stage writes and never waits; a sender (`sender.py`) reads. Every
operation may be sent again without a second effect, so a sender that was killed between sending and noting does no harm. The stage holds a
lock of the system on the journal as long as it lives, so that anyone can tell a killed stage from a running one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rlip_assets.storage.files import read_object, write_bytes, write_json
from rlip_assets.tracking.address import fingerprint, shown, store_uri

OPEN, END = "open", "end"
"""The first and the last operation."""
FOLDER = "work/tracking"
INPUT_TAG = "dvc."
"""Start of the tags that hold the hashes of a run's inputs."""
_LINES, _FILES, _STATE, _STAGE, _SENDER = "journal.jsonl", "files", "state.json", "stage.lock", "sender.lock"


@dataclass(frozen=True)
class State:
    """The part of a journal that the store has.

    Attributes:
        sent: bytes of the journal that the store has.
        run, experiment: ids in the store, None until the run is made.
        ended: whether the store has the end of the run.
        refused: operations that the store will never take; they are left out.
        trouble: why nothing more can be sent now.
    """

    sent: int = 0
    run: str | None = None
    experiment: str | None = None
    ended: bool = False
    refused: int = 0
    trouble: str | None = None


class Journal:
    """One journal, for its writer and its sender."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines = folder / _LINES
        self._alive: int | None = None

    @classmethod
    def create(cls, root: Path, address: str, content: Mapping[str, Any]) -> Journal:
        """Begin the journal of a run of the item at `address` by this process; `content` describes the run to make in the store."""
        journal = cls(root / FOLDER / f"{time.time_ns()}-{address}-{uuid.uuid4().hex[:8]}")
        (journal.folder / _FILES).mkdir(parents=True)
        # a plain descriptor: the system unlocks it when the process is gone, and no destructor in a forked child does so before
        journal._alive = os.open(journal.folder / _STAGE, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(journal._alive, fcntl.LOCK_EX)
        uri = store_uri()
        journal.add(OPEN, item=address, store=fingerprint(uri), store_name=shown(uri), **content)
        return journal

    @property
    def key(self) -> str:
        """The name of the run in the whole project, which the store keeps as a tag."""
        return self.folder.name

    @property
    def root(self) -> Path:
        """Return the root of the profile."""
        return self.folder.parents[len(Path(FOLDER).parts)]

    @property
    def header(self) -> Mapping[str, Any]:
        """The first operation; empty where a kill cut it off."""
        return next(iter(self.read(0)), ({}, 0))[0]

    @property
    def last_time(self) -> int:
        """Milliseconds since the epoch of the last operation; 0 where there is none any more."""
        return max((int(each.get("time", 0)) for each, _ in self.read(0)), default=0) if self._lines.exists() else 0

    def add(self, operation: str, **content: Any) -> None:
        """Append an operation, with the time (milliseconds since the epoch)."""
        line = json.dumps({"op": operation, "time": int(time.time() * 1000), **content}, ensure_ascii=False) + "\n"
        descriptor = os.open(self._lines, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, line.encode())
            if operation == END:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def attach(self, name: str, place: str | None = None) -> Path:
        """Return the path at which to write a file of this name before it is added as an artifact in the folder `place`."""
        path = self.folder / _FILES / (place or ".") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add_file(self, path: Path) -> None:
        """Append an attached file as an artifact."""
        self.add("file", file=path.relative_to(self.folder / _FILES).as_posix())

    def attached(self, name: str) -> Path:
        """Return the path of an attached file."""
        return self.folder / _FILES / name

    def read(self, start: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each whole operation after `start` bytes, and the number of bytes at its end. A line that a kill cut off is passed over."""
        with self._lines.open("rb") as stream:
            stream.seek(start)
            for line in stream:
                start += len(line)
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line), start
                except ValueError:
                    continue

    @property
    def ended(self) -> bool:
        """Return whether the stage, or one who found it dead, closed the journal."""
        return any(operation["op"] == END for operation, _ in self.read(0))

    @property
    def state(self) -> State:
        """Return how far the store has it."""
        try:
            return State(**read_object(self.folder / _STATE, "remove it"))
        except FileNotFoundError:
            return State()

    def note(self, state: State) -> None:
        """Keep the state."""
        write_json(self.folder / _STATE, asdict(state))

    @contextmanager
    def sending(self) -> Iterator[bool]:
        """Yield whether this process is the sender for the time of the block; a journal has one at a time."""
        try:
            with FileLock(self.folder / _SENDER, timeout=0):
                yield True
        except Timeout:
            yield False

    def end(self, status: str) -> None:
        """Append how the run ended; its stage writes no more."""
        self.add(END, status=status)
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None

    @property
    def alive(self) -> bool:
        """Return whether the process that writes it is there."""
        try:
            descriptor = os.open(self.folder / _STAGE, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def close_dead(self) -> bool:
        """Close the journal of a stage that was killed without a word; return whether it was."""
        if self.alive or self.ended:
            return False
        with self._lines.open("rb+") as stream:
            stream.seek(0, os.SEEK_END)
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    stream.write(b"\n")
        self.end("KILLED")
        return True

    def restart(self) -> None:
        """Forget what another store has, and belong to the current one."""
        lines = self._lines.read_bytes().splitlines(keepends=True)
        uri = store_uri()
        first = {**json.loads(lines[0]), "store": fingerprint(uri), "store_name": shown(uri)}
        self.note(State())
        write_bytes(self._lines, json.dumps(first, ensure_ascii=False).encode() + b"\n" + b"".join(lines[1:]))

    def remove(self) -> None:
        """Remove a journal that the store has."""
        shutil.rmtree(self.folder, ignore_errors=True)


def waiting_journals(root: Path) -> list[Journal]:
    """Return the journals of the profile at `root` that are not wholly sent, the oldest first."""
    return [Journal(file.parent) for file in sorted((root / FOLDER).glob(f"*/{_LINES}"))]
