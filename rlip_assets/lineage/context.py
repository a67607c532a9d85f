"""The context of a stage function: its inputs, its empty outputs, the profile's parameters and a log.

A stage is a plain function `stage(ctx: StageContext) -> dict[str, Any]`. It reads `ctx.inputs`, fills `ctx.outputs` and returns
figures that follow from inputs and parameters alone. Renaming outputs into place, manifests, provenance and tracking are the
runner's work (`runner.py`), so a stage can be called from a test with folders of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from rlip_assets.lineage.params import Params


class StageLog:
    """Receiver of a stage's reports, such as a terminal, the tracking store or the orchestrator; each takes what it can show."""

    def info(self, message: str) -> None:
        """One line for a person."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """`done` of `total` units are finished; rate and remaining time are the log's business."""

    def params(self, values: Mapping[str, object]) -> None:
        """Settings of this run beyond the profile's parameters."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Figures, at a training step or once."""

    def picture(self, name: str, image: Image) -> None:
        """A picture to look at beside the run."""

    def dataset(self, name: str, path: Path, digest: str) -> None:
        """An input dataset with the digest of its content."""

    def artifact(self, path: Path) -> None:
        """A file or folder to keep with the run."""

    def model(self, folder: Path) -> None:
        """A checkpoint folder to register as the next version of this item's model."""


class NullLog(StageLog):
    """Reports nothing. Base of the logs that report only some things."""


@dataclass(frozen=True)
class StageContext:
    """Everything a stage function may use."""

    stage: str
    partition: str | None
    params: Params
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    work: Path
    """Folder of this run of the stage, kept until it ends well: ROOT/work/STAGE/DIGEST."""
    log: StageLog
    observed: dict[str, str] = field(default_factory=dict)
    """Filled by the stage: states of what it read besides its tracked inputs. Kept in its provenance, for sensors to compare with."""

    @property
    def root(self) -> Path:
        """Root of the profile, which relative paths in parameters are relative to."""
        return self.work.parents[2]

    @property
    def shared(self) -> Path:
        """Folder of what all stages share and anyone may delete, such as caches."""
        return self.work.parents[1]


StageFunction = Callable[[StageContext], dict[str, Any]]
