"""Forward passes of ParSeDA: images per second, memory, which part takes the time, and what `torch.compile` gains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from perf.gpu_checks.cases import Batch, Sizes, build, make_batch, preset, shake
from perf.gpu_checks.device import Device
from perf.gpu_checks.parts import PartTimes
from perf.gpu_checks.record import Row, Value
from perf.plain_forms import plain
from rlip_assets.training.micro_batches import ran_out_of_memory
from rlip_model import ModelOutput, Rlip

PRECISIONS = ("fp32", "tf32", "bf16")


def network_for(name: str, sizes: Sizes, device: Device) -> Rlip:
    """Return a detector for evaluation."""
    model = build(replace(preset(name), queries=sizes.queries).without_dropout(), device).eval()
    shake(model)
    return model


def forward_of(model: Rlip, batch: Batch) -> Callable[[], ModelOutput]:
    """Return a forward pass with the texts' vectors made beforehand, as they are kept across images."""
    with torch.inference_mode():
        pooled = model.encode_text(batch.ids, batch.present)

    def call() -> ModelOutput:
        with torch.inference_mode():
            output: ModelOutput = model(batch.images, batch.mask, pooled, batch.num_objects)
            return output

    return call


def forward_speed(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Time forward passes of every network, batch and precision against fp32; and against the plain forms, what a port would do."""
    for label, name in sizes.networks:
        model = network_for(name, sizes, device)
        for size in reversed(sizes.batches):
            batch = make_batch(model.config, sizes, device, size, sizes.objects, sizes.texts)
            exact = None
            for precision in PRECISIONS:
                row = f"{label}, batch {size}, {precision}"
                try:
                    with device.precision(precision):
                        figures = _speed(device, forward_of(model, batch), size, sizes.budget)
                except (RuntimeError, MemoryError) as error:
                    if not ran_out_of_memory(error):
                        raise
                    yield Row(row, {"note": "does not fit"})
                    continue
                exact = exact or float(figures["images/s"])
                yield Row(row, figures | {"times fp32": float(figures["images/s"]) / exact})
            if size == max(sizes.batches) and name == sizes.networks[0][1] and exact:
                yield _plain_speed(device, label, model, batch, exact, sizes.budget)
        del model
        device.free()


def _plain_speed(device: Device, label: str, model: Rlip, batch: Batch, own: float, budget: float) -> Row:
    """Time the plain forms in fp32: `grid_sample`, and the backbone's normalisations apart."""
    size = len(batch.images)
    with plain(), device.precision("fp32"):
        seconds = device.seconds(forward_of(model, batch), budget)
    return Row(
        f"{label}, batch {size}, fp32",
        {"plain forms images/s": size / seconds, "times plain forms": own * seconds / size},
    )


def _speed(device: Device, call: Callable[[], object], images: int, budget: float) -> dict[str, Value]:
    seconds = device.seconds(call, budget)
    return {"images/s": images / seconds, "ms": seconds * 1e3, "peak GB": device.peak(call)}


def time_by_part(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Show each part's share of a forward pass that also encodes its texts."""
    label, name = sizes.networks[0]
    model, size = network_for(name, sizes, device), sizes.batches[-1]
    batch = make_batch(model.config, sizes, device, size, sizes.objects, sizes.texts)
    for precision in ("fp32", "bf16"):
        with device.precision(precision), torch.inference_mode():

            def texts() -> torch.Tensor:
                return model.encode_text(batch.ids, batch.present)

            def whole() -> object:
                return model(batch.images, batch.mask, texts(), batch.num_objects)

            parts = {"text encoder": device.seconds(texts, sizes.budget / 4)}
            total = device.seconds(whole, sizes.budget / 2)
            times = PartTimes(model, device)
            whole()
            parts |= times.seconds()
        parts["all else"] = total - sum(value for part, value in parts.items() if not part.startswith("- "))
        for part, seconds in parts.items():
            yield Row(f"{label}, batch {size}, {precision}, {part}", {"ms": seconds * 1e3, "share": seconds / total})


def compiled_speed(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Compile whole networks, and time them against eager ones of the same precision; outputs must stay the same but for rounding."""
    for label, name, precision, size in sizes.compiled:
        model = network_for(name, sizes, device)
        batch = make_batch(model.config, sizes, device, size, sizes.objects, sizes.texts)
        with device.precision(precision):
            eager = forward_of(model, batch)
            want, before = eager(), device.seconds(eager, sizes.budget)
            compiled = forward_of(model, batch)
            model.compile(backend=sizes.compiler, dynamic=False)
            started = time.perf_counter()
            found = compiled()
            device.synchronise()
            seconds = time.perf_counter() - started
            figures = _speed(device, compiled, size, sizes.budget)
        rate = float(figures["images/s"])
        difference = (found.relation_logits.float().sigmoid() - want.relation_logits.float().sigmoid()).abs().max()
        figures |= {"eager images/s": size / before, "times eager": rate * before / size}
        figures |= {"compile s": seconds, "largest change": float(difference)}
        yield Row(f"{label}, batch {size}, {precision}, {sizes.compiler}", figures, float(difference) <= 0.1)
        del model, eager, compiled, want, found
        torch.compiler.reset()
        device.free()
