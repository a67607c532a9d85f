"""`rlip evaluate`: every protocol's figures for a file of predictions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="hico_det, v_coco or open_images.")],
    predictions: Annotated[Path, typer.Option(help="Predictions, Parquet (rlip_assets/benchmarks/predictions.py).")],
    annotations: Annotated[Path, typer.Option(help="Scene table folder, or a pair list (instances_test2015.json).")],
    classes: Annotated[Path | None, typer.Option(help="classes.json, where it does not lie beside the table.")] = None,
    split: Annotated[str, typer.Option(help="Which images of a scene table.")] = "test",
    unseen: Annotated[str | None, typer.Option(help="Zero-shot setting to divide by: uc_rf, uc_nf or uo.")] = None,
    zero_shot: Annotated[bool, typer.Option(help="Drop pairs whose subject is no person (HICO-DET, NF).")] = False,
    per_class: Annotated[Path | None, typer.Option(help="Write results by class here (Parquet).")] = None,
) -> None:
    """Judge predictions by every protocol of a benchmark."""
    from rlip_assets.benchmarks.annotations import read_annotations
    from rlip_assets.benchmarks.predictions import read_predictions
    from rlip_assets.benchmarks.protocols import DESCRIPTIONS
    from rlip_assets.benchmarks.stage import class_rows, write_table
    from rlip_assets.benchmarks.suites import judge, suite
    from rlip_assets.errors import ParameterError

    truth, vocabulary = read_annotations(annotations, classes, split)
    if vocabulary.dataset != benchmark:
        raise ParameterError(f"{annotations} annotates {vocabulary.dataset}, not {benchmark}: name the other benchmark")
    evaluators = suite(truth, vocabulary, zero_shot=zero_shot, unseen=unseen)
    results = judge(evaluators, read_predictions(predictions))
    counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in evaluators[0].counts.items())
    print(f"{predictions}: {counts}")
    for result in results:
        print(f"\n{result.name}: {DESCRIPTIONS[result.protocol]}")
        for name, value in result.figures.items():
            print(f"  {name:22} {'–' if math.isnan(value) else f'{100 * value:.2f}':>7}")
    if per_class is not None:
        write_table(per_class, class_rows(results))
        print(f"\nwrote {per_class}")
