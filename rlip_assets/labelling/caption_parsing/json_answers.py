"""Triplets that a captioner gives as JSON, such as `[{"subject": "man", "relation": "riding", "object": "horse"}]` or
`[["man", "riding", "horse"]]`.

Models wrap their answers in prose or code fences and stop in the middle of a list, so every JSON value in the text is read, and where a
list is cut, its whole statements. Anything else is no statement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from rlip_assets.datasets.language.lemmas import noun_lemma, relation_lemma, relation_words, tokens
from rlip_assets.datasets.language.lexicon import lexicon
from rlip_assets.labelling.caption_parsing.parser import TextTriplet

_RELATION = ("relation", "predicate", "verb", "relationship")
_NUMBERED = re.compile(r"[\s._#-]*\d+$")
"""End of "man_1", "dog #2": models number what occurs twice."""
_OPENING = re.compile(r"[\[{]")


def parse_answer(answer: str) -> list[TextTriplet]:
    """Return the triplets of an answer, each once, in its order; none where it has no JSON."""
    found = (_triplet(*statement) for value in _values(answer) for statement in _statements(value))
    return list(dict.fromkeys(triplet for triplet in found if triplet))


def _values(text: str) -> Iterator[Any]:
    """Yield the outermost JSON lists and objects of a text that are whole."""
    decoder, position = json.JSONDecoder(), 0
    while match := _OPENING.search(text, position):
        try:
            value, position = decoder.raw_decode(text, match.start())
            yield value
        except (ValueError, RecursionError):
            position = match.start() + 1


def _statements(value: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (subject, relation, object) wherever they stand in a JSON value."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            relation = next((value[name] for name in _RELATION if name in value), None)
            said, inner = [value.get("subject"), relation, value.get("object")], list(value.values())
        else:
            said = inner = value if isinstance(value, list) else []
        match said:
            case [str(subject), str(stated), str(target)]:
                yield subject, stated, target
            case _:
                waiting += reversed(inner)


def _triplet(subject: str, relation: str, target: str) -> TextTriplet | None:
    first, second, lemma = _entity(subject), _entity(target), relation_lemma(relation)
    return TextTriplet(first, lemma, " ".join(relation_words(relation)), second) if first and second and lemma else None


def _entity(text: str) -> str:
    """Return a noun phrase without determiners, its head in the singular."""
    words = tokens(_NUMBERED.sub("", text.replace("_", " ")))
    words = [word for word in words if word not in lexicon().determiners]
    return " ".join([*words[:-1], noun_lemma(words[-1])]) if words else ""
