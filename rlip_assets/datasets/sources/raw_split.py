"""One split of a raw dataset as a scene table, without the lineage's manifests: for commands that are given a root and nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rlip_assets.datasets.scenes import write_scenes
from rlip_assets.datasets.sources.checked_scene import checked_scene
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.datasets.sources.readers import RawImage, Reader, RecordError
from rlip_assets.datasets.sources.record_index import RecordIndex
from rlip_assets.lineage.context import StageLog
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import write_json
from rlip_assets.storage.images import BadImageError
from rlip_assets.storage.quarantine import Quarantine

CLASSES_FILE = "classes.json"


def write_raw_split(
    reader: Reader, split: str, folder: Path, quarantine_limit: float, work: Path, log: StageLog
) -> tuple[Classes, Quarantine]:
    """Write the scene table of a split, with `classes.json` and `quarantine.parquet` beside its parts.

    The classes are those of the whole dataset. Images and annotations are checked as by the stages `raw_manifest` and `scenes`.

    Args:
        work: folder for the index of annotations, which may be deleted at any time.

    Raises:
        InputError: an annotation file is missing or damaged, or the dataset has no image of this split.
        DataError: more images are unusable than `quarantine_limit` allows.
    """
    tally: Counter[str] = Counter()
    images: list[RawImage] = []
    rejected, quarantine = Quarantine(), Quarantine()
    splits: Counter[str] = Counter()
    for raw in RecordIndex(reader, 1, work).images(0):
        if not isinstance(raw, RawImage):
            rejected.add(raw.image_id, "", raw.reason)
            continue
        reader.observe(raw, tally)
        splits[raw.split] += 1
        if raw.split == split:
            images.append(raw)
    rejected.check(splits.total() + len(rejected), quarantine_limit, work)
    if not images:
        known = ", ".join(f"{name} ({count} images)" for name, count in splits.items()) or "no image at all"
        raise InputError(f"{reader.root} lists no image of the split {split!r} of {reader.dataset}, only {known}")
    classes = reader.classes(tally)
    scenes = []
    for number, raw in enumerate(images, start=1):
        try:
            scenes.append(checked_scene(reader, raw, classes, Counter()))
        except BadImageError as error:
            quarantine.add(raw.image_id, raw.file_name, error.reason)
        except RecordError as error:
            quarantine.add(raw.image_id, raw.file_name, f"{error} ({raw.origin})")
        log.progress(number, len(images), "images checked")
    quarantine.check(len(images), quarantine_limit, work)
    for row in rejected.rows:
        quarantine.add(row.image_id, row.file_name, row.reason)
    write_scenes(folder, scenes)
    write_json(folder / CLASSES_FILE, classes.model_dump(mode="json"))
    quarantine.write(folder)
    return classes, quarantine
