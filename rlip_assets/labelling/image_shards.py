"""Shards of a stage that opens images: those that cannot be read go to quarantine, and the log says how fast the others went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rlip_assets.datasets.scenes import Scene
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.shards import FinishedShard, Shard, ShardStore
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import write_json
from rlip_assets.storage.images import BadImageError
from rlip_assets.storage.quarantine import Quarantine

_FILE = "unreadable.json"
Row = TypeVar("Row")
Unreadable = list[dict[str, str]]


def unreadable(scene: Scene, error: BadImageError) -> dict[str, str]:
    """Return what is kept of an image that cannot be read."""
    return {"image_id": scene.image_id, "file_name": scene.file_name, "reason": error.reason}


def write_unreadable(folder: Path, entries: Unreadable) -> None:
    """Write the images that a shard could not read beside its rows."""
    write_json(folder / _FILE, entries)


def make_shards(
    ctx: StageContext,
    settings: Mapping[str, Any],
    shards: Sequence[Shard[Row]],
    make: Callable[[list[Row], Path], dict[str, Any]],
) -> tuple[list[FinishedShard], Quarantine]:
    """Make the shards that are not there yet, whose `make` runs a network and calls `write_unreadable`; see `ShardStore`."""
    started = time.perf_counter()
    store = ShardStore.of(ctx, {**settings, **_device(ctx.params)})
    finished = store.make_all(shards, make, ctx.log, "images", ctx.params.execution)
    made = sum(len(shard.rows) for shard, done in zip(shards, finished, strict=True) if not done.reused)
    if made:
        ctx.log.metrics({"images_per_second": made / (time.perf_counter() - started)})
    quarantine = Quarantine()
    for shard in finished:
        for entry in json.loads((shard.folder / _FILE).read_text(encoding="utf-8")):
            quarantine.add(**entry)
    return finished, quarantine


def _device(params: Params) -> dict[str, str]:
    """Return what settings of shards say of the device that makes them: its type, as float sums and the type of weights follow from it.

    A CPU is not named: shards made on one before devices were told apart are found again. A device that is named need not be there: shards
    that it made are found without it.
    """
    kind, execution = params.training.device, params.execution
    if kind == "auto" and execution.engine == "ray":  # other machines than this one
        kind = "cuda" if execution.gpus_per_worker else "cpu"
    elif kind == "auto":
        from rlip_assets.training.processes import choose_device

        kind = choose_device(kind).type
    return {} if kind == "cpu" else {"device": kind}


def close_account(output: Path, work: Path, quarantine: Quarantine, images: int, written: int, limit: float) -> None:
    """Write the quarantine of a table and refuse an account that is over the limit or does not add up; `work` outlives the failure.

    Raises:
        DataError: more than `limit` of `images` are unusable, or written and quarantined images are not all of them.
    """
    quarantine.write(output)
    quarantine.check(images, limit, work)
    if written + len(quarantine) != images:
        raise DataError(f"{images} images went in, {written} came out and {len(quarantine)} were quarantined")
