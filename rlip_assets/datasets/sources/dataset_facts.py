"""Facts of a whole dataset besides its classes, which `facts.json` keeps beside the manifests: later stages depend on that file, and on
no raw one."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rlip_assets.storage.errors import InputError


class DatasetFacts(BaseModel):
    """Facts of Visual Genome.

    Attributes:
        coco_ids: image id -> COCO id of the same image; None where the file that names them is not there.
        object_aliases, relation_aliases: (text, canonical text of its synonym set), in the order of the files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    coco_ids: dict[str, str] | None
    object_aliases: list[tuple[str, str]]
    relation_aliases: list[tuple[str, str]]


def read_facts(path: Path) -> DatasetFacts:
    """Read a `facts.json`.

    Raises:
        InputError: missing, or something else.
    """
    try:
        return DatasetFacts.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run the raw_manifest stage of this dataset") from None
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise InputError(f"{path} is no list of facts ({reason}); run the raw_manifest stage of this dataset") from None
