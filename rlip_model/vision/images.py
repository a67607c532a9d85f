"""Photos as the backbone reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Colour statistics of ImageNet, on which the backbones were trained."""


def image_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as (3, H, W) float32 with ImageNet's mean at 0 and its standard deviation at 1."""
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)
    return (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]


def stack_images(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Zero-pad images (3, H_i, W_i) right and bottom to the largest: (B, 3, H, W), and the mask (B, H, W), True = padding."""
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
    batch = torch.zeros(len(images), 3, height, width)
    mask = torch.ones(len(images), height, width, dtype=torch.bool)
    for row, image in enumerate(images):
        batch[row, :, : image.shape[1], : image.shape[2]] = image
        mask[row, : image.shape[1], : image.shape[2]] = False
    return batch, mask
