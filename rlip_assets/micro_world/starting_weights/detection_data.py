"""The detector's images: drawn once, then shown mirrored and recoloured.

Shape legend: B images, n boxes of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from rlip_model.vision.images import image_tensor, stack_images

Annotated = tuple[Image.Image, npt.NDArray[np.float32], Sequence[str]]
"""An image, its boxes (n, 4) x1 y1 x2 y2 in pixels, and their class names."""

Target = tuple[Tensor, Tensor]
"""labels (n,) int64, boxes (n, 4) centre and size, fractions of the image."""

SHORT_SIDE = 128
"""Pixels; that of the micro world's images, and of the training recipes that start from this detector."""
JITTER = 0.3


@dataclass(frozen=True)
class Drawn:
    """One image in memory: pixels (H, W, 3) uint8, boxes (n, 4) x1 y1 x2 y2 in pixels, labels (n,) class numbers."""

    pixels: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True)
class DetectionBatch:
    """images (B, 3, H, W) normalised and padded, mask (B, H, W) True = padding."""

    images: Tensor
    mask: Tensor
    targets: list[Target]

    def moved(self, move: Callable[[Tensor], Tensor]) -> DetectionBatch:
        """Return the batch with every tensor moved."""
        targets = [(move(labels), move(boxes)) for labels, boxes in self.targets]
        return DetectionBatch(move(self.images), move(self.mask), targets)


def drawn(annotated: Annotated, class_names: Sequence[str]) -> Drawn:
    """Keep an annotated image in memory; a class name outside `class_names` is a ValueError."""
    image, boxes, labels = annotated
    return Drawn(
        np.asarray(image.convert("RGB")),
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.array([class_names.index(label) for label in labels], np.int64),
    )


def training_batch(images: Sequence[Drawn], generator: np.random.Generator) -> DetectionBatch:
    """Jitter the brightness and contrast of each image and mirror it in half of the cases."""
    tensors, targets = [], []
    for image in images:
        tensor, target = _prepared(image)
        tensor = tensor * generator.uniform(1 - JITTER, 1 + JITTER) + generator.uniform(-JITTER, JITTER)
        if generator.random() < 0.5:
            tensor = tensor.flip(-1)
            target[1][:, 0] = 1 - target[1][:, 0]
        tensors.append(tensor)
        targets.append(target)
    return DetectionBatch(*stack_images(tensors), targets)


def evaluation_batch(images: Sequence[Drawn]) -> DetectionBatch:
    """The images at the size of evaluation, otherwise as they are."""
    prepared = [_prepared(image) for image in images]
    return DetectionBatch(*stack_images([tensor for tensor, _ in prepared]), [target for _, target in prepared])


def _prepared(annotated: Drawn) -> tuple[Tensor, Target]:
    height, width = annotated.size
    scale = SHORT_SIDE / min(height, width)
    image = Image.fromarray(annotated.pixels)
    if scale != 1:
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    low, high = annotated.boxes[:, :2], annotated.boxes[:, 2:]
    boxes = np.concatenate([(low + high) / 2, high - low], axis=1) / np.array([width, height] * 2, np.float32)
    return image_tensor(image), (torch.from_numpy(annotated.labels), torch.from_numpy(boxes))
