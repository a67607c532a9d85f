"""Boxes of a benchmark's training images, found by a detector: what their own labels are made on.

A recipe with `own_labels` trains on relations that the chain captions -> candidates -> R-Tagger finds in a benchmark's own training images.
The annotations of these images are what a few-shot or zero-shot setting must not know, their boxes included: HICO-DET boxes interacting
things alone. So this stage starts the chain from files and a detector; no annotation is among its inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from rlip_assets.datasets.scenes import Scene, finish_table, make_scene, write_part
from rlip_assets.datasets.sources.classes import Classes, read_classes
from rlip_assets.datasets.sources.manifests import ManifestImage, read_manifest
from rlip_assets.datasets.sources.roots import raw_root
from rlip_assets.labelling.caption_parsing.class_matching import ClassMatcher
from rlip_assets.labelling.captions.stage import model_digest
from rlip_assets.labelling.image_shards import Unreadable, close_account, make_shards, write_unreadable
from rlip_assets.labelling.synonyms import read_synonyms
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params.labels import DetectionParams
from rlip_assets.lineage.shard_progress import rows_done
from rlip_assets.lineage.shards import add_figures, collect, split
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import sha256_file
from rlip_assets.storage.images import BadImageError, image_inside, open_image
from rlip_model.boxes import iou

if TYPE_CHECKING:
    from rlip_assets.lineage.recipes import Augmentation

_FILE = "part-00000.parquet"
_SAME_BOX = 0.7
"""IoU from which two boxes of a class are one thing."""
TRAINING_SPLIT = "train"


@dataclass(frozen=True)
class FoundBoxes:
    """What a detector finds in an image: n boxes x1 y1 x2 y2 in pixels, their class names and scores."""

    boxes: npt.NDArray[np.float32]
    names: Sequence[str]
    scores: npt.NDArray[np.float32]


class Detector(Protocol):
    """The interface of detectors: the names of all classes that they know, and RGB images to the boxes of each."""

    @property
    def names(self) -> Sequence[str]: ...

    def __call__(self, images: Sequence[Image.Image], /) -> list[FoundBoxes]: ...


def detection_stage(ctx: StageContext) -> dict[str, Any]:
    """Find the boxes in the training images of one bucket.

    Inputs: `manifest`, `classes`, and `detection_model` unless `detections.model` is a hub name. Output: `detections`, a scene table of the
    images of the training split, without triplets, and `quarantine.parquet`.

    Raises:
        InputError: no detector, one without class names or with none of the benchmark's, a damaged manifest, or an image that is not the
            one of the manifest.
        DataError: more images are unreadable than `detections.quarantine_limit` allows.
    """
    params, dataset = ctx.params.detections, (ctx.partition or "").rpartition("-")[0]
    source = str(ctx.inputs.get("detection_model") or params.model)
    classes = read_classes(ctx.inputs["classes"])
    images = [image for image in read_manifest(ctx.inputs["manifest"]).images if image.split == TRAINING_SPLIT]
    synonyms = read_synonyms(ctx.params.candidates.synonyms)
    matcher = ClassMatcher(classes.objects, synonyms)
    sizes = ctx.params.training.r_tagger.resolve().augmentation

    def content(image: ManifestImage) -> list[object]:
        return [image.image_id, image.split, image.file_name, image.sha256]

    shards = split(images, params.rows_per_shard, lambda image: image.image_id, content)
    settings = {
        "params": params.model_dump(mode="json", exclude={"quarantine_limit"}),
        "sizes": [sizes.test_short_side, sizes.longest],
        "synonyms": {name: list(nouns) for name, nouns in synonyms.items()},
        "classes": sha256_file(ctx.inputs["classes"]),
        "detector": model_digest(source),
    }
    root = raw_root(ctx.params.sources, dataset, ctx.root)
    make = _Detecting(source, params, sizes, ctx.params.training.device, classes, matcher, root)
    finished, quarantine = make_shards(ctx, settings, shards, make)
    output = ctx.outputs["detections"]
    collect(finished, output, _FILE)
    finish_table(output)
    figures = add_figures(shard.figures for shard in finished)
    close_account(output, ctx.work, quarantine, len(images), figures["images"], params.quarantine_limit)
    return {"input": len(images), **figures, "quarantined": len(quarantine)}


@dataclass
class _Detecting:
    """Makes shards; opens the detector at the first one."""

    source: str
    params: DetectionParams
    sizes: Augmentation
    device: str
    classes: Classes
    matcher: ClassMatcher
    root: Path
    opened: Detector | None = None

    def __call__(self, rows: list[ManifestImage], folder: Path) -> dict[str, Any]:
        detector = self.opened = self.opened or self._open_detector()
        scenes: list[Scene] = []
        left_out: Unreadable = []
        unknown: Counter[str] = Counter()
        for images in self._batches(rows, left_out):
            for (row, image), found in zip(images, detector([image for _, image in images]), strict=True):
                scenes.append(self._scene(row, image, found, unknown))
        write_part(folder / _FILE, scenes)
        write_unreadable(folder, left_out)
        boxes = sum(len(scene.labels) for scene in scenes)
        return {"images": len(scenes), "boxes": boxes, "boxes_of_no_class": dict(unknown)}

    def _open_detector(self) -> Detector:
        """Open the detector, unless it names no class of the benchmark, such as LABEL_0, transformers' name for a class that has none."""
        detector = open_detector(self.source, self.params, self.sizes, self.device)
        if any(self.matcher.match(name, self.classes.objects) for name in detector.names):
            return detector
        names = ", ".join(detector.names[:3])
        known = f"classes of {self.source}/metadata.json"
        place = known if self.params.model is None else f"id2label of {self.source}/config.json"
        raise InputError(
            f"none of the detector's {len(detector.names)} classes is one of {self.classes.dataset} ({names}, ...); write class names into "
            f"{place}, or synonyms into a table of candidates.synonyms"
        )

    def _batches(
        self, rows: Sequence[ManifestImage], left_out: Unreadable
    ) -> Iterator[list[tuple[ManifestImage, Image.Image]]]:
        """Yield readable images, `batch_size` at a time."""
        batch: list[tuple[ManifestImage, Image.Image]] = []
        for row in rows:
            try:
                batch.append((row, self._open(row)))
            except BadImageError as error:
                left_out.append({"image_id": row.image_id, "file_name": row.file_name, "reason": error.reason})
            rows_done()
            if len(batch) == self.params.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _open(self, row: ManifestImage) -> Image.Image:
        """The pixels of an image, whose file is the one that the manifest lists.

        Raises:
            BadImageError, InputError: as `open_image`; a file that was missing when it was listed is a bad one.
        """
        file = image_inside(self.root, row.file_name)
        if row.sha256 is None:
            raise BadImageError(
                file, "the file was missing when its manifest was made; run the raw_manifest stage again"
            )
        return open_image(file, sha256=row.sha256)

    def _scene(self, row: ManifestImage, image: Image.Image, found: FoundBoxes, unknown: Counter[str]) -> Scene:
        """The image with what was found, in the words of the benchmark; other classes are counted."""
        named = [self.matcher.match(name, self.classes.objects) for name in found.names]
        sure = found.scores >= self.params.min_score
        unknown.update(
            name for name, text, is_sure in zip(found.names, named, sure, strict=True) if is_sure and not text
        )
        kept = [place for place in np.argsort(-found.scores, kind="stable").tolist() if sure[place] and named[place]]
        boxes = np.clip(found.boxes, 0, np.array([image.width, image.height] * 2, np.float32))
        kept = _once(boxes, [str(text) for text in named], kept)
        labels = [str(named[place]) for place in kept]
        return make_scene(
            row.image_id, self.classes.dataset, row.split, row.file_name, *image.size, boxes[kept], labels
        )


def _once(boxes: npt.NDArray[np.float32], labels: Sequence[str], places: Sequence[int]) -> list[int]:
    """Return the places, best first, without boxes of no area and without those that are a better one of their class again."""
    kept: list[int] = []
    for place in places:
        again = any(labels[place] == labels[other] and iou(boxes[place], boxes[other]) >= _SAME_BOX for other in kept)
        if not again and (boxes[place, 2:] - boxes[place, :2]).min() >= 1:
            kept.append(place)
    return kept


def open_detector(source: str, params: DetectionParams, sizes: Augmentation, device: str) -> Detector:
    """Open a detector: a folder as `save_detector` writes it, or a model of transformers where `detections.model` names one.

    Raises:
        InputError: no detector there, or one without class names.
    """
    from rlip_assets.labelling.box_detectors import OwnDetector, TransformersDetector
    from rlip_assets.training.processes import choose_device

    if params.model is None:
        return OwnDetector.open(Path(source), sizes, choose_device(device))
    return TransformersDetector.open(source, params.min_score, choose_device(device))
