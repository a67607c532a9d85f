"""Behaviour where memory is too small: batches of captions and of tagging are halved and finish, and a training step names the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from perf.gpu_checks.cases import Sizes
from perf.gpu_checks.device import Device
from perf.gpu_checks.labels import Captions, Tagging
from perf.gpu_checks.record import Row, Value
from perf.gpu_checks.steps import published_step
from rlip_assets.training.memory import StepTooLargeError, remedy_named
from rlip_assets.training.micro_batches import MicroBatches

ROUNDING = 1e-3
"""Largest difference of scores between one batch and its parts."""


def too_little_memory(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Let torch hold less than a batch needs, and see what becomes of it."""
    size = sizes.small_memory_batch
    captions = Captions.make(sizes, device, size)
    yield from _halved(device, size, "captions", captions.model.vision_model, captions)
    tagging = Tagging.make(sizes, device, size)
    yield from _halved(device, size, "tagging", tagging.model.backbone, lambda images: tagging(images, len(images)))
    yield _step_that_does_not_fit(device, sizes)


def _halved(
    device: Device, size: int, name: str, module: nn.Module, work: Callable[[Sequence[int]], list[Tensor]]
) -> Iterator[Row]:
    """Run a batch with memory for about three quarters of it, and compare with the batch in one piece."""
    half = device.reserved(lambda: work(range(size // 2)))
    whole: list[Tensor] = []
    full = device.reserved(lambda: whole.extend(work(range(size))))
    batches = MicroBatches(size, "lower the batch")
    allowed = (half + full) / 2
    with device.little_memory(allowed, module, size // 2):
        parts = batches(work, range(size))
    same = sum(_same(a, b) for a, b in zip(whole, parts, strict=True)) / size
    # A token of random weights is one of thousands that are almost equally likely: rounding picks among them.
    agrees = same > 0.99 or not parts[0].is_floating_point()
    yield Row(
        f"{name}, batch {size}",
        {"allowed GB": allowed, "needed GB": full, "images at a time": batches.rows, "share that is the same": same},
        len(parts) == size and batches.rows < size and agrees,
    )


def _same(a: Tensor, b: Tensor) -> float:
    """Return the share of equal tokens, or of scores that differ by rounding alone."""
    equal = (a - b).abs() <= ROUNDING if a.is_floating_point() else a == b
    return float(equal.float().mean())


def _step_that_does_not_fit(device: Device, sizes: Sizes) -> Row:
    """Run a step with too little memory, then one with enough."""
    step = published_step(sizes, device, sizes.training_batch)
    step("bf16")  # makes the optimiser's state
    step.forget(device)
    held = torch.cuda.memory_reserved(device.torch) / 1e9 if device.is_cuda else 0.0
    full = device.reserved(lambda: step("bf16"))
    step.forget(device)
    sentence, allowed = "", held + (full - held) / 4
    with device.little_memory(allowed, step.model.backbone, sizes.training_batch - 1):
        try:
            with remedy_named(sizes.training_batch, precision="bf16", gradient_checkpointing=False):
                step("bf16")
        except StepTooLargeError as error:
            sentence = str(error)
    step.forget(device)
    again = step("bf16")
    ok = "gradient_checkpointing" in sentence and "\n" not in sentence and again == again
    figures: dict[str, Value] = {
        "allowed GB": allowed,
        "needed GB": full,
        "loss afterwards": again,
        "sentence": sentence or "none: it fitted",
    }
    return Row(f"training step, batch {sizes.training_batch}", figures, ok)
