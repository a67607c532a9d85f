"""Lemmas: one normal form for every inflection, the same that the caption parser gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlip_assets.datasets.language import lemmas
from rlip_assets.datasets.language.lemmas import noun_lemma, relation_lemma, tokens, verb_lemma
from rlip_assets.datasets.language.lexicon import lexicon


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


SILENT_E = """browse drowse tease please release grease appease close compose refuse arouse peruse rinse condense nurse reverse
collapse pulse analyse advise practise graze doze squeeze freeze seize carve solve weave crave bounce trace embrace
sauce value argue queue lounge plunge lunge avenge challenge change arrange range sponge cringe infringe nudge dodge
wedge bridge charge merge surge indulge bulge manage damage breathe sheathe seethe loathe soothe bathe clothe writhe
nibble hassle wrestle style decorate measure"""
NO_E = """toss dress press kiss focus canvas buzz waltz hang bang clang bring fling string belong throng howl curl crawl whirl
park mouth smooth froth fold stretch"""


@pytest.mark.parametrize("verb", [*SILENT_E.split(), *NO_E.split()])
def test_the_base_of_a_regular_verb_is_guessed_by_its_end(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the lexicon does not know it."""
    unknown = replace(lexicon(), verbs=frozenset(), irregular_verbs={})
    monkeypatch.setattr(lemmas, "lexicon", lambda: unknown)
    stem = verb.removesuffix("e")
    assert [verb_lemma.__wrapped__(form) for form in (f"{stem}ing", f"{stem}ed")] == [verb, verb]


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
