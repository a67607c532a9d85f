"""`rlip predict`: which relations are in my photo?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rlip_assets.cli.options import Device, Profile
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, profile_root


def predict(
    photos: Annotated[list[Path], typer.Argument(help="Photos.")],
    model: Annotated[Path | None, typer.Option(help="Checkpoint folder; by default the profile's best one.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for NAME.json and NAME.relations.png.")] = Path("predictions"),
    objects: Annotated[
        str | None,
        typer.Option(help="Object texts, separated by commas; by default the model's own or its benchmark's."),
    ] = None,
    relations: Annotated[
        str | None,
        typer.Option(help="Relation texts, separated by commas; by default the model's own or its benchmark's."),
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(help="hico_det, v_coco or open_images: its texts where none are given.")
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Lowest score shown.")] = 0.1,
    limit: Annotated[int, typer.Option(min=1, help="Most relations shown for a photo.")] = 10,
    device: Device = "cpu",
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Find relations in photos: readable JSON and an overlay picture for each."""
    from rlip_assets.inference.predict import find_checkpoint, predict_photos, split_texts
    from rlip_assets.inference.relation_detector import RelationDetector
    from rlip_assets.storage.errors import InputError
    from rlip_assets.storage.images import BadImageError

    detector = RelationDetector.from_pretrained(model or find_checkpoint(profile_root(profile)), device)
    if vocabulary is None and detector.benchmark is not None and (objects is None or relations is None):
        print(
            f"Texts that are not given are those of {detector.benchmark}, on which this model was trained",
            file=sys.stderr,
        )
    left_out = []
    for outcome in predict_photos(
        detector, photos, output, split_texts(objects), split_texts(relations), threshold, limit, vocabulary
    ):
        if isinstance(outcome, BadImageError):
            print(f"left out: {outcome}", file=sys.stderr)
            left_out.append(str(outcome.file))
        else:
            print(outcome)
    if left_out:
        raise InputError(f"{len(left_out)} of {len(photos)} photos were left out: {', '.join(left_out)}")


def draw(
    photo: Annotated[Path, typer.Argument(help="Photo.")],
    relations: Annotated[Path, typer.Argument(help="JSON as `rlip predict` writes it, edited or written by hand.")],
    output: Annotated[Path, typer.Argument(help="PNG to write.")],
    limit: Annotated[int, typer.Option(min=1, help="Most relations shown.")] = 10,
) -> None:
    """Draw relations of a JSON file on a photo."""
    from rlip_assets.inference.predict import draw_file

    draw_file(photo, relations, output, limit)
    print(output)
