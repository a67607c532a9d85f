"""The contents of a raw dataset's annotation files, read by the dataset's reader, and the images that are there.

Files of up to `READ_WHOLE` bytes together are read row by row, as the stages `raw_manifest` and `scenes` read them. Larger ones are
searched for the names of their images and the ends of their brackets in seconds, unless asked otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rlip_assets.datasets.sources.boxes import DROPPED, check_boxes
from rlip_assets.datasets.sources.checked_scene import named_scene
from rlip_assets.datasets.sources.coco_style import InstancesReader
from rlip_assets.datasets.sources.layouts import ListedDisk
from rlip_assets.datasets.sources.open_images import OpenImagesReader
from rlip_assets.datasets.sources.readers import NoAnnotationsError, RawImage, Reader, RecordError
from rlip_assets.datasets.sources.record_index import RecordIndex, Rejected
from rlip_assets.datasets.sources.roots import open_reader, raw_root
from rlip_assets.doctor.file_search import SEARCHED, search
from rlip_assets.lineage.params.sources import SourcesParams
from rlip_assets.storage.errors import RlipError

READ_WHOLE = 200 << 20
_BUCKETS = 16
"""One is in memory at a time."""
_FAULTY = ("boxes_not_finite", "boxes_not_fractions")
"""Rules that drop boxes which no official file has."""
_ANY_SIZE = (1 << 20, 1 << 20)
"""Stands for the size of an image whose annotation does not tell it."""


@dataclass
class RawData:
    """A dataset as far as it is there.

    Attributes:
        reader: None where the root is no folder.
        images: split -> listed images, used or not.
        rows: split and what is counted -> rows.
        files: split -> places of the images that are used, relative to the root.
        sizes: place -> annotated (width, height), where the format tells.
        rejected: (image id, reason) of images that go to quarantine.
    dropped: rule -> boxes that it drops.
        faults: sentences about whole files.
        whole: every row was read.
    """

    dataset: str
    root: Path
    reader: Reader | None = None
    images: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    files: dict[str, list[str]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    faults: list[RlipError] = field(default_factory=list)
    whole: bool = True

    @property
    def annotation_bytes(self) -> int:
        """Bytes of all annotation files that are there."""
        return sum(path.stat().st_size for path in _present(self.reader)) if self.reader else 0


def read_raw_data(sources: SourcesParams, dataset: str, base: Path, thorough: bool) -> RawData:
    """Read a dataset of the profile whose folder is `base`; what is wrong with it is in the result."""
    found = RawData(dataset, base)
    try:
        found.root = raw_root(sources, dataset, base)
        found.reader = open_reader(sources, dataset, base)
    except RlipError as error:
        found.faults.append(error)
        return found
    found.reader.disk = ListedDisk(found.root)
    found.whole = thorough or found.annotation_bytes <= READ_WHOLE or dataset not in SEARCHED
    if not found.whole:
        search(found.reader, found)
        return found
    with TemporaryDirectory() as cache:
        while (index := _index(found, Path(cache))) is not None:
            try:
                _read(found, index)
                return found
            except RlipError as error:
                if not _passed_over(found, error):
                    return found
    return found


def _present(reader: Reader) -> Iterator[Path]:
    yield from (path for path in {**reader.official_files(), **reader.optional_files()}.values() if path.is_file())


def _index(found: RawData, cache: Path) -> RecordIndex | None:
    """The records of all annotation files that can be read; what is wrong with the others joins the faults."""
    assert found.reader is not None
    while True:
        try:
            return RecordIndex(found.reader, _BUCKETS, cache / str(len(found.faults)))
        except NoAnnotationsError:  # each file is missing or has its fault
            return None
        except RlipError as error:
            if not _passed_over(found, error):
                return None


def _passed_over(found: RawData, error: RlipError) -> bool:
    """Note a fault and pass over the file that it names; False where no other file is left to try."""
    assert found.reader is not None
    files = {**found.reader.official_files(), **found.reader.optional_files()}.values()
    named = {path for path in files if str(path) in str(error)}
    missing = any(not path.exists() for path in named)
    if not missing and str(error) not in map(str, found.faults):  # what is missing is listed by another check
        found.faults.append(error)
    new = named - found.reader.passed_over
    found.reader.passed_over |= new
    return bool(new)


def _read(found: RawData, index: RecordIndex) -> None:
    """Take the images and what is wrong with them from the records, then check every row against the classes."""
    assert found.reader is not None
    reader, tally = found.reader, Counter[str]()
    for known in (found.images, found.rows, found.files, found.sizes, found.rejected):
        known.clear()
    for raw in _raws(index):
        if isinstance(raw, Rejected):
            found.rejected.append((raw.image_id, raw.reason))
            found.images[""] += 1
            continue
        reader.observe(raw, tally)
        found.images[raw.split] += 1
        found.files.setdefault(raw.split, []).append(raw.file_name)
        if raw.size:
            found.sizes[raw.file_name] = raw.size
        for what, number in _rows(found.dataset, raw.record).items():
            found.rows[f"{raw.split} {what}"] += number
    found.images.update(index.unused)
    found.rows.update(_names(reader))
    classes = reader.classes(tally)
    kept, changes = 0, Counter[str]()
    for raw in _raws(index):
        if isinstance(raw, Rejected):
            continue
        try:
            kept += len(named_scene(reader, raw, raw.size or _ANY_SIZE, classes, changes).labels)
        except RecordError as error:
            found.rejected.append((raw.image_id, f"{error} ({raw.origin})"))
    found.dropped = {words: changes[rule] for rule, words in DROPPED.items() if changes[rule] and rule in _FAULTY}
    check_boxes(kept, changes, f"the {found.dataset} dataset")


def _raws(index: RecordIndex) -> Iterator[RawImage | Rejected]:
    for bucket in range(_BUCKETS):
        yield from index.images(bucket)


def _names(reader: Reader) -> dict[str, int]:
    """Numbers of names that the annotation files list."""
    match reader:
        case InstancesReader():
            return {"categories": len(reader.categories)}
        case OpenImagesReader():
            objects, relations = reader.names
            return {"object names": len(objects), "relation names": len(relations)}
    return {}


def _rows(dataset: str, record: Any) -> dict[str, int]:
    """Annotated boxes and relations of an image, of the datasets with official numbers of them."""
    if dataset == "visual_genome":
        return {"boxes": len(record["objects"]), "relations": len(record["relationships"])}
    if dataset == "hico_det":
        return {"boxes": len(record[0]), "relations": len(record[1])}
    return {"boxes": len(record)} if dataset == "coco" else {}
