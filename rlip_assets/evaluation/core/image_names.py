"""Finds annotated images by the names that prediction files give them."""

from __future__ import annotations

import re
from collections.abc import Iterable

ENDING = re.compile(r"\.(jpe?g|png|bmp|gif|tiff?|webp)$", re.IGNORECASE)


class ImageNames:
    """Annotated image ids by their spellings: with or without folder and ending, or, for COCO and HICO-DET, by number alone.

    A number finds a name that ends in it, and a name that ends in a number finds an id that is this number. A spelling that two
    images share finds neither.
    """

    def __init__(self, image_ids: Iterable[str]) -> None:
        self._exact = set(image_ids)
        self._stems: dict[str, str | None] = {}
        self._numbers: dict[int, str | None] = {}
        for image_id in self._exact:
            stem = _stem(image_id)
            self._stems[stem] = None if stem in self._stems else image_id
            number = _number(stem)
            if number is not None:
                self._numbers[number] = None if number in self._numbers else image_id

    def find(self, name: str) -> str | None:
        """Return the annotated id that a name means, None where there is no such image."""
        if name in self._exact:
            return name
        stem = _stem(name)
        if stem in self._stems:
            return self._stems[stem]
        number = _number(stem)
        found = None if number is None else self._numbers.get(number)
        return found if found and (stem.isdecimal() or _stem(found).isdecimal()) else None


def _stem(name: str) -> str:
    return ENDING.sub("", name.replace("\\", "/").rpartition("/")[2])


def _number(stem: str) -> int | None:
    digits = re.search(r"[0-9]{1,18}$", stem)
    return int(digits[0]) if digits else None
