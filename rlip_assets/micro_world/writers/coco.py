"""COCO 2017: `{train,val}2017/<12 digits>.jpg`, `annotations/instances_{train,val}2017.json`, boxes only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlip_assets.labelling.true_relations import TrueRelation
from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.shots import shots
from rlip_assets.micro_world.truth import true_relations
from rlip_assets.micro_world.vocabularies import coco_classes
from rlip_assets.micro_world.writers import Progress, save_json, save_picture
from rlip_assets.micro_world.writers.instances import Instances, coco_categories, coco_category

IMAGE_STEP = 9  # image ids have gaps, as in COCO
FIRST_BOX = {"train": 100001, "val": 900001}


def write(root: Path, params: WorldParams, progress: Progress) -> tuple[dict[str, Any], list[TrueRelation]]:
    """Figures by split, and the true relations of all images."""
    figures: dict[str, Any] = {}
    truth: list[TrueRelation] = []
    for offset, (split, count) in enumerate((("train", params.coco_train), ("val", params.coco_val))):
        instances = Instances(coco_categories(), coco_category, FIRST_BOX[split])
        for shot in shots("coco", split, count, params.seed):
            image_id = IMAGE_STEP * (shot.number + 1) + offset
            name = f"{image_id:012d}.jpg"
            save_picture(root / f"{split}2017" / name, shot.picture)
            truth += true_relations(str(image_id), shot.picture, instances.add(image_id, name, shot.picture))
            progress(1)
        save_json(root / f"annotations/instances_{split}2017.json", instances.content)
        figures[split] = {"images": count, "boxes": len(instances.content["annotations"])}
    save_json(root / "classes.json", coco_classes())
    return figures, truth
