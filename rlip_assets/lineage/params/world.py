"""Parameters of the micro world: its seed and how many images each part has."""

from pydantic import BaseModel, ConfigDict, Field


class WorldParams(BaseModel):
    """Seed and sizes; the same values give the same bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 2023
    visual_genome: int = Field(2000, ge=1)
    coco_train: int = Field(1200, ge=1)
    coco_val: int = Field(200, ge=1)
    objects365_train: int = Field(2200, ge=1)
    objects365_val: int = Field(200, ge=1)
    hico_det_train: int = Field(2400, ge=400)
    """At least 400: every interaction class has instances in both splits."""
    hico_det_test: int = Field(600, ge=200)
    v_coco_trainval: int = Field(600, ge=2)
    v_coco_test: int = Field(200, ge=1)
    open_images_train: int = Field(800, ge=1)
    open_images_val: int = Field(100, ge=1)
    open_images_test: int = Field(200, ge=1)
