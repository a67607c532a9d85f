"""The version that each stage declares, and the digest of the source that was current when it was declared.

`versions.yaml` beside this file has one entry a stage. `version` is a DVC parameter of the stage and Dagster's code version: raise it
when the stage may give other results for the same inputs and parameters. `source` is renewed by `rlip source-digests --renew`; renewing it
with the version unchanged says that a change of the source does not change results.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from rlip_assets.storage.errors import ParameterError

VERSIONS_FILE = "rlip_assets/lineage/versions.yaml"
"""Path of the file relative to the project's root."""


class StageVersion(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=1)
    source: str
    """SHA-256 over the syntax trees of all modules of the project that the stage imports."""


@cache
def stage_versions() -> dict[str, StageVersion]:
    """Entries by stage name."""
    content = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text()) or {}
    return {name: StageVersion.model_validate(entry) for name, entry in content.items()}


def stage_version(stage: str) -> int:
    """Declared version of a stage.

    Raises:
        ParameterError: the stage has no entry.
    """
    try:
        return stage_versions()[stage].version
    except KeyError:
        raise ParameterError(
            f"{VERSIONS_FILE} has no entry for stage '{stage}'; run `rlip source-digests --renew`"
        ) from None
