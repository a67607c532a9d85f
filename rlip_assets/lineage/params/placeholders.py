"""Paths that a user has to set: those in `params.yaml` that begin with `/path/to/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlip_assets.lineage.params import Params

PLACEHOLDER = "/path/to/"


def unset(params: Params) -> list[tuple[str, str]]:
    """Return key and placeholder of every path that nobody has set."""
    return list(_found(params.model_dump(mode="json"), ""))


def is_placeholder(path: str) -> bool:
    """Return whether a path is one that nobody has set."""
    return path.startswith(PLACEHOLDER)


def _found(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _found(each, f"{key}.{name}" if key else name)
    elif isinstance(value, str) and is_placeholder(value):
        yield key, value
