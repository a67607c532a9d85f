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
from rlip_assets.datasets.sources.readers import Fragment, RawImage, Reader, RecordError, objects_of, required

_FILES = {"train": "trainval_hico.json", "test": "test_hico.json"}
_FOLDERS = {"train": "train2015", "test": "test2015"}


class HicoDetReader(Reader):
    """Human-object pairs of HICO-DET. The image id is the file name without its ending."""

    dataset = "hico_det"

    def splits(self) -> dict[str, Path]:
        """Split name to annotation file; only splits that are on disk."""
        return self.on_disk({split: self.existing(f"annotations/{name}", name) for split, name in _FILES.items()})

    def annotation_files(self) -> list[Path]:
        return list(self.splits().values())

    def fragments(self) -> Iterator[Fragment]:
        for split, path in self.splits().items():
            name = self.relative(path)
            for row, image in stream_rows(path):
                origin = f"{name} row {row}"
                file_name, annotations, pairs = required(image, ("file_name", "annotations", "hoi_annotation"), origin)
                content = [
                    split,
                    file_name,
                    objects_of(annotations, "annotations", origin),
                    objects_of(pairs, "hoi_annotation", origin),
                ]
                yield Fragment(PurePosixPath(file_name).stem, "image", content, origin)

    def image_path(self, split: str, file_name: str) -> str:
        return f"{self.relative(self.existing(f'images/{_FOLDERS[split]}', _FOLDERS[split]))}/{file_name}"

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        split, file_name, annotations, pairs = fragments[0].content
        return RawImage(
            image_id=fragments[0].image_id,
            split=split,
            file_name=self.image_path(split, file_name),
            size=None,
            record=[annotations, pairs],
            origin=fragments[0].origin,
        )

    def observe(self, raw: RawImage, tally: Counter[str]) -> None:
        if raw.split != "train":
            return
        tally["train"] += 1
        labels = [_label(box) for box in raw.record[0]]
        for pair in raw.record[1]:
            verb, number = hico_verbs().get(_number(pair.get("category_id"))), _number(pair.get("object_id"))
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
        boxes = [as_annotated(box.get("bbox", ()), counts) for box in annotations]
        labels = [_label(box) for box in annotations]
        for number, label in enumerate(labels):
            if label not in classes.objects:
                raise RecordError(
                    f"box {number} has category id {annotations[number].get('category_id')!r}, which is no class"
                )
        triplets = [_triplet(number, pair, len(boxes), classes) for number, pair in enumerate(pairs)]
        return make_scene(raw.image_id, self.dataset, raw.split, raw.file_name, *size, boxes, labels, triplets)


def _number(value: Any) -> int:
    """An id that some files write as text with a line end; -1 for anything else."""
    try:
        return int(str(value).strip())
    except ValueError:
        return -1


def _label(box: dict[str, Any]) -> str:
    return coco_names().get(_number(box.get("category_id")), "")


def _triplet(number: int, pair: dict[str, Any], boxes: int, classes: Classes) -> tuple[int, int, str]:
    subject, target = _number(pair.get("subject_id")), _number(pair.get("object_id"))
    if not (0 <= subject < boxes and 0 <= target < boxes):
        raise RecordError(f"interaction {number} refers to boxes {subject} and {target} of {boxes}")
    verb = hico_verbs().get(_number(pair.get("category_id")))
    if verb is None or verb not in (classes.relations or ()):
        raise RecordError(f"interaction {number} has verb id {pair.get('category_id')!r}, which is no class")
    return subject, target, verb
