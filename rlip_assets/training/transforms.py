"""Augmentations of an image together with its scene, as published, sized by the recipe.

Each transform takes and returns `(image, scene)`: a PIL image and the `Scene` whose boxes refer to its pixels. A scene that comes out is
valid: boxes inside the image, triplets between surviving boxes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from rlip_assets.datasets.scenes import NO_OBJECT, Scene
from rlip_assets.lineage.recipes import Augmentation

Sample = tuple[Image.Image, Scene]
_SIDE_WORDS = re.compile(r"\b(left|right)\b")
_OTHER_SIDE = {"left": "right", "right": "left"}


def mirror_text(text: str) -> str:
    """Swap "left" and "right" as whole words."""
    return _SIDE_WORDS.sub(lambda match: _OTHER_SIDE[match.group()], text)


def flip(sample: Sample, swap_sides: bool) -> Sample:
    """Mirror horizontally; `swap_sides` also changes "left" and "right" in labels and relations (the published code does not)."""
    image, scene = sample
    boxes = scene.boxes.copy()
    boxes[:, [0, 2]] = scene.width - scene.boxes[:, [2, 0]]
    mirrored = replace(scene, boxes=boxes)
    if swap_sides:
        mirrored = replace(
            mirrored, labels=tuple(map(mirror_text, scene.labels)), relation=tuple(map(mirror_text, scene.relation))
        )
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), mirrored


def jitter(sample: Sample, strength: float, generator: np.random.Generator) -> Sample:
    """Change brightness, contrast and saturation, in random order, each by a factor from 1 - strength to 1 + strength."""
    image, scene = sample
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for number in generator.permutation(len(enhancers)).tolist():
        image = enhancers[number](image).enhance(float(generator.uniform(max(0.0, 1 - strength), 1 + strength)))
    return image, scene


def target_size(width: int, height: int, short: int, longest: int) -> tuple[int, int]:
    """Return (width, height) with short side `short`, or less where the long side would exceed `longest`; rounded as published."""
    low, high = min(width, height), max(width, height)
    if high * short > longest * low:
        short = max(1, round(longest * low / high))
    long_side = max(1, int(short * high / low))
    return (short, long_side) if width <= height else (long_side, short)


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """Resize the image to (width, height), and its boxes with it."""
    image, scene = sample
    if size == image.size:
        return sample
    scale = np.array([size[0] / scene.width, size[1] / scene.height] * 2, dtype=np.float32)
    return image.resize(size, Image.Resampling.BILINEAR), replace(
        scene, width=size[0], height=size[1], boxes=scene.boxes * scale
    )


def keep_boxes(scene: Scene, kept: npt.NDArray[np.bool_]) -> Scene:
    """Return the scene with only the boxes that `kept` (n,) marks, and the triplets whose subject and object, if any, are among them."""
    new_index = np.where(kept, np.cumsum(kept) - 1, NO_OBJECT).astype(np.int32)
    has_object = scene.object != NO_OBJECT
    alive = kept[scene.subject] & (~has_object | kept[np.where(has_object, scene.object, 0)])
    rows = np.flatnonzero(alive)
    objects = scene.object[rows]
    return replace(
        scene,
        boxes=scene.boxes[kept],
        labels=tuple(label for label, keep in zip(scene.labels, kept, strict=True) if keep),
        subject=new_index[scene.subject[rows]],
        object=np.where(objects == NO_OBJECT, np.int32(NO_OBJECT), new_index[objects]),
        relation=tuple(scene.relation[row] for row in rows),
        confidence=scene.confidence[rows],
    )


def keep_triplets(scene: Scene, kept: npt.NDArray[np.bool_]) -> Scene:
    """Return the scene with only the triplets that `kept` (m,) marks; all boxes stay."""
    if kept.all():
        return scene
    return replace(
        scene,
        subject=scene.subject[kept],
        object=scene.object[kept],
        relation=tuple(text for text, keep in zip(scene.relation, kept, strict=True) if keep),
        confidence=scene.confidence[kept],
    )


def crop(sample: Sample, left: int, top: int, width: int, height: int) -> Sample:
    """Cut out a rectangle; boxes are clipped to it, and dropped outside it."""
    image, scene = sample
    low, high = np.zeros(4, np.float32), np.array([width, height, width, height], np.float32)
    boxes = np.clip(scene.boxes - np.array([left, top, left, top], np.float32), low, high)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    cropped = replace(scene, boxes=boxes, width=width, height=height)
    return image.crop((left, top, left + width, top + height)), keep_boxes(cropped, kept)


def random_crop(sample: Sample, smallest: int, largest: int, generator: np.random.Generator) -> Sample:
    """Cut out a random rectangle with sides of `smallest` to `largest` pixels, at most those of the image."""
    image, _ = sample
    sides = [int(generator.integers(min(smallest, side), min(largest, side) + 1)) for side in image.size]
    corner = [int(generator.integers(0, side - length + 1)) for side, length in zip(image.size, sides, strict=True)]
    return crop(sample, corner[0], corner[1], sides[0], sides[1])


def clip_boxes(scene: Scene) -> Scene:
    """Clip boxes to the image; boxes without area are dropped with their triplets."""
    limit = np.array([scene.width, scene.height, scene.width, scene.height], np.float32)
    boxes = np.clip(scene.boxes, 0, limit)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return keep_boxes(replace(scene, boxes=boxes), kept)


def augment(sample: Sample, settings: Augmentation, generator: np.random.Generator, swap_sides: bool = True) -> Sample:
    """Apply the published training augmentation: flip, colours, then either a resize or resize, crop and resize."""
    if generator.random() < settings.flip:
        sample = flip(sample, swap_sides)
    if settings.jitter:
        sample = jitter(sample, settings.jitter, generator)
    if settings.crop and generator.random() < settings.crop:
        sample = _resize_to_one_of(sample, settings.crop_short_sides, settings.longest, generator)
        sample = random_crop(sample, settings.crop_smallest, settings.crop_largest, generator)
    return _resize_to_one_of(sample, settings.short_sides, settings.longest, generator)


def for_evaluation(sample: Sample, settings: Augmentation) -> Sample:
    """Resize to the size of evaluation and tagging."""
    image, _ = sample
    return resize(sample, target_size(*image.size, settings.test_short_side, settings.longest))


def _resize_to_one_of(sample: Sample, sides: Sequence[int], longest: int, generator: np.random.Generator) -> Sample:
    short = int(generator.choice(np.asarray(sides)))
    return resize(sample, target_size(*sample[0].size, short, longest))
