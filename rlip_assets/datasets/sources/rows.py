"""Rows of annotation files, validated once, at the door, for every reader.

A reader states the form of a row by `record`, `list_of` and the checks of single values below. A check returns the value as the rest of
the program has it, or raises `BadValue`, which `admit` turns into a sentence with field, value, file and row: with it the row, and the
image that it belongs to, go to quarantine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rlip_assets.datasets.sources.json_stream import Undecodable
from rlip_assets.datasets.sources.readers import REJECTED, Fragment

LARGEST = 1e9
"""No coordinate and no side of an image is larger."""

_SHOWN = 60
_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")

Check = Callable[[Any], Any]


class BadValue(ValueError):
    """A value that a row may not have: what is wrong with it, and its place in the row."""

    def __init__(self, problem: str, value: Any, place: str = "") -> None:
        super().__init__(problem)
        self.problem, self.value, self.place = problem, value, place

    def below(self, key: str) -> BadValue:
        """Return the same, seen from one level above."""
        return BadValue(self.problem, self.value, f"{key}{self.place}")

    def reason(self, origin: str) -> str:
        """Return the reason for the quarantine."""
        return f"{self.place.removeprefix('.') or 'the row'} {self.problem} ({shown(self.value)}; {origin})"


def admit(check: Check, row: Any, kind: str, key: str, origin: str, split: str = "") -> Fragment:
    """Return a row of an annotation file as a piece of its image, or as a rejected row.

    Args:
        check: the form of the row.
        kind: kind of the piece, whose content are the fields of the form.
        key: field with the id of the image.
        origin, split: as in `Fragment`.
    """
    try:
        fields = check(row)
    except BadValue as error:
        return rejected(row.get(key) if type(row) is dict else None, error.reason(origin), origin, split)
    return Fragment(str(fields[key]), kind, fields, origin, split)


def rejected(image_id: Any, reason: str, origin: str, split: str = "") -> Fragment:
    """Return the piece of a row that is not admitted; its image is known where `image_id` can be one."""
    try:
        known = str(plain_id(image_id))
    except BadValue:
        known = ""
    return Fragment(known, REJECTED, reason, origin, split)


def shown(value: Any) -> str:
    """Return a short text of any value."""
    if isinstance(value, Undecodable):
        return str(value)
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested deeply, or a number of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def record(**checks: Check) -> Check:
    """Return the check of an object: the fields named, other ones are left out. A name that ends in `_` need not be there."""
    fields = [(name.removesuffix("_"), check) for name, check in checks.items()]
    required = {name for name in checks if not name.endswith("_")}

    def read(row: Any) -> dict[str, Any]:
        if type(row) is not dict:
            raise BadValue("is not an object", row)
        found = {}
        try:
            for name, check in fields:
                if name in row:
                    found[name] = check(row[name])
                elif name in required:
                    raise BadValue(f"has no {name!r}", row)
        except BadValue as error:
            raise error if name not in row else error.below(f".{name}") from None
        return found

    return read


def list_of(check: Check) -> Check:
    """Return the check of a list whose items have one form."""

    def read(value: Any) -> list[Any]:
        if type(value) is not list:
            raise BadValue("is not a list", value)
        try:
            return [check(item) for item in value]
        except BadValue:
            for number, item in enumerate(value):
                try:
                    check(item)
                except BadValue as error:
                    raise error.below(f"[{number}]") from None
            raise

    return read


def plain_id(value: Any) -> int | str:
    """Return an id as a number where it is one: 7, 7.0 and "7" are one id."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str and value.strip() and not _SURROGATE.search(value):
        return int(value) if _WHOLE.fullmatch(value) else value
    raise BadValue("is neither a whole number nor a text", value)


def as_it_stands(check: Check) -> Check:
    """Return the check of a value that is kept as the file has it."""

    def read(value: Any) -> Any:
        check(value)
        return value

    return read


def anything(value: Any) -> Any:
    """Return a value that is checked later."""
    return value


def scalar(value: Any) -> Any:
    """Return an id that nothing depends on as it stands, None for any other value."""
    try:
        plain_id(value)
    except BadValue:
        return None
    return value


def whole(value: Any) -> int:
    """Return a whole number."""
    if is_number(value) and value == int(value):
        return int(value)
    raise BadValue("is not a whole number", value)


def text(value: Any) -> str:
    """Return a text that is not blank."""
    if type(value) is str and value.strip() and not _SURROGATE.search(value):
        return value
    raise BadValue("is not a text" if not isinstance(value, str) or value.strip() else "is empty", value)


def text_or_none(value: Any) -> str | None:
    """Return a text, None for any other value: a relation without text."""
    return value if type(value) is str and not _SURROGATE.search(value) else None


def names(value: Any) -> Any:
    """Return the names of an object, a text or a list of texts, as they stand; an empty list where its first one is not a text."""
    listed = value if type(value) is list else [value]
    if not listed or text_or_none(listed[0]) is None:
        return []
    return value if all(text_or_none(item) is not None for item in listed) else listed[:1]


def coordinate(value: Any) -> Any:
    """Return a number as it stands, and None for anything else, which the rules of boxes drop and count."""
    return value if is_number(value) else None


def side(value: Any) -> int | None:
    """Return the width or height of an image in pixels; null and 0 say nothing: None."""
    if value is None or (type(value) in (int, float) and value == 0):
        return None
    if is_number(value) and value == int(value):
        return int(value)
    raise BadValue("is not a whole number of pixels", value)


def flag(value: Any) -> int:
    """Return 0 or 1; null says 0."""
    if value is None or (type(value) in (bool, int, float) and value in (0, 1)):
        return int(value or 0)
    raise BadValue("is neither 0 nor 1", value)


def is_number(value: Any) -> bool:
    """Return True for a number that a coordinate may be."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST


def four_numbers(value: Any) -> list[Any]:
    """Return four numbers as they stand, and an empty list for anything else, which the rules of boxes drop and count."""
    if type(value) is list and len(value) == 4:
        for number in value:
            if not (type(number) is float or type(number) is int) or not -LARGEST <= number <= LARGEST:
                return []
        return value
    return []


def exactly_four_numbers(value: Any) -> Any:
    """Return four numbers as they stand."""
    if not four_numbers(value):
        raise BadValue("is not four finite numbers", value)
    return value
