"""One run of a stage: what its result follows from, and where it fills its outputs before they are renamed into place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlip_assets.lineage.spec import StageItem, StageSpec
from rlip_assets.storage.files import digest_json

WORK_FOLDER = "work"


@dataclass(frozen=True)
class StageRun:
    """One call of a stage: the item, where it runs and what its result follows from.

    Attributes:
        inputs: logical name -> SHA-256 of the input's content.
        params: dotted key -> value, of every parameter the item declares.
        measured_run: MLflow run of the item whose output this one measures, or the key of its journal where it was not in the store yet.
    """

    spec: StageSpec
    item: StageItem
    root: Path
    version: int
    inputs: Mapping[str, str]
    params: Mapping[str, Any]
    measured_run: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the result follows from."""
        return digest_json([self.item.address, self.version, dict(self.inputs), dict(self.params)])

    def final_path(self, path: Path) -> Path:
        """Return the final place of a path inside the outputs that the stage fills; other paths as they are."""
        for name, final in self.item.outputs.items():
            filled = filled_path(self.item, self.root, name)
            if path == filled or filled in path.parents:
                return self.root / final / path.relative_to(filled)
        return path


def filled_area(item: StageItem, root: Path, process: int = 0) -> Path:
    """Return the folder in which process number `process` of a run fills its outputs, on the file system of the final ones."""
    return root / WORK_FOLDER / "outputs" / (f"{item.address}.process-{process}" if process else item.address)


def filled_path(item: StageItem, root: Path, name: str, process: int = 0) -> Path:
    """Return the path at which a run fills the output `name`."""
    return filled_area(item, root, process) / name / Path(item.outputs[name]).name
