"""The verb of a benchmark that a free relation text names, by its normal form and a table of synonyms (`verb_synonyms.toml`)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from rlip_assets.datasets.language.lemmas import relation_lemma

_PREPOSITIONS = (
    ("on top of", "on"), ("on to", "on"), ("atop", "on"), ("onto", "on"), ("upon", "on"),
    ("underneath", "under"), ("beneath", "under"), ("below", "under"),
    ("inside of", "in"), ("inside", "in"),
)  # fmt: skip
"""Ways to say a preposition. "Into" is none: who climbs into a boat is not in it."""


class VerbMatcher:
    """Finds the verb that a text names, in whatever inflection: "is riding" and "rides on" are "ride"."""

    def __init__(self, verbs: Iterable[str]) -> None:
        self._own = {relation_lemma(name): verb for verb in verbs for name in _names(verb)}
        named = {_plain(lemma): verb for lemma, verb in self._own.items()}
        further = {
            phrase: named[verb]
            for phrases in _synonyms()
            if (verb := next(filter(named.__contains__, phrases), None))
            for phrase in phrases
        }
        self._verbs = further | named

    def match(self, text: str) -> str | None:
        """Return the verb in the benchmark's spelling; None where the text names none."""
        lemma = relation_lemma(text)
        return self._own.get(lemma) or self._verbs.get(_plain(lemma))


def _names(verb: str) -> list[str]:
    """Return the texts that a verb is called by: itself, and "sit on" and "sit at" of "sit on/at"."""
    *start, ends = verb.split(" ")
    return [verb, *(" ".join([*start, end]) for end in ends.split("/"))]


def _plain(lemma: str) -> str:
    """Return a normal form with its last preposition said in the shortest way: "sit on top of" -> "sit on"."""
    for long, short in _PREPOSITIONS:
        if lemma.endswith(f" {long}"):
            return lemma.removesuffix(long) + short
    return lemma


@cache
def _synonyms() -> list[list[str]]:
    """Return the lines of the table as normal forms, the verb first."""
    table = tomllib.loads((files(__package__) / "verb_synonyms.toml").read_text(encoding="utf-8"))["synonyms"]
    return [[_plain(relation_lemma(text)) for text in (verb, *phrases)] for verb, phrases in table.items()]
