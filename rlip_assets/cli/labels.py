"""Commands about labels: export them to, and import them from, the json of the published pre-training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlip_assets.cli.options import Profile
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, profile_root

labels = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help='Labels in the published json ("VG form"): export, import.',
)


@labels.command("export")
def export(
    tables: Annotated[
        list[Path], typer.Argument(help="Scene tables or pseudo labels: buckets, or folders of buckets.")
    ],
    output: Annotated[Path, typer.Option(help="Json file to write.")],
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Lowest confidence of a pseudo label.")] = 0.0,
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Write tables as one json, image by image; objects of a dataset under sources.own carry the ids of its own annotation files."""
    from rlip_assets.labelling.exchange.label_transfer import export_labels

    print(*export_labels(tables, output, threshold, profile_root(profile)), sep="\n")


@labels.command("import")
def import_labels(
    file: Annotated[Path, typer.Argument(help="Json in VG form, a released pseudo-label file for instance.")],
    output: Annotated[Path, typer.Option(help="Folder of the scene table to write.")],
    files: Annotated[
        Path | None, typer.Option(help="Json of image id to file name, for Objects365 (image_id_to_filepath.json).")
    ] = None,
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Read a json into a scene table; image sizes come from the raw datasets of the profile."""
    from rlip_assets.labelling.exchange import label_transfer

    print(*label_transfer.import_labels(file, output, files, profile_root(profile)), sep="\n")
