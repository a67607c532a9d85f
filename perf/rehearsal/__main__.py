"""Rehearse a real profile: stand-ins, profile, every stage through DVC and Dagster with a kill in between, then what users do next.

    python -m perf.rehearsal [--folder rehearsal] [--base paper_r50] [--limit 2] [--steps 1]

`make rehearsal` runs it. FOLDER is new or left by an earlier run, which is then continued: stand-ins, imported weights and finished stages
are kept. The profile `rehearsal` is made from BASE with one training of each kind; `rehearsal_imported` takes R-Tagger and labels from
elsewhere. Prints seconds and peak memory of every stage.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from perf.command import JsonFile, run_command, write_figures
from perf.rehearsal import doors, profile
from perf.rehearsal.account import stage_table
from perf.rehearsal.stand_ins import StandIns
from rlip_assets.storage.errors import exit_with_sentence


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the stand-ins, new or of an earlier run.")] = Path(
        "rehearsal"
    ),
    base: Annotated[str, typer.Option(help="Profile that is rehearsed.")] = "paper_r50",
    limit: Annotated[int, typer.Option(min=1, help="Images per split of a dataset.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Steps per training.")] = 1,
    json: JsonFile = None,
) -> None:
    began = time.monotonic()

    def tell(line: str) -> None:
        seconds = int(time.monotonic() - began)
        print(f"== {seconds // 60:3d}:{seconds % 60:02d} {line}", flush=True)

    tell(f"stand-ins of six datasets, two text models, two detectors and two released checkpoints in {folder}")
    stand_ins = StandIns(folder.resolve())
    stand_ins.write(max(limit, 4))
    tell("importing the detectors and the released checkpoints")
    stand_ins.import_weights()
    tell(f"profile rehearsal from {base}: {limit} images per split, {steps} steps per training")
    root = profile.make(base, stand_ins, limit, steps)
    tell("what the doctor says (the counts of stand-ins are not the official ones)")
    doors.rlip("doctor", "--profile", profile.NAME, check=False)
    tell("DVC: pseudo labels, killed in the middle")
    killed = doors.kill_in_the_middle(root, "pseudo_labels", busy="r_tagger")
    tell(f"killed: {len(killed)} stages were finished; the same command goes on")
    doors.resume(root, "pseudo_labels", killed)
    tell("Dagster: everything that is left, to the report")
    doors.rlip("demo", "--profile", profile.NAME, "--slots", "1")
    tell("DVC finds nothing to do")
    doors.nothing_to_do(root)
    tell("an R-Tagger and pseudo labels from elsewhere, without benchmarks: to a pre-training")
    stand_ins.import_labels(profile.NAME, root / "data/pseudo_labels/coco")
    imported = profile.make_imported(stand_ins)
    doors.dvc(imported, "repro")
    tell("an official file to its published row: reproduce")
    doors.rlip(
        "reproduce", str(stand_ins.released), "--benchmark", "hico_det", "--root", str(stand_ins.roots["hico_det"]),
        "--tokenizer", str(stand_ins.roberta), "--output", str(folder / "reproduction"), "--profile", profile.NAME,
    )  # fmt: skip
    tell("relations in a photo: predict")
    photo, trained = next(stand_ins.roots["coco"].rglob("*.jpg")), profile.finetuned(root)
    doors.rlip("predict", str(photo), "--model", str(trained), "--output", str(folder / "predictions"))
    tell("a served model: package")
    doors.rlip("package", str(trained), str(folder / "served"))
    tell("done")
    tables = {each.name: stage_table(each) for each in (root, imported)}
    for name, table in tables.items():
        print(f"\n{name}\n\n{table.text()}")
    write_figures(json, {name: table.rows for name, table in tables.items()})


if __name__ == "__main__":
    with exit_with_sentence():
        run_command(main)
