"""Objects365 v2: `{train,val}/patchK/objects365_v{1,2}_<8 digits>.jpg`, `{train,val}/zhiyuan_objv2_{train,val}.json`, boxes only.

Patches 0 to 15 come from version 1 and patches 16 and up from version 2, which file names and the annotation's paths show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlip_assets.datasets.sources.classes import official_table
from rlip_assets.labelling.true_relations import TrueRelation
from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.picture import Thing
from rlip_assets.micro_world.shots import shots
from rlip_assets.micro_world.truth import true_relations
from rlip_assets.micro_world.vocabularies import objects365_classes, objects365_id
from rlip_assets.micro_world.writers import Progress, save_json, save_picture
from rlip_assets.micro_world.writers.instances import Instances

PATCHES = (0, 1, 16)
FIRST_VERSION_2 = 16
FIRST_IMAGE = {"train": 400001, "val": 900001}


def _category(thing: Thing) -> int:
    return objects365_id(thing.category, thing.sprite)


def write(root: Path, params: WorldParams, progress: Progress) -> tuple[dict[str, Any], list[TrueRelation]]:
    """Figures by split, and the true relations of all images."""
    figures: dict[str, Any] = {}
    truth: list[TrueRelation] = []
    categories = [{"id": row["id"], "name": row["name"]} for row in official_table("objects365")["objects"]]
    for split, count in (("train", params.objects365_train), ("val", params.objects365_val)):
        instances = Instances(categories, _category)
        for shot in shots("objects365", split, count, params.seed):
            image_id = FIRST_IMAGE[split] + shot.number
            patch = PATCHES[shot.number % len(PATCHES)]
            version = 2 if patch >= FIRST_VERSION_2 else 1
            name = f"patch{patch}/objects365_v{version}_{image_id:08d}.jpg"
            save_picture(root / split / name, shot.picture)
            boxed = instances.add(image_id, f"images/v{version}/{name}", shot.picture)
            truth += true_relations(str(image_id), shot.picture, boxed)
            progress(1)
        for box in instances.content["annotations"]:
            box |= {"isfake": 0, "isreflected": 0}
        save_json(root / split / f"zhiyuan_objv2_{split}.json", instances.content)
        figures[split] = {"images": count, "boxes": len(instances.content["annotations"])}
    save_json(root / "classes.json", objects365_classes())
    return figures, truth
