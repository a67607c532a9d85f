"""The detector's images: drawn once, then shown mirrored and recoloured.

Shape legend: B images, n boxes of one image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def draw(corpus: Iterable[Annotated], class_names: Sequence[str]) -> list[Drawn]:
    """Keep a stream of annotated images in memory; a class name outside `class_names` is a KeyError."""
    index = {name: number for number, name in enumerate(class_names)}
    return [
        Drawn(
            np.asarray(image.convert("RGB")),
            np.asarray(boxes, np.float32).reshape(-1, 4),
            np.array([index[label] for label in labels], np.int64),
        )
        for image, boxes, labels in corpus
    ]


def training_batch(images: Sequence[Drawn], generator: np.random.Generator) -> DetectionBatch:
    """Jitter the brightness and contrast of each image and mirror it in half of the cases."""
    tensors, targets = [], []
    for drawn in images:
        tensor, target = _prepared(drawn)
        tensor = tensor * generator.uniform(1 - JITTER, 1 + JITTER) + generator.uniform(-JITTER, JITTER)
        if generator.random() < 0.5:
            tensor = tensor.flip(-1)
            target[1][:, 0] = 1 - target[1][:, 0]
        tensors.append(tensor)
        targets.append(target)
    return DetectionBatch(*stack_images(tensors), targets)


def evaluation_batch(images: Sequence[Drawn]) -> DetectionBatch:
    """The images at the size of evaluation, otherwise as they are."""
    prepared = [_prepared(drawn) for drawn in images]
    return DetectionBatch(*stack_images([tensor for tensor, _ in prepared]), [target for _, target in prepared])


def _prepared(drawn: Drawn) -> tuple[Tensor, Target]:
    height, width = drawn.size
    scale = SHORT_SIDE / min(height, width)
    image = Image.fromarray(drawn.pixels)
    if scale != 1:
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    low, high = drawn.boxes[:, :2], drawn.boxes[:, 2:]
    boxes = np.concatenate([(low + high) / 2, high - low], axis=1) / np.array([width, height] * 2, np.float32)
    return image_tensor(image), (torch.from_numpy(drawn.labels), torch.from_numpy(boxes))
