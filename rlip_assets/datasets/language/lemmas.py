"""Lemmas of nouns, verbs and relations by rule, with tables for what has no rule."""

from __future__ import annotations

import re
from functools import lru_cache

from rlip_assets.datasets.language.lexicon import lexicon

_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*|[&,.;]")
_VOWELS = frozenset("aeiou")
_SILENT_E = (
    *("at", "c", "s", "u", "v", "z"),  # bounc, brows, teas, rins, carv, graz
    *(
        "ag",
        "dg",
        "lg",
        "rg",
        "ung",
        "eng",
        "rang",
        "chang",
        "spong",
        "cring",
        "fring",
    ),  # manag, nudg, charg, loung, arrang
    *("eath", "eeth", "oath", "sooth", "bath", "cloth", "writh"),
)
"""Ends of stems whose verb has an -e: hardly any verb ends so without one."""
_WITHOUT_E = ("ss", "zz", "tz", "bias", "canvas", "chorus", "focus", "gas")


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
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
        return stem[:-1]
    if stem.endswith(_SILENT_E) and not stem.endswith(_WITHOUT_E) and len(stem) > 1:
        return stem + "e"
    short = len(stem) == 3 and stem[-1] not in "swxy" and stem[1] in _VOWELS and stem[0] not in _VOWELS
    cluster = (
        len(stem) > 3 and stem[-1] == "l" and stem[-2] not in _VOWELS and stem[-2] not in "lrw"
    )  # nibbl, hassl, styl
    measured = stem.endswith("ur") and not stem.endswith("our")
    return stem + "e" if short or cluster or measured else stem


@lru_cache(maxsize=65_536)
def verb_lemma(word: str) -> str:
    """Base of a lower-case verb form: "riding" -> "ride", "sits" -> "sit", "parked" -> "park", "held" -> "hold"."""
    words = lexicon()
    irregular = words.irregular_verbs.get(word)
    if irregular is not None:
        return irregular
    if word in words.verbs:
        return word
    if word.endswith("ing") and not {*_VOWELS, "y"}.isdisjoint(word[:-3]):  # "cling" is no progressive
        return _known_base(word[:-3]) or _guessed_base(word[:-3])
    if word.endswith("ied") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("ed") and len(word) > 3:
        return _known_base(word[:-2]) or _guessed_base(word[:-2])
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        return word[:-1]
    return word


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
