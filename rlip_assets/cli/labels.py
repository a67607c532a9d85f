"""Commands about labels: give them away and take them in, in the json of the published pre-training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlip_assets.cli.stages import Profile
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
    from functools import cache

    from rlip_assets.datasets.scenes import bucket_folders, read_scenes
    from rlip_assets.datasets.sources.roots import open_reader
    from rlip_assets.labelling.exchange.vg_form import VG_FORM_START, write_vg_form
    from rlip_assets.lineage.params import load_params
    from rlip_assets.storage.errors import DataError
    from rlip_assets.storage.outputs import output_file
    from rlip_assets.training.training_images import SceneFilter

    root = profile_root(profile)
    sources = load_params(root / "params.yaml").sources

    @cache
    def own_ids(dataset: str) -> dict[str, int | str] | None:
        return open_reader(sources, dataset, root).category_ids() if dataset in sources.own else None

    confident = SceneFilter(threshold)
    scenes = (confident(scene) for table in tables for bucket in bucket_folders(table) for scene in read_scenes(bucket))
    with output_file(output, "labels export", VG_FORM_START, tables) as target:
        if not (written := write_vg_form(target, scenes, own_ids)):
            raise DataError(f"{', '.join(map(str, tables))} hold no image, so nothing was written")
    print(f"wrote {written} images to {output}")


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
    from collections import Counter

    from rlip_assets.datasets.scenes import write_scenes
    from rlip_assets.datasets.sources.roots import raw_root
    from rlip_assets.labelling.exchange.vg_form import read_file_names, read_vg_form
    from rlip_assets.lineage.params import load_params
    from rlip_assets.storage.errors import DataError
    from rlip_assets.storage.images import check_image
    from rlip_assets.storage.outputs import output_folder

    root = profile_root(profile)
    sources = load_params(root / "params.yaml").sources
    counts: Counter[str] = Counter()
    names = read_file_names(files) if files else {}

    def size_of(dataset: str, name: str) -> tuple[int, int]:
        return check_image(raw_root(sources, dataset, root) / name)

    with output_folder(output, "labels import", [file, *([files] if files else [])]) as target:
        rows = write_scenes(target, read_vg_form(file, size_of, names, counts, sources.own))
        dropped = [f"{what.replace('_', ' ')}: {number}" for what, number in sorted(counts.items())]
        if not rows:
            raise DataError(f"{file} gives no image, so nothing was written ({'; '.join(dropped) or 'it lists none'})")
    print(f"wrote {rows} images to {output}", *dropped, sep="\n")
