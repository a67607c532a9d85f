"""`rlip evaluate`: every protocol's figures for a file of predictions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="hico_det, v_coco or open_images.")],
    predictions: Annotated[
        Path,
        typer.Option(
            help="Parquet of this project, a UPT, PViC, QPIC or CDN list (.json), or official V-COCO content."
        ),
    ],
    annotations: Annotated[
        Path, typer.Option(help="Scene table folder, a pair list (instances_test2015.json), or vcoco_test.json.")
    ],
    classes: Annotated[Path | None, typer.Option(help="classes.json, where it does not lie beside the table.")] = None,
    split: Annotated[str, typer.Option(help="Which images of a scene table.")] = "test",
    instances: Annotated[Path | None, typer.Option(help="COCO instances, with vcoco_test.json.")] = None,
    coco_ids: Annotated[bool, typer.Option(help="A QPIC list has COCO category ids, and verbs from 1.")] = False,
    unseen: Annotated[str | None, typer.Option(help="Zero-shot setting to divide by: uc_rf, uc_nf or uo.")] = None,
    zero_shot: Annotated[bool, typer.Option(help="Drop pairs whose subject is no person (HICO-DET, NF).")] = False,
    image_labels: Annotated[
        Path | None,
        typer.Option(help="JSON, image id to its positive interactions: adds the Known-Object setting (HICO-DET)."),
    ] = None,
    per_class: Annotated[Path | None, typer.Option(help="Write results by class here (Parquet).")] = None,
) -> None:
    """Judge predictions by every protocol of a benchmark."""
    from rlip_assets.benchmarks.formats import Question, answer
    from rlip_assets.benchmarks.protocols import DESCRIPTIONS
    from rlip_assets.benchmarks.stage import class_rows, write_table

    results, counts = answer(
        Question(
            benchmark, predictions, annotations, classes, split, instances, coco_ids, unseen, zero_shot, image_labels
        )
    )
    print(f"{predictions}:", ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items()))
    for result in results:
        print(f"\n{result.name}: {DESCRIPTIONS[result.protocol]}")
        for name, value in result.figures.items():
            print(f"  {name:22} {'–' if math.isnan(value) else f'{100 * value:.2f}':>7}")
    if per_class is not None:
        write_table(per_class, class_rows(results))
        print(f"\nwrote {per_class}")
