"""COCO 2017: `annotations/instances_{train,val}2017.json`, images in `{train,val}2017/` or
`images/{train,val}2017/`."""

from __future__ import annotations

from pathlib import Path

from rlip_assets.datasets.sources.coco_style import InstancesReader


class CocoReader(InstancesReader):
    """Boxes of COCO 2017. Images without any annotation are not used; crowd and degenerate boxes are dropped and
    counted."""

    dataset = "coco"

    def official_files(self) -> dict[str, Path]:
        return {split: self.root / f"annotations/instances_{split}2017.json" for split in ("train", "val")}
