"""Commands about training recipes."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

recipes = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    invoke_without_command=True,
)
Name = Annotated[str, typer.Argument(help="Name of a recipe; `rlip recipes list` shows them.")]


@recipes.callback()
def recipes_command(context: typer.Context) -> None:
    """Named training settings: list (the default), show, compare."""
    if context.invoked_subcommand is None:
        list_recipes()


@recipes.command("list")
def list_recipes(
    word: Annotated[str, typer.Argument(help="Only names that contain this.")] = "",
) -> None:
    """List the recipes, one per line: name, kind, network, sources, batch, length."""
    from rlip_assets.lineage.recipe_files import recipes as named

    for name, setting in named().items():
        if word in name:
            length = f"{setting.epochs:g} epochs" if setting.epochs else f"{setting.steps} steps"
            if setting.kind == "zero_shot":
                length = "no training"
            sources = "+".join(setting.sources)
            print(f"{name:40} {setting.kind:9} {setting.model:22} {sources:36} batch {setting.total_batch:3} {length}")


@recipes.command("show")
def show(name: Name) -> None:
    """Print all fields of a recipe and the comment of its file, such as the published scripts that it follows."""
    from rlip_assets.lineage.recipe_files import recipe
    from rlip_assets.lineage.recipe_files import recipes as named

    print(json.dumps(recipe(name).model_dump(mode="json"), indent=2))
    for line in named().comment(name):
        print(line)


@recipes.command("diff")
def diff(first: Name, second: Name) -> None:
    """Print the fields in which two recipes differ."""
    from rlip_assets.lineage.recipe_files import recipe
    from rlip_assets.lineage.recipes import differences

    different = differences(recipe(first), recipe(second))
    for field, (one, two) in _flat(different).items():
        print(f"{field:32} {one!s:>28}  {two!s:>28}")
    if not different:
        print(f"{first} and {second} are the same setting")


def _flat(different: dict[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Nested fields by dotted name, without equal ones."""
    flat: dict[str, tuple[Any, Any]] = {}
    for field, (one, two) in different.items():
        if isinstance(one, dict) and isinstance(two, dict):
            parts = {f"{field}.{key}": (one.get(key), two.get(key)) for key in {**one, **two}}
            flat |= {key: values for key, values in parts.items() if values[0] != values[1]}
        else:
            flat[field] = (one, two)
    return flat
