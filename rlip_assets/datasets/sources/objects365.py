"""Objects365 v2: `zhiyuan_objv2_{train,val}.json` in `{train,val}/` or `annotations/`, images in patch folders such as `train/patch16/`
(the v2 release holds the v1 patches too); v1 alone: `annotations/objects365_{train,val}.json`, images in `{train,val}/`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from rlip_assets.datasets.sources.classes import official_table
from rlip_assets.datasets.sources.coco_style import InstancesReader
from rlip_assets.datasets.sources.readers import Fragment, RawImage

INVALID_IMAGES = frozenset({"908726", "320532", "320534"})
"""Images that the annotation lists and the release does not hold; left out by id."""


@cache
def _corrected_names() -> dict[tuple[int | str, str], str]:
    return {(row["id"], row["name"].strip()): row["text"] for row in official_table("objects365")["objects"]}


class Objects365Reader(InstancesReader):
    """Boxes of Objects365 v1 and v2 patches. A released name is corrected by its id and spelling, never by position."""

    dataset = "objects365"

    def official_files(self) -> dict[str, Path]:
        return {split: self._annotations(split) for split in ("train", "val")}

    def _annotations(self, split: str) -> Path:
        v2 = f"zhiyuan_objv2_{split}.json"
        return self.existing(f"{split}/{v2}", f"annotations/{v2}", f"annotations/objects365_{split}.json")

    def image_places(self, split: str, file_name: str) -> list[str]:
        # The annotation says "images/v2/patch16/name.jpg" or "patch16/name.jpg"; on disk patches lie below their split.
        return super().image_places(split, "/".join(PurePosixPath(file_name).parts[-2:]))

    def text_of(self, category_id: int | str, name: str) -> str:
        return _corrected_names().get((category_id, name.strip())) or super().text_of(category_id, name)

    def assemble(self, fragments: Sequence[Fragment]) -> RawImage | None:
        return None if fragments[0].image_id in INVALID_IMAGES else super().assemble(fragments)
