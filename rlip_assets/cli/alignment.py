"""`rlip alignment`: alignment and uniformity of a checkpoint's relation features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlip_assets.cli.options import Device


def alignment(
    model: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    scenes: Annotated[Path, typer.Option(help="Scene table folder of a benchmark.")],
    images: Annotated[Path, typer.Option(help="Root of its images.")],
    classes: Annotated[Path | None, typer.Option(help="classes.json, where it does not lie beside the table.")] = None,
    split: Annotated[str, typer.Option(help="Split of the images.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images.")] = None,
    device: Device = "cpu",
) -> None:
    """Print alignment and uniformity of relation features on annotated images, and uniformity of the verb texts; lower is better."""
    from rlip_assets.datasets.sources.classes import read_classes
    from rlip_assets.evaluation.core.ground_truth import benchmark_scenes
    from rlip_assets.evaluation.formats.annotations import classes_of
    from rlip_assets.inference.features import measure_features
    from rlip_assets.inference.relation_detector import RelationDetector

    checkpoint = RelationDetector.from_pretrained(model, device).checkpoint
    own = benchmark_scenes(scenes, split)[:limit]
    found = measure_features(checkpoint, read_classes(classes or classes_of(scenes)), own, images)
    for name, value in found.items():
        print(
            f"{name:28} {value:.0f}" if name in ("features", "classes", "classes_skipped") else f"{name:28} {value:.4f}"
        )
