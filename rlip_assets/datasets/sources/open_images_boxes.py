"""Open Images v6 boxes as a detection dataset to label: the official CSV files of boxes and class names.

Layout: `oidv6-train-annotations-bbox.csv`, `validation-annotations-bbox.csv`, `test-annotations-bbox.csv` and
`class-descriptions-boxable.csv`, images in `{train,validation,test}/<image id>.jpg`. Boxes are fractions of the image; "group of" boxes
are dropped and counted like crowds.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_assets.datasets.sources.boxes import Box, clipped
from rlip_assets.datasets.sources.classes import Classes, own_classes
from rlip_assets.datasets.sources.json_stream import Undecodable
from rlip_assets.datasets.sources.readers import Fragment, RawImage, Reader, RecordError
from rlip_assets.datasets.sources.rows import BadValue, admit, is_number, plain_id, record, text
from rlip_assets.storage.errors import DataError, InputError

_CLASSES = "class-descriptions-boxable.csv"
_FILES = {
    "train": ("train", "oidv6-train-annotations-bbox.csv"),
    "val": ("validation", "validation-annotations-bbox.csv"),
    "test": ("test", "test-annotations-bbox.csv"),
}
_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")
_LARGEST_FRACTION = 2
"""Annotators mark a little beyond the edge; more is not a fraction of the image."""


class OpenImagesBoxesReader(Reader):
    """Boxes of Open Images v6, without relations."""

    def __init__(self, root: Path, dataset: str = "open_images_boxes") -> None:
        """Args:
        root: folder of the raw dataset.
        dataset: name of the dataset.

        Raises:
            InputError: no such folder.
        """
        self.dataset = dataset
        super().__init__(root)

    @property
    def root_key(self) -> str:
        return f"sources.own.{self.dataset}.root"

    def _split_files(self) -> dict[str, Path]:
        return {split: self.root / name for split, (_, name) in _FILES.items()}

    def official_files(self) -> dict[str, Path]:
        return {"class names": self.root / _CLASSES, **self._split_files()}

    def splits(self) -> dict[str, Path]:
        """Split name to file of boxes; only splits that are on disk."""
        return self.on_disk(self._split_files())

    def annotation_files(self) -> list[Path]:
        return [self.root / _CLASSES, *self.splits().values()]

    @cached_property
    def names(self) -> dict[str, str]:
        """Label ("/m/01g317") to text ("person").

        Raises:
            InputError: the file is missing or not UTF-8.
        """
        rows = [row for row in _csv_rows(self.root / _CLASSES) if len(row) == 2 and not isinstance(row, str)]
        return {label: " ".join(name.lower().split()) for label, name in rows if name.strip() and label != "LabelName"}

    def fragments(self) -> Iterator[Fragment]:
        for split, path in self.splits().items():
            declared: set[str] = set()
            rows = _csv_rows(path)
            columns = next(rows, [])
            lacking = [name for name in _COLUMNS if name not in columns]
            if lacking:
                raise DataError(f"{path} has no column {lacking[0]!r}; fetch the official file of boxes again")
            for number, row in enumerate(rows):
                fields = row if isinstance(row, str) else dict(zip(columns, row, strict=False))
                piece = admit(_BOX, fields, "annotation", "ImageID", f"{path.name} row {number}", split)
                if piece.kind == "annotation" and piece.image_id not in declared:
                    declared.add(piece.image_id)
                    yield Fragment(piece.image_id, "image", None, piece.origin, split)
                yield piece

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        image, *boxes = fragments
        return RawImage(
            image_id=image.image_id,
            split=image.split,
            file_name=f"{_FILES[image.split][0]}/{image.image_id}.jpg",
            size=None,
            record=[
                [box["LabelName"], self.names.get(box["LabelName"]), [box[side] for side in _SIDES], box["IsGroupOf"]]
                for box in (piece.content for piece in boxes)
            ],
            origin=image.origin,
        )

    def classes(self, tally: Counter[str]) -> Classes:
        return own_classes(self.root, self.dataset) or Classes(
            dataset=self.dataset, objects=list(dict.fromkeys(self.names.values()))
        )

    def category_ids(self) -> dict[str, int | str]:
        return {text: key for key, text in reversed(self.names.items())}

    def scene(self, raw: RawImage, size: tuple[int, int], classes: Classes, counts: Counter[str]) -> Scene:
        boxes: list[Box] = []
        labels: list[str] = []
        for number, (label, name, corners, group) in enumerate(raw.record):
            if name is None:
                raise RecordError(f"box {number} has label {label!r}, which {_CLASSES} does not list")
            if group:
                counts["boxes_group"] += 1
                continue
            if None not in corners and max(map(abs, corners)) > _LARGEST_FRACTION:
                counts["boxes_not_fractions"] += 1
                continue
            scale = (*size, *size)
            pixels = [] if None in corners else [side * pixels for side, pixels in zip(corners, scale, strict=True)]
            box = clipped(pixels, size, counts)
            if box is not None:
                boxes.append(box)
                labels.append(name)
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, boxes, labels)


def _csv_rows(path: Path) -> Iterator[list[str] | Undecodable]:
    """Rows of a CSV file, blank lines left out.

    Raises:
        InputError: the file is missing or not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream)
            while True:
                try:
                    row = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Undecodable(f"a line that is not CSV, {error}")
                    continue
                if row:
                    yield row
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; fetch it beside the files of boxes") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); fetch it again") from None


def _fraction(value: str) -> float | None:
    """A number, or None for anything else, which the rules of boxes drop and count."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if is_number(found) else None


def _group(value: str) -> bool:
    """Return True where IsGroupOf is set; -1 stands for unknown."""
    if (found := _fraction(value or "0")) in (-1, 0, 1):
        return found == 1
    raise BadValue("is neither 0 nor 1", value)


_SIDES = ("XMin", "YMin", "XMax", "YMax")
_BOX = record(ImageID=plain_id, LabelName=text, IsGroupOf=_group, **dict.fromkeys(_SIDES, _fraction))
