"""Speed of deformable attention at the sizes of an 800 x 1333 image, beside PyTorch's own operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from perf.gpu_checks.cases import Sampling, Sizes, make_sampling
from perf.gpu_checks.device import GIGABYTE, Device
from perf.gpu_checks.forms import Form, sample_grid, sample_pytorch
from perf.gpu_checks.record import Row, Value
from rlip_model.kernels import deformable_attention

WIDTH = 32
"""D of the published networks."""


def kernel_speed(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Time forward and backward passes of the three forms, and compare the bytes that they need with a plain copy."""
    bandwidth = device.copy_bandwidth(sizes.copied_megabytes)
    yield Row("copy within the device", {"GB/s": bandwidth})
    kernel = deformable_attention.sample_bags  # what the network calls: on a GPU the kernels
    for kind in ("encoder", "decoder"):
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            given = make_sampling(sizes, device, kind, sizes.kernel_batch, WIDTH, dtype)
            for way, make in (("forward", forward_of), ("backward", backward_of)):
                row = f"{kind}, batch {sizes.kernel_batch}, {precision}, {way}"
                forms = {"kernel": kernel, "PyTorch form": sample_pytorch, "grid_sample": sample_grid}
                seconds = []
                for name, form in forms.items():
                    with named(f"{row}, {name}"):
                        seconds.append(device.seconds(make(form, given), sizes.budget / 4))
                own, pytorch, grid = seconds
                needed = needed_bytes(given, backward=way == "backward")
                figures: dict[str, Value] = {
                    "ms": own * 1e3,
                    "PyTorch ms": pytorch * 1e3,
                    "grid_sample ms": grid * 1e3,
                    "times PyTorch": pytorch / own,
                    "times grid_sample": grid / own,
                    "needed MB": needed / 1e6,
                    "gathered MB": gathered_bytes(given) / 1e6,
                    "share of copy": needed / own / GIGABYTE / bandwidth,
                }
                ok = own <= pytorch if device.is_cuda else None  # a kernel slower than what it replaces is a defect
                yield Row(row, figures, ok)
            del given
            device.free()


@contextmanager
def named(work: str) -> Iterator[None]:
    """Say in an error's message which work failed: an illegal memory access tells nothing else."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(f"{work}: {str(error).splitlines()[0]}") from error


def forward_of(form: Form, given: Sampling) -> Callable[[], Tensor]:
    """Return a call without gradients."""

    def call() -> Tensor:
        with torch.no_grad():
            return form(given.values, given.shapes, given.positions, given.weights)

    return call


def backward_of(form: Form, given: Sampling) -> Callable[[], object]:
    """Return a call that takes all three gradients of a result made beforehand."""
    result = form(given.values, given.shapes, given.positions, given.weights)
    probe = torch.randn_like(result)
    return lambda: torch.autograd.grad(result, given.inputs, probe, retain_graph=True)


def gathered_bytes(given: Sampling) -> int:
    """Return the bytes of all cells that are read, four per point, as if none were read twice."""
    width, size = given.values.shape[-1], given.values.element_size()
    return 4 * given.weights.numel() * width * size


def needed_bytes(given: Sampling, backward: bool) -> int:
    """Return the fewest bytes that must pass through memory: each input read once, each result written once.

    Of the values no more count than points can touch. A backward pass writes gradients of all inputs, and those of the values whole.
    """
    values = min(given.values.nbytes, gathered_bytes(given))
    inputs = values + given.positions.nbytes + given.weights.nbytes
    batch, count = given.positions.shape[:2]
    result = batch * count * given.values.shape[2:].numel() * given.positions.element_size()
    if not backward:
        return inputs + result
    return inputs + result + given.values.nbytes + given.positions.nbytes + given.weights.nbytes
