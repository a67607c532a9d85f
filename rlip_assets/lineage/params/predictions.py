"""Predictions of benchmarks by checkpoints that were made before, here or elsewhere."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from rlip_assets.lineage.recipe_files import recipe
from rlip_assets.lineage.recipes import Combinations, Recipe, Split
from rlip_assets.storage.errors import ParameterError

KINDS = ("zero_shot", "finetune")
"""Kinds of recipes that say how a benchmark is predicted."""


class PredictionChoice(BaseModel):
    """A checkpoint and the benchmark whose test split it predicts; the benchmark stage judges the result and the report has a row of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str
    """`pretrain/NAME` or `finetune/NAME` of this profile, or a checkpoint folder made elsewhere, as `rlip import-checkpoint` writes it."""
    benchmark: Literal["hico_det", "v_coco", "open_images"] | None = None
    """Null takes that of the recipe."""
    recipe: str | None = None
    """A recipe of kind zero_shot or finetune: the checkpoint must be of its network, and is judged as its kind says."""
    zero_shot: bool | None = None
    """Judged as a network that was not trained on the benchmark; null asks recipe and checkpoint."""
    unseen: Split | Combinations | None = None
    """Zero-shot split of its training, whose unseen classes are reported; null asks the checkpoint."""

    @model_validator(mode="after")
    def _one_benchmark(self) -> PredictionChoice:
        try:
            setting = self.resolve()
        except ParameterError as error:
            raise ValueError(str(error)) from None
        if setting is not None and setting.kind not in KINDS:
            raise ValueError(
                f"{self.recipe} is a recipe of kind {setting.kind}, which predicts no benchmark; name one of kind "
                f"{' or '.join(KINDS)}, or none"
            )
        if setting is None and self.benchmark is None:
            raise ValueError("give a benchmark or a recipe")
        if setting is not None and self.benchmark not in (None, setting.benchmark):
            raise ValueError(
                f"the recipe {self.recipe} is of {setting.benchmark}, not {self.benchmark}; leave one of them out"
            )
        return self

    def resolve(self) -> Recipe | None:
        """Return the recipe itself, where one is named."""
        return recipe(self.recipe) if self.recipe else None

    @property
    def on(self) -> str:
        """The benchmark that is predicted."""
        setting = self.resolve()
        return str(self.benchmark or (setting and setting.benchmark))

    @property
    def as_zero_shot(self) -> bool | None:
        """Return whether it is judged zero-shot; None where the checkpoint has to say so."""
        setting = self.resolve()
        return setting.kind == "zero_shot" if self.zero_shot is None and setting is not None else self.zero_shot
