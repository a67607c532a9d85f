"""Parameters of a profile, read so that a wrong key hides nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from rlip_assets.lineage.params import Params
from rlip_assets.lineage.params.consistency import problems
from rlip_assets.lineage.params.sources import without_world_beside_real_data

_DEPTH = 2
"""A wrong value costs this much of its dotted key: `sources.coco`, `training.finetune`."""


@dataclass(frozen=True)
class ReadParameters:
    """Attributes:
    params: the valid ones, defaults in place of wrong ones; None where nothing can be read.
    wrong: dotted key -> what is wrong with it; "" stands for the file.
    contradictions: what valid sections say against each other, each with key and remedy.
    """

    params: Params | None
    wrong: Mapping[str, str]
    contradictions: tuple[str, ...] = ()

    def usable(self, key: str) -> bool:
        """Return whether a key has the value of the file, and not a default in its place."""
        parts = key.split(".")
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
    if "sources" in content:
        content["sources"] = without_world_beside_real_data(content["sources"])
    wrong: dict[str, str] = {}
    while True:
        try:
            return ReadParameters(Params.model_validate(content), wrong)
        except ValidationError as error:
            found = {".".join(map(str, e["loc"])): str(e["msg"]) for e in error.errors() if e["loc"]}
            dropped = [_dropped(content, e["loc"][:_DEPTH]) for e in error.errors() if e["loc"]]
            wrong = {**found, **wrong}
            if not any(dropped):
                params = _each_alone(content)
                against = () if wrong else tuple(problems(params)) or tuple(str(e["msg"]) for e in error.errors())
                return ReadParameters(params, wrong, against)


def _each_alone(content: Mapping[str, Any]) -> Params:
    """Return the parameters of valid sections, not checked against each other."""
    valid: dict[str, Any] = {}
    for name, section in Params.model_fields.items():
        try:
            if name in content:
                valid[name] = TypeAdapter[Any](section.annotation or Any).validate_python(content[name])
        except ValidationError:
            continue
    return Params.model_construct(**valid)


def _dropped(content: dict[str, Any], place: tuple[int | str, ...]) -> bool:
    """Remove a value that is not valid; False where there is none, so that nothing else can be tried."""
    inside: Any = content
    for key in place[:-1]:
        if not isinstance(inside, dict) or key not in inside:
            break
        inside = inside[key]
    if isinstance(inside, dict) and inside.pop(place[-1], None) is not None:
        return True
    return content.pop(str(place[0]), None) is not None
