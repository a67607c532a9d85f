"""Detection datasets in COCO form: `images`, `annotations` (x y width height boxes) and `categories`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_assets.datasets.sources.boxes import Box, clipped, from_corner
from rlip_assets.datasets.sources.classes import Classes, own_classes
from rlip_assets.datasets.sources.json_stream import stream_arrays
from rlip_assets.datasets.sources.readers import REJECTED, Fragment, RawImage, Reader, RecordError
from rlip_assets.datasets.sources.rows import BadValue, admit, flag, four_numbers, plain_id, record, scalar, side, text
from rlip_assets.storage.errors import DataError, ParameterError

_IMAGE = record(id=plain_id, file_name=text, width_=side, height_=side)
_ANNOTATION = record(image_id=plain_id, category_id=plain_id, bbox=four_numbers, iscrowd_=flag, id_=scalar)
_CATEGORY = record(id=plain_id, name=text)


class InstancesReader(Reader):
    """Base of the readers of COCO-form files: one annotation file per split."""

    def splits(self) -> dict[str, Path]:
        """Split name to annotation file; only splits that are on disk."""
        return self.on_disk(self.official_files())

    def text_of(self, category_id: int | str, name: str) -> str:
        """Return the text of a category that the annotation file calls `name`."""
        return " ".join(name.lower().split())

    def annotation_files(self) -> list[Path]:
        return list(self.splits().values())

    @cached_property
    def _category_rows(self) -> tuple[dict[int | str, str], dict[int | str, str]]:
        """Category id to text in the order of ids, and to what is wrong with its rows; under "" what is wrong with rows without id."""
        if self.header is None:
            rows = self._rows("categories", optional="categories")
            self.header = self._categories((row, origin) for _, _, row, origin in rows)
        texts, wrong = (dict(pairs) for pairs in self.header)
        if not texts and not wrong:
            raise DataError(f"{self.root}: the annotation files list no categories; fetch the complete files")
        return texts, wrong

    def _categories(self, rows: Iterable[tuple[Any, str]]) -> list[list[tuple[int | str, str]]]:
        """Pairs of category id and text, and of id and fault, from rows with their origins."""
        texts: dict[int | str, str] = {}
        wrong: dict[int | str, str] = {}
        for row, origin in rows:
            try:
                category = _CATEGORY(row)
            except BadValue as error:
                key = scalar(row.get("id")) if isinstance(row, dict) else None
                wrong.setdefault("" if key is None else plain_id(key), error.reason(origin))
                continue
            key, name = category["id"], self.text_of(category["id"], category["name"])
            if texts.setdefault(key, name) != name:
                wrong.setdefault(key, f"it has two names ({texts[key]!r}, and {name!r} in {origin})")
        order = sorted(texts.keys() - wrong.keys(), key=lambda key: (isinstance(key, str), key))
        return [[(key, texts[key]) for key in order], list(wrong.items())]

    def _rows(self, *arrays: str, optional: str) -> Iterator[tuple[str, str, Any, str]]:
        """Yield (split, array, row, origin) of some arrays of all files."""
        for split, path in self.splits().items():
            name = self.relative(path)
            for array, number, row in stream_arrays(path, *arrays, optional=optional):
                yield split, array, row, f"{name} {array} row {number}"

    @property
    def categories(self) -> Mapping[int | str, str]:
        """Category id to text, from the annotation files, in the order of ids.

        Raises:
            DataError: no categories.
        """
        return self._category_rows[0]

    def fragments(self) -> Iterator[Fragment]:
        categories = []
        for split, array, row, origin in self._rows("images", "annotations", "categories", optional="categories"):
            if array == "images":
                yield admit(_IMAGE, row, "image", "id", origin, split)
            elif array == "annotations":
                piece = admit(_ANNOTATION, row, "annotation", "image_id", origin, split)
                yield piece if piece.kind == REJECTED else piece._replace(content=_reduced(**piece.content))
            else:
                categories.append((row, origin))
        self.header = self._categories(categories)

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        image, *annotations = fragments
        if not annotations:
            return None
        width, height = image.content.get("width"), image.content.get("height")
        return RawImage(
            image_id=image.image_id,
            split=image.split,
            file_name=self.image_path(image.split, image.content["file_name"]),
            size=(width, height) if width and height else None,
            record=[[*piece.content, *self._named(piece.content[1])] for piece in annotations],
            origin=image.origin,
        )

    def _named(self, category: int | str) -> tuple[str | None, str]:
        """Return the text of a category id, or None and what is wrong with it."""
        texts, wrong = self._category_rows
        if category in texts:
            return texts[category], ""
        return None, wrong.get(category) or "which the file does not list" + (f": {wrong['']}" if "" in wrong else "")

    def classes(self, tally: Counter[str]) -> Classes:
        return own_classes(self.root, self.dataset) or Classes(
            dataset=self.dataset, objects=list(dict.fromkeys(self.categories.values()))
        )

    def category_ids(self) -> dict[str, int | str]:
        return {text: key for key, text in reversed(list(self.categories.items()))}

    def scene(self, raw: RawImage, size: tuple[int, int], classes: Classes, counts: Counter[str]) -> Scene:
        boxes: list[Box] = []
        labels: list[str] = []
        for number, (_, category, box, crowd, name, why) in enumerate(raw.record):
            if name is None:
                raise RecordError(f"annotation {number} has category id {category}, {why}")
            if crowd:
                counts["boxes_crowd"] += 1
                continue
            kept = clipped(from_corner(box, size, counts), size, counts)
            if kept is not None:
                boxes.append(kept)
                labels.append(name)
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, boxes, labels)


def _reduced(
    image_id: int | str, category_id: int | str, bbox: list[Any], iscrowd: int = 0, id: Any = None
) -> list[Any]:
    """Return the fields of an annotation that are kept."""
    return [id, category_id, bbox, iscrowd]


class CocoStyleReader(InstancesReader):
    """Any detection dataset in COCO form: one json file and one folder of images per split."""

    def __init__(self, dataset: str, root: Path, splits: Mapping[str, tuple[str, str]]) -> None:
        """Args:
            dataset: name of the dataset.
            root: folder that the other paths are relative to.
            splits: split name to (annotation file, folder of images).

        Raises:
            InputError: no such folder.
            ParameterError: a path that leads out of the root.
        """
        self.dataset = dataset
        super().__init__(root)
        self._splits = dict(splits)
        for split, paths in self._splits.items():
            for key, path in zip(("annotations", "images"), paths, strict=True):
                if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                    place = f"sources.own.{dataset}.splits.{split}.{key}"
                    raise ParameterError(f"{place} is {path!r}; give a path below the dataset's root, {root}")

    @property
    def root_key(self) -> str:
        return f"sources.own.{self.dataset}.root"

    def official_files(self) -> dict[str, Path]:
        return {split: self.root / annotations for split, (annotations, _) in self._splits.items()}

    def splits(self) -> dict[str, Path]:
        files = self.official_files()
        return {split: path for split, path in files.items() if path not in self.passed_over}

    def image_places(self, split: str, file_name: str) -> list[str]:
        return [(Path(self._splits[split][1]) / file_name).as_posix()]
