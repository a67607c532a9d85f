"""The whole lineage of the micro world at a size at which every stage takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params_yaml import render_params_yaml

_SHORT = {
    "steps": 6,
    "batch_per_process": 4,
    "holdout": 0.2,
    "relation_threshold": 0.0,
    "augmentation": {"short_sides": [64], "test_short_side": 64},
}
WORLD = {
    "visual_genome": 60,
    "coco_train": 24,
    "coco_val": 4,
    "objects365_train": 24,
    "objects365_val": 4,
    "hico_det_train": 400,
    "hico_det_test": 200,
    "v_coco_trainval": 12,
    "v_coco_test": 6,
    "open_images_train": 12,
    "open_images_val": 4,
    "open_images_test": 6,
}


def make_project(root: Path) -> Params:
    """Write the parameters of a miniature profile into the empty folder `root`."""

    def choice(recipe: str) -> dict[str, Any]:
        return {"recipe": recipe, "changes": _SHORT}

    content: dict[str, Any] = {
        "micro_world": WORLD,
        "captions": {"captions_per_image": 2, "batch_size": 4, "rows_per_shard": 4},
        "parsing": {"rows_per_shard": 4},
        "candidates": {"rows_per_shard": 4},
        "tagging": {"batch_size": 4, "rows_per_shard": 4, "store_threshold": 0.0},
        "training": {
            "device": "cpu",
            "checkpoint_every": 2,
            "r_tagger": choice("micro_tagger"),
            "pretrain": {"vg_coco_o365": choice("micro_vg_coco_o365")},
            "finetune": {"hico_full": choice("micro_hico_full")},
        },
    }
    params = Params.model_validate(content)
    (root / "params.yaml").write_text(yaml.safe_dump(content))
    (root / "params.yaml").write_text(render_params_yaml(root / "params.yaml"))
    return params
