"""Errors of a training step that does not fit in memory: one sentence that names the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rlip_assets.storage.errors import RlipError
from rlip_assets.training.micro_batches import ran_out_of_memory


class StepTooLargeError(RlipError):
    """Memory, of the device or the host, is too small for a training step."""


@contextmanager
def remedy_named(images: int, *, precision: str, gradient_checkpointing: bool) -> Iterator[None]:
    """Run a training step; where it runs out of memory, say what to change.

    Unlike captioning and tagging, a step is not halved automatically: `accumulate` is part of a recipe.

    Args:
        images: images that go through the network at a time.
        precision, gradient_checkpointing: as in `Settings`; what is already in use is not advised.

    Raises:
        StepTooLargeError: memory is too small.
    """
    try:
        yield
        return
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
    remedies = [
        *([] if gradient_checkpointing else ["set training.gradient_checkpointing: true"]),
        *([] if precision != "fp32" else ["set training.precision: bf16"]),
        *([] if images == 1 else ["raise accumulate in the changes of the recipe"]),
        "use a larger device",
    ]
    raise StepTooLargeError(
        f"memory is too small for a training step with {images} image{'s' * (images > 1)} at a time in {precision}; "
        + ", or ".join(remedies)
    )
