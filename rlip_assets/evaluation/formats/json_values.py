"""JSON from elsewhere, read without coercion: what does not fit is refused, never cut, rounded or overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.storage.errors import InputError


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        InputError: no such file, not whole, or an object that gives a key twice (of which JSON readers keep the last in silence).
    """
    try:
        return json.loads(Path(path).read_text(), object_pairs_hook=_unique)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a file that does") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give a file") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); fetch it again") from None


def boxes_of(values: Any) -> npt.NDArray[np.float64]:
    """(n, 4) boxes from n lists of four numbers.

    Raises:
        ValueError: a list of another length, or a value that is no number.
    """
    uneven = next((row for row, value in enumerate(values) if len(value) != 4), None)
    if uneven is not None:
        raise ValueError(f"box {uneven} is {values[uneven]}, not four numbers")
    return np.array(values, np.float64).reshape(-1, 4)


def integers_of(values: Any) -> npt.NDArray[np.int64]:
    """Whole numbers, of any shape.

    Raises:
        ValueError: lists of different lengths, a fraction, or a value that is no number.
    """
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"expected whole numbers, found {array.reshape(-1)[0].item()!r}")
    if array.dtype.kind == "f" and not (array == np.floor(array)).all():
        raise ValueError(f"expected whole numbers, found {float(array[array != np.floor(array)][0])}")
    return array.astype(np.int64)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for row, key in enumerate(keys) if key in keys[:row])
        raise ValueError(f"the key {repeated!r} occurs twice in one object")
    return content
