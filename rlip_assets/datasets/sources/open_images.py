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
from rlip_assets.datasets.sources.json_stream import stream_arrays, stream_rows
from rlip_assets.datasets.sources.readers import Fragment, RawImage, Reader, RecordError
from rlip_assets.datasets.sources.rows import (
    BadValue,
    admit,
    exactly_four_numbers,
    list_of,
    plain_id,
    record,
    side,
    text_or_none,
    whole,
)

_CATEGORIES = "categories_dict.json"


class OpenImagesReader(Reader):
    """Boxes and relations of Open Images v6; the object table is the part of the 601 categories that occurs."""

    dataset = "open_images"

    def _split_files(self) -> dict[str, Path]:
        names = {split: f"vrd-{split}-anno.json" for split in ("train", "val", "test")}
        return {split: self.existing(f"annotations/{name}", name) for split, name in names.items()}

    def official_files(self) -> dict[str, Path]:
        return {"class names": self._categories_file, **self._split_files()}

    def splits(self) -> dict[str, Path]:
        """Split name to annotation file; only splits that are on disk."""
        return self.on_disk(self._split_files())

    def annotation_files(self) -> list[Path]:
        return [self._categories_file, *self.splits().values()]

    @property
    def _categories_file(self) -> Path:
        return self.existing(f"annotations/{_CATEGORIES}", _CATEGORIES)

    @cached_property
    def names(self) -> tuple[list[str | None], list[str | None]]:
        """Texts of all objects and of all relations, by the numbers that the annotations use; None for what is not a text.

        Raises:
            InputError: the file lacks "obj" or "rel".
        """
        found: dict[str, list[str | None]] = {"obj": [], "rel": []}
        for key, _, name in stream_arrays(self._categories_file, "obj", "rel"):
            found[key].append(None if text_or_none(name) is None else open_images_text(name) or None)
        return found["obj"], found["rel"]

    def fragments(self) -> Iterator[Fragment]:
        for split, path in self.splits().items():
            for number, row in stream_rows(path):
                yield admit(_IMAGE, row, "image", "img_fn", f"{self.relative(path)} row {number}", split)

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        image = fragments[0]
        size, boxes, labels, relations = (image.content[key] for key in ("img_size", "bbox", "det_labels", "rel"))
        objects, predicates = self.names
        return RawImage(
            image_id=image.image_id,
            split=image.split,
            file_name=self.image_path(image.split, f"{image.image_id}.jpg"),
            size=(size[0], size[1]) if size and all(size) else None,
            record=[
                boxes,
                [[label, *_named(label, objects)] for label in labels],
                [[relation, *_named(relation[2] if len(relation) == 3 else -1, predicates)] for relation in relations],
            ],
            origin=image.origin,
        )

    def observe(self, raw: RawImage, tally: Counter[str]) -> None:
        tally.update(text for _, text, _ in raw.record[1] if text is not None)

    def classes(self, tally: Counter[str]) -> Classes:
        objects, relations = self.names
        return own_classes(self.root, self.dataset) or Classes(
            dataset=self.dataset,
            objects=[name for name in dict.fromkeys(filter(None, objects)) if tally[name]],
            relations=list(dict.fromkeys(filter(None, relations))),
        )

    def scene(self, raw: RawImage, size: tuple[int, int], classes: Classes, counts: Counter[str]) -> Scene:
        boxes, labels, relations = raw.record
        if len(boxes) != len(labels):
            raise RecordError(f"{len(boxes)} boxes have {len(labels)} labels")
        texts = []
        for label, text, why in labels:
            if text is None:
                raise RecordError(f"a box has label {label}, {why}")
            texts.append(text)
        triplets = []
        for number, (relation, text, why) in enumerate(relations):
            if len(relation) != 3 or not all(0 <= end < len(boxes) for end in relation[:2]):
                raise RecordError(f"relation {number} is {relation!r}, not two of {len(boxes)} boxes and a predicate")
            if text is None:
                raise RecordError(f"relation {number} has predicate {relation[2]}, {why}")
            triplets.append((relation[0], relation[1], text))
        kept = [as_annotated(box, size, counts) for box in boxes]
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, kept, texts, triplets)


def _named(number: int, names: Sequence[str | None]) -> tuple[str | None, str]:
    """Return the text that a number of the annotations stands for, or None and what is wrong with it."""
    if not 0 <= number < len(names):
        return None, f"which is not one of the {len(names)} classes"
    return names[number], "" if names[number] else f"which has no text in {_CATEGORIES}"


def _size(value: Any) -> list[int | None] | None:
    """Width and height, or None where the file says null."""
    if value is None:
        return None
    if isinstance(value, list) and len(value) > 1:
        return [side(number) for number in value[:2]]
    raise BadValue("is not a width and a height", value)


_IMAGE = record(
    img_fn=plain_id,
    img_size=_size,
    bbox=list_of(exactly_four_numbers),
    det_labels=list_of(whole),
    rel=list_of(list_of(whole)),
)
