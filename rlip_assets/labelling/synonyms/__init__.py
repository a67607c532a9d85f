"""Tables of nouns that name a class ("puppy" is a dog): one TOML file per class list, each with its source.

A file has `source` (a sentence) and a table `[synonyms]` from a class name to a list of singular nouns or compounds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from rlip_assets.storage.errors import DataError, InputError


def read_synonyms(tables: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Class name (lower case) -> nouns, over several tables; for a class in two tables the earlier one holds.

    Args:
        tables: names of shipped tables ("coco"), or paths of TOML files of the same form.
    Raises:
        InputError: no such table. DataError: a file that is no synonym table.
    """
    merged: dict[str, tuple[str, ...]] = {}
    for table in tables:
        for name, nouns in _table(table).items():
            merged.setdefault(name, nouns)
    return merged


@cache
def _table(table: str) -> Mapping[str, tuple[str, ...]]:
    shipped = files(__name__) / f"{table}.toml"
    path = shipped if "/" not in table and not table.endswith(".toml") else Path(table)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"there is no synonym table {table!r}; name a shipped one (coco, objects365) or a TOML file"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{table} is not TOML ({error}); see rlip_assets/labelling/synonyms/coco.toml for the form"
        ) from None
    found = content.get("synonyms")
    if not isinstance(found, dict) or not isinstance(content.get("source"), str):
        raise DataError(
            f"{table} needs `source` and a table [synonyms]; see rlip_assets/labelling/synonyms/coco.toml for the form"
        )
    for name, nouns in found.items():
        if not isinstance(nouns, list) or not all(isinstance(noun, str) and noun.strip() for noun in nouns):
            raise DataError(
                f'{table}: [synonyms] {name!r} is not a list of nouns; write it as ["noun", "compound noun"]'
            )
    return {name.lower(): tuple(nouns) for name, nouns in found.items()}
