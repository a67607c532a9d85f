"""Batches that do not fit in memory are processed in parts.

Results depend on batch sizes: texts share a forward pass, and float sums depend on shapes. They must not depend on a machine's memory,
so a batch stays the same, up to the last bits of float sums, and only goes through the network in parts. `accelerate`'s
`find_executable_batch_size` would start the whole work again with another batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from rlip_assets.storage.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)
"""Messages of torch's RuntimeErrors: the accelerator's allocator, the processor's on Linux and on Windows, CUDA's libraries, and a
convolution for which no workspace is left."""


class MicroBatches:
    """Processes a batch in the largest parts that memory allows.

    Attributes:
        size: items of a batch.
        rows: items of a part. Halved when memory is too small, with a line in the log, and never raised again.
    """

    def __init__(self, size: int, remedy: str) -> None:
        """
        Args:
            remedy: advice where not even one item fits, such as "lower captions.captions_per_image".
        """
        self.size = self.rows = size
        self._remedy = remedy

    def __call__(self, work: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Result]:
        """Return the results of all items, in order.

        Args:
            work: returns one result per item. Called again with fewer items, and `rows` halved, after it ran out of memory.

        Raises:
            InputError: a single item does not fit.
        """
        results: list[Result] = []
        while len(results) < len(items):
            part = items[len(results) : len(results) + self.rows]
            try:
                results += work(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
            self._halve()  # here, where the tensors of the failed attempt are gone
        return results

    def _halve(self) -> None:
        if self.rows == 1:
            raise InputError(f"memory is too small for one image at a time; {self._remedy}, or use a larger device")
        logging.getLogger(__name__).warning(
            "memory is too small for %d at a time; going on with %d, with the same results but for float rounding",
            self.rows,
            self.rows // 2,
        )
        self.rows //= 2
        _give_back()


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory, of the device or the host, was too small."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def _give_back() -> None:
    """Return torch's cached blocks, which have the wrong sizes now, to the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
