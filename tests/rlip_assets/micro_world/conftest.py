"""A small world, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rlip_assets.lineage.context import NullLog, StageContext
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.micro_world.stage import generate_stage

SMALL = WorldParams(
    seed=5,
    visual_genome=300,
    coco_train=40,
    coco_val=12,
    objects365_train=40,
    objects365_val=12,
    hico_det_train=400,
    hico_det_test=200,
    v_coco_trainval=60,
    v_coco_test=20,
    open_images_train=40,
    open_images_val=6,
    open_images_test=10,
)


def stage_context(folder: Path, world: WorldParams) -> StageContext:
    """The context of the stage in a separate profile."""
    params = Params(micro_world=world)
    truth = folder / "truth"
    truth.mkdir(exist_ok=True)
    outputs = {"receipt": folder / "micro_world.json", "truth": truth}
    return StageContext("micro_world", None, params, {}, outputs, folder / "work/micro_world/digest", NullLog())


@dataclass(frozen=True)
class World:
    folder: Path
    figures: dict[str, Any]

    def raw(self, dataset: str) -> Path:
        return self.folder / "data/raw" / dataset


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return World(folder, generate_stage(stage_context(folder, SMALL)))
