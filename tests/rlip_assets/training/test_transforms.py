"""Augmentations keep boxes on their pixels and triplets on their boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from rlip_assets.datasets.scenes import NO_OBJECT, Scene, check_scene, make_scene
from rlip_assets.lineage.recipes import Augmentation
from rlip_assets.training.transforms import augment, clip_boxes, crop, flip, jitter, mirror_text, resize, target_size

COLOURS = ["#ff0000", "#00ff00", "#0000ff"]
Sample = tuple[Image.Image, Scene]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """An image of disjoint coloured rectangles, one a box, with triplets among them."""
    width, height = draw(st.integers(60, 120)), draw(st.integers(60, 120))
    image = Image.new("RGB", (width, height), "white")
    boxes = []
    for slot, colour in enumerate(COLOURS):  # each has a third of the width to itself
        left = slot * (width // 3)
        x1 = left + draw(st.integers(0, width // 3 - 10))
        y1 = draw(st.integers(0, height - 10))
        x2, y2 = draw(st.integers(x1 + 8, left + width // 3)), draw(st.integers(y1 + 8, height))
        boxes.append((x1, y1, x2, y2))
        ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour)
    ends = st.tuples(st.integers(0, 2), st.integers(-1, 2), st.sampled_from(["left of", "hold"]))
    triplets = draw(st.lists(ends, max_size=5))
    return image, make_scene("a", "drawn", "train", "a.png", width, height, boxes, ["red", "green", "blue"], triplets)


def extent(image: Image.Image, channel: int) -> tuple[int, int, int, int] | None:
    """Bounding box of the pixels in which one channel is strong and the others are weak."""
    pixels = np.asarray(image).astype(int)
    others = [c for c in range(3) if c != channel]
    rows, columns = np.nonzero((pixels[..., channel] > 128) & (pixels[..., others].max(-1) < 128))
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None


def assert_boxes_fit_pixels(sample: Sample, tolerance: float) -> None:
    image, scene = sample
    check_scene(scene)
    assert image.size == (scene.width, scene.height)
    for box, label in zip(scene.boxes, scene.labels, strict=True):
        found = extent(image, ["red", "green", "blue"].index(label))
        if found is None:
            assert min(box[2] - box[0], box[3] - box[1]) <= tolerance
        else:
            assert np.abs(box - np.array(found)).max() <= tolerance


def names(scene: Scene) -> list[tuple[str, str, str]]:
    return [
        (scene.labels[s], r, scene.labels[o] if o != NO_OBJECT else "")
        for s, o, r in zip(scene.subject, scene.object, scene.relation, strict=True)
    ]


@given(samples())
@settings(max_examples=40, deadline=None)
def test_flip_moves_boxes_with_pixels_and_twice_is_nothing(sample: Sample) -> None:
    flipped = flip(sample, swap_sides=True)
    assert_boxes_fit_pixels(flipped, 0)
    assert names(flipped[1]) == [(s, "right of" if r == "left of" else r, o) for s, r, o in names(sample[1])]
    assert flip(flipped, swap_sides=True)[1] == sample[1]
    assert names(flip(sample, swap_sides=False)[1]) == names(sample[1])


@given(samples(), st.integers(40, 150), st.integers(40, 150))
@settings(max_examples=40, deadline=None)
def test_resize_scales_boxes(sample: Sample, width: int, height: int) -> None:
    assert_boxes_fit_pixels(resize(sample, (width, height)), 2.5)


@given(samples(), st.data())
@settings(max_examples=60, deadline=None)
def test_crop_keeps_what_is_left_and_its_triplets(sample: Sample, data: st.DataObject) -> None:
    image, scene = sample
    width, height = (data.draw(st.integers(10, side)) for side in image.size)
    left, top = data.draw(st.integers(0, image.width - width)), data.draw(st.integers(0, image.height - height))
    cropped = crop(sample, left, top, width, height)
    assert_boxes_fit_pixels(cropped, 0)
    visible = {label for number, label in enumerate(scene.labels) if extent(cropped[0], number)}
    assert set(cropped[1].labels) == visible
    assert names(cropped[1]) == [t for t in names(scene) if t[0] in visible and (t[2] in visible or not t[2])]


@given(samples(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_augmented_samples_are_whole_and_repeatable(sample: Sample, seed: int) -> None:
    sizes = Augmentation(
        jitter=0.0,
        short_sides=(50, 70),
        longest=110,
        crop_short_sides=(60, 80),
        crop_smallest=40,
        crop_largest=70,
        test_short_side=60,
    )
    result = augment(sample, sizes, np.random.default_rng(seed))
    assert_boxes_fit_pixels(result, 4)
    assert max(result[0].size) <= 110
    again = augment(sample, sizes, np.random.default_rng(seed))
    assert again[1] == result[1]
    assert again[0].tobytes() == result[0].tobytes()


def test_jitter_changes_colours_and_no_box() -> None:
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    scene = make_scene("a", "drawn", "train", "a.png", 40, 30, [(1, 2, 30, 20)], ["cup"])
    changed, same = jitter((image, scene), 0.4, np.random.default_rng(1))
    assert changed.tobytes() != image.tobytes()
    assert same == scene


@pytest.mark.parametrize(
    ("size", "short", "longest", "expected"),
    [
        ((640, 480), 800, 1333, (1066, 800)),
        ((480, 640), 800, 1333, (800, 1066)),
        ((2000, 500), 800, 1333, (1332, 333)),  # the long side would be 3200
        ((500, 500), 480, 1333, (480, 480)),
    ],
)
def test_published_size_rule(size: tuple[int, int], short: int, longest: int, expected: tuple[int, int]) -> None:
    assert target_size(*size, short, longest) == expected


def test_mirror_changes_whole_words_only() -> None:
    assert mirror_text("on left of the right copyright") == "on right of the left copyright"


def test_boxes_outside_the_image_are_clipped_or_dropped() -> None:
    boxes = [(-5, -5, 10, 10), (50, 5, 60, 9), (5, 5, 5, 9)]
    scene = make_scene(
        "a", "d", "train", "a.png", 40, 30, boxes, ["a", "b", "c"], [(0, 0, "x"), (0, 1, "y"), (0, -1, "z")]
    )
    clipped = clip_boxes(scene)
    assert clipped.boxes.tolist() == [[0, 0, 10, 10]]
    assert clipped.relation == ("x", "z")
