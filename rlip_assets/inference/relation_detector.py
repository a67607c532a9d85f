"""Relations in photos: a checkpoint folder, images and texts in; scored triplets out.

    detector = RelationDetector.from_pretrained("data/models/finetune/hico_full")
    triplets = detector([photo], relations=["ride", "hold"])[0]

The checkpoint's metadata hold what a caller need not know: the image size of the training, its label texts, and whether subject scores
were learned (not by weights fine-tuned on HICO-DET or V-COCO).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rlip_assets.datasets.sources.classes import benchmark_of, learnt_texts, preset_classes
from rlip_assets.inference.text_vectors import TextVectors
from rlip_assets.storage.errors import DataError, InputError, ParameterError
from rlip_assets.training.transforms import target_size
from rlip_model import NO_OBJECTS, Checkpoint, load_checkpoint
from rlip_model.boxes import Box, iou
from rlip_model.postprocess import PairPredictions, hoi_predictions, sgg_predictions
from rlip_model.triplets import Triplet
from rlip_model.vision.images import image_tensor, stack_images

MIN_SIDE = 32
"""Smaller images are enlarged to this: the backbone halves an image six times."""
LISTS_KEPT = 4
"""Lists of texts whose vectors a detector keeps between calls."""


@dataclass
class RelationDetector:
    """A detector of relations between the things in a photo.

    Attributes:
        checkpoint: network, tokenizer and metadata.
        name: the model's name on pictures and in JSON.
        trained_on: its training data, such as "the micro world"; empty if unknown.
    """

    checkpoint: Checkpoint
    name: str = "model"
    trained_on: str = ""
    _vectors: Callable[[tuple[str, ...]], Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.checkpoint.config.tagger:
            raise InputError(f"{self.name} is an R-Tagger: it needs boxes; give a ParSeDA or ParSeD checkpoint")
        checkpoint = self.checkpoint  # not self: a cycle would keep the network in memory
        self._vectors = lru_cache(LISTS_KEPT)(lambda texts: TextVectors(checkpoint)(texts))

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str = "cpu") -> RelationDetector:
        """Open a checkpoint folder.

        Raises:
            InputError: the folder is missing or incomplete, or holds a network of another kind; the sentence names the remedy.
            ParameterError: the device cannot be used.
        """
        folder = Path(folder)
        return cls.of(open_checkpoint(folder, device), folder.name)

    @classmethod
    def of(cls, checkpoint: Checkpoint, name: str) -> RelationDetector:
        """Return the detector of an open checkpoint; `name` is the model's where its metadata have none."""
        metadata = checkpoint.metadata
        return cls(checkpoint, str(metadata.get("name", name)), str(metadata.get("trained_on", "")))

    @property
    def benchmark(self) -> str | None:
        """The benchmark an imported checkpoint was fine-tuned on; its texts are used if the checkpoint has no list of its own."""
        listed = self._metadata("objects", ()) or self._metadata("relations", ())
        return None if listed else benchmark_of(self.trained_on)

    @property
    def objects(self) -> tuple[str, ...]:
        """Object texts of the training, or of the benchmark; empty if there was no fixed list."""
        return self._own_texts("objects")

    @property
    def relations(self) -> tuple[str, ...]:
        """Relation texts of the training, or of the benchmark; empty if there was no fixed list."""
        return self._own_texts("relations")

    def __call__(
        self,
        images: Sequence[Image.Image],
        objects: Sequence[str] | None = None,
        relations: Sequence[str] | None = None,
        threshold: float = 0.1,
        limit: int = 20,
        vocabulary: str | None = None,
    ) -> list[list[Triplet]]:
        """Return the relations found in each image.

        Args:
            images: upright RGB images of any size; one batch.
            objects: texts of subjects and objects; None takes the checkpoint's own list, or that of its benchmark.
            relations: relation texts; None as for `objects`. Free text is accepted, repeated texts count once.
            threshold: lowest score of a returned triplet.
            limit: most triplets per image.
            vocabulary: "hico_det", "v_coco" or "open_images": replaces `objects` or `relations` that are None by those of this benchmark.

        Returns:
            Triplets per image, best first, without near-duplicates of a better one (the same words on the same boxes).

        Raises:
            DataError: no texts, an empty text, or one that is no valid Unicode.
            ParameterError: an unknown vocabulary, a threshold outside 0..1 or a limit below 1.
        """
        if not 0 <= threshold <= 1:
            raise ParameterError(f"The threshold is {threshold}: give a score between 0 and 1")
        if limit < 1:
            raise ParameterError(f"The limit is {limit}: ask for at least one relation")
        preset = preset_classes(vocabulary) if vocabulary else None
        object_texts = _texts(objects, preset.objects if preset else self.objects, "object")
        relation_texts = _texts(relations, (preset.relations or ()) if preset else self.relations, "relation")
        if not images:
            return []
        with torch.inference_mode():
            form = self.checkpoint.config.label_texts
            learnt = learnt_texts("objects", object_texts, form), learnt_texts("relations", relation_texts, form)
            pooled = self._vectors((*learnt[0], NO_OBJECTS, *learnt[1]))
            batch, mask = self._batch(images)
            output = self.checkpoint.model(batch, mask, pooled, len(object_texts) + 1)
        sizes = torch.tensor([[image.height, image.width] for image in images])
        learned_subjects = self._metadata("subject_scores", True)
        found = sgg_predictions(output, sizes) if learned_subjects else hoi_predictions(output, sizes)
        subject_text = None if learned_subjects else str(self._metadata("subject", "person"))
        return [
            _triplets(pairs, image.size, object_texts, relation_texts, subject_text, threshold, limit)
            for pairs, image in zip(found, images, strict=True)
        ]

    def _own_texts(self, kind: str) -> tuple[str, ...]:
        if self.benchmark is not None:
            return tuple(getattr(preset_classes(self.benchmark), kind) or ())
        return tuple(self._metadata(kind, ()))

    def _metadata(self, key: str, default: Any) -> Any:
        return self.checkpoint.metadata.get(key, default)

    def _batch(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """Return resized, normalised and zero-padded images (B, 3, H, W) and their padding mask (B, H, W)."""
        short, longest = self._metadata("image_size", (800, 1333))
        batch, mask = stack_images([image_tensor(resized(image, int(short), int(longest))) for image in images])
        device = next(self.checkpoint.model.parameters()).device
        return batch.to(device), mask.to(device)


def open_checkpoint(folder: Path, device: str = "cpu") -> Checkpoint:
    """Open a checkpoint folder of any network.

    Raises:
        InputError: the folder is missing or incomplete; the sentence names the remedy.
        ParameterError: the device cannot be used.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no checkpoint folder; make one with `make demo` (data/models/finetune/hico_full) "
            "or `rlip import-checkpoint FILE.pth DIR`"
        )
    try:
        return load_checkpoint(folder, usable_device(device))
    except ValueError as error:
        raise InputError(str(error)) from None


def usable_device(name: str) -> torch.device:
    """Return a device by its name in torch, such as "cpu" or "cuda:1"; ParameterError where tensors cannot be put there."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ParameterError(
            f"Device {name!r} cannot be used here: give cpu, or cuda where there is a GPU ({why})"
        ) from None
    return device


