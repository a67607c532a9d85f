"""Photos as the backbone reads them."""

from __future__ import annotations

import torch
from PIL import Image

from rlip_model.vision.images import IMAGENET_MEAN, IMAGENET_STD, image_tensor, stack_images


def test_mean_colour_is_zero_and_one_deviation_is_one() -> None:
    mean = Image.new("RGB", (3, 2), tuple(round(255 * value) for value in IMAGENET_MEAN))
    assert image_tensor(mean).shape == (3, 2, 3)
    torch.testing.assert_close(image_tensor(mean), torch.zeros(3, 2, 3), atol=0.01, rtol=0)
    colour = tuple(round(255 * (value + wide)) for value, wide in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
    torch.testing.assert_close(
        image_tensor(Image.new("RGB", (1, 1), colour)),
        torch.ones(3, 1, 1),
        atol=0.01,
        rtol=0,
    )


def test_smaller_images_are_padded_right_and_below() -> None:
    batch, mask = stack_images([torch.ones(3, 2, 5), torch.ones(3, 4, 3)])
    assert batch.shape == (2, 3, 4, 5)
    assert mask.shape == (2, 4, 5)
    assert torch.equal(batch[:, 0], (~mask).float())
    assert not mask[0, :2].any()
    assert mask[1, :, 3:].all()
    assert int(mask.sum()) == 10 + 8
