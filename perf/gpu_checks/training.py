"""Training steps: images per second, memory, the share of matching, and whether bf16 learns as fp32 does."""

from __future__ import annotations

from collections.abc import Iterator

from perf.gpu_checks.cases import Sizes
from perf.gpu_checks.device import Device
from perf.gpu_checks.record import Row, Value
from perf.gpu_checks.steps import TrainingStep, matching_clock, published_step, tiny_step
from rlip_assets.training.micro_batches import ran_out_of_memory
from rlip_model import enable_gradient_checkpointing

LEARNT = 0.9
"""Share of its first value that the loss must fall below in both precisions."""
ALIKE = 0.1
"""Largest difference of the two last losses, as a share of what was learnt in fp32."""
RATE = 1e-3


def step_speed(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Time steps at the published batch per GPU in every precision, then find the largest batch; without and with checkpointing."""
    step = published_step(sizes, device, sizes.training_batch)
    for precisions, suffix in ((("fp32", "bf16", "tf32"), ""), (("fp32", "bf16"), ", checkpointed")):
        if suffix:
            enable_gradient_checkpointing(step.model)
        exact = 0.0
        for precision in precisions:
            row = f"batch {step.size}, {precision}{suffix}"
            figures = _speed(device, step, precision, sizes.budget)
            if figures is None:
                yield Row(row, {"note": "does not fit"})
                continue
            rate = float(figures["images/s"])
            exact = rate if precision == "fp32" else exact
            yield Row(row, figures | ({"times fp32": rate / exact} if exact else {}))
        yield from _largest_batch(device, sizes, step, suffix)


def _speed(device: Device, step: TrainingStep, precision: str, budget: float) -> dict[str, Value] | None:
    """Return the figures of a step; None where it does not fit."""
    try:
        peak = device.peak(lambda: step(precision))
        seconds = device.seconds(lambda: step(precision), budget, most=8)
        with matching_clock(device) as clock:
            step(precision)
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
    else:
        return {
            "images/s": step.size / seconds,
            "s": seconds,
            "peak GB": peak,
            "matching share": clock["matching"] / seconds,
            "bubble share": clock["host"] / seconds,
        }
    step.forget(device)  # here, where the failed attempt's tensors are gone
    return None


def _largest_batch(device: Device, sizes: Sizes, step: TrainingStep, suffix: str) -> Iterator[Row]:
    """Double the batch in bf16 until it does not fit, then try half-way; one step each to warm up and one to time."""
    fits, fails, batch = sizes.training_batch, 0, 2 * sizes.training_batch
    while fits < batch <= sizes.largest_batch:
        step.give(batch)
        try:
            peak, seconds = device.peak(lambda: step("bf16")), device.once(lambda: step("bf16"))
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            fails = batch
        else:
            fits = batch
            yield Row(
                f"batch {batch}, bf16{suffix}, larger", {"images/s": batch / seconds, "s": seconds, "peak GB": peak}
            )
        step.forget(device)
        batch = (fits + fails) // 2 if fails else 2 * batch
        if fails - fits in range(1, sizes.training_batch):
            break
    limit: dict[str, Value] = {"does not fit": fails} if fails else {"larger ones": "not tried"}
    yield Row(f"largest batch, bf16{suffix}", {"images": fits} | limit)
    step.give(sizes.training_batch)


def overfit(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Learn two images by heart from the same weights in fp32 and in bf16: the loss must fall alike."""
    curves = {}
    for precision in ("fp32", "bf16"):
        step = tiny_step(sizes, device, RATE)
        curves[precision] = [step(precision) for _ in range(sizes.overfit_steps)]
        first, last = curves[precision][0], curves[precision][-1]
        figures = {"first loss": first, "last loss": last, "steps": sizes.overfit_steps}
        yield Row(f"loss in {precision}", figures, last < LEARNT * first)
    learnt = curves["fp32"][0] - curves["fp32"][-1]
    apart = abs(curves["bf16"][-1] - curves["fp32"][-1]) / max(learnt, 1e-9)
    yield Row("last losses apart", {"share of what was learnt": apart, "limit": ALIKE}, apart <= ALIKE)
