"""Parameters of the training stages: which recipe each one follows, and what it changes of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rlip_assets.errors import ParameterError
from rlip_assets.training.recipes import Recipe, recipe


class RecipeChoice(BaseModel):
    """A named recipe with the fields of it that this profile changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    changes: dict[str, Any] = {}
    seed: int | None = None
    """Seed of this training; null takes that of the profile."""

    @field_validator("changes")
    @classmethod
    def _known_fields(cls, changes: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(changes) - set(Recipe.model_fields))
        if unknown:
            raise ValueError(f"no field of a recipe is called {unknown[0]!r}")
        return changes

    def model_post_init(self, _: object) -> None:
        try:
            self.resolve()
        except ParameterError as error:
            raise ValueError(str(error)) from None

    def resolve(self) -> Recipe:
        """The recipe itself."""
        return recipe(self.recipe, self.changes)


class TrainingParams(BaseModel):
    """Parameters of the training stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 42
    threads: int = Field(1, gt=0)
    """Processor threads of the training process."""
    workers: int = Field(0, ge=0)
    """Processes that prepare batches; 0 prepares them in the training process."""
    device: str = "auto"
    """"cpu", "cuda" or "auto"."""
    precision: str = Field("fp32", pattern="^(fp32|bf16)$")
    checkpoint_every: int = Field(100, gt=0)
    """Steps between two checkpoints to resume from."""

    r_tagger: RecipeChoice = RecipeChoice(recipe="micro_tagger")
    pretrain: dict[str, RecipeChoice] = {
        name: RecipeChoice(recipe=f"micro_{name}") for name in ("vg", "vg_coco", "vg_coco_o365", "late_vg_coco_o365")
    }
    finetune: dict[str, RecipeChoice] = {
        name: RecipeChoice(recipe=f"micro_{name}")
        for name in ("hico_full", "hico_10", "hico_1", "hico_uc_rf", "hico_uc_nf", "v_coco", "open_images")
    }
