"""Lemmas: one normal form for every inflection, the same that the caption parser gives."""

from __future__ import annotations

import pytest

from rlip_assets.datasets.language.lemmas import noun_lemma, relation_lemma, tokens, verb_lemma


@pytest.mark.parametrize(
    ("form", "lemma"),
    [
        ("riding", "ride"),
        ("sits", "sit"),
        ("parked", "park"),
        ("held", "hold"),
        ("carries", "carry"),
        ("lying", "lie"),
        ("hitting", "hit"),
        ("tossing", "toss"),
        ("chasing", "chase"),
        ("grazing", "graze"),
        ("flies", "fly"),
        ("watches", "watch"),
        ("clinging", "cling"),
        ("cling", "cling"),
        ("nibbled", "nibble"),
        ("rinsing", "rinse"),
        ("bouncing", "bounce"),
        ("devouring", "devour"),
        ("measuring", "measure"),
        ("curling", "curl"),
        ("trying", "try"),
    ],
)
def test_verb_lemmas(form: str, lemma: str) -> None:

    assert verb_lemma(form) == lemma


@pytest.mark.parametrize(
    ("form", "lemma"),
    [
        ("buses", "bus"),
        ("women", "woman"),
        ("people", "person"),
        ("knives", "knife"),
        ("skis", "ski"),
        ("sheep", "sheep"),
        ("benches", "bench"),
        ("puppies", "puppy"),
        ("glass", "glass"),
        ("tennis", "tennis"),
        ("horses", "horse"),
        ("firemen", "fireman"),
    ],
)
def test_noun_lemmas(form: str, lemma: str) -> None:
    assert noun_lemma(form) == lemma


def test_tokens_divide_possessives_and_keep_hyphens() -> None:
    assert tokens("The dog's close-up, 2 cats") == ["the", "dog", "'s", "close-up", ",", "2", "cats"]


@pytest.mark.parametrize(
    ("text", "lemma"),
    [
        ("riding", "ride"),
        ("ride", "ride"),
        ("rides on", "ride on"),
        ("is sitting on", "sit on"),
        ("on the side of", "on side of"),
        ("has on", "have on"),
        ("giving food to", "give food to"),
        ("next to", "next to"),
        ("is behind", "behind"),
        ("is part of", "part of"),
        ("inside of", "inside of"),
        ("ridden by", "ride by"),
        ("is being ridden by", "ride by"),
        ("no interaction", "no interaction"),
        ("is", "is"),
        ("", ""),
    ],
)
def test_relation_lemma(text: str, lemma: str) -> None:
    assert relation_lemma(text) == lemma
