"""The forms of deformable attention's sampling that are compared: the kernels, PyTorch's own operations, and `grid_sample`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from torch import Tensor

from perf.gpu_checks.device import Device
from perf.plain_forms import sample_grid as sample_grid_of_one_type
from rlip_model.kernels import deformable_attention

Form = Callable[[Tensor, Sequence[tuple[int, int]], Tensor, Tensor], Tensor]


def kernels(device: Device) -> tuple[str, Form]:
    """Return what samples on this device, with its name.

    A dry run takes the kernels in Triton's interpreter where Triton is installed (`TRITON_INTERPRET=1`), else the PyTorch form, so
    that it is the path that is tried and not the kernels.

    Raises:
        RuntimeError: a CUDA device without Triton.
    """
    if deformable_attention.has_kernels(device.torch):
        return "Triton", deformable_attention.sample_bags
    if device.is_cuda:
        raise RuntimeError("this device has no kernels: install Triton, which CUDA builds of PyTorch bring")
    if deformable_attention.TRITON and os.environ.get("TRITON_INTERPRET") == "1":
        from rlip_model.kernels import triton_attention

        return "Triton, interpreted", triton_attention.sample_bags
    return "PyTorch", deformable_attention.sample_bags


@contextmanager
def pytorch_form() -> Iterator[None]:
    """Within it deformable attention samples by `embedding_bag` on any device."""
    with patch.object(deformable_attention, "has_kernels", lambda _: False):
        yield


def sample_pytorch(values: Tensor, shapes: Sequence[tuple[int, int]], positions: Tensor, weights: Tensor) -> Tensor:
    """Sample by `embedding_bag`, on any device."""
    with pytorch_form():
        return deformable_attention.sample_bags(values, shapes, positions, weights)


def sample_grid(values: Tensor, shapes: Sequence[tuple[int, int]], positions: Tensor, weights: Tensor) -> Tensor:
    """Sample by one `grid_sample` per level, which wants values and places of one type."""
    return sample_grid_of_one_type(values.to(positions.dtype), shapes, positions, weights)
