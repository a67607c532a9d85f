"""JSON from elsewhere, read without coercion: every value has the kind that its field asks for, or one sentence says which has not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rlip_assets.storage.errors import DataError, InputError

LARGEST = float(np.finfo(np.float32).max)
_SHOWN = 60
_ABSENT = object()


class Kind(NamedTuple):
    """A kind of JSON value: its name in messages, and the test for it."""

    words: str
    fits: Callable[[Any], bool]


def _number(value: Any) -> bool:
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST


def _whole(value: Any) -> bool:
    return _number(value) and value == int(value) and abs(value) < 1 << 53


NUMBER = Kind("a finite number", _number)
WHOLE = Kind("a whole number", _whole)
TEXT = Kind("a text", lambda value: isinstance(value, str) and bool(value.strip()))
IMAGE_ID = Kind("a name or number of an image", lambda value: TEXT.fits(value) or _whole(value))
NUMERAL = Kind("a whole number", lambda value: _whole(value) or (isinstance(value, str) and value.strip().isdecimal()))
"""A whole number that some published files write as text, with a line end."""
FLAG = Kind("true, false, 0 or 1", lambda value: isinstance(value, bool) or (_number(value) and value in (0, 1)))
BOX = Kind(
    "four finite numbers", lambda value: isinstance(value, list) and len(value) == 4 and all(map(_number, value))
)
SIZE = Kind(
    "a width and a height in pixels",
    lambda value: isinstance(value, list) and len(value) == 2 and all(_whole(side) and side >= 0 for side in value),
)
LIST = Kind("a list", lambda value: isinstance(value, list))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, with or without a byte order mark.

    Raises:
        InputError: no such file, not whole, or an object that gives a key twice (of which JSON readers keep the last in silence).
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); fetch it again") from None


def read_text(path: Path, remedy: str = "give a file that does") -> str:
    """Return the text of a regular file, with or without a byte order mark.

    Raises:
        InputError: there is no such file (with the `remedy`), it is a folder or a pipe, or it is no text.
    """
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no regular file"
        raise InputError(f"{path} is {found}; give a file" if path.exists() else f"{path} does not exist; {remedy}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); make it readable") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not valid JSON ({error}); fetch it again") from None


def field(row: Any, name: str, kind: Kind, where: str) -> Any:
    """Return one field of an object.

    Args:
        where: file and row, for the message.

    Raises:
        DataError: not an object, no such field, or a value of another kind; names file, row, field and value.
    """
    if not isinstance(row, dict):
        raise DataError(f"{where} is {shown(row)}; expected an object with {name!r}")
    value = row.get(name, _ABSENT)
    if not kind.fits(value):
        raise DataError(f"{where}: {name} is {shown(value)}; expected {kind.words}")
    return value


def values(row: Any, name: str, kind: Kind, where: str) -> list[Any]:
    """Return the list under a field, all of whose values are of one kind; errors as of `field`."""
    found: list[Any] = field(row, name, LIST, where)
    return checked(found, kind, f"{where}: {name}")


def checked(found: list[Any], kind: Kind, where: str) -> list[Any]:
    """Return a list after a look at every value; `where` names the list in the error."""
    if not all(map(kind.fits, found)):
        row = next(row for row, value in enumerate(found) if not kind.fits(value))
        raise DataError(f"{where}, entry {row} is {shown(found[row])}; expected {kind.words}")
    return found


def column(rows: Sequence[Any], name: str, kind: Kind, where: str) -> list[Any]:
    """Return one field of each of some rows; `where` names their list in errors, which are those of `field`."""
    if all(isinstance(row, dict) and kind.fits(row.get(name, _ABSENT)) for row in rows):
        return [row[name] for row in rows]
    return [field(row, name, kind, f"{where} {number}") for number, row in enumerate(rows)]


def integers(found: Iterable[Any]) -> npt.NDArray[np.int64]:
    """Return whole numbers or numerals as an array."""
    return np.array([int(value) for value in found], np.int64)


def boxes(found: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Return boxes as (n, 4)."""
    return np.array(found, np.float64).reshape(-1, 4)


def image_id_of(value: Any) -> str:
    """Return an image's name, or its number without the fraction that table libraries write."""
    return value if isinstance(value, str) else str(int(value))


def shown(value: Any) -> str:
    """Return a value as a message quotes it."""
    if value is _ABSENT:
        return "missing"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for row, key in enumerate(keys) if key in keys[:row])
        raise ValueError(f"the key {repeated!r} occurs twice in one object")
    return content
