"""Parameters of the training stages: which recipe each one follows, and what it changes of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rlip_assets.lineage.datasets import ZERO_SHOT_BENCHMARK
from rlip_assets.lineage.recipe_files import recipe
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.lineage.starts import check_chain, check_start, trained_here
from rlip_assets.storage.errors import ParameterError


class RecipeChoice(BaseModel):
    """A named recipe with the fields of it that this profile changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    changes: dict[str, Any] = {}
    seed: int | None = None
    """Seed of this training; null takes that of the profile."""
    processes: int | None = Field(None, gt=0, exclude_if=lambda value: value is None)
    """Processes that share each step of this training; null takes `training.processes`."""

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
        """Return the recipe itself."""
        return recipe(self.recipe, self.changes)


class DetectorChoice(RecipeChoice):
    """A recipe whose network starts from a box detector."""

    detector: str | None = Field(None, exclude_if=lambda value: value is None)
    """Folder of the detector, as `external.detector`, which null takes. It is an input of the stage, with its digest."""


class StartChoice(RecipeChoice):
    """A recipe whose network starts from a checkpoint."""

    start: str | None = Field(None, exclude_if=lambda value: value is None)
    """`pretrain/NAME` or `finetune/NAME` of this profile, or a checkpoint folder; null takes `training.start`."""


class CheckpointParams(BaseModel):
    """Checkpoints that a training keeps, and its evaluation on the way. Spans are epochs, or fractions of one where it is long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    evaluate_every: float | None = Field(None, gt=0)
    """Epochs between two evaluations by the benchmark's evaluator, on images that are neither trained on nor tested on; the last step is
    evaluated too. null judges the finished network alone."""
    evaluate_images: int = Field(500, gt=0)
    """Images of such an evaluation, at most."""
    keep_every: float | None = Field(None, gt=0)
    """Epochs between two checkpoints that stay beside the result, in its folder `kept`; null keeps none of them."""
    result: Literal["last", "best"] = "last"
    """The training's result: the last network, or the best evaluated one, which is kept in either case."""

    @model_validator(mode="after")
    def _best_needs_evaluations(self) -> CheckpointParams:
        if self.result == "best" and self.evaluate_every is None:
            raise ValueError("result: best needs evaluate_every")
        return self


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
    precision: str = Field("fp32", pattern="^(fp32|bf16|fp16)$")
    processes: int = Field(1, gt=0)
    """Processes that share each step, one a GPU: above 1 a training stage starts itself again under torchrun. They share one step's batch;
    what a recipe's total batch and rates are does not depend on it."""
    gradient_checkpointing: bool = False
    """Keep fewer activations and compute them again: less memory for about a third more time, same results."""
    checkpoint_every: int = Field(100, gt=0)
    """Steps between two states to resume from."""
    checkpoints: CheckpointParams = CheckpointParams()
    """Of pre-training and fine-tuning."""
    tagger_checkpoints: CheckpointParams = CheckpointParams()
    """Of the R-Tagger, which is judged by its F1 on held-out images."""

    r_tagger: DetectorChoice = DetectorChoice(recipe="micro_tagger")
    pretrain: dict[str, DetectorChoice] = {
        name: DetectorChoice(recipe=f"micro_{name}", changes={"lr_backbone": 0.0}) for name in ("vg", "vg_coco_o365")
    }
    start: str = "pretrain/vg_coco_o365"
    """Start of the fine-tunings that name none: `pretrain/NAME`, `finetune/NAME`, or the folder of a checkpoint made elsewhere."""
    finetune: dict[str, StartChoice] = {
        name: StartChoice(recipe=f"micro_{name}")
        for name in ("hico_full", "hico_10", "hico_1", "hico_uc_rf", "hico_uc_nf", "v_coco", "open_images")
    }

    @model_validator(mode="after")
    def _starts_exist(self) -> TrainingParams:
        trainings: dict[str, Collection[str]] = {"pretrain": self.pretrain, "finetune": self.finetune}
        starts = {name: self.start_of(name) for name in self.finetune}
        for name, start in starts.items():
            try:
                check_start(start, trainings)
                check_chain(name, starts)
            except ValueError as error:
                raise ValueError(f"the start of finetune.{name}: {error}") from None
        return self

    def processes_of(self, choice: RecipeChoice) -> int:
        """Return the processes that share the steps of one of the trainings."""
        return choice.processes or self.processes

    def start_of(self, finetuning: str) -> str:
        """Return the start of one of the fine-tunings."""
        return self.finetune[finetuning].start or self.start

    @property
    def zero_shot_run(self) -> str | None:
        """Benchmark run of the pre-training that stands for the profile without fine-tuning: the start, else the last one."""
        start = trained_here(self.start)
        name = start[1] if start and start[0] == "pretrain" else next(reversed(self.pretrain), None)
        return name and f"pretrain-{name}"

    @property
    def pictured_runs(self) -> tuple[str, ...]:
        """Benchmark runs with pictures and curves in the report: without fine-tuning, and the first fine-tuning on the same benchmark."""
        on_it = (name for name, choice in self.finetune.items() if choice.resolve().benchmark == ZERO_SHOT_BENCHMARK)
        finetuned = [f"finetune-{name}" for name in list(on_it)[:1]]
        return (*([self.zero_shot_run] if self.zero_shot_run else []), *finetuned)

    def keys(self, own: str, checkpoints: str = "checkpoints") -> tuple[str, ...]:
        """Return the dotted keys that a training's result depends on: common settings, its `own` key, and its policy of checkpoints.

        Several processes and a policy are named only where they are used, so that a setting without them stays the recorded one.
        """
        keys = ["seed", "threads", "device", "precision", *(["processes"] if self.processes > 1 else [])]
        if getattr(self, checkpoints) != CheckpointParams():
            keys.append(checkpoints)
        return tuple(f"training.{key}" for key in (*keys, own))
