"""Memory of the GPUs for the recipes of the profile, where there are any."""

from __future__ import annotations

from collections.abc import Iterator

from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, failed, ok, skipped, warning
from rlip_assets.lineage.environment import gpu_memory, gpus
from rlip_assets.lineage.recipes import Recipe

_LARGE = 1e9
"""Bytes of a training step beyond which a processor alone takes months."""


def check(case: Examination) -> Iterator[Finding]:
    """Compare an estimate of the largest training step with the smallest GPU."""
    if case.stages is None or case.params is None:
        return
    training = case.params.training
    largest = max(_steps(case), key=lambda pair: pair[1], default=None)
    found = gpus()
    if not found:
        if training.device.startswith("cuda"):
            step = f"; {_told(*largest)}" if largest else ""
            yield failed(
                "GPU", f"training.device is {training.device}, and there is none{step}", "set it to auto or cpu"
            )
        elif largest and largest[1] > _LARGE:
            yield warning("GPU", f"none is here, and {_told(*largest)}", "train full-size networks where GPUs are")
        else:
            yield skipped("GPU", "none is here; everything runs on the processor")
        return
    import torch

    if not torch.cuda.is_available():
        yield failed("GPU", f"torch {torch.__version__} does not see {found[0]}", "install torch for its CUDA driver")
    shared = max(case.stages.items(), key=lambda item: item.processes)
    if shared.processes > len(found) and training.device != "cpu":
        told = f"{shared.address} wants {shared.processes} processes with a GPU each, {len(found)} are here"
        remedy = "lower training.processes, or that of this training"
        if training.device == "auto" and not (largest and largest[1] > _LARGE):
            yield warning("GPU", f"{told}: it trains on the processor", remedy)
        else:
            yield failed("GPU", told, remedy)
    sizes = gpu_memory()
    if not largest or not sizes:
        return
    name, needed = largest
    message = f"{len(found)} x {found[0]}; {_told(name, needed)}"
    if needed > min(sizes):
        remedy = (
            "training.precision: bf16, training.gradient_checkpointing: true, or accumulate in the recipe's changes"
        )
        yield failed("GPU", message, remedy)
    else:
        yield ok("GPU", message)


def _told(name: str, needed: float) -> str:
    return f"a step of {name}, the largest, needs about {needed / 2**30:.1f} GiB per process (estimate)"


def _steps(case: Examination) -> Iterator[tuple[str, float]]:
    """Training and estimated bytes of its step; equal recipes are asked once."""
    from rlip_assets.doctor.sizes import step_bytes

    assert case.stages is not None
    assert case.params is not None
    training = case.params.training
    seen: list[Recipe] = []
    for item in case.stages.items():
        recipe = case.recipe(item) if "checkpoint" in item.outputs else None
        if recipe is None or recipe in seen:
            continue
        seen.append(recipe)
        yield item.address, step_bytes(recipe, training.precision, training.gradient_checkpointing)
