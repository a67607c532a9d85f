"""HICO-DET in HOIA form: `annotations/{trainval,test}_hico.json`, images in `images/{train2015,test2015}/`.

Boxes are x1 y1 x2 y2 pixels and stay as annotated: the evaluation protocol uses them unclipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_assets.datasets.sources.boxes import as_annotated
from rlip_assets.datasets.sources.classes import RARE_BELOW, Classes, coco_names, hico_classes, hico_verbs, own_classes
from rlip_assets.datasets.sources.json_stream import stream_rows
from rlip_assets.datasets.sources.readers import Fragment, RawImage, Reader, RecordError
from rlip_assets.datasets.sources.rows import (
    admit,
    as_it_stands,
    exactly_four_numbers,
    list_of,
    record,
    scalar,
    text,
    whole,
)

_FILES = {"train": "trainval_hico.json", "test": "test_hico.json"}


def _number(value: Any) -> int:
    """An id, which some files write as text with a line end, as a number."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 9:
        return int(value)
    return whole(value)


_ID = as_it_stands(_number)
_BOX = record(bbox=exactly_four_numbers, category_id=_ID)
_PAIR = record(subject_id=_ID, object_id=_ID, category_id=_ID, hoi_category_id_=scalar)
_IMAGE = record(file_name=text, annotations=list_of(_BOX), hoi_annotation=list_of(_PAIR))


class HicoDetReader(Reader):
    """Human-object pairs of HICO-DET. The image id is the file name without its ending."""

    dataset = "hico_det"

    def official_files(self) -> dict[str, Path]:
        return {split: self.existing(f"annotations/{name}", name) for split, name in _FILES.items()}

    def splits(self) -> dict[str, Path]:
        """Split name to annotation file; only splits that are on disk."""
        return self.on_disk(self.official_files())

    def annotation_files(self) -> list[Path]:
        return list(self.splits().values())

    def fragments(self) -> Iterator[Fragment]:
        for split, path in self.splits().items():
            for number, row in stream_rows(path):
                piece = admit(_IMAGE, row, "image", "file_name", f"{self.relative(path)} row {number}", split)
                yield piece._replace(image_id=PurePosixPath(piece.image_id).stem)

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        image = fragments[0]
        return RawImage(
            image_id=image.image_id,
            split=image.split,
            file_name=self.image_path(image.split, image.content["file_name"]),
            size=None,
            record=[image.content["annotations"], image.content["hoi_annotation"]],
            origin=image.origin,
        )

    def observe(self, raw: RawImage, tally: Counter[str]) -> None:
        if raw.split != "train":
            return
        tally["train"] += 1
        labels = [_label(box) for box in raw.record[0]]
        for pair in raw.record[1]:
            verb, number = hico_verbs().get(_number(pair["category_id"])), _number(pair["object_id"])
            if verb is not None and 0 <= number < len(labels):
                tally[f"{verb}\t{labels[number]}"] += 1

    def classes(self, tally: Counter[str]) -> Classes:
        """The table of the dataset or the official one, its rare classes counted on the training split where that is
        there."""
        classes = own_classes(self.root, self.dataset) or hico_classes()
        if not tally["train"] or classes.hois is None or classes.relations is None:
            return classes
        counts = [tally[f"{classes.relations[verb]}\t{classes.objects[noun]}"] for verb, noun in classes.hois]
        return classes.model_copy(update={"rare": [hoi for hoi, count in enumerate(counts) if count < RARE_BELOW]})

    def scene(self, raw: RawImage, size: tuple[int, int], classes: Classes, counts: Counter[str]) -> Scene:
        annotations, pairs = raw.record
        boxes = [as_annotated(box["bbox"], size, counts) for box in annotations]
        labels = [_label(box) for box in annotations]
        for number, label in enumerate(labels):
            if label not in classes.objects:
                raise RecordError(
                    f"box {number} has category id {annotations[number]['category_id']!r}, which is no class"
                )
        triplets = [_triplet(number, pair, len(boxes), classes) for number, pair in enumerate(pairs)]
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, boxes, labels, triplets)


def _label(box: dict[str, Any]) -> str:
    return coco_names().get(_number(box["category_id"]), "")


def _triplet(number: int, pair: dict[str, Any], boxes: int, classes: Classes) -> tuple[int, int, str]:
    subject, target = _number(pair["subject_id"]), _number(pair["object_id"])
    if not (0 <= subject < boxes and 0 <= target < boxes):
        raise RecordError(f"interaction {number} refers to boxes {subject} and {target} of {boxes}")
    verb = hico_verbs().get(_number(pair["category_id"]))
    if verb is None or verb not in (classes.relations or ()):
        raise RecordError(f"interaction {number} has verb id {pair['category_id']!r}, which is no class")
    return subject, target, verb
