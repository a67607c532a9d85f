"""Detection datasets in COCO form: `images`, `annotations` (x y width height boxes) and `categories`."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_assets.datasets.sources.boxes import Box, clipped, from_corner
from rlip_assets.datasets.sources.classes import Classes, own_classes
from rlip_assets.datasets.sources.json_stream import stream_rows
from rlip_assets.datasets.sources.readers import Fragment, RawImage, Reader, RecordError, required
from rlip_assets.storage.errors import DataError


class InstancesReader(Reader):
    """Base of the readers of COCO-form files: one annotation file a split."""

    @abstractmethod
    def splits(self) -> dict[str, Path]:
        """Split name to annotation file; only splits that are on disk."""

    @abstractmethod
    def image_path(self, split: str, file_name: str) -> str:
        """Where the file that an annotation file names lies, relative to the root."""

    def text_of(self, category_id: int, name: str) -> str:
        """The text of a category that the annotation file calls `name`."""
        return name.lower().strip()

    def annotation_files(self) -> list[Path]:
        return list(self.splits().values())

    @cached_property
    def categories(self) -> Mapping[int, str]:
        """Category id to text, from the annotation files, in the order of ids.

        Raises:
            DataError: no categories, or an id with two names.
        """
        found: dict[int, str] = {}
        for path in self.annotation_files():
            for row, category in stream_rows(path, "categories"):
                key, name = required(category, ("id", "name"), f"{self.relative(path)} categories row {row}")
                text = self.text_of(key, name)
                if found.setdefault(key, text) != text:
                    raise DataError(
                        f"{path}: category id {key} is {text!r} here and {found[key]!r} before; use one table"
                    )
        if not found:
            raise DataError(f"{self.root}: the annotation files list no categories; fetch the complete files")
        return dict(sorted(found.items()))

    def fragments(self) -> Iterator[Fragment]:
        for split, path in self.splits().items():
            name = self.relative(path)
            for row, image in stream_rows(path, "images"):
                origin = f"{name} images row {row}"
                image_id, file_name = required(image, ("id", "file_name"), origin)
                content = [split, file_name, image.get("width"), image.get("height")]
                yield Fragment(str(image_id), "image", content, origin)
            for row, annotation in stream_rows(path, "annotations"):
                origin = f"{name} annotations row {row}"
                image_id, category, box = required(annotation, ("image_id", "category_id", "bbox"), origin)
                crowd = int(annotation.get("iscrowd") or 0)
                yield Fragment(str(image_id), "annotation", [annotation.get("id"), category, box, crowd], origin)

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        image, *annotations = fragments
        if not annotations:
            return None
        split, file_name, width, height = image.content
        return RawImage(
            image_id=image.image_id,
            split=split,
            file_name=self.image_path(split, file_name),
            size=(int(width), int(height)) if width and height else None,
            record=[piece.content for piece in annotations],
            origin=image.origin,
        )

    def classes(self, tally: Counter[str]) -> Classes:
        return own_classes(self.root, self.dataset) or Classes(
            dataset=self.dataset, objects=list(dict.fromkeys(self.categories.values()))
        )

    def category_ids(self) -> dict[str, int | str]:
        return {text: key for key, text in reversed(list(self.categories.items()))}

    def scene(self, raw: RawImage, size: tuple[int, int], classes: Classes, counts: Counter[str]) -> Scene:
        boxes: list[Box] = []
        labels: list[str] = []
        for number, (_, category, box, crowd) in enumerate(raw.record):
            if not isinstance(category, int) or category not in self.categories:
                raise RecordError(f"annotation {number} has category id {category}, which the file does not list")
            if crowd:
                counts["boxes_crowd"] += 1
                continue
            kept = clipped(from_corner(box), size, counts)
            if kept is not None:
                boxes.append(kept)
                labels.append(self.categories[category])
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, boxes, labels)


class CocoStyleReader(InstancesReader):
    """Any detection dataset in COCO form, for labelling one's own: a json file and a folder of images a split."""

    def __init__(self, dataset: str, root: Path, splits: Mapping[str, tuple[str, str]]) -> None:
        """Args:
        dataset: name of the dataset.
        root: folder that the other paths are relative to.
        splits: split name to (annotation file, folder of images).
        """
        self.dataset = dataset
        super().__init__(root)
        self._splits = dict(splits)

    @property
    def root_key(self) -> str:
        return f"sources.own.{self.dataset}.root"

    def splits(self) -> dict[str, Path]:
        return {split: self.root / annotations for split, (annotations, _) in self._splits.items()}

    def image_path(self, split: str, file_name: str) -> str:
        return (Path(self._splits[split][1]) / file_name).as_posix()
