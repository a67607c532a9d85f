"""Detectors that find the boxes of `detections`: this project's, and the object detection models of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from rlip_assets.datasets.scenes import make_scene
from rlip_assets.labelling.detections import FoundBoxes
from rlip_assets.labelling.image_text_model import refusing
from rlip_assets.lineage.recipes import Augmentation
from rlip_assets.storage.errors import InputError
from rlip_assets.training.transforms import for_evaluation
from rlip_model import DabDeformableDetr, load_detector
from rlip_model.dab_deformable_detr import detections
from rlip_model.vision.images import image_tensor, stack_images

_REMEDY = "name an object detection model of transformers in detections.model"


class OwnDetector:
    """A DAB-Deformable-DETR with the class names of its metadata."""

    def __init__(self, model: DabDeformableDetr, names: Sequence[str], sizes: Augmentation) -> None:
        self.model, self.names, self.sizes = model, names, sizes

    @classmethod
    def open(cls, folder: Path, sizes: Augmentation, device: str | torch.device) -> OwnDetector:
        """Open a detector folder.

        Raises:
            CheckpointError: a file is missing or damaged. InputError: the folder has no configuration, as converted detectors have none, or
                does not name the detector's classes.
        """
        if not (folder / "config.json").exists():
            raise InputError(f"{folder} has no config.json of a network to run; {_REMEDY}")
        model, metadata = load_detector(folder)
        names = metadata.get("classes")
        if not isinstance(names, list) or len(names) != model.num_classes or not all(isinstance(n, str) for n in names):
            raise InputError(
                f"{folder}/metadata.json does not name the {model.num_classes} classes of the detector; {_REMEDY}"
            )
        return cls(model.to(device), names, sizes)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[FoundBoxes]:
        """Return the boxes of RGB images that share a forward pass."""
        device = next(self.model.parameters()).device
        plain = [make_scene(0, "", "", "", *image.size, [], []) for image in images]
        scaled = [for_evaluation(sample, self.sizes)[0] for sample in zip(images, plain, strict=True)]
        pixels, mask = stack_images([image_tensor(image) for image in scaled])
        sizes = torch.tensor([[image.height, image.width] for image in images])
        found = detections(self.model(pixels.to(device), mask.to(device)), sizes)
        return [
            FoundBoxes(
                each.boxes.cpu().numpy().astype(np.float32),
                [self.names[label] for label in each.labels.tolist()],
                each.scores.cpu().numpy().astype(np.float32),
            )
            for each in found
        ]


class TransformersDetector:
    """An object detection model of transformers (DETR, Deformable DETR, RT-DETR, YOLOS, ...) with its image processor."""

    def __init__(self, model: Any, processor: Any, min_score: float) -> None:
        self.model, self.processor, self.min_score = model.eval(), processor, min_score

    @classmethod
    def open(cls, source: str, min_score: float, device: str | torch.device) -> TransformersDetector:
        """Open a folder that `save_pretrained` wrote, or a hub name.

        Raises:
            InputError: no such model there.
        """
        with refusing(source, "object detection model"):
            model: Any = AutoModelForObjectDetection.from_pretrained(source)
            return cls(model.to(device), AutoImageProcessor.from_pretrained(source, use_fast=False), min_score)

    @property
    def names(self) -> list[str]:
        """The names of the classes; those of released models may have gaps."""
        return [str(name) for name in self.model.config.id2label.values()]

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[FoundBoxes]:
        """Return the boxes of RGB images that share a forward pass."""
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.model.device)
        sizes = [(image.height, image.width) for image in images]
        output = self.model(**inputs)
        found = self.processor.post_process_object_detection(output, threshold=self.min_score, target_sizes=sizes)
        names = self.model.config.id2label
        return [
            FoundBoxes(
                each["boxes"].cpu().numpy().astype(np.float32).reshape(-1, 4),
                [str(names.get(label, label)) for label in each["labels"].tolist()],
                each["scores"].cpu().numpy().astype(np.float32),
            )
            for each in found
        ]
