"""Free texts name a benchmark's verb in every inflection, with every way to say its preposition, and by synonyms."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rlip_assets.datasets.language.lemmas import relation_lemma
from rlip_assets.datasets.language.verbs import _PREPOSITIONS, VerbMatcher, _synonyms
from rlip_assets.datasets.sources.classes import hico_classes, official_table, v_coco_classes
from rlip_assets.micro_world.vocabularies import hico_classes as micro_classes
from rlip_assets.micro_world.wording import accepted

VERBS = {
    "hico_det": [verb for verb in hico_classes().relations or [] if verb != "no interaction"],
    "v_coco": v_coco_classes().relations or [],
    "open_images": official_table("open_images")["relations"],
}
IRREGULAR = """blow blew blown, break broke broken, buy bought, catch caught, cut, drink drank, drive drove driven, eat ate eaten,
feed fed, fly flew flown, grind, hit, hold held, lie lain, light lit, lose, make made, pay paid, read, ride rode ridden, run ran, set,
shear sheared, sit sat, slide slid, spin spun, stand stood, stick stuck, swing swung, teach taught, throw threw thrown, wear wore worn,
hang hung, lay laid, ski skied"""
"""Without forms that are nouns or adjectives more often: "ground", "lost", "drunk", "shorn"."""


def inflections(verb: str) -> set[str]:
    """The forms of a verb by the spelling of English."""
    past = {line.split()[0]: line.split()[1:] for line in IRREGULAR.split(",")}
    consonant = verb[-1] not in "aeiou"
    syllables = sum(a in "aeiouy" and b not in "aeiouy" for a, b in pairwise(verb + " "))
    short = consonant and verb[-1] not in "wxy" and len(verb) > 2 and verb[-2] in "aeiou" and verb[-3] not in "aeiou"
    stem = verb + verb[-1] if short and syllables == 1 else verb
    mute = verb.endswith("e") and not verb.endswith(("ee", "ye", "oe"))
    progressive = verb[:-2] + "ying" if verb.endswith("ie") else (verb[:-1] if mute else stem) + "ing"
    on_y = verb.endswith("y") and verb[-2] not in "aeiou"
    third = verb[:-1] + "ies" if on_y else verb + ("es" if verb.endswith(("ch", "sh", "s", "x", "z", "o")) else "s")
    regular = verb + "d" if verb.endswith("e") else verb[:-1] + "ied" if on_y else stem + "ed"
    return {verb, progressive, third, *past.get(verb, [regular])}


@pytest.mark.parametrize("benchmark", VERBS)
def test_every_inflection_of_every_verb_is_found(benchmark: str) -> None:
    matcher = VerbMatcher(VERBS[benchmark])
    for verb in VERBS[benchmark]:
        first, *rest = relation_lemma(verb).split()
        if first in ("at", "on", "under", "inside", "handshake", "highfive"):  # no verbs of English
            assert matcher.match(verb) == verb
            continue
        found = {text: matcher.match(text) for form in inflections(first) for text in [" ".join([form, *rest])]}
        assert found == dict.fromkeys(found, verb)


def test_every_way_to_say_a_preposition_is_found() -> None:
    verbs = VERBS["hico_det"]
    matcher = VerbMatcher(verbs)
    for verb in verbs:
        for long, short in _PREPOSITIONS:
            if verb.endswith(f" {short}"):
                assert matcher.match(verb.removesuffix(short) + long) == verb
    assert matcher.match("is sitting inside") == "sit on"  # a synonym with a preposition
    assert [matcher.match(text) for text in ("onto", "on top of", "below", "climbs onto")] == [
        None,
        None,
        None,
        "hop on",
    ]


def test_synonyms_lead_to_the_verb_of_their_line_and_hide_no_verb() -> None:
    known = {relation_lemma(verb) for verbs in VERBS.values() for verb in verbs}
    matcher = VerbMatcher(VERBS["hico_det"])
    for verb, *phrases in _synonyms():
        assert verb in known
        for phrase in phrases:
            first, *rest = phrase.split()
            for form in inflections(first):
                text = " ".join([form, *rest])
                found = matcher.match(text)
                assert found == matcher.match(verb) or relation_lemma(found or "") == relation_lemma(text)


def test_the_benchmark_decides_which_text_is_meant() -> None:
    hico, v_coco, micro = (VerbMatcher(verbs) for verbs in (*list(VERBS.values())[:2], micro_classes()["relations"]))
    named = {
        "riding": ("ride", "ride on", "ride"),
        "lies on": ("lie on", "lay on", "lie on"),
        "sitting on top of": ("sit on", "sit on/at", "sit on"),
        "sits at": ("sit at", "sit on/at", None),
        "watching": ("watch", "look at", None),
        "sips from": ("sip", None, None),
        "drinking out of": ("drink with", "drink from", None),
        "lifting": ("lift", "carry", "carry"),
        "cleans": ("clean", None, "wash"),
        "sleeping on": ("lie on", "lay on", "lie on"),
    }
    assert {text: tuple(matcher.match(text) for matcher in (hico, v_coco, micro)) for text in named} == named


def test_every_wording_of_the_micro_world_is_found() -> None:
    matcher = VerbMatcher(micro_classes()["relations"])
    for verb in micro_classes()["relations"]:
        assert {matcher.match(text) for text in accepted(verb)} == {verb}


def test_verbs_are_found_in_every_form() -> None:
    matcher = VerbMatcher(hico_classes().relations or [])
    texts = {"is riding": "ride", "rides on": "ride", "lying on": "lie on", "laying on": "lie on", "giving food to": "feed",
             "walking with": "walk", "sitting on top of": "sit on", "looking at": "watch", "drinking with": "drink with"}  # fmt: skip
    assert {text: matcher.match(text) for text in texts} == texts
    assert [matcher.match(text) for text in ("", "on", "next to", "befriend")] == [None] * 4
    assert all(matcher.match(verb) == verb for verb in hico_classes().relations or [])
