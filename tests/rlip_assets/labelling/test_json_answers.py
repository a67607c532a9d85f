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


@pytest.mark.parametrize(
    "answer",
    [
        '[{"subject": "man", "relation": "riding", "object": "horse"}, {"subject": "small dogs", "predicate": "sitting on", "object": "the bench"}]',
        '[["man", "riding", "horse"], ["a small dog", "is sitting on", "benches"]]',
        '{"relationships": [{"subject": "man_1", "verb": "riding", "object": "horse #2"}, ["small dog.3", "sitting on", "bench"]]}',
        'Sure! Here it is:\n```json\n[["man", "riding", "horse"],\n ["small dog", "sitting on", "bench"]]\n```\nAnything else?',
        '["man", "riding", "horse"]\n["small dog", "sitting on", "bench"]\n["man", "riding", "horse"]',
        '[{"subject": "man", "relation": "riding", "object": "horse"}, ["small dog", "sitting on", "bench"], {"subject": "wom',
    ],
    ids=["objects", "lists", "inside an object", "in a fence", "lines, one twice", "cut off"],
)
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
        assert triplet.subject and triplet.relation and triplet.object
