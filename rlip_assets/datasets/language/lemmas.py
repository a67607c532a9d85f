"""Lemmas of nouns, verbs and relations by rule, with tables for what has no rule."""

from __future__ import annotations

import re
from functools import lru_cache

from rlip_assets.datasets.language.lexicon import lexicon

_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*|[&,.;]")
_VOWELS = frozenset("aeiou")
_SILENT_E = (
    *("at", "c", "s", "u", "v", "z"),  # bounc, brows, teas, rins, carv, graz
    *("creat", "cleat", "deat", "meat", "neat", "useat"),  # recreat, permeat, delineat, nauseat
    *("ag", "eg", "ig", "ug", "dg", "lg", "rg"),  # manag, alleg, oblig, gaug, nudg, indulg, charg
    *("oung", "lung", "pung", "eng", "rang", "chang", "spong", "cring", "fring", "hing"),  # loung, arrang, hing
    *("eath", "eeth", "oath", "sooth", "bath", "cloth", "writh"),
    *("abus", "cano"),
)
"""Ends of stems whose verb has an -e, unless a longer end is in `_WITHOUT_E`: of all that a stem has, the longest decides."""
_WITHOUT_E = (
    *("eat", "oat", "combat", "arc", "disc", "ync"),  # treat, float, sync
    *("ss", "bus", "callus", "caucus", "census", "chorus", "focus", "plus", "rumpus", "callous", "vous"),
    *("alias", "bias", "canvas", "gas", "precis", "trellis", "verdigris"),
    *("quiz", "tz", "zz"),
    *("merang", "prang", "queath"),
)
_SHORT = re.compile(r"(?:[^aeiou]*qu|[^aeiou]*[^aeiouy])[aeiouy][b-df-hj-np-rt]")
"""Stems of one syllable that end in one consonant, which would be doubled if there were no -e: rid, smil, typ."""


def tokens(text: str) -> list[str]:
    """Lower-case words and the punctuation that parsing needs; a possessive "'s" is a token of its own.

    Hyphened words stay whole ("close-up"). Underscores and slashes divide words.
    """
    found: list[str] = []
    for match in _WORD.findall(text.lower().replace("’", "'")):
        if match.endswith("'s") and len(match) > 2:
            found += [match[:-2], "'s"]
        else:
            found.append(match)
    return found


@lru_cache(maxsize=65_536)
def noun_lemma(word: str) -> str:
    """Singular of a lower-case noun: "buses" -> "bus", "women" -> "woman", "people" -> "person"."""
    irregular = lexicon().irregular_nouns.get(word)
    if irregular is not None:
        return irregular
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return word[:-2]
    if word.endswith("men"):
        return word[:-3] + "man"
    return word[:-1]


def is_plural(word: str) -> bool:
    """Return whether a noun is in the plural, by its form. Words that are the same in both numbers count as plural."""
    return noun_lemma(word) != word or word in ("sheep", "deer", "fish", "cattle", "police")


def _known_base(stem: str) -> str | None:
    """The known verb behind a stem left by -ing or -ed: the stem, the stem with -e, or without its doubled consonant."""
    verbs = lexicon().verbs
    for base in (stem, stem + "e", stem[:-1] if len(stem) > 2 and stem[-1] == stem[-2] else stem):
        if base in verbs:
            return base
    return None


def _guessed_base(stem: str) -> str:
    """The likely verb behind an unknown stem."""
    is_doubled = len(stem) > 3 and stem[-1] == stem[-2]
    if is_doubled and (stem[-1] not in "lsz" or stem[:-1].endswith(_WITHOUT_E)):
        return stem[:-1]
    if len(stem) > 1 and _longest(_SILENT_E, stem) > _longest(_WITHOUT_E, stem):
        return stem + "e"
    cluster = len(stem) > 3 and stem[-1] == "l" and stem[-2] not in _VOWELS and stem[-2] not in "lrw"  # nibbl, hassl
    measured = stem.endswith("ur") and not stem.endswith("our")
    return stem + "e" if cluster or measured or _SHORT.fullmatch(stem) else stem


def _longest(ends: tuple[str, ...], stem: str) -> int:
    """Return the length of the longest of some ends that a stem has, 0 without any."""
    return max((len(end) for end in ends if stem.endswith(end)), default=0)


@lru_cache(maxsize=65_536)
def verb_lemma(word: str) -> str:
    """Base of a lower-case verb form: "riding" -> "ride", "sits" -> "sit", "parked" -> "park", "held" -> "hold"."""
    words = lexicon()
    irregular = words.irregular_verbs.get(word)
    if irregular is not None:
        return irregular
    if word in words.verbs:
        return word
    if word.endswith(("ied", "ies")) and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("ing") and not {*_VOWELS, "y"}.isdisjoint(word[:-3]):  # "cling" is no progressive
        stem = word[:-3]
    elif word.endswith(("ed", "ches", "shes", "ses", "xes", "zes", "oes")) and len(word) > 3:
        stem = word[:-2]
    elif word.endswith("s") and not word.endswith(("us", "is", *_WITHOUT_E)) and len(word) > 3:
        return word[:-1]
    else:
        return word.removesuffix("s") if word.removesuffix("s") in words.verbs else word
    return _known_base(stem) or _guessed_base(stem)


@lru_cache(maxsize=65_536)
def relation_lemma(text: str) -> str:
    """Return the normal form of a relation that stands alone: "riding", "is riding" -> "ride"; "on the side of" -> "on side of".

    Determiners go, and auxiliaries and adverbs before the first other word, which is taken for a verb. The caption parser gives a relation
    in a sentence the same form.
    """
    left = relation_words(text)
    return " ".join([verb_lemma(left[0]), *left[1:]]) if left else ""


def relation_words(text: str) -> list[str]:
    """Return the words of a relation that stands alone, as written: "is riding" -> ["riding"]."""
    words = lexicon()
    left = [word for word in tokens(text) if word not in words.determiners or word == "no"]
    light = (words.auxiliaries | words.adverbs) - words.prepositions
    start = next((i for i, word in enumerate(left) if word not in light or verb_lemma(word) == "have"), 0)
    return left[start:]
