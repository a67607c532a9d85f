"""`rlip evaluate`: every protocol's figures for a file of predictions, and a report on request."""

from __future__ import annotations

import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

WIDTH = 110
MARK = b"rlip evaluate"
"""Name of the writer of a Parquet file of results by class, in its footer."""


def evaluate(
    benchmark: Annotated[str, typer.Argument(help="hico_det, v_coco or open_images.")],
    predictions: Annotated[
        Path,
        typer.Option(
            help="Parquet of this project, a list of UPT, PViC, QPIC, CDN, GEN-VLKT or HOICLIP (.json), a folder of PViC's .mat files, "
            "or official V-COCO content."
        ),
    ],
    annotations: Annotated[
        Path,
        typer.Option(help="Scene table folder, instances_test2015.json, test_hico.json (HOIA), or vcoco_test.json."),
    ],
    classes: Annotated[Path | None, typer.Option(help="classes.json, where it does not lie beside the table.")] = None,
    split: Annotated[str, typer.Option(help="Which images of a scene table.")] = "test",
    instances: Annotated[Path | None, typer.Option(help="COCO instances, with vcoco_test.json.")] = None,
    coco_ids: Annotated[bool, typer.Option(help="A QPIC list has COCO category ids, and verbs from 1.")] = False,
    list_classes: Annotated[
        Path | None,
        typer.Option(help="JSON with the objects and verbs of a list, where they are not the published ones."),
    ] = None,
    unseen: Annotated[
        str | None, typer.Option(help="Zero-shot setting to divide by: uc_rf, uc_nf, uo, uv, or uc0 to uc4.")
    ] = None,
    zero_shot: Annotated[bool, typer.Option(help="Drop pairs whose subject is no person (HICO-DET, NF).")] = False,
    image_labels: Annotated[
        Path | None,
        typer.Option(help="JSON, image id to its positive interactions: adds the Known-Object setting (HICO-DET)."),
    ] = None,
    per_class: Annotated[Path | None, typer.Option(help="Write results by class here (Parquet).")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for a page with classes, curves, causes of errors and the published figures."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Root of the test images: draws the worst classes in the report.")
    ] = None,
) -> None:
    """Judge predictions by every protocol of a benchmark. Formats and protocols: docs/evaluation.md."""
    from rlip_assets.evaluation.core.protocols import DESCRIPTIONS, left_out
    from rlip_assets.evaluation.evaluate_files import Request, evaluate_files
    from rlip_assets.evaluation.stage import class_rows, write_table
    from rlip_assets.report.evaluation_page import PAGE, by_protocol, variants_table, write_evaluation
    from rlip_assets.storage.errors import ParameterError
    from rlip_assets.storage.outputs import output_file, output_folder

    if report is not None and per_class is not None and per_class.resolve().is_relative_to(report.resolve()):
        raise ParameterError(f"{per_class} lies in the report's folder, which has a per_class.parquet of its own")
    request = Request(
        benchmark,
        predictions,
        annotations,
        classes,
        split,
        instances,
        coco_ids,
        unseen,
        zero_shot,
        image_labels,
        list_classes,
    )
    sources = [
        path for path in (predictions, annotations, classes, instances, image_labels, list_classes) if path is not None
    ]
    with ExitStack() as outputs:
        report_target = report and outputs.enter_context(output_folder(report, "evaluate", sources))
        table_target = per_class and outputs.enter_context(output_file(per_class, "evaluate", MARK, sources))
        found = evaluate_files(request, causes=report is not None)
        print(f"{predictions}:", ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in found.counts.items()))
        for protocol, own in by_protocol(found.results).items():
            print(f"\n{textwrap.fill(f'{protocol}: {DESCRIPTIONS[protocol]}', WIDTH)}")
            table = variants_table(own)
            for name, *values in (table.header, *table.rows):
                print(f"  {name:22}" + "".join(f"{value:>9}" for value in values))
        for words in left_out(benchmark, [result.protocol for result in found.results]):
            print(f"\n{textwrap.fill(f'Left out: {words}', WIDTH)}")
        for words in found.suspicions:
            print(f"\n{textwrap.fill(f'Suspicious: {words}', WIDTH)}")
        if table_target is not None:
            write_table(table_target, class_rows(found.results), {b"made_by": MARK})
        if report_target is not None:
            write_evaluation(report_target, request, found, images)
    for written in (per_class, report and report / PAGE):
        if written is not None:
            print(f"\nwrote {written}")
