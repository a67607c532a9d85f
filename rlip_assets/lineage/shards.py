"""Shards: the unit of work, resume and parallelism inside a stage, kept in its work folder until they are asked for again.

A stage divides its rows by a hash of the image id, so that a new image changes one shard and leaves the others as they are. A finished
shard is a folder named by the digest of everything that it follows from; a killed stage, or a later run in which only some images are
new, finds it by that name. A shard is there whole or not at all, and a damaged one is made again.

    store = ShardStore.of(ctx, settings)
    shards = store.make_all(split(rows, ...), make, ctx.log, "images")
    collect(shards, ctx.outputs["captions"])
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock

from rlip_assets.lineage.context import StageContext, StageLog
from rlip_assets.lineage.engines import run
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.lineage.shard_progress import SUFFIX, counting_rows, finished_rows
from rlip_assets.lineage.versions import stage_versions
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import atomic_folder, digest_json, sha256_file, write_json

SHARD_FILE = "shard.json"
Row = TypeVar("Row")


def shard_count(rows: int, rows_per_shard: int) -> int:
    """Return the number of shards of a table: a power of two, so that a growing table seldom changes it."""
    count = 1
    while count * rows_per_shard < rows:
        count *= 2
    return count


def shard_of(image_id: str, count: int) -> int:
    """Return the shard of an image; independent of the bucket, which uses other digits of the same hash."""
    return int(hashlib.sha256(image_id.encode()).hexdigest()[8:16], 16) % count


@dataclass(frozen=True)
class Shard(Generic[Row]):
    """Rows to be worked on together. `content` stands for everything about the rows that the result follows from."""

    index: int
    rows: list[Row]
    content: str


@dataclass(frozen=True)
class FinishedShard:
    """A shard's files and the figures that its making returned."""

    index: int
    folder: Path
    figures: dict[str, Any]
    reused: bool


def split(
    rows: Iterable[Row], rows_per_shard: int, image_id: Callable[[Row], str], content: Callable[[Row], object]
) -> list[Shard[Row]]:
    """Divide rows into shards; within a shard they keep their order. Shards without rows are left out, but never all of them."""
    found = list(rows)
    count = shard_count(len(found), rows_per_shard)
    parts: list[list[Row]] = [[] for _ in range(count)]
    for row in found:
        parts[shard_of(image_id(row), count)].append(row)
    shards = [Shard(i, part, digest_json([content(row) for row in part])) for i, part in enumerate(parts) if part]
    return shards or [Shard(0, [], digest_json([]))]


