"""Is it right: the kernels against float64, the network against recorded outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from perf.golden_model import GoldenCase, load_module
from perf.gpu_checks.cases import Sampling, Sizes, make_sampling
from perf.gpu_checks.device import Device
from perf.gpu_checks.forms import Form, kernels, pytorch_form, sample_pytorch
from perf.gpu_checks.record import Row, Value
from rlip_model.layers import DeformableAttention, Memory

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/model"
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FLOAT32 = 5e-5
"""Largest relative error of what is computed in float32, whatever the type of the values."""
LAYER = 1e-4
"""Of a whole layer in float32, where places beyond 128 cells are rounded to 1e-5 of a cell."""
GRADIENT = {"fp32": FLOAT32, "bf16": 4e-3, "fp16": 5e-4}
"""Of the gradient of the values, which has their type: about half a unit in the last place."""
DRIFT = 0.05
"""Largest change of any probability that is taken for rounding under bf16; a wrong kernel changes far more."""


def kernel_errors(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Compare the kernels with the PyTorch form in float64 on the same inputs, forward and all three gradients."""
    name, form = kernels(device)
    yield Row("what samples on this device", {"form": name})
    for kind in ("encoder", "decoder"):
        error = layer_error(device, sizes, kind)
        yield Row(f"{kind}, whole layer, fp32", {"forward": error, "limit": LAYER}, error <= LAYER)
    for width in sizes.head_sizes:
        for precision, dtype in TYPES.items():
            for kind in ("encoder", "decoder"):
                given = make_sampling(sizes, device, kind, 2, width, dtype, outside=True)
                errors = sampling_errors(form, given)
                held = all(errors[part] <= FLOAT32 for part in ("forward", "positions", "weights"))
                ok = held and errors["values"] <= GRADIENT[precision]
                limits = {"limit": FLOAT32, "limit of values": GRADIENT[precision]}
                yield Row(f"{kind}, {width} channels per head, {precision}", errors | limits, ok)


def sampling_errors(form: Form, given: Sampling) -> dict[str, float]:
    """Return relative errors |x - reference| / |reference| of the result and of the gradients of values, positions and weights."""
    values, positions, weights = (x.detach().double().requires_grad_() for x in given.inputs)
    want = sample_pytorch(values, given.shapes, positions, weights)
    mine = form(given.values, given.shapes, given.positions, given.weights)
    probe = torch.randn_like(want)
    wanted = torch.autograd.grad(want, (values, positions, weights), probe)
    found = torch.autograd.grad(mine, given.inputs, probe.to(mine.dtype))
    parts = zip(("values", "positions", "weights"), found, wanted, strict=True)
    return {"forward": relative_error(mine, want)} | {part: relative_error(a, b) for part, a, b in parts}


def relative_error(found: Tensor, want: Tensor) -> float:
    """Return |found - want| / |want|; infinity where anything is not a number."""
    want = want.detach()
    error = float((found.detach().double() - want).norm() / want.norm())
    return error if error == error else float("inf")


@torch.no_grad()
def layer_error(device: Device, sizes: Sizes, kind: str) -> float:
    """Return the relative error of a whole attention layer, with padded tokens and references outside the image."""
    torch.manual_seed(0)
    width, levels = 32 * sizes.heads, len(sizes.levels)
    layer = DeformableAttention(width, sizes.heads, levels, sizes.points)
    for parameter in layer.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.02)
    cells = sum(height * columns for height, columns in sizes.levels)
    tokens, padding = torch.randn(2, cells, width), torch.zeros(2, cells, dtype=torch.bool)
    padding[1, -(cells // 4) :] = True
    count = cells if kind == "encoder" else sizes.decoder_queries
    references = torch.rand(2, count, levels, 2 if kind == "encoder" else 4) * 1.4 - 0.2
    queries = torch.randn(2, count, width)
    results = []
    for dtype in (torch.float32, torch.float64):
        own = layer.to(device.torch, dtype)
        moved = [x.to(device.torch, dtype) for x in (queries, references, tokens)]
        memory = Memory(moved[2], padding.to(device.torch), sizes.levels, torch.ones(2, levels, 2, device=device.torch))
        with pytorch_form() if dtype == torch.float64 else nullcontext():
            results.append(own(moved[0], moved[1], memory))
    return relative_error(*results)


def golden_cases(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Compare with outputs, losses and gradients of the published networks, in fp32; and show how far bf16 drifts from them."""
    rule, check = (load_module(GOLDEN / f"{name}.py") for name in ("weights_rule", "check"))
    for file in sorted(GOLDEN.glob("*.npz")):
        if sizes.golden and file.stem not in sizes.golden:
            continue
        case = GoldenCase(file, rule, device.torch)
        with device.precision("bf16"):
            drift = _drift(case)
        with device.precision("fp32"):
            report = check.check(file, case.everything())
        failed = [row for row in report.rows if not row["ok"]]
        for row in failed:
            print(f"    {row['name']}: largest difference {row['abs']:.2e} (limit {row['atol']:.0e}), {row['why']}")
        figures: dict[str, Value] = {"arrays": len(report.rows), "wrong": len(failed)}
        if failed:
            figures["which"] = ", ".join(f"{row['name']} by {row['abs']:.1e}" for row in failed[:5])
        yield Row(file.stem, figures | drift, not failed and max(drift.values()) <= DRIFT)
        del case
        device.free()


def _drift(case: GoldenCase) -> dict[str, float]:
    """Return the largest changes of relation probabilities and of boxes of the last layer."""
    found = case.evaluation()
    result = {}
    for name, part in (("bf16 drift of relations", "verb_logits"), ("bf16 drift of boxes", "sub_boxes")):
        want = case.golden[f"eval/pred_{part}"].cpu()
        mine = torch.from_numpy(found[f"eval/pred_{part}"])
        pair = (mine.sigmoid(), want.sigmoid()) if part == "verb_logits" else (mine, want)
        result[name] = float((pair[0] - pair[1]).abs().max())
    return result
