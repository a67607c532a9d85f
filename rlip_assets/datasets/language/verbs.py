"""The verb of a benchmark that a free relation text names, by its normal form and a table of synonyms (`verb_synonyms.toml`)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from rlip_assets.datasets.language.lemmas import relation_lemma


class VerbMatcher:
    """Finds the verb that a text names, in whatever inflection: "is riding" and "rides on" are "ride"."""

    def __init__(self, verbs: Iterable[str]) -> None:
        own = {relation_lemma(verb): verb for verb in verbs}
        further = {phrase: own[verb] for verb, phrases in _synonyms().items() if verb in own for phrase in phrases}
        self._verbs = further | own

    def match(self, text: str) -> str | None:
        """Return the verb in the benchmark's spelling; None where the text names none."""
        return self._verbs.get(relation_lemma(text))


@cache
def _synonyms() -> dict[str, list[str]]:
    """Return normal form of a verb -> normal forms of its synonyms."""
    table = tomllib.loads((files(__package__) / "verb_synonyms.toml").read_text(encoding="utf-8"))["synonyms"]
    return {relation_lemma(verb): list(map(relation_lemma, phrases)) for verb, phrases in table.items()}
