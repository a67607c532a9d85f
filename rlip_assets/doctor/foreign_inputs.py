"""Inputs that no stage makes: weights, labels and lists from elsewhere, with the keys that name them and the recipes that read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlip_assets.lineage.layout import is_folder
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.training import RecipeChoice
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.lineage.spec import Registry, StageItem

_TABLES = ("data/scenes/", "data/manifests/", "data/detections/")
"""Folders that only stages write: what no stage makes there is of a dataset that is left out, as the check of parameters says."""


@dataclass(frozen=True)
class ForeignInput:
    """Attributes:
    role: name of the input in the stages that read it.
    path: absolute, or relative to the profile's root; a hub name for some models.
    readers: the runs that read it.
    """

    role: str
    path: str
    readers: list[StageItem] = field(default_factory=list)

    @property
    def subject(self) -> str:
        """Name of the input in a table."""
        return f"{self.role} {self.path}"

    @property
    def needed_by(self) -> str:
        """The one run that reads it, or the stages of several."""
        stages = dict.fromkeys(item.stage for item in self.readers)
        return self.readers[0].address if len(self.readers) == 1 else ", ".join(stages)

    def recipes(self, params: Params) -> list[Recipe]:
        """Return a recipe of each network that reads it."""
        found = list[Recipe]()
        for recipe in filter(None, (recipe_of(params, item) for item in self.readers)):
            if all((recipe.model, recipe.model_changes) != (each.model, each.model_changes) for each in found):
                found.append(recipe)
        return found

    def key(self, params: Params) -> str:
        """Return the key of `params.yaml` that names it for its first reader."""
        first, training = self.readers[0], params.training
        own = f"{first.stage}.{first.partition}" if first.partition else first.stage
        match self.role:
            case "detector":
                choice = training.r_tagger if first.stage == "r_tagger" else training.pretrain[first.partition or ""]
                return f"training.{own}.detector" if choice.detector else "external.detector"
            case "checkpoint" if first.stage == "predict":
                return f"predictions.{first.partition}.checkpoint"
            case "checkpoint":
                named = training.finetune[first.partition or ""].start
                return f"training.{own}.start" if named else "training.start"
            case "captioner" if params.captions.model:
                return "captions.model"
            case "tagging_model":
                return "tagging.model"
            case "detection_model":
                return "detections.model" if params.detections.model else "external.detector"
            case "image_list":
                return f"training.{own}.changes.image_list"
        return f"external.{self.role.replace('pseudo_labels/', 'labels.')}"


def foreign_inputs(params: Params, stages: Registry) -> list[ForeignInput]:
    """Return each input of the pipeline that no stage writes, once."""
    found: dict[tuple[str, str], ForeignInput] = {}

    def add(role: str, path: str, item: StageItem) -> None:
        found.setdefault((role, path), ForeignInput(role, path)).readers.append(item)

    hub = {
        "detections": ("detection_model", params.detections.model),
        "captions": ("captioner", params.captions.model),
        "pseudo_labels": ("tagging_model", params.tagging.model),
    }
    for item in stages.items():
        for role, path in item.inputs.items():
            if not stages.writers(path) and not path.startswith(_TABLES):
                add(role, path, item)
        role, model = hub.get(item.stage, ("", None))
        if model and not is_folder(model):
            add(role, model, item)
    return list(found.values())


def recipe_of(params: Params, item: StageItem) -> Recipe | None:
    """Return the recipe that a training or a prediction follows; None for other stages, and where none is named."""
    training = params.training
    if item.stage == "r_tagger":
        return training.r_tagger.resolve()
    if item.stage == "predict":
        return params.predictions[item.partition or ""].resolve()
    choices: Mapping[str, RecipeChoice] = {}
    if item.stage in ("pretrain", "finetune"):
        choices = training.pretrain if item.stage == "pretrain" else training.finetune
    choice = choices.get(item.partition or "")
    return choice.resolve() if choice else None