class ShardStore:
    """Finished shards of one partition of one stage."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """
        Args:
            folder: survives kills and runs.
            settings: JSON values that every shard follows from: parameters, model digest, version.
        """
        self._folder = folder
        self._settings = digest_json(dict(settings))

    @classmethod
    def of(cls, ctx: StageContext, settings: Mapping[str, Any]) -> ShardStore:
        """Return the store of a stage's partition, beside its work folders; the stage's declared version joins the settings."""
        declared = stage_versions().get(ctx.stage)
        version = declared.version if declared else 0
        return cls(ctx.work.parent / "shards" / (ctx.partition or "all"), {**settings, "version": version})

    def make_all(
        self,
        shards: Sequence[Shard[Row]],
        make: Callable[[list[Row], Path], dict[str, Any]],
        log: StageLog,
        unit: str,
        execution: ExecutionParams | None = None,
    ) -> list[FinishedShard]:
        """Make the shards that are not there yet, and forget those that this run did not use.

        Args:
            make: fills an empty folder from rows and returns figures (JSON values, numbers are added up by `add_figures`); it may tell
                `rows_done` as it goes.
            unit: what a row is, for the log.
            execution: the engine that makes them; `make` can be pickled then. By default this process.
        """
        work = _Making(self._folder, self._settings, make)
        found = {shard.index: work.existing(shard) for shard in shards}
        left = {work.folder(shard).name: shard for shard in shards if found[shard.index] is None}
        for name in left:
            (self._folder / f"{name}{SUFFIX}").unlink(missing_ok=True)
        total = sum(len(shard.rows) for shard in shards)

        def report() -> None:
            unfinished = {name: len(shard.rows) for name, shard in left.items()}
            log.progress(total - sum(unfinished.values()) + finished_rows(self._folder, unfinished), total, unit)

        report()  # what was there before is no work of this run: the rate begins here
        work = replace(work, tick=report)
        engine = execution or ExecutionParams()
        for name, made in zip(list(left), run(work, list(left.values()), engine, report), strict=True):
            found[left.pop(name).index] = made
            report()
        finished = [each for shard in shards if (each := found[shard.index]) is not None]
        reused = sum(shard.reused for shard in finished)
        if reused:
            log.info(f"{reused} of {len(finished)} shards were there already")
        self._forget_others({shard.folder.name for shard in finished})
        return finished

    def _forget_others(self, used: set[str]) -> None:
        for entry in self._folder.iterdir():
            if entry.name.removesuffix(".lock") in used:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _nothing() -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class _Making(Generic[Row]):
    """Makes a shard that is not there yet, wherever an engine runs it; two that want the same one wait for each other.

    `tick` is called while a shard is made in the stage's own process; it does not travel to others.
    """

    store: Path
    settings: str
    make: Callable[[list[Row], Path], dict[str, Any]]
    tick: Callable[[], None] = _nothing

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self.settings, self.make)

    def folder(self, shard: Shard[Row]) -> Path:
        """Return the folder of a shard, which is there when the shard is."""
        return self.store / digest_json([self.settings, shard.content])[:32]

    def existing(self, shard: Shard[Row]) -> FinishedShard | None:
        """Return a shard that is there, whole and undamaged."""
        folder = self.folder(shard)
        figures = _finished(folder)
        return None if figures is None else FinishedShard(shard.index, folder, figures, reused=True)

    def __call__(self, shard: Shard[Row]) -> FinishedShard:
        folder = self.folder(shard)
        self.store.mkdir(parents=True, exist_ok=True)
        with FileLock(self.store / f"{folder.name}.lock"):
            if (found := self.existing(shard)) is not None:
                return found
            with atomic_folder(folder) as temporary, counting_rows(folder, self.tick):
                figures = self.make(shard.rows, temporary)
                files = {file.name: sha256_file(file) for file in sorted(temporary.iterdir())}
                write_json(temporary / SHARD_FILE, {"figures": figures, "files": files})
        return FinishedShard(shard.index, folder, figures, reused=False)


def _finished(folder: Path) -> dict[str, Any] | None:
    """Return the figures of a whole, undamaged shard; None where it has to be made."""
    try:
        record = json.loads((folder / SHARD_FILE).read_text(encoding="utf-8"))
        whole = all(sha256_file(folder / name) == digest for name, digest in record["files"].items())
        figures: dict[str, Any] = record["figures"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return figures if whole else None


def part_name(index: int) -> str:
    """File name of a table's part; the same as in scene tables."""
    return f"part-{index:05d}.parquet"


def collect(shards: Sequence[FinishedShard], output: Path, file: str) -> None:
    """Copy `file` of every shard into `output` as the parts of one table, in the order of the shards."""
    for number, shard in enumerate(shards):
        shutil.copyfile(shard.folder / file, output / part_name(number))


def add_figures(figures: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of nested figures: numbers are added, lists joined, mappings merged key by key (keys sorted).

    Raises:
        DataError: a key that is a number in one shard and something else in another.
    """
    total: dict[str, Any] = {}
    for entry in figures:
        for key, value in entry.items():
            if key not in total:
                total[key] = add_figures([value]) if isinstance(value, Mapping) else value
            elif isinstance(value, Mapping) and isinstance(total[key], dict):
                total[key] = add_figures([total[key], value])
            elif isinstance(value, list) and isinstance(total[key], list):
                total[key] = total[key] + value
            elif isinstance(value, int | float) and isinstance(total[key], int | float):
                total[key] += value
            else:
                raise DataError(
                    f"shards disagree about the figure '{key}'; remove the stage's work folder and run it again"
                )
    return dict(sorted(total.items()))
