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
from rlip_assets.datasets.sources.readers import Fragment, RawImage, Reader, RecordError
from rlip_assets.storage.errors import DataError, InputError

_CLASSES = "class-descriptions-boxable.csv"
_FILES = {
    "train": ("train", "oidv6-train-annotations-bbox.csv"),
    "val": ("validation", "validation-annotations-bbox.csv"),
    "test": ("test", "test-annotations-bbox.csv"),
}
_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")


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

    def splits(self) -> dict[str, Path]:
        """Split name to file of boxes; only splits that are on disk."""
        return self.on_disk({split: self.root / name for split, (_, name) in _FILES.items()})

    def annotation_files(self) -> list[Path]:
        return [self.root / _CLASSES, *self.splits().values()]

    @cached_property
    def names(self) -> dict[str, str]:
        """Label ("/m/01g317") to text ("person").

        Raises:
            InputError: the file is missing or not UTF-8.
        """
        path = self.root / _CLASSES
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                return {row[0]: row[1].lower() for row in csv.reader(stream) if len(row) == 2 and row[0] != "LabelName"}
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; fetch it beside the files of boxes") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 at byte {error.start}; fetch it again") from None

    def fragments(self) -> Iterator[Fragment]:
        for split, path in self.splits().items():
            declared: set[str] = set()
            with path.open(encoding="utf-8", newline="") as stream:
                rows = csv.DictReader(stream)
                lacking = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
                if lacking:
                    raise DataError(f"{path} has no column {lacking[0]!r}; fetch the official file of boxes again")
                for number, row in enumerate(rows):
                    origin = f"{path.name} row {number}"
                    image_id = row["ImageID"]
                    if image_id not in declared:
                        declared.add(image_id)
                        yield Fragment(image_id, "image", split, origin)
                    try:
                        box = [float(row[name]) for name in ("XMin", "YMin", "XMax", "YMax")]
                    except (TypeError, ValueError):
                        raise DataError(
                            f"{path} row {number} has a box that is no number; fetch the file again"
                        ) from None
                    yield Fragment(image_id, "annotation", [row["LabelName"], box, row["IsGroupOf"] == "1"], origin)

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        image, *boxes = fragments
        folder = _FILES[image.content][0]
        return RawImage(
            image_id=image.image_id,
            split=image.content,
            file_name=f"{folder}/{image.image_id}.jpg",
            size=None,
            record=[piece.content for piece in boxes],
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
        for number, (label, (x1, y1, x2, y2), group) in enumerate(raw.record):
            if label not in self.names:
                raise RecordError(f"box {number} has label {label!r}, which {_CLASSES} does not list")
            if group:
                counts["boxes_group"] += 1
                continue
            box = clipped((x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1]), size, counts)
            if box is not None:
                boxes.append(box)
                labels.append(self.names[label])
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, boxes, labels)
