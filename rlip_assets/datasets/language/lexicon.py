"""The lexicon (`lexicon.toml`) as sets and tables."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

Phrase = tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    """Closed word classes, and what the parser has to know of open ones. All words are lower case.

    Phrases of several words are found by their first word.
    """

    determiners: frozenset[str]
    possessives: frozenset[str]
    pronouns: frozenset[str]
    relatives: frozenset[str]
    auxiliaries: frozenset[str]
    copulas: frozenset[str]
    conjunctions: frozenset[str]
    clause_conjunctions: frozenset[str]
    adverbs: frozenset[str]
    prepositions: frozenset[str]
    long_prepositions: Mapping[str, tuple[Phrase, ...]]
    verb_phrases: Mapping[str, tuple[Phrase, ...]]
    colours: frozenset[str]
    quantities: frozenset[str]
    circumstances: frozenset[str]
    reciprocals: Mapping[str, tuple[Phrase, ...]]
    infinitive_starters: frozenset[str]
    agentive_verbs: frozenset[str]
    verbs: frozenset[str]
    noun_like_verbs: frozenset[str]
    nouns_in_ing: frozenset[str]
    adjectives_in_ed: frozenset[str]
    irregular_verbs: Mapping[str, str]
    irregular_nouns: Mapping[str, str]
    fixed_compounds: frozenset[Phrase]
    animate: frozenset[str]
    body_parts: frozenset[str]
    places: frozenset[str]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _by_first_word(lines: list[str]) -> dict[str, tuple[Phrase, ...]]:
    """First word -> phrases that begin with it, the longest first."""
    table: dict[str, list[Phrase]] = {}
    for phrase in sorted((tuple(line.split()) for line in lines), key=len, reverse=True):
        table.setdefault(phrase[0], []).append(phrase)
    return {word: tuple(phrases) for word, phrases in table.items()}


@cache
def lexicon() -> Lexicon:
    """The lexicon, read once a process."""
    data = tomllib.loads((files(__package__) / "lexicon.toml").read_text(encoding="utf-8"))
    irregular_verbs = dict(data["irregular_verbs"])
    agentive = _words(data["agentive_verbs"])
    verbs = agentive | _words(data["other_verbs"]) | frozenset(irregular_verbs.values())
    return Lexicon(
        determiners=_words(data["determiners"]),
        possessives=_words(data["possessives"]),
        pronouns=_words(data["pronouns"]),
        relatives=_words(data["relatives"]),
        auxiliaries=_words(data["auxiliaries"]),
        copulas=_words(data["copulas"]),
        conjunctions=_words(data["conjunctions"]),
        clause_conjunctions=_words(data["clause_conjunctions"]),
        adverbs=_words(data["adverbs"]),
        prepositions=_words(data["prepositions"]),
        long_prepositions=_by_first_word(data["prepositions_of_many_words"]),
        verb_phrases=_by_first_word(data["verb_phrases"]),
        colours=_words(data["colours"]),
        quantities=_words(data["quantities"]),
        circumstances=_words(data["circumstances"]),
        reciprocals=_by_first_word(data["reciprocals"]),
        infinitive_starters=_words(data["infinitive_starters"]),
        agentive_verbs=agentive,
        verbs=verbs,
        noun_like_verbs=_words(data["noun_like_verbs"]),
        nouns_in_ing=_words(data["nouns_ending_in_ing"]),
        adjectives_in_ed=_words(data["adjectives_in_ed"]),
        irregular_verbs=irregular_verbs,
        irregular_nouns=dict(data["irregular_nouns"]),
        fixed_compounds=frozenset(tuple(line.split()) for line in data["fixed_compounds"].splitlines()),
        animate=_words(data["animate"]["persons"]) | _words(data["animate"]["animals"]),
        body_parts=_words(data["animate"]["body_parts"]),
        places=_words(data["animate"]["places"]),
    )
