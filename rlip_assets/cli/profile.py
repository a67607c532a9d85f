"""`rlip profile`: profiles listed, and made from others."""

from __future__ import annotations

from typing import Annotated

import typer

profile = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Profiles, folders with parameters and results of their own: list, new.",
)


@profile.command("list")
def list_profiles() -> None:
    """List the profiles and how many stages and items each has."""
    from rlip_assets.lineage.profiles import profile_names, profile_root
    from rlip_assets.lineage.registry import load_registry

    for name in profile_names():
        specs = load_registry(profile_root(name)).specs.values()
        print(f"{name:24} {len(specs):3} stages, {sum(len(spec.items) for spec in specs):5} items")


@profile.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Name of the profile, which becomes the folder profiles/NAME.")],
    base: Annotated[str, typer.Option("--from", help="Profile whose parameters it begins with.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Rehearsal: images per split; docs/rehearsal.md.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Rehearsal: steps per training.")] = None,
) -> None:
    """Make a profile from another one: its folder with params.yaml, dvc.yaml and the settings of DVC."""
    from rlip_assets.dvc.profile_folder import new_profile
    from rlip_assets.lineage.params import load_params
    from rlip_assets.lineage.params.placeholders import unset
    from rlip_assets.storage.errors import ParameterError

    if (limit is None) != (steps is None):
        raise ParameterError("a rehearsal needs both --limit and --steps; give the other one too, or neither")
    root = new_profile(name, base, rehearsal=(limit, steps) if limit and steps else None)
    print(f"wrote {root}")
    places: dict[str, list[str]] = {}
    for key, path in unset(load_params(root / "params.yaml")):
        places.setdefault(path, []).append(key)
    if places:
        print(f"put your own paths in place of these in {root / 'params.yaml'} (docs/real_data.md):")
    for path, keys in places.items():
        print(f"  {path}  {keys[0]}{f' and {len(keys) - 1} more' if len(keys) > 1 else ''}")
    print(f"then `rlip dvc-yaml --profile {name}`, and `rlip ui --profile {name}` or `cd {root} && dvc repro`")
