"""Lemmas: one normal form for every inflection, the same that the caption parser gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

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
nibble hassle wrestle style decorate measure allege oblige gauge gouge hinge estrange derange scrounge expunge accuse cleanse
abuse pulverise create recreate procreate permeate nauseate delineate nucleate smile stroke type hype square snore vape canoe"""
NO_E = """toss dress press kiss focus canvas buzz waltz hang bang clang bring fling string belong throng howl curl crawl whirl
park mouth smooth froth fold stretch caucus callus callous census nonplus rumpus rendezvous trellis verdigris precis chorus
bias alias gas bus blitz boomerang prang bung dung bequeath treat beat heat wheat sweat coat boat float gloat repeat retreat
defeat cheat pleat bleat seat unseat mistreat sync arc combat"""


def forms(verb: str) -> list[str]:
    """A regular verb in its base form, with -s, -ing and -ed; consonants are not doubled."""
    hissing = verb.endswith(("s", "x", "z", "ch", "sh"))
    on_y = verb.endswith("y") and verb[-2] not in "aeiou"
    third = verb[:-1] + "ies" if on_y else verb + ("es" if hissing else "s")
    stem = verb.removesuffix("e") if not verb.endswith("oe") else verb
    return [verb, third, f"{stem}ing", verb[:-1] + "ied" if on_y else verb.removesuffix("e") + "ed"]


@contextmanager
def unknown_verbs() -> Iterator[Callable[[str], str]]:
    """`verb_lemma` by rule alone."""
    unknown = replace(lexicon(), verbs=frozenset(), irregular_verbs={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lemmas, "lexicon", lambda: unknown)
        yield verb_lemma.__wrapped__


@pytest.mark.parametrize("verb", [*SILENT_E.split(), *NO_E.split()])
def test_the_base_of_a_regular_verb_is_guessed_by_its_end(verb: str) -> None:
    """Also where the lexicon does not know it, and the same from every form."""
    with unknown_verbs() as lemma:
        assert {form: lemma(form) for form in forms(verb)} == dict.fromkeys(forms(verb), verb)


@pytest.mark.parametrize(
    ("form", "verb"),
    [
        ("focussing", "focus"),
        ("gassed", "gas"),
        ("quizzing", "quiz"),
        ("quizzes", "quiz"),
        ("passing", "pass"),
        ("jogged", "jog"),
    ],
)
def test_a_doubled_consonant_goes(form: str, verb: str) -> None:
    with unknown_verbs() as lemma:
        assert lemma(form) == verb


@given(
    st.from_regex(r"[a-z]{1,3}[aeiou][a-z]{0,3}[b-df-hj-np-tv-xz]", fullmatch=True)
    | st.tuples(st.sampled_from(["re", "tra"]), st.sampled_from(lemmas._SILENT_E + lemmas._WITHOUT_E)).map("".join)
)
def test_every_form_of_a_verb_has_the_same_lemma(stem: str) -> None:
    assume(stem[-1] not in "aeiouy" and stem[-3:] != stem[-1] * 3)
    with unknown_verbs() as lemma:
        verb = lemma(f"{stem}ing")
        assume(not verb.endswith(("ing", "ed")))  # forms themselves, by their end
        assert lemma(f"{stem}ed") == verb
        assert {lemma(form) for form in forms(verb)[:2]} == {verb}


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
