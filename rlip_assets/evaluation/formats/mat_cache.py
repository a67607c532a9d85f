"""The cache that UPT and PViC write for the official Matlab evaluation of HICO-DET: `detections_01.mat` to `detections_80.mat`.

One file per object, in the order of the pair list (alphabetical) or of the COCO ids. Each holds `all_boxes`, a cell per interaction of
the object and test image: (n, 9) person box, object box (x1, y1, x2, y2 pixels) and score. Images stand in the order of their
names, those without pairs included. Source: `cache_hico` in `utils.py` of github fredzzhang/pvic.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from rlip_assets.datasets.sources.classes import hico_classes
from rlip_assets.evaluation.formats.class_lists import coco_order, interactions, pair_order
from rlip_assets.evaluation.formats.triplets import PERSON_BY_FORM, Triplets
from rlip_assets.storage.errors import DataError, InputError, RlipError
from rlip_assets.storage.files import atomic_file

OBJECTS = 80
NAME = "detections_{:02d}.mat"
CONTENT = "all_boxes"
WIDTH = 9
REFUSED = 3
"""Exit status of the reading process when it has a sentence."""


def is_mat_cache(path: Path) -> bool:
    """Return whether a path is a folder of such files, or one of them."""
    return (path.is_dir() and any(path.glob("detections_*.mat"))) or path.suffix == ".mat"


def read_mat_cache(folder: Path, image_ids: Sequence[str]) -> list[Triplets]:
    """Read a cache: the triplets of every image, in numbers of `coco_order("hico_det")`.

    Args:
        image_ids: the annotated test images.

    Raises:
        InputError: a single file of the cache, a missing file, or one that is no Matlab file.
        DataError: another number of interactions or images than the benchmark has, or a cell of another form; names file and cell.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is one file of a cache of {OBJECTS}; give their folder")
    files = [folder / NAME.format(number) for number in range(1, OBJECTS + 1)]
    shapes, found = zip(*_read_apart(files), strict=True)
    hois = _hois_by_file(files, [rows for rows, _ in shapes])
    wrong = next((number for number, (_, images) in enumerate(shapes) if images != len(image_ids)), None)
    if wrong is not None:
        raise DataError(
            f"{files[wrong]} has {shapes[wrong][1]} images, the annotations {len(image_ids)}; give the annotation file that it was made "
            "with (instances_test2015.json)"
        )
    numbered = [
        np.column_stack([rows, np.array(own)[rows[:, 0].astype(int)]]) for rows, own in zip(found, hois, strict=True)
    ]
    rows = np.concatenate(numbered)
    rows = rows[np.argsort(rows[:, 1], kind="stable")]
    ends = np.searchsorted(rows[:, 1], np.arange(len(image_ids) + 1))
    classes = interactions(coco_order("hico_det"))
    return [
        _triplets(image_id, str(folder), rows[first:last, 2:], classes)
        for image_id, first, last in zip(sorted(image_ids), ends[:-1], ends[1:], strict=True)
    ]


def _read_apart(files: Sequence[Path]) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.float64]]]:
    """Yield rows and columns and the detections of each file as of `_table`, read in another process: damaged files can end it."""
    with TemporaryDirectory() as work:
        command = [sys.executable, "-m", "rlip_assets.evaluation.formats.mat_cache", work, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for number, file in enumerate(files):
            out = Path(work) / f"{number}.npy"
            if not out.exists():
                damaged = f"{file} is not a whole Matlab file; write it again"
                raise DataError(done.stderr.strip() if done.returncode == REFUSED else damaged)
            table = np.load(out)
            yield (int(table[0, 0]), int(table[0, 1])), table[1:]


def _main(work: str, *files: str) -> int:
    """Write the tables of some files; `REFUSED` and a sentence where one is broken."""
    try:
        for number, file in enumerate(files):
            with atomic_file(Path(work) / f"{number}.npy") as temporary, temporary.open("wb") as stream:
                np.save(stream, _table(Path(file)))
    except RlipError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


def _table(path: Path) -> npt.NDArray[np.float64]:
    """Return (n + 1, 11): rows (interactions) and columns (images) of a file's cells, then row, column and values of each detection."""
    cells = _cells(path)
    found = [np.array([[*cells.shape, *[0] * WIDTH]], np.float64)]
    sizes = np.array([[getattr(cell, "size", 1) for cell in row] for row in cells], np.int64).reshape(cells.shape)
    for row, image in zip(*np.nonzero(sizes), strict=True):
        own = _detections(cells[row, image], f"{path}: {CONTENT}, row {row}, column {image}")
        found.append(np.column_stack([np.full(len(own), row), np.full(len(own), image), own]))
    return np.concatenate(found)


def _cells(path: Path) -> npt.NDArray[np.object_]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; a cache has {OBJECTS} files, one per object")
    try:
        content = loadmat(path, variable_names=[CONTENT])
    except (
        OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, MemoryError, OverflowError, EOFError,
        struct.error, zlib.error, MatReadError,
    ) as error:  # fmt: skip
        raise InputError(f"{path} is not a whole Matlab file of version 7 or older ({error}); write it again") from None
    cells = content.get(CONTENT)
    if not isinstance(cells, np.ndarray) or cells.dtype != object or cells.ndim != 2:
        raise DataError(f"{path} has no cell array {CONTENT!r} of interactions by images; write it as UPT and PViC do")
    return cells


def _hois_by_file(files: Sequence[Path], counts: Sequence[int]) -> list[list[int]]:
    """The interactions of each file's rows, by the order of the objects that gives every file as many."""
    official = hico_classes()
    of_object: dict[str, list[int]] = {}
    for hoi, (_, label) in enumerate(official.hois or []):
        of_object.setdefault(official.objects[label], []).append(hoi)
    for order in (pair_order("hico_det"), coco_order("hico_det")):
        found = [of_object[name] for name in order.objects]
        if [len(own) for own in found] == list(counts):
            return found
    number = next(n for n, (own, count) in enumerate(zip(found, counts, strict=True)) if len(own) != count)
    raise DataError(
        f"{files[number]} has {counts[number]} rows of interactions, which fits no known order of the files; write them as UPT and PViC do"
    )


def _detections(cell: object, where: str) -> npt.NDArray[np.float64]:
    if not isinstance(cell, np.ndarray) or cell.dtype.kind not in "fiu" or cell.ndim != 2 or cell.shape[1] != WIDTH:
        form = f"{cell.dtype} {cell.shape}" if isinstance(cell, np.ndarray) else type(cell).__name__
        raise DataError(f"{where} is {form}; expected an (n, {WIDTH}) array of two boxes and a score")
    found = cell.astype(np.float64)
    bad = ~(np.isfinite(found).all(axis=1) & (np.abs(found) < np.finfo(np.float32).max).all(axis=1))
    if bad.any():
        raise DataError(
            f"{where}: detection {np.argmax(bad)} is {found[np.argmax(bad)].tolist()}; expected finite numbers"
        )
    return found


def _triplets(image_id: str, source: str, rows: npt.NDArray[np.float64], classes: npt.NDArray[np.int64]) -> Triplets:
    verbs, objects = classes[rows[:, WIDTH].astype(np.int64)].T
    boxes, number = np.unique(rows[:, : WIDTH - 1].reshape(-1, 4), axis=0, return_inverse=True)
    return Triplets(
        image_id,
        f"{source}: image {image_id!r}",
        boxes,
        number.reshape(-1, 2),
        np.full(len(rows), PERSON_BY_FORM, np.int64),
        objects,
        verbs,
        rows[:, WIDTH - 1],
    )


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