def resized(image: Image.Image, short: int, longest: int) -> Image.Image:
    """Return an RGB image of the published evaluation size: short side `short`, long side at most `longest`, none under `MIN_SIDE`."""
    width, height = target_size(image.width, image.height, short, longest)
    return image.convert("RGB").resize((max(width, MIN_SIDE), max(height, MIN_SIDE)), Image.Resampling.BILINEAR)


def _texts(given: Sequence[str] | None, own: Sequence[str], what: str) -> list[str]:
    texts = [text.strip() for text in (own if given is None else given)]
    if not texts:
        raise DataError(f'There are no {what} texts: give at least one, such as --{what}s "...", or a vocabulary')
    if not all(texts):
        raise DataError(f"The {what} texts contain an empty one: remove it")
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"The {what} text {text!r} is no valid Unicode: correct it") from None
    return list(dict.fromkeys(texts))


def _triplets(
    pairs: PairPredictions,
    size: tuple[int, int],
    objects: Sequence[str],
    relations: Sequence[str],
    subject_text: str | None,
    threshold: float,
    limit: int,
) -> list[Triplet]:
    """Return the best triplets of an image of `size` (width, height), boxes clipped to it."""
    scores = pairs.scores.flatten()
    order = torch.argsort(scores, descending=True, stable=True)[: 50 * limit]
    kept: list[Triplet] = []
    for cell in order.tolist():
        score = float(scores[cell])
        if score < threshold or len(kept) == limit:
            break
        pair, relation = divmod(cell, len(relations))
        triplet = Triplet(
            subject=subject_text or objects[int(pairs.sub_labels[pair])],
            relation=relations[relation],
            object=objects[int(pairs.obj_labels[pair])],
            subject_box=_clipped(pairs.sub_boxes[pair], size),
            object_box=_clipped(pairs.obj_boxes[pair], size),
            score=score,
        )
        if not any(_repeats(triplet, better) for better in kept):
            kept.append(triplet)
    return kept


def _clipped(box: Tensor, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = (float(v) for v in box)
    return (
        min(max(x1, 0.0), size[0]),
        min(max(y1, 0.0), size[1]),
        min(max(x2, 0.0), size[0]),
        min(max(y2, 0.0), size[1]),
    )


def _repeats(triplet: Triplet, better: Triplet, overlap: float = 0.7) -> bool:
    """Return True for the same words on overlapping boxes: IoU(subject) x IoU(object)^0.5 > 0.7, as in the published pair suppression."""
    same_words = (triplet.subject, triplet.relation, triplet.object) == (better.subject, better.relation, better.object)
    if not same_words or triplet.object_box is None or better.object_box is None:
        return False
    overlaps = iou(triplet.subject_box, better.subject_box) * iou(triplet.object_box, better.object_box) ** 0.5
    return bool(overlaps > overlap)
