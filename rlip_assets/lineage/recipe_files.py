"""Named recipes: one YAML file per recipe below `rlip_assets/training/recipes`, called by the file's name.

`base` names another file, whose fields count where a file sets none of its own. Files in the folder `base` are shared parts and no recipes
themselves. The comment at the top of a published recipe names the scripts that it follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rlip_assets.lineage.recipes import Recipe, merged
from rlip_assets.storage.errors import ParameterError

RECIPE_FOLDER = Path(__file__).parents[1] / "training" / "recipes"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RecipeFolder(Mapping[str, Recipe]):
    """The recipes of a folder by name, each read when it is first asked for.

    Raises:
        ParameterError: two files have the same name, or a file that is read is not a valid recipe; the message names file and field.
    """

    def __init__(self, folder: Path = RECIPE_FOLDER) -> None:
        self.folder = folder
        self._paths: dict[str, Path] = {}
        for path in sorted(folder.rglob("*.yaml")):
            if path.stem in self._paths:
                raise ParameterError(f"{path} and {self._paths[path.stem]} have one name; rename one of the recipes")
            self._paths[path.stem] = path
        self._tables: dict[Path, dict[str, Any]] = {}
        self._recipes: dict[str, Recipe] = {}

    def __iter__(self) -> Iterator[str]:
        return (name for name, path in self._paths.items() if path.parent.name != "base")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Recipe:
        if name not in self._recipes:
            if name not in iter(self):
                raise KeyError(name)
            self._recipes[name] = self._read(name)
        return self._recipes[name]

    def comment(self, name: str) -> list[str]:
        """Return the lines of the comment at the top of a recipe's file."""
        lines = self._paths[name].read_text(encoding="utf-8").splitlines()
        end = next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))
        return [line.removeprefix("#").strip() for line in lines[:end]]

    def _read(self, name: str) -> Recipe:
        files = self._with_bases(self._paths[name])
        values: dict[str, Any] = {}
        for path in reversed(files):
            values = merged(values, {key: value for key, value in self._table(path).items() if key != "base"})
        try:
            return Recipe.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(f"{self._origin(files, e['loc'])}: {e['msg']}" for e in error.errors())
            raise ParameterError(f"{problems}; `rlip recipes show` lists the fields of a recipe") from None

    def _origin(self, files: list[Path], field: tuple[int | str, ...]) -> str:
        """Return the field, and the file that sets it: the recipe's own where none does."""
        path = next((path for path in files if field and field[0] in self._table(path)), files[0])
        return f"{path}: {'.'.join(map(str, field)) or 'recipe'}"

    def _with_bases(self, path: Path) -> list[Path]:
        """Return the file, its base, the base of that, and so on."""
        files = [path]
        while (base := self._table(files[-1]).get("base")) is not None:
            if not isinstance(base, str) or base not in self._paths:
                raise ParameterError(
                    f"{files[-1]}: base: no recipe file is called {base!r}; correct the name or remove it"
                )
            if self._paths[base] in files:
                names = " -> ".join(file.stem for file in [*files, self._paths[base]])
                raise ParameterError(f"{path}: base: {names} goes round in a circle; remove one of these bases")
            files.append(self._paths[base])
        return files

    def _table(self, path: Path) -> dict[str, Any]:
        if path not in self._tables:
            try:
                content = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise ParameterError(f"{path} is not readable as YAML: {' '.join(str(error).split())}") from None
            if not isinstance(content, dict):
                raise ParameterError(f"{path} holds no fields of a recipe; write them as `field: value`, one per line")
            self._tables[path] = content
        return self._tables[path]


@cache
def recipes() -> RecipeFolder:
    """Return all named recipes."""
    return RecipeFolder()


def recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe called `name`, with `changes`.

    Raises:
        ParameterError: no recipe of this name, an unknown field or a wrong value.
    """
    known = recipes()
    if name not in iter(known):
        raise ParameterError(f"no recipe is called {name!r}; `rlip recipes list` shows the {len(known)} names")
    return known[name].changed(changes) if changes else known[name]
