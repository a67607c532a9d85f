"""Names of images in annotation files of gigabytes, searched for as bytes: seconds where reading every row takes minutes."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rlip_assets.datasets.sources.objects365 import INVALID_IMAGES
from rlip_assets.datasets.sources.readers import Reader
from rlip_assets.storage.errors import InputError

if TYPE_CHECKING:
    from rlip_assets.doctor.raw_data import RawData


class Keys(NamedTuple):
    """`name` finds the file name or id of each image; `rows` what is counted -> a key that each such row has once."""

    name: re.Pattern[bytes]
    rows: dict[str, bytes]


_FILE_NAME = re.compile(rb'"file_name"\s*:\s*"((?:[^"\\]|\\.)*)"')
SEARCHED = {
    "coco": Keys(_FILE_NAME, {"boxes": b'"iscrowd"'}),
    "objects365": Keys(_FILE_NAME, {"boxes": b'"iscrowd"'}),
    "visual_genome": Keys(re.compile(rb'"image_id"\s*:\s*"?(\d+)'), {"boxes": b'"names"', "relations": b'"predicate"'}),
}
"""Datasets with large annotation files."""
_INVALID = re.compile("_0*(" + "|".join(sorted(INVALID_IMAGES)) + r")\.jpg$")
_SIDES = re.compile(rb'"(width|height)"\s*:\s*(\d+)')
_ROW = 2000
"""No row about an image in COCO form is longer."""


def search(reader: Reader, found: RawData) -> None:
    """Fill `found` with what the annotation files list, without sizes; damaged ends of files are its faults."""
    keys = SEARCHED[reader.dataset]
    for split, path in reader.official_files().items():
        if not path.is_file():
            continue
        try:
            with _mapped(path) as content:
                names = [_text(match[1]) for match in keys.name.finditer(content)]
                for what, key in keys.rows.items():
                    found.rows[f"{split} {what}"] += sum(1 for _ in re.finditer(re.escape(key), content))
        except InputError as error:
            found.faults.append(error)
            continue
        found.images[split] += len(names)
        if reader.dataset == "visual_genome":
            names = [f"{name}.jpg" for name in names]
        used = (name for name in names if reader.dataset != "objects365" or not _INVALID.search(name))
        found.files[split] = [reader.image_path(split, name) for name in used]


def annotated_size(path: Path, name: str) -> tuple[int, int] | None:
    """Return (width, height) of the row in COCO form that has a file name; None where it has none."""
    with _mapped(path) as content:
        at = content.find(name.encode())
        if at < 0:
            return None
        start = max(content.rfind(b"{", max(0, at - _ROW), at), 0)
        row = content[start : content.find(b"}", at, at + _ROW) + 1]
    sides = {key.decode(): int(value) for key, value in _SIDES.findall(row)}
    return (sides["width"], sides["height"]) if len(sides) == 2 else None


def _text(value: bytes) -> str:
    return str(json.loads(b'"' + value + b'"')) if b"\\" in value else value.decode(errors="replace")


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """The bytes of a JSON file.

    Raises:
        InputError: it is empty, cannot be read, or does not end as it begins.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            first, last = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1], content[-64:].rstrip()[-1:]
            if (first, last) not in ((b"{", b"}"), (b"[", b"]")):
                raise InputError(f"{path} does not end as it begins: it is cut off or no JSON; fetch it again")
            yield content
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); fetch it again") from None
