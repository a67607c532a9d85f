"""Shared parts start as published."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rlip_model.layers import BoxHead, sine_code


def test_fresh_box_heads_have_default_weights() -> None:
    """Of the range and spread of `nn.Linear`; the last layer changes nothing but the size of the first head's boxes."""
    torch.manual_seed(0)
    *hidden, last = BoxHead(64, size_bias=-2.0).layers
    assert isinstance(last, nn.Linear)
    for layer in hidden:
        assert isinstance(layer, nn.Linear)
        default = nn.Linear(64, 64)
        for ours, theirs in ((layer.weight, default.weight), (layer.bias, default.bias)):
            assert float(ours.abs().max()) <= 64**-0.5
            assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.15)
    assert not last.weight.any()
    assert last.bias.tolist() == [0, 0, -2, -2]


@pytest.mark.parametrize("channels", [4, 32, 128])
def test_sine_codes_take_no_power_on_the_device(channels: int) -> None:
    """Devices round powers differently, and angles of rows of padding are so large that another rounding is another sine."""
    called: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.append(func.name())
            return func(*args, **(kwargs or {}))

    angles = torch.tensor([0.0, 1.0, -0.5 / 1e-6 * 2 * math.pi])
    with Watch():
        code = sine_code(angles, channels)
    assert called
    assert not any(word in name for name in called for word in ("pow", "exp(", "exp."))
    divisors = np.float32(10000.0 ** (2 * (np.arange(channels) // 2) / channels))
    scaled = (angles.numpy()[:, None] / divisors).astype(np.float64)
    want = np.where(np.arange(channels) % 2 == 0, np.sin(scaled), np.cos(scaled))
    np.testing.assert_allclose(code.numpy(), want, atol=1e-6)
