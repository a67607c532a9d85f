"""The built-in caption parser on sentences whose triplets a reader can check."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlip_assets.datasets.language.lemmas import relation_lemma
from rlip_assets.labelling.caption_parsing import parse_caption
from rlip_assets.micro_world.wording import FORMS

CASES = {
    # verbs and their objects
    "a man is riding a horse": ["man ride horse"],
    "a boy kicks a ball": ["boy kick ball"],
    "two dogs chase a cat": ["dog chase cat"],
    "a giraffe has a long neck": ["giraffe have long neck"],
    "a girl giving food to a sheep": ["girl give food to sheep"],
    "two kids washing horses": ["kid wash horse"],
    "a man wearing running shoes": ["man wear running shoe"],
    "a woman is about to hit a tennis ball": ["woman hit tennis ball"],
    # prepositions
    "a dog on a couch": ["dog on couch"],
    "a cat is under a table": ["cat under table"],
    "a plane that is parked on a runway": ["plane park on runway"],
    "white plate that is sitting on top of a table": ["white plate sit on top of table"],
    "people walk down the street with umbrellas": ["person walk down street", "person with umbrella"],
    "a clock on the side of a building": ["clock on side of building"],
    # what a phrase is said of
    "a man is riding a horse next to a dog": ["man ride horse", "man next to dog"],
    "a bathroom with a toilet next to a sink": ["bathroom with toilet", "toilet next to sink"],
    "a dog with a frisbee in its mouth": ["dog with frisbee", "frisbee in mouth"],
    "people standing in front of a teddy bear sitting on a table": [
        "person stand in front of teddy bear",
        "teddy bear sit on table",
    ],
    "a man sitting at a table eating a cake": ["man sit at table", "man eat cake"],
    "a woman holding a hot dog standing next to a car": ["woman hold hot dog", "woman stand next to car"],
    # passives and participles
    "a horse ridden by a man": ["man ride horse"],
    "a river surrounded by trees": ["tree surround river"],
    "a car parked by a house": ["car park by house"],
    "a woman is seated on a chair": ["woman seat on chair"],
    # coordination
    "a bathroom with a sink and a mirror": ["bathroom with sink", "bathroom with mirror"],
    "a table with a cup, a plate and a fork": ["table with cup", "table with plate", "table with fork"],
    "a man riding a bike and wearing a helmet": ["man ride bike", "man wear helmet"],
    "a man riding a bike while holding an umbrella": ["man ride bike", "man hold umbrella"],
    "a man and a dog are sitting next to each other": ["man sit next to dog", "dog sit next to man"],
    "a boy sitting on a bench and a cat on a chair": ["boy sit on bench", "cat on chair"],
    "a man chases a cat and a woman is holding a cup": ["man chase cat", "woman hold cup"],
    "a black and white cat on a bed": ["black white cat on bed"],
    # words that are looked through, possessives, pronouns, circumstances
    "a group of people standing next to each other in the background": ["person stand next to person"],
    "close up of a slice of pizza on a plate": ["pizza on plate"],
    "the woman's dog is sleeping on a couch": ["woman have dog", "dog sleep on couch"],
    "a table with a clock on it": ["table with clock", "clock on table"],
    "a bench with a man sitting on it": ["bench with man", "man sit on bench"],
    "baseball player swinging a bat at a baseball game": ["baseball player swing bat"],
    # nouns that look like verbs
    "a bus stop sign on a city street": ["bus stop sign on city street"],
    "a building with a clock": ["building with clock"],
    "traffic lights hang over a street": ["traffic light hang over street"],
    # nothing to say
    "a living room": [],
    "man is sitting on top of it": [],
    "": [],
    "!!! ??? 123": [],
}


@pytest.mark.parametrize(("caption", "expected"), CASES.items(), ids=list(CASES))
def test_parser(caption: str, expected: list[str]) -> None:
    assert [f"{t.subject} {t.relation} {t.object}" for t in parse_caption(caption)] == expected


def test_the_surface_is_kept_beside_the_lemma() -> None:
    (triplet,) = parse_caption("A man is sitting on a bench")
    assert (triplet.relation, triplet.surface) == ("sit on", "sitting on")


def test_upper_case_and_punctuation_do_not_matter() -> None:
    assert parse_caption("A man is RIDING a horse.") == parse_caption("a man is riding a horse")


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_parsed(caption: str) -> None:
    for triplet in parse_caption(caption):
        assert triplet.subject
        assert triplet.relation
        assert triplet.object


WORDS = [
    "a",
    "man",
    "the",
    "dog",
    "is",
    "riding",
    "on",
    "with",
    "and",
    "of",
    "it",
    "that",
    "to",
    "by",
    "horse",
    "people",
    "'s",
    ",",
    "while",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14))
def test_any_order_of_known_words_is_parsed(words: list[str]) -> None:
    captions = parse_caption(" ".join(words))
    assert len(captions) == len(set(captions))


@pytest.mark.parametrize("text", sorted({text for forms in FORMS.values() for form in forms for text in form}))
def test_a_relation_in_a_caption_has_the_lemma_of_the_relation_alone(text: str) -> None:
    assert [triplet.relation for triplet in parse_caption(f"a man {text} a dog")] == [relation_lemma(text)]
