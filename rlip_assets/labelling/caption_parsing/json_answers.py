"""Triplets that a captioner gives as JSON, such as `[{"subject": "man", "relation": "riding", "object": "horse"}]` or
`[["man", "riding", "horse"]]`.

Models wrap their answers in prose or code fences and stop in the middle of a list, so every JSON value in the text is read, and where a
list is cut, its whole statements. Anything else is no statement: a list of three texts under a key ("objects") names three things.
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
_STATEMENT = ("statement", "triplet", "triple")
"""Keys whose list of three texts is a statement."""
_KEY = re.compile(r"""(["'])([^"'\n]{0,80})\1\s*[:,]\s*\Z|\b(objects|entities|attributes)\W{0,8}\Z""", re.IGNORECASE)
"""The key before a value, in JSON or in prose, or the text before it in a list: where the outer value is cut, it says what this one is."""
_NUMBERED = re.compile(r"[\s._#-]*\d+$")
"""End of "man_1", "dog #2": models number what occurs twice."""
_OPENING = re.compile(r"[\[{]")


def parse_answer(answer: str) -> list[TextTriplet]:
    """Return the triplets of an answer, each once, in its order; none where it has no JSON."""
    found = (_triplet(*statement) for value in _values(answer) for statement in _statements(value))
    return list(dict.fromkeys(triplet for triplet in found if triplet))


def _values(text: str) -> Iterator[Any]:
    """Yield the outermost JSON lists and objects of a text that are whole; as {key: value} where they are parts of a value that is cut."""
    decoder, position, before = json.JSONDecoder(), 0, None
    while match := _OPENING.search(text, position):
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            position = match.start() + 1
            continue
        key = _KEY.search(text[max(0, match.start() - 100) : match.start()])
        follows = _name(before) is not None and text[position : match.start()].strip() == ","
        yield {key.group(2) or key.group(3) or "" if key else "": value} if key or follows else value
        position, before = end, value


def _statements(value: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (subject, relation, object) wherever they stand in a JSON value."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            value = _lower(value)
            relation = next((value[name] for name in _RELATION if name in value), None)
            said = [value.get("subject"), relation, value.get("object")]
            inner = [
                each for key, inside in value.items() for each in ([inside] if key in _STATEMENT else _inside(inside))
            ]
        else:
            said = value if isinstance(value, list) else []
            inner = _inside(said)
        found = _stated(*said) if len(said) == 3 or (len(said) == 4 and isinstance(said[3], int | float)) else []
        yield from found
        waiting += [] if found else reversed(inner)


def _inside(value: Any) -> list[Any]:
    """Return what may hold statements in a value: of a list what it lists, but beside entities no lists, which are no statements there."""
    if not isinstance(value, list):
        return [value]
    return (
        [each for each in value if isinstance(each, dict)] if any(_name(each) is not None for each in value) else value
    )


def _stated(subject: Any, relation: Any, target: Any, _score: float = 1.0) -> list[tuple[str, str, str]]:
    """Return the statements of one or more relations between two entities; none where the parts are something else."""
    first, second, relations = _name(subject), _name(target), relation if isinstance(relation, list) else [relation]
    if first is None or second is None or not all(isinstance(each, str) for each in relations):
        return []
    return [(first, each, second) for each in relations]


def _name(value: Any) -> str | None:
    """Return the name of an entity, which is a text or an object with a name; None of anything else."""
    name = _lower(value).get("name") if isinstance(value, dict) else value
    return name if isinstance(name, str) else None


def _lower(value: dict[str, Any]) -> dict[str, Any]:
    return {key.strip().lower(): inside for key, inside in value.items()}


def _triplet(subject: str, relation: str, target: str) -> TextTriplet | None:
    first, second, lemma = _entity(subject), _entity(target), relation_lemma(relation)
    return TextTriplet(first, lemma, " ".join(relation_words(relation)), second) if first and second and lemma else None


def _entity(text: str) -> str:
    """Return a noun phrase without determiners, its head in the singular."""
    words = tokens(_NUMBERED.sub("", text.replace("_", " ")))
    words = [word for word in words if word not in lexicon().determiners]
    return " ".join([*words[:-1], noun_lemma(words[-1])]) if words else ""
