"""Rows of a JSON array, one at a time, whatever the size of the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

from rlip_assets.storage.errors import InputError


def stream_rows(path: Path, array: str = "") -> Iterator[tuple[int, Any]]:
    """Yield (row number from 0, row) of an array of a JSON file; numbers with a point are floats.

    Args:
        array: key of the array in the file's top-level object, or "" for a file that is itself an array.

    Raises:
        InputError: the file is missing, empty, ends too early, is not JSON or not UTF-8; the sentence says after which
            row.
    """
    rows = 0
    where = f"the array {array!r}" if array else "its array"
    try:
        with path.open("rb") as stream:
            for item in ijson.items(stream, f"{array}.item" if array else "item", use_float=True):
                yield rows, item
                rows += 1
    except (ijson.JSONError, UnicodeDecodeError, OSError) as error:
        raise _input_error(path, error, f"after {rows} whole rows of {where}") from None


def read_value(path: Path, key: str) -> Any:
    """One value of a JSON file's top-level object, without loading the rest; None when the key is absent.

    Raises:
        InputError: as `stream_rows`.
    """
    try:
        with path.open("rb") as stream:
            return next(iter(ijson.items(stream, key, use_float=True)), None)
    except (ijson.JSONError, UnicodeDecodeError, OSError) as error:
        raise _input_error(path, error, f"at {key!r}") from None


def _input_error(path: Path, error: Exception, where: str) -> InputError:
    """The sentence for a file that cannot be read as JSON."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} does not exist; check the dataset's root in params.yaml or fetch the file")
    if isinstance(error, OSError):
        return InputError(f"{path} cannot be read ({error.strerror}); check the file and its permissions")
    detail = " ".join(str(error).split())
    if "premature EOF" in detail or "ncomplete JSON" in detail:
        return InputError(f"{path} ends {where}, within its JSON; fetch it again")
    if isinstance(error, UnicodeDecodeError) or "UTF8" in detail:
        return InputError(f"{path} is not UTF-8 {where}; fetch it again")
    return InputError(f"{path} is not valid JSON {where} ({detail[:120]}); fetch or repair it")
