"""Memory of captioning and tagging at their batch sizes."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import NamedTuple

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, ok, warning
from rlip_assets.doctor.foreign_inputs import foreign_inputs
from rlip_assets.lineage.environment import gpu_memory, memory_limit
from rlip_assets.storage.errors import RlipError

_PROGRAM = 0.4e9
"""Bytes of a process with its libraries."""


class Batch(NamedTuple):
    """One batch of a stage: its key in `params.yaml`, how many images it has, and estimates of bytes for them and for the weights."""

    key: str
    images: int
    needed: float
    weights: float


def check(case: Examination) -> Iterator[Finding]:
    """Compare an estimate for each batch with the memory that one worker has: of the machine, or of a GPU where one is used."""
    if case.params is None or case.stages is None:
        return
    gpus = gpu_memory() if case.params.training.device != "cpu" else []
    execution = case.params.execution
    workers = execution.workers if execution.engine == "processes" else 1
    sharing = ceil(workers / len(gpus)) if gpus else workers
    room = (min(gpus) if gpus else memory_limit()) / sharing
    for batch in (*_captions(case), *_tagging(case)):
        total = batch.needed + batch.weights + (0 if gpus else _PROGRAM)
        where = "of each GPU's memory" if gpus else "of this machine's memory"
        message = f"{batch.images} images need about {_gb(total)} (estimate); a worker has {_gb(room)} {where}"
        if total <= room:
            yield ok(batch.key, message)
            continue
        fitting = int((room - (total - batch.needed)) / (batch.needed / batch.images))
        lower = f"{batch.key}: {fitting}" if fitting > 0 else "more memory per worker"
        fewer = f", or fewer execution.workers than {workers}" if sharing > 1 else ""
        then = (
            "it is halved until it fits, which costs time" if gpus else "the system ends a worker that takes too much"
        )
        yield warning(batch.key, f"{message}: {then}", f"{lower}{fewer}")


def _captions(case: Examination) -> Iterator[Batch]:
    from rlip_assets.doctor.sizes import caption_bytes
    from rlip_model.checkpoints.files import CONFIG, member, read_json

    assert case.params is not None
    params = case.params.captions
    folder = _folder(case, "captioner", "captions")
    if folder is None:
        return
    try:
        config = read_json(member(folder, CONFIG))
    except (RlipError, ValueError, OSError):
        return  # told by the check of weights
    if config.get("model_type") == "blip":
        captions = params.captions_per_image if params.mode == "nucleus" else params.beams
        needed = caption_bytes(config, params.batch_size, captions)
        yield Batch("captions.batch_size", params.batch_size, needed, _weights(folder))


def _tagging(case: Examination) -> Iterator[Batch]:
    from rlip_assets.doctor.sizes import tagging_bytes, weight_bytes

    assert case.params is not None
    assert case.stages is not None
    tagging = case.params.tagging
    if "pseudo_labels" not in case.stages.specs or tagging.source != "r_tagger":
        return
    recipe = case.params.training.r_tagger.resolve()
    yield Batch(
        "tagging.batch_size", tagging.batch_size, tagging_bytes(recipe, tagging.batch_size), weight_bytes(recipe)
    )


def _folder(case: Examination, role: str, stage: str) -> Path | None:
    """Return the folder of weights that a stage reads, where it is there."""
    assert case.params is not None
    assert case.stages is not None
    for given in foreign_inputs(case.params, case.stages):
        if given.role == role and given.readers[0].stage == stage and (case.root / given.path).is_dir():
            return case.root / given.path
    return None


def _weights(folder: Path) -> float:
    return float(sum(file.stat().st_size for file in folder.glob("*.safetensors")))


def _gb(number: float) -> str:
    return f"{number / 1e9:.1f} GB"
