"""Open Images v6 scene graphs: `vrd-{train,val,test}-anno.json`, `categories_dict.json`, images in `images/`.

Texts are lower case with spaces ("Coffee cup" -> "coffee cup", "inside_of" -> "inside of"), like all other texts that the network reads.
Boxes stay as annotated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_assets.datasets.sources.boxes import as_annotated
from rlip_assets.datasets.sources.classes import Classes, open_images_text, own_classes
from rlip_assets.datasets.sources.json_stream import read_value, stream_rows
from rlip_assets.datasets.sources.readers import Fragment, RawImage, Reader, RecordError, required
from rlip_assets.storage.errors import DataError

_CATEGORIES = "categories_dict.json"


class OpenImagesReader(Reader):
    """Boxes and relations of Open Images v6; the object table is the part of the 601 categories that occurs."""

    dataset = "open_images"

    def splits(self) -> dict[str, Path]:
        """Split name to annotation file; only splits that are on disk."""
        names = {split: f"vrd-{split}-anno.json" for split in ("train", "val", "test")}
        return self.on_disk({split: self.existing(f"annotations/{name}", name) for split, name in names.items()})

    def annotation_files(self) -> list[Path]:
        return [self._categories_file, *self.splits().values()]

    @property
    def _categories_file(self) -> Path:
        return self.existing(f"annotations/{_CATEGORIES}", _CATEGORIES)

    @cached_property
    def names(self) -> tuple[list[str], list[str]]:
        """Texts of all objects and of all relations, by the numbers that the annotations use.

        Raises:
            DataError: the file lacks "obj" or "rel".
        """
        lists = [read_value(self._categories_file, key) for key in ("obj", "rel")]
        if not all(isinstance(names, list) for names in lists):
            raise DataError(
                f"{self._categories_file} has no lists 'obj' and 'rel'; fetch the file of the v6 scene graphs"
            )
        objects, relations = ([open_images_text(name) for name in names] for names in lists)
        return objects, relations

    def fragments(self) -> Iterator[Fragment]:
        for split, path in self.splits().items():
            name = self.relative(path)
            for row, image in stream_rows(path):
                origin = f"{name} row {row}"
                keys = ("img_fn", "img_size", "bbox", "det_labels", "rel")
                image_id, size, boxes, labels, relations = required(image, keys, origin)
                yield Fragment(str(image_id), "image", [split, size, boxes, labels, relations], origin)

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        split, size, boxes, labels, relations = fragments[0].content
        folder = self.existing("images", split)
        return RawImage(
            image_id=fragments[0].image_id,
            split=split,
            file_name=f"{self.relative(folder)}/{fragments[0].image_id}.jpg",
            size=(int(size[0]), int(size[1])),
            record=[boxes, labels, relations],
            origin=fragments[0].origin,
        )

    def observe(self, raw: RawImage, tally: Counter[str]) -> None:
        objects, _ = self.names
        tally.update(objects[label] for label in raw.record[1] if _within(label, objects))

    def classes(self, tally: Counter[str]) -> Classes:
        objects, relations = self.names
        return own_classes(self.root, self.dataset) or Classes(
            dataset=self.dataset,
            objects=[name for name in dict.fromkeys(objects) if tally[name]],
            relations=list(dict.fromkeys(relations)),
        )

    def scene(self, raw: RawImage, size: tuple[int, int], classes: Classes, counts: Counter[str]) -> Scene:
        boxes, labels, relations = raw.record
        objects, predicates = self.names
        if len(boxes) != len(labels):
            raise RecordError(f"{len(boxes)} boxes have {len(labels)} labels")
        for label in labels:
            if not _within(label, objects):
                raise RecordError(f"label {label!r} is no number of the {len(objects)} object categories")
        triplets = []
        for number, relation in enumerate(relations):
            if (
                not isinstance(relation, list)
                or len(relation) != 3
                or not all(_within(end, boxes) for end in relation[:2])
            ):
                raise RecordError(f"relation {number} is {relation!r}, not two of {len(boxes)} boxes and a predicate")
            if not _within(relation[2], predicates):
                raise RecordError(f"relation {number} has predicate {relation[2]!r}, which is no class")
            triplets.append((relation[0], relation[1], predicates[relation[2]]))
        texts = [objects[label] for label in labels]
        kept = [as_annotated(box, counts) for box in boxes]
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, kept, texts, triplets)


def _within(index: Any, values: Sequence[Any]) -> bool:
    return isinstance(index, int) and 0 <= index < len(values)
