"""Arrow arrays from and to NumPy over their buffers.

pyarrow's own conversions (`pa.array`, `to_numpy`) import pandas to look for its types, which costs a stage more time than a small table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_TYPES = {np.dtype(np.float32): pa.float32(), np.dtype(np.int32): pa.int32()}


def array_of(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return a float32 or int32 vector as an Arrow array, null where `valid` is false."""
    bits = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(_TYPES[values.dtype], len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def array_of_texts(texts: Sequence[str]) -> pa.Array:
    """Texts as an Arrow string array without nulls."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def numbers(array: pa.Array) -> npt.NDArray[Any]:
    """Return a float32 or int32 array as a read-only NumPy view; with nulls, which only float32 may have, a copy where they are NaN."""
    valid, content = array.buffers()
    kind = np.float32 if pa.types.is_float32(array.type) else np.int32
    if content is None:
        return np.zeros(0, kind)
    end = array.offset + len(array)
    values = np.frombuffer(content, kind, end)[array.offset :]
    if not array.null_count:
        return values
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), count=end, bitorder="little")[array.offset :]
    return np.where(bits == 1, values, np.float32("nan"))
