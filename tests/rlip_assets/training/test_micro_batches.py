"""Batches that memory is too small for go in halves: simulated by asking the real allocators for what no machine has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.bucket_images import BucketImages
from rlip_assets.labelling.captions.stage import caption_scenes
from rlip_assets.storage.errors import InputError
from rlip_assets.training.micro_batches import MicroBatches
from tests.support.label_factory import draw_bucket, open_captioner

ALLOCATORS: dict[str, Callable[[], object]] = {
    "torch": lambda: torch.empty(2**50, dtype=torch.uint8),
    "numpy": lambda: np.empty(2**50, np.uint8),
}


def device_is_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def no_workspace_is_left() -> None:
    raise RuntimeError("GET was unable to find an engine to execute this computation")


class Room:
    """Work that fits for `capacity` items at most and remembers the sizes that it was asked for."""

    def __init__(self, capacity: int, work: Callable[[Sequence[Any]], Any], fails: Callable[[], object]) -> None:
        self.capacity, self.work, self.fails = capacity, work, fails
        self.asked: list[int] = []

    def __call__(self, items: Sequence[Any]) -> Any:
        self.asked.append(len(items))
        if len(items) > self.capacity:
            self.fails()
        return self.work(items)


@given(items=st.lists(st.integers(), max_size=40), size=st.integers(1, 40), capacity=st.integers(1, 40))
def test_every_item_is_done_once_in_order(items: list[int], size: int, capacity: int) -> None:
    batches = MicroBatches(size, "do less")
    room = Room(capacity, lambda part: [2 * item for item in part], device_is_full)
    assert batches(room, items) == [2 * item for item in items]
    failed = [asked for asked in room.asked if asked > capacity]
    assert len(failed) <= size.bit_length() - 1
    assert batches.size == size
    again = len(room.asked)
    assert batches(room, items) == [2 * item for item in items]
    assert all(asked <= capacity for asked in room.asked[again:])  # what was learnt is kept


@pytest.mark.parametrize(
    "fails",
    [*ALLOCATORS.values(), device_is_full, no_workspace_is_left],
    ids=[*ALLOCATORS, "device", "convolution"],
)
def test_each_halving_is_a_line_and_too_little_for_one_is_a_sentence(
    fails: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    assert MicroBatches(8, "do less")(Room(2, list, fails), range(8)) == list(range(8))
    assert [record.getMessage()[:54] for record in caplog.records] == [
        "memory is too small for 8 at a time; going on with 4, ",
        "memory is too small for 4 at a time; going on with 2, ",
    ]
    with pytest.raises(InputError, match="too small for one image at a time; do less, or use a larger device"):
        MicroBatches(4, "do less")(Room(0, list, fails), range(3))


def test_other_errors_are_no_lack_of_memory() -> None:
    def fails() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    room = Room(1, list, fails)
    with pytest.raises(RuntimeError, match="shapes"):
        MicroBatches(4, "do less")(room, range(4))
    assert room.asked == [4]


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_captions_are_the_same_in_parts(
    allocator: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path_factory.mktemp("parts")
    scenes, captioner = draw_bucket(base / "raw", 7), open_captioner(base, captions_per_image=3)
    images = BucketImages(base / "raw", {})

    def captions(part: Sequence[Scene], pictures: Sequence[Image.Image]) -> list[list[str]]:
        return captioner([scene.image_id for scene in part], pictures)

    whole, _ = caption_scenes(captions, scenes, images, MicroBatches(5, ""))
    encode = captioner.model.vision_model.forward

    def encode_if_it_fits(pixels: torch.Tensor, **options: Any) -> Any:
        if len(pixels) > 2:
            ALLOCATORS[allocator]()
        return encode(pixels, **options)

    monkeypatch.setattr(captioner.model.vision_model, "forward", encode_if_it_fits)
    batches = MicroBatches(5, "")
    assert caption_scenes(captions, scenes, images, batches)[0] == whole
    assert (batches.size, batches.rows) == (5, 2)
