"""The class that a noun phrase names: found by words, never by substrings.

The published rule takes a class when one of its nouns is a substring of the phrase, and the last class that matches: "woman" is a man,
a "carpet" is a car, and the answer depends on the order of annotations. Here a class matches when one of its nouns, as a sequence of
lemmas, ends the phrase at its head. The longest such sequence decides; among equally long ones the class's own name comes before a
synonym, then the class that is named first in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from rlip_assets.datasets.language.lemmas import noun_lemma, tokens
from rlip_assets.datasets.language.lexicon import Phrase, lexicon

_OWN_NAME, _SYNONYM = 0, 1


def phrase_lemmas(text: str) -> Phrase:
    """Words of a noun phrase in lower case, the last one in the singular: "Tennis Rackets" -> ("tennis", "racket")."""
    words = tokens(text)
    return (*words[:-1], noun_lemma(words[-1])) if words else ()


class ClassMatcher:
    """Finds the class that a noun phrase names."""

    def __init__(self, classes: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> None:
        """
        Args:
            classes: class texts; "handbag/satchel" is known by both of its names.
            synonyms: class name (lower case) or one of its names -> further nouns.
        """
        self._index: dict[Phrase, list[tuple[int, int, str]]] = {}
        for number, text in enumerate(classes):
            own = {phrase_lemmas(name) for name in names_of(text)}
            known = [noun for name in {text.lower().strip(), *names_of(text)} for noun in synonyms.get(name, ())]
            for phrase in own:
                self._index.setdefault(phrase, []).append((_OWN_NAME, number, text))
            for phrase in {phrase_lemmas(noun) for noun in known} - own:
                self._index.setdefault(phrase, []).append((_SYNONYM, number, text))
        self._index.pop((), None)
        for entries in self._index.values():
            entries.sort()
        self._longest = max(map(len, self._index), default=0)
        self.named = lru_cache(maxsize=65_536)(self._named)

    def match(self, text: str, present: Collection[str]) -> str | None:
        """The class that `text` names, if it is one of `present`.

        A phrase that names another class more precisely matches nothing: a "hot dog" is no dog, boxed or not.
        """
        return next((name for name in self.named(text) if name in present), None)

    def _named(self, text: str) -> tuple[str, ...]:
        """All classes that the longest matching part of the phrase names, best first."""
        phrase = phrase_lemmas(text)
        for length in range(len(phrase), 0, -1):
            part = phrase[-length:]
            if length <= self._longest and part in self._index:
                return tuple(name for _, _, name in self._index[part])
            if length > 1 and part in lexicon().fixed_compounds:
                return ()
        return ()


def names_of(text: str) -> list[str]:
    """The names of a class text in lower case: "Cabinet/shelf" -> ["cabinet", "shelf"]."""
    return [name for part in text.lower().split("/") if (name := " ".join(part.split()))]
