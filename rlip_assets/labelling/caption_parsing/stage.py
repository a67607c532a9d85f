"""The stage `caption_triplets`: every different caption of a shard parsed once, triplets counted by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlip_assets.labelling.caption_parsing.json_answers import parse_answer
from rlip_assets.labelling.caption_parsing.parser import CaptionParser, TextTriplet, parse_caption
from rlip_assets.labelling.label_tables import CaptionRow, TripletRow, read_rows, write_rows
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params.labels import ParsingParams
from rlip_assets.lineage.shard_progress import rows_done
from rlip_assets.lineage.shards import ShardStore, add_figures, collect, split

_FILE = "triplets.parquet"
_IMAGES = 100
"""Images whose captions are parsed together; progress is told after each such part."""


def parse_stage(ctx: StageContext) -> dict[str, Any]:
    """Parse the captions of one bucket.

    Input: `captions`. Output: `caption_triplets`, one row for each row of the input, in shards.

    Raises:
        InputError: a damaged caption table, or a spaCy model that is not installed.
    """
    params = ctx.params.parsing
    make = _Parsing(params)
    record = make.open()[1]
    rows = read_rows(ctx.inputs["captions"], CaptionRow)
    shards = split(rows, params.rows_per_shard, lambda row: row.image_id, lambda row: [row.image_id, row.captions])
    store = ShardStore.of(ctx, record)
    finished = store.make_all(shards, make, ctx.log, "images", ctx.params.execution)
    collect(finished, ctx.outputs["caption_triplets"], _FILE)
    figures = add_figures(shard.figures for shard in finished)
    if figures.get("captions") and not figures["triplets"]:
        ctx.log.info(
            f"none of {figures['captions']} captions has a triplet: parsing.parser {params.parser} reads "
            + ("JSON answers" if params.parser == "json" else "English sentences")
        )
    return {"parser": record, **figures}


class _Parsing:
    """Makes shards; every process opens the parser once."""

    def __init__(self, params: ParsingParams) -> None:
        self._params = params
        self._opened: tuple[CaptionParser, dict[str, str]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_params": self._params, "_opened": None}

    def open(self) -> tuple[CaptionParser, dict[str, str]]:
        """The parser and what identifies it."""
        if self._opened is None:
            self._opened = open_parser(self._params)
        return self._opened

    def __call__(self, rows: list[CaptionRow], folder: Path) -> dict[str, Any]:
        parser, _ = self.open()
        triplets: dict[str, Sequence[TextTriplet]] = {}
        for start in range(0, len(rows), _IMAGES):
            part = rows[start : start + _IMAGES]
            texts = list(dict.fromkeys(text for row in part for text in row.captions if text not in triplets))
            triplets.update(zip(texts, parser(texts), strict=True))
            rows_done(len(part))
        parsed = [count_triplets(row, triplets) for row in rows]
        write_rows(folder / _FILE, TripletRow, parsed)
        return {
            "images": len(rows),
            "captions": sum(len(row.captions) for row in rows),
            "parsed_captions": len(triplets),
            "captions_without_triplet": sum(not triplets[caption] for row in rows for caption in row.captions),
            "images_without_triplet": sum(not row.votes for row in parsed),
            "triplets": sum(len(row.votes) for row in parsed),
            "statements": sum(sum(row.votes) for row in parsed),
        }


def open_parser(params: ParsingParams) -> tuple[CaptionParser, dict[str, str]]:
    """The chosen parser, and what identifies it in a manifest."""
    if params.parser == "spacy":
        from rlip_assets.labelling.caption_parsing.spacy_parser import open_spacy

        return open_spacy(params.spacy_model)
    if params.parser == "json":
        return lambda captions: [parse_answer(caption) for caption in captions], {"name": "json", "version": "2"}
    return lambda captions: [parse_caption(caption) for caption in captions], {"name": "rules"}


def count_triplets(row: CaptionRow, triplets: Mapping[str, Sequence[TextTriplet]]) -> TripletRow:
    """The triplets of an image, most stated first, ties in order of appearance; `triplets`: those of each caption."""
    votes: Counter[TextTriplet] = Counter()
    for caption in row.captions:
        votes.update(triplets[caption])
    ranked = votes.most_common()
    return TripletRow(
        row.image_id,
        [triplet.subject for triplet, _ in ranked],
        [triplet.relation for triplet, _ in ranked],
        [triplet.surface for triplet, _ in ranked],
        [triplet.object for triplet, _ in ranked],
        [count for _, count in ranked],
    )
