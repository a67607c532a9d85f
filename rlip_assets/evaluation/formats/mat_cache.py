"""The cache that UPT and PViC write for the official Matlab evaluation of HICO-DET: `detections_01.mat` to `detections_80.mat`.

One file per object, in the order of the pair list (alphabetical) or of the COCO ids. Each holds `all_boxes`, a cell per interaction of
the object and test image: (n, 9) person box, object box (x1, y1, x2, y2 pixels) and score. Images stand in the order of their
names, those without pairs included. Source: `cache_hico` in `utils.py` of github fredzzhang/pvic.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError

from rlip_assets.datasets.sources.classes import hico_classes
from rlip_assets.evaluation.formats.class_lists import coco_order, interactions, pair_order
from rlip_assets.evaluation.formats.triplets import PERSON_BY_FORM, Triplets
from rlip_assets.storage.errors import DataError, InputError

OBJECTS = 80
NAME = "detections_{:02d}.mat"
CONTENT = "all_boxes"
WIDTH = 9


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
    shapes = [_shape(file) for file in files]
    hois = _hois_by_file(files, [rows for rows, _ in shapes])
    wrong = next((number for number, (_, images) in enumerate(shapes) if images != len(image_ids)), None)
    if wrong is not None:
        raise DataError(
            f"{files[wrong]} has {shapes[wrong][1]} images, the annotations {len(image_ids)}; give the annotation file that it was made "
            "with (instances_test2015.json)"
        )
    rows: list[list[npt.NDArray[np.float64]]] = [[] for _ in image_ids]
    for file, own in zip(files, hois, strict=True):
        table = _read(file, loadmat)[CONTENT]
        for row, image in zip(*np.nonzero(_sizes(table)), strict=True):
            found = _detections(table[row, image], f"{file}: {CONTENT}, row {row}, column {image}")
            rows[image].append(np.column_stack([found, np.full(len(found), own[row])]))
    classes = interactions(coco_order("hico_det"))
    return [
        _triplets(image_id, str(folder), np.concatenate([np.zeros((0, WIDTH + 1)), *found]), classes)
        for image_id, found in zip(sorted(image_ids), rows, strict=True)
    ]


def _read(path: Path, read: Callable[..., Any]) -> Any:
    """Return what one of SciPy's functions reads of `all_boxes`."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; a cache has {OBJECTS} files, one per object")
    try:
        return read(path, variable_names=[CONTENT]) if read is loadmat else read(path)
    except (
        OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, MemoryError, OverflowError, EOFError,
        struct.error, zlib.error, MatReadError,
    ) as error:  # fmt: skip
        raise InputError(f"{path} is not a whole Matlab file of version 7 or older ({error}); write it again") from None


def _shape(path: Path) -> tuple[int, int]:
    """Rows (interactions) and columns (images) of a file's cells, from its header."""
    for name, shape, kind in _read(path, whosmat):
        if name == CONTENT and kind == "cell" and len(shape) == 2:
            return int(shape[0]), int(shape[1])
    raise DataError(f"{path} has no cell array {CONTENT!r} of interactions by images; write it as UPT and PViC do")


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


def _sizes(table: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
    """Number of values in each cell; 1 for what is no array, so that it is looked at."""
    return np.array([[getattr(cell, "size", 1) for cell in row] for row in table], np.int64).reshape(table.shape)


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
