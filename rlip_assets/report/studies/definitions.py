"""The studies as data: `studies.toml` beside this file, validated."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlip_assets.storage.errors import ParameterError

Figure = Literal["zero_shot_mAP", "earliness", "unseen", "seen", "mAP"]
Stage = Literal["pretrain", "finetune"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Arm(_Data):
    """One setting: a recipe with changes, and parameters of the profile outside training."""

    recipe: str
    changes: dict[str, Any] = {}
    params: dict[str, dict[str, Any]] = {}
    """Section of `params.yaml` -> fields that differ from the base profile. Arms with the same ones share a profile."""


class Claim(_Data):
    """Arm `higher` should score above arm `lower` in `figure`."""

    claim: str
    higher: str
    lower: str
    figure: Figure = "zero_shot_mAP"


class Study(_Data):
    """Arms that differ in one thing."""

    name: str
    title: str
    base: str
    """Profile whose world, captions and labels are used."""
    seeds: int = Field(ge=1)
    steps: int = Field(gt=0)
    stage: Stage = "pretrain"
    """The training that the arms are: pre-trainings, judged zero-shot, or fine-tunings from the base profile's start, judged by all
    classes, and by unseen and seen ones where there are such."""
    evaluate_every: float | None = Field(None, gt=0)
    """Epochs between evaluations, which `earliness` needs."""
    changes: dict[str, Any] = {}
    """Fields of the recipe that all arms change."""
    arms: dict[str, Arm]
    comparisons: tuple[Claim, ...]

    @model_validator(mode="after")
    def _compares_its_arms(self) -> Study:
        for claim in self.comparisons:
            for arm in (claim.higher, claim.lower):
                if arm not in self.arms:
                    raise ValueError(f"{claim.claim!r} speaks of the arm {arm!r}; the arms are {', '.join(self.arms)}")
            if claim.figure == "earliness" and self.evaluate_every is None:
                raise ValueError(f"{claim.claim!r} needs evaluate_every")
        return self


@cache
def studies() -> dict[str, Study]:
    """All studies by name.

    Raises:
        ParameterError: a wrong definition.
    """
    tables = tomllib.loads((files(__package__) / "studies.toml").read_text())
    defaults = tables.pop("defaults")
    recipe = defaults.pop("recipe")
    found = {}
    for name, table in tables.items():
        usual = table.pop("recipe", recipe)
        arms = {arm: {"recipe": usual, **values} for arm, values in table.pop("arms").items()}
        try:
            found[name] = Study.model_validate({**defaults, **table, "name": name, "arms": arms})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ParameterError(f"studies.toml, {name}: {problems}") from None
    return found


def study(name: str) -> Study:
    """The study called `name`; ParameterError names those there are."""
    if name not in studies():
        raise ParameterError(f"There is no study '{name}'; the studies are {', '.join(studies())}")
    return studies()[name]
