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
    "beside lists of things": '{"objects": ["man", "horse", "dog"], "relationships": [["man", "riding", "horse"], ["small dog", '
    '"sitting on", "bench"]], "Attributes": ["tall", "old", "brown"], "relations": ["riding", "sitting on", "near"]}',
    "beside lists of things, cut off": '{"Objects": ["man", "horse", "dog"],\n "relationships" : [["man", "riding", "horse"], '
    '["small dog", "sitting on", "bench"], ["do',
    "below a list of things": 'Objects: ["man", "horse", "dog"]\n**Attributes:** ["tall", "old", "brown"]\nRelationships: '
    '[["man", "riding", "horse"], ["small dog", "sitting on", "bench"]]',
    "capitals": '[{"Subject": "man", "RELATION": "riding", "Object": "horse"}, {"Triplet": ["small dog", "sitting on", "bench"]}]',
    "names": '[{"subject": {"Name": "man", "attributes": ["a", "tall", "man"]}, "relation": "riding", "object": {"name": "horse"}}, '
    '[{"name": "small dog"}, "sitting on", "bench"]]',
    "scores": '[["man", "riding", "horse", 0.9], ["small dog", "sitting on", "bench", 1]]',
    "beside a stray text": '[["man", "riding", "horse"], ["small dog", "sitting on", "bench"], "..."]',
    "after a stray text": '["...", ["man", "riding", "horse"], ["small dog", "sitting on", "bench"]]',
    "around a stray text, cut off": '[["man", "riding", "horse"], "...", ["small dog", "sitting on", "bench"], ["do',
    "numbers": '{"1": ["man", "riding", "horse"], "2": ["small dog", "sitting on", "bench", 0.5]}',
    "numbers, cut off": '{"1": ["man", "riding", "horse"], "2": ["small dog", "sitting on", "bench"], "3": ["do',
    "numbered triplets": '{"triplet_1": ["man", "riding", "horse"], "Triplet 2": ["small dog", "sitting on", "bench"]}',
    "numbered relations": '{"relation_1": ["man", "riding", "horse"], "relationship #2": ["small dog", "sitting on", "bench"]}',
    "numbers in a key": '{"relationships": {"1": ["man", "riding", "horse"], "2": ["small dog", "sitting on", "bench"]}}',
    "one of each key": '{"triplets": ["man", "riding", "horse"], "relations": ["small dog", "sitting on", "bench"]}',
    "a quoted word": 'Here are the "triplets": ["man", "riding", "horse"]\nThe "man", ["small dog", "sitting on", "bench"]',
    "between objects": 'Relations between the objects: ["man", "riding", "horse"]\nAnd: ["small dog", "sitting on", "bench"]',
    "lines of objects": 'Triplets of the objects:\n["man", "riding", "horse"]\n["small dog", "sitting on", "bench"]',
    "numbered lines": '1. ["man", "riding", "horse"]\nTriplet 2: ["small dog", "sitting on", "bench"]',
    "relations of an object": '{"objects": [{"name": "man", "relations": [["man", "riding", "horse"]]}, '
    '{"name": "dog", "tags": [["small", "old", "brown"]], "triplets": ["small dog", "sitting on", "bench"]}]}',
    "below things of all kinds": 'Detected objects: ["man", "horse", "dog"]\nObjects:\n```json\n["man", "horse", "dog"]\n```\n'
    'Relations: ["riding", "sits on", "near"]\n[["man", "riding", "horse"], ["small dog", "sitting on", "bench"]]',
    "cut off": f'[{said("man", "riding", "horse")}, ["small dog", "sitting on", "bench"], {{"subject": "wom',
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_statements_are_found(answer: str) -> None:
    assert parse_answer(answer) == [RIDE, SIT]


def test_several_relations_of_a_pair_are_as_many_statements() -> None:
    hold = TextTriplet("man", "hold", "holding", "horse")
    for pair in (
        '{"subject": "man", "relation": ["riding", "holding"], "object": "horse"}',
        '["man", ["riding", "holding"], "horse"]',
    ):
        assert parse_answer(pair) == [RIDE, hold]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        '{"objects": ["man", "riding", "horse"]}',
        '{"objects": ["man", "riding", "horse"], "relati',
        '{"objects": [["man", "tall", "old"], ["dog", "small", "brown"]]}',
        '{"objects": [["man", "tall", "old"], ["dog", "small", "brown"], ["ho',
        '{"attributes": {"1": ["man", "tall", "old"]}, "Object_2": ["dog", "small", "brown"]}',
        '{"tags": ["man", "tall", "old", 1], "man": ["man", "tall", "old"]}',
        '{"relations": ["riding", "sitting on", "near"], "relationships": ["in front of", "holds", "man"]}',
        '{"subject": "man", "relation": ["man", "riding", "horse"], "obj',
        '{\'objects\': ["man", "riding", "horse"], \'relati',
        '{"subject": null, "relation": ["riding", "on", "near"], "object": "horse"}',
        '{"subject": ["man", "riding", "horse"], "relation": "near", "object": "dog"}',
        '["man", "riding", "horse", "dog"]',
        '["man", [], "horse"]',
        '["man", ["riding", "holding", "near"], {"na',
        '["man", ["riding", "holding", "near"]]',
        '[{"name": "man"}, ["riding", "holding", "near"], {"na',
        '{"objects": ["man", ["riding", "holding", "near"]]}',
        '[{"name": "man"}, {"name": "horse"}, {"name": "dog"}]',
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


TEXT = st.sampled_from(["man", "horse", "dog", "bench", "riding", "holding", "near", "on", "old"])
NAME = TEXT.map(lambda text: {"name": text}) | TEXT
SCORE: st.SearchStrategy[list[float]] = st.sampled_from([[], [0.5], [1]])
STATEMENT = st.tuples(NAME, TEXT | st.lists(TEXT, min_size=1, max_size=3), NAME).flatmap(
    lambda parts: (
        st.sampled_from(
            [
                dict(zip(("subject", "relation", "object"), parts, strict=True)),
                dict(zip(("Object", "Verb", "Subject"), parts[::-1], strict=True)),
            ]
        )
        | SCORE.map(lambda score: [*parts, *score])
    )
)
TEXTS = st.lists(TEXT, max_size=4)
LISTS = st.fixed_dictionaries(
    {},
    optional={
        "objects": TEXTS | st.lists(TEXTS, max_size=3),
        "Entities": TEXTS | st.dictionaries(st.sampled_from(["1", "2"]), TEXTS),
        "Attributes": TEXTS | st.lists(TEXTS, max_size=3),
        "tags": TEXTS,
        "scene": TEXTS,
        "relations": st.lists(st.sampled_from(["riding", "sits on", "near", "in front of", "holds"]), max_size=4),
    },
)
THINGS = LISTS | st.dictionaries(st.sampled_from(["objects", "tags", "scene"]), LISTS, max_size=2)


@given(st.lists(STATEMENT, max_size=3), THINGS, THINGS, st.floats(0, 1), st.booleans())
def test_no_triplet_has_parts_of_several_statements(
    statements: list[object], before: object, after: object, share: float, is_wrapped: bool
) -> None:
    stated = {triplet for statement in statements for triplet in parse_answer(json.dumps(statement))}
    answer: object = {"before": before, "relationships": statements, "after": after}
    text = json.dumps([answer] if is_wrapped else answer)
    assert set(parse_answer(text)) == stated
    assert set(parse_answer(text[: round(share * len(text))])) <= stated
