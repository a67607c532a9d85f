"""Phrases that mean the same, found in captions: two sentences about one scene that differ in one place name one thing in two ways.

"a man is riding a horse" and "a man rides a horse" put "is riding" beside "rides"; "a man rides a horse" and "a guy rides a horse" put
"man" beside "guy". Text only; what such a pair is worth follows from how often it comes up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

_ARTICLE = re.compile(r"\b(?:a|an) ")
_CONNECTIVES = frozenset({"and", "while"})
SMALLEST_RATE = 0.04
_AUXILIARIES = frozenset({"is", "has"})


class TextTriplet(NamedTuple):
    """A statement of a sentence, in its own words."""

    subject: str
    predicate: str
    object: str


Pair = tuple[str, str]
"""Two different phrases in alphabetical order."""


@dataclass(frozen=True)
class Paraphrases:
    """Phrase pairs of one kind (predicates or nouns) with the number of scenes that gave them, and all phrases of the kind."""

    pairs: dict[Pair, int]
    phrases: tuple[str, ...]

    def neighbours(self, phrase: str) -> set[str]:
        """Phrases that are paired with `phrase`."""
        return {other for pair in self.pairs if phrase in pair for other in pair} - {phrase}


def noun_lexicon(captions: Iterable[str]) -> frozenset[str]:
    """All nouns: what follows the last article of a caption."""
    return frozenset(_ARTICLE.split(caption)[-1].strip() for caption in captions)


def caption_triplets(caption: str, nouns: frozenset[str]) -> list[TextTriplet]:
    """Subject, predicate and object of each clause; a sentence of another build gives none.

    Clauses are joined by "and" or "while"; a predicate after a connective continues the clause's subject, one without it speaks of the
    noun just before ("a man riding a horse next to a dog").
    """
    segments = [_split_noun(segment.split(), nouns) for segment in _ARTICLE.split(caption)[1:]]
    found: list[TextTriplet] = []
    subject = segments[0][0] if segments else ""
    starts_clause = True
    for (noun, rest), (following, _) in pairwise(segments):
        joined = bool(rest) and rest[0] in _CONNECTIVES
        words = rest[1:] if joined else rest
        if starts_clause:
            subject = noun
        starts_clause = joined and not words
        if words and noun and following:
            found.append(TextTriplet(subject if joined else noun, " ".join(words), following))
    return found


def _split_noun(words: Sequence[str], nouns: frozenset[str]) -> tuple[str, list[str]]:
    """The longest noun at the start of `words` ("" where there is none), and the rest."""
    for length in range(len(words), 0, -1):
        noun = " ".join(words[:length])
        if noun in nouns:
            return noun, list(words[length:])
    return "", list(words)


def base_form(predicate: str) -> str | None:
    """ "rides" -> "ride", "carries" -> "carry", "gives food to" -> "give food to"; None unless the first word is a third person."""
    verb, *rest = predicate.split()
    if verb in _AUXILIARIES or not verb.endswith("s") or len(verb) < 3:
        return None
    if verb.endswith("ies") and len(verb) > 4:
        verb = verb[:-3] + "y"
    elif re.search(r"(ss|sh|ch|x|z|o)es$", verb):
        verb = verb[:-2]
    else:
        verb = verb[:-1]
    return " ".join([verb, *rest])


def find_paraphrases(
    scenes: Iterable[Sequence[str]], nouns: frozenset[str], smallest_rate: float = SMALLEST_RATE
) -> tuple[Paraphrases, Paraphrases]:
    """Paraphrases among predicates and among nouns.

    Args:
        scenes: the captions of each scene.
        nouns: see `noun_lexicon`.
        smallest_rate: a pair counts if it came up in at least this share of the scenes that said its rarer phrase. Below lie accidents:
            two different things with one predicate in one scene.
    """
    predicates, names = _Tally(), _Tally()
    for captions in scenes:
        said = {triplet for caption in captions for triplet in caption_triplets(caption, nouns)}
        predicates.add(((t.subject, t.object), t.predicate) for t in said)
        names.add(
            place
            for t in said
            for place in (((t.predicate, t.object), t.subject), ((t.subject, t.predicate), t.object))
        )
    found = predicates.paraphrases(smallest_rate)
    return _with_base_forms(found), names.paraphrases(smallest_rate)


class _Tally:
    """Counts of phrases in the same place of the same scene, and of phrases in all."""

    def __init__(self) -> None:
        self._together: Counter[Pair] = Counter()
        self._scenes: Counter[str] = Counter()

    def add(self, places: Iterable[tuple[tuple[str, str], str]]) -> None:
        """The phrases of one scene, each with the two other parts of its triplet."""
        by_place: dict[tuple[str, str], set[str]] = {}
        for place, phrase in places:
            by_place.setdefault(place, set()).add(phrase)
        self._scenes.update({phrase for phrases in by_place.values() for phrase in phrases})
        self._together.update({pair for phrases in by_place.values() for pair in combinations(sorted(phrases), 2)})

    def paraphrases(self, smallest_rate: float) -> Paraphrases:
        pairs = {
            (first, second): count
            for (first, second), count in sorted(self._together.items())
            if count >= smallest_rate * min(self._scenes[first], self._scenes[second])
        }
        return Paraphrases(pairs, tuple(sorted(self._scenes)))


def _with_base_forms(found: Paraphrases) -> Paraphrases:
    """Captions use no base forms, labels do: pair each third person with its base form as often as with its commonest paraphrase."""
    pairs = dict(found.pairs)
    phrases = set(found.phrases)
    for phrase in found.phrases:
        base = base_form(phrase)
        if base is not None and found.neighbours(phrase):
            phrases.add(base)
            count = max(count for pair, count in found.pairs.items() if phrase in pair)
            pairs[(min(base, phrase), max(base, phrase))] = count
    return Paraphrases(pairs, tuple(sorted(phrases)))
