"""The state of a raw folder, cheap enough to be compared every half minute."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rlip_assets.storage.errors import OF_THE_MACHINE
from rlip_assets.storage.files import digest_json

OBSERVED = "raw"
"""Name of the state among what the `raw_manifest` stage observed."""
_IMAGES = (".jpg", ".jpeg", ".png")


def folder_state(root: Path) -> str:
    """Return a digest of the names, sizes and times of a folder's directories and of its files that are not images.

    The time of a directory changes whenever an image is added, replaced, renamed or removed; an image that is overwritten in place does not
    show. States are compared for equality alone: no clock is asked, so it does not matter whose it is.
    """
    return digest_json(sorted(_entries(root, "")))


def _entries(folder: Path, name: str) -> Iterator[tuple[str, int, int]]:
    """Names, sizes and times below a folder; links to folders are not followed, since no image may lie outside the root."""
    yield name, 0, folder.stat().st_mtime_ns
    with os.scandir(folder) as entries:
        for entry in entries:
            inside = f"{name}/{os.fsencode(entry.name).decode(errors='backslashreplace')}"
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path), inside)
            elif not entry.name.lower().endswith(_IMAGES):
                try:
                    stat = entry.stat()
                except OSError as error:
                    if error.errno in OF_THE_MACHINE:
                        raise
                    # a link to nothing, or in a circle
                    stat = entry.stat(follow_symlinks=False)
                yield inside, stat.st_size, stat.st_mtime_ns
