"""Triplets that models give as JSON, whatever stands around them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlip_assets.labelling.caption_parsing.json_answers import parse_answer
from rlip_assets.labelling.caption_parsing.parser import TextTriplet

RIDE = TextTriplet("man", "ride", "riding", "horse")
SIT = TextTriplet("small dog", "sit on", "sitting on", "bench")


def said(subject: str, relation: str, target: str, name: str = "relation") -> str:
    return json.dumps({"subject": subject, name: relation, "object": target})


ANSWERS = {
    "objects": f"[{said('man', 'riding', 'horse')}, {said('small dogs', 'sitting on', 'the bench', 'predicate')}]",
    "lists": '[["man", "riding", "horse"], ["a small dog", "is sitting on", "benches"]]',
    "inside an object": f'{{"relationships": [{said("man_1", "riding", "horse #2", "verb")}, ["small dog.3", "sitting on", "bench"]]}}',
    "in a fence": 'Sure!\n```json\n[["man", "riding", "horse"],\n ["small dog", "sitting on", "bench"]]\n```\nAnything else?',
    "lines, one twice": '["man", "riding", "horse"]\n["small dog", "sitting on", "bench"]\n["man", "riding", "horse"]',
    "cut off": f'[{said("man", "riding", "horse")}, ["small dog", "sitting on", "bench"], {{"subject": "wom',
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_statements_are_found(answer: str) -> None:
    assert parse_answer(answer) == [RIDE, SIT]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "a man riding a horse",
        "[1, 2, 3]",
        '["man", "riding"]',
        '{"subject": "man", "object": null, "relation": "on"}',
        '["", "on", "the"]',
        "[" * 5000,
    ],
)
def test_anything_else_is_no_statement(answer: str) -> None:
    assert parse_answer(answer) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.text())
def test_no_answer_is_an_error(value: object, tail: str) -> None:
    for triplet in parse_answer(json.dumps(value) + tail):
        assert all((triplet.subject, triplet.relation, triplet.object))
