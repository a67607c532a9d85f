"""The parameters of a profile: one validated model, one file (`params.yaml`), no side door.

One module per section, one section per kind of stage; defaults are those of the micro profile.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails

from rlip_assets.lineage.params.benchmarks import BenchmarkParams
from rlip_assets.lineage.params.consistency import problems
from rlip_assets.lineage.params.execution import ExecutionParams
from rlip_assets.lineage.params.external import ExternalParams
from rlip_assets.lineage.params.labels import (
    CandidateParams,
    CaptionParams,
    DecontaminationParams,
    DetectionParams,
    DriftParams,
    ParsingParams,
    TaggingParams,
)
from rlip_assets.lineage.params.oracle import OracleParams
from rlip_assets.lineage.params.predictions import PredictionChoice
from rlip_assets.lineage.params.promotion import PromotionParams
from rlip_assets.lineage.params.rehearsal import RehearsalParams
from rlip_assets.lineage.params.sources import SourcesParams, without_world_beside_real_data
from rlip_assets.lineage.params.training import TrainingParams
from rlip_assets.lineage.params.world import WorldParams
from rlip_assets.lineage.starts import check_start
from rlip_assets.storage.errors import ParameterError


class Params(BaseModel):
    """All parameters of one profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str = "micro"
    """Name of the profile, for reports."""
    micro_world: WorldParams = WorldParams()
    sources: SourcesParams = SourcesParams()
    external: ExternalParams = ExternalParams()
    detections: DetectionParams = DetectionParams()
    captions: CaptionParams = CaptionParams()
    parsing: ParsingParams = ParsingParams()
    candidates: CandidateParams = CandidateParams()
    decontamination: DecontaminationParams = DecontaminationParams()
    tagging: TaggingParams = TaggingParams()
    drift: DriftParams = DriftParams()
    training: TrainingParams = TrainingParams()
    predictions: dict[str, PredictionChoice] = {}
    """Predictions by checkpoints that were made before, by name."""
    benchmarks: BenchmarkParams = BenchmarkParams()
    promotion: PromotionParams = PromotionParams()
    execution: ExecutionParams = ExecutionParams()
    oracle: OracleParams = OracleParams()
    rehearsal: RehearsalParams | None = None
    """Limits of a rehearsal; null is the real thing."""

    @model_validator(mode="after")
    def _predictors_exist(self) -> Params:
        trainings: dict[str, Collection[str]] = {
            "pretrain": self.training.pretrain,
            "finetune": self.training.finetune,
        }
        for name, choice in self.predictions.items():
            try:
                check_start(choice.checkpoint, trainings)
            except ValueError as error:
                raise ValueError(f"predictions.{name}.checkpoint: {error}") from None
        return self

    @model_validator(mode="after")
    def _short_in_a_rehearsal(self) -> Params:
        training, limit = self.training, self.rehearsal
        choices = {"r_tagger": training.r_tagger, **training.pretrain, **training.finetune} if limit else {}
        for name, choice in choices.items():
            steps = choice.resolve().steps
            if limit and (steps is None or steps > limit.steps):
                raise ValueError(
                    f"training.{name} runs longer than the {limit.steps} steps of rehearsal; set changes.steps, or rehearsal: null"
                )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        if found := list(problems(self)):
            raise ValueError("; ".join(found))
        return self

    @model_serializer(mode="wrap")
    def _without_the_micro_world(self, content: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what only the micro world has, in a profile of real data."""
        values: dict[str, Any] = content(self)
        return (
            values if self.is_micro_world else {k: v for k, v in values.items() if k not in ("micro_world", "oracle")}
        )

    @property
    def is_micro_world(self) -> bool:
        """Return whether some of the profile's data are the procedural ones, whose figures compare with nothing."""
        return any(map(self.sources.is_drawn, self.sources.names))


def load_params(path: Path) -> Params:
    """Read and validate a `params.yaml`.

    Raises:
        ParameterError: no such file, not YAML, an unknown key or a wrong value; the message lists every offending key.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ParameterError(
            f"{path} does not exist; run from the project's root or name a profile that has a params.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ParameterError(f"{path} is not valid YAML ({' '.join(str(error).split())}); correct the file") from None
    if isinstance(content, dict) and "sources" in content:
        content = {**content, "sources": without_world_beside_real_data(content["sources"])}
    return validate_params(content or {}, str(path))


def validate_params(content: Any, where: str) -> Params:
    """Return parameters from plain values; `where` names their origin in errors.

    Raises:
        ParameterError: an unknown key or a wrong value; the message lists every offending key.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParameterError(f"{where}: {'; '.join(map(_said, error.errors()))}; fix or remove these keys") from None


def _said(error: ErrorDetails) -> str:
    """Return key and complaint of one error; what is wrong between sections names its keys itself."""
    complaint = error["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, error['loc']))}: {complaint}" if error["loc"] else complaint
