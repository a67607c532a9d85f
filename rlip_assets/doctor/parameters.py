"""Parameters of a profile, read so that a wrong key hides nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rlip_assets.lineage.params import Params

_DEPTH = 2
"""A wrong value costs this much of its dotted key: `sources.coco`, `training.finetune`."""


@dataclass(frozen=True)
class ReadParameters:
    """Attributes:
    params: the valid ones, defaults in place of wrong ones; None where nothing can be read.
    wrong: dotted key -> what is wrong with it; "" stands for the file, of which then `sources` alone may be valid.
    """

    params: Params | None
    wrong: Mapping[str, str]

    def usable(self, key: str) -> bool:
        """Return whether a key has the value of the file, and not a default in its place."""
        parts = key.split(".")
        if "" in self.wrong and parts[0] != "sources":
            return False
        return not any(_overlap(parts, wrong.split(".")) for wrong in self.wrong if wrong)


def _overlap(one: list[str], other: list[str]) -> bool:
    return all(a == b for a, b in zip(one[:_DEPTH], other[:_DEPTH], strict=False))


def read_parameters(path: Path) -> ReadParameters:
    """Read a `params.yaml` with whatever is valid in it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return ReadParameters(None, {"": "the file does not exist"})
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        return ReadParameters(None, {"": f"it is not valid YAML ({' '.join(str(error).split())})"})
    if not isinstance(content, dict):
        return ReadParameters(None, {"": "it is not a mapping of keys"})
    wrong: dict[str, str] = {}
    while True:
        try:
            return ReadParameters(Params.model_validate(content), wrong)
        except ValidationError as error:
            found = {".".join(map(str, e["loc"])): str(e["msg"]) for e in error.errors()}
            wrong = {**found, **wrong}
            dropped = [_dropped(content, e["loc"][:_DEPTH]) for e in error.errors()]
            if not any(dropped):
                return ReadParameters(_sources_alone(content), {"": "; ".join(found.values()), **wrong})


def _sources_alone(content: dict[str, Any]) -> Params | None:
    try:
        return Params.model_validate({"sources": content.get("sources", {})})
    except ValidationError:
        return None


def _dropped(content: dict[str, Any], place: tuple[int | str, ...]) -> bool:
    """Remove a value that is not valid; False where there is none, so that nothing else can be tried."""
    inside: Any = content
    for key in place[:-1]:
        if not isinstance(inside, dict) or key not in inside:
            break
        inside = inside[key]
    if place and isinstance(inside, dict) and inside.pop(place[-1], None) is not None:
        return True
    return bool(place) and content.pop(str(place[0]), None) is not None
