"""A training step that memory is too small for ends with one sentence that names the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rlip_assets.storage.errors import RlipError
from rlip_assets.training.micro_batches import ran_out_of_memory


class StepTooLargeError(RlipError):
    """Memory, of the device or the host, is too small for a training step."""


@contextmanager
def remedy_named(images: int, *, precision: str, recompute: bool) -> Iterator[None]:
    """Run a training step, and say what to change where it runs out of memory.

    Unlike captioning and tagging, a step is not halved by itself: `accumulate` is part of a recipe.

    Args:
        images: images that go through the network at a time.
        precision, recompute: as in `Settings`; what is in use already is not advised.

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
        *([] if recompute else ["set training.gradient_checkpointing: true"]),
        *([] if precision != "fp32" else ["set training.precision: bf16"]),
        *([] if images == 1 else ["raise accumulate in the changes of the recipe"]),
        "use a larger device",
    ]
    raise StepTooLargeError(
        f"memory is too small for a training step with {images} image{'s' * (images > 1)} at a time in {precision}; "
        + ", or ".join(remedies)
    )
