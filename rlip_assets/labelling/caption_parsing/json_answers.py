"""Triplets that a captioner gives as JSON, such as `[{"subject": "man", "relation": "riding", "object": "horse"}]` or
`[["man", "riding", "horse"]]`.

Models wrap their answers in prose or code fences and stop in the middle of a list, so every JSON value in the text is read, and where a
list is cut, its whole statements. Anything else is no statement: the key or the words before a list of three texts say whether it names
three things ("objects") or states a relation ("triplet_1").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from rlip_assets.datasets.language.lemmas import noun_lemma, relation_lemma, relation_words, tokens, verb_lemma
from rlip_assets.datasets.language.lexicon import lexicon
from rlip_assets.labelling.caption_parsing.parser import TextTriplet

_RELATION = ("relation", "predicate", "verb", "relationship")
_NUMBER = r"[\s_.#-]*\d+"
_STATEMENT_KEY = re.compile(rf"(.*[\W_])?(statement|triplet|triple)s?({_NUMBER})?")
_RELATIONS_KEY = re.compile(rf"(.*[\W_])?relation(ship)?(s|s?{_NUMBER})")
_THINGS_KEY = re.compile(rf"(.*[\W_])?(objects?|entity|entities|attributes?|tags?)({_NUMBER})?")
_NUMBER_KEY = re.compile(_NUMBER)
_QUOTED = r"""(?:"(?!\W+")[^"\n]{0,80}"|'(?!\W+')[^'\n]{0,80}')\s*"""
_KEY = re.compile(rf"({_QUOTED}):\s*\Z")
_BESIDE_NAMES = re.compile(rf"\[\s*(?:{_QUOTED},\s*)+\Z")
"""Before a value: the beginning of its list, which begins with names."""
_MARKS = r"""(?:_|[^\w"'\[\]{},])*"""
_END = re.compile(rf"{_MARKS}(```\w*)?{_MARKS}\Z")
"""What may stand between a heading and its value, code fences included."""
_HEADING = re.compile(r"""[\n.!?;"'\[\]{}]""")
"""What a heading begins after."""
_BETWEEN = frozenset(["between", "among", "about", "statements", "triplets", "triples", "relations", "relationships"])
"""Words of "Relations between the objects:", which is no heading of a list of things."""
_NUMBERED = re.compile(r"[\s._#-]*\d+$")
"""End of "man_1", "dog #2": models number what occurs twice."""
_OPENING = re.compile(r"[\[{]")


class _Kind(Enum):
    """The meaning of a list of three texts, by its place."""

    STATEMENT = auto()
    STATEMENT_OR_RELATIONS = auto()
    """A statement, or relations between things that stand elsewhere; a statement has things at both ends."""
    NOTHING = auto()
    THINGS = auto()
    """Things, as are the lists in it."""


def parse_answer(answer: str) -> list[TextTriplet]:
    """Return the triplets of an answer, each once, in its order; none where it has no JSON."""
    found = (_triplet(*statement) for kind, value in _values(answer) for statement in _statements(kind, value))
    return list(dict.fromkeys(triplet for triplet in found if triplet))


def _values(text: str) -> Iterator[tuple[_Kind, Any]]:
    """Yield the outermost JSON lists and objects of a text that are whole, and their kind."""
    decoder, position, outer, begins = json.JSONDecoder(), 0, _Kind.STATEMENT, False
    while match := _OPENING.search(text, position):
        before = text[max(0, match.start() - 200) : match.start()]
        kind = _kind_after(before, outer)
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):  # what follows is inside of it
            outer, position, begins = kind or _inside(outer), match.start() + 1, False
            continue
        follows = begins and text[position : match.start()].strip() == ","
        is_beside_names = follows or _BESIDE_NAMES.search(before) is not None
        yield kind or (_Kind.NOTHING if is_beside_names else _inside(outer)), value
        begins, position = before.rstrip().endswith("[") and _name(value) is not None, end


def _kind_after(before: str, outer: _Kind) -> _Kind | None:
    """Return the kind of a value by the key before it, in a JSON value of a kind or in prose; None without one."""
    if key := _KEY.search(before):
        return _kind(key.group(1).strip()[1:-1], outer)
    *others, last = re.findall(r"[^\W_]+", _HEADING.split(_END.sub("", before))[-1].lower()) or [""]
    if not last.endswith("s") or not _BETWEEN.isdisjoint(others):
        return None
    kind = _kind(last, _Kind.STATEMENT)
    return {_Kind.THINGS: _Kind.NOTHING, _Kind.STATEMENT_OR_RELATIONS: kind}.get(kind)


def _kind(key: str, outer: _Kind) -> _Kind:
    """Return the kind of what a key names in an object of a kind."""
    key = key.strip().lower()
    if _STATEMENT_KEY.fullmatch(key):
        return _Kind.STATEMENT
    if _RELATIONS_KEY.fullmatch(key):
        return _Kind.STATEMENT_OR_RELATIONS
    if outer is _Kind.THINGS or _THINGS_KEY.fullmatch(key):
        return _Kind.THINGS
    return outer if _NUMBER_KEY.fullmatch(key) else _Kind.NOTHING


def _inside(kind: _Kind) -> _Kind:
    """Return the kind of what is listed in a list of a kind."""
    return kind if kind is _Kind.THINGS else _Kind.STATEMENT


def _statements(kind: _Kind, value: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (subject, relation, object) wherever they stand in a JSON value."""
    waiting = [(kind, value)]
    while waiting:
        kind, value = waiting.pop()
        found: list[tuple[str, str, str]] = []
        inner: list[tuple[_Kind, Any]] = []
        if isinstance(value, dict):
            value = _lower(value)
            relation = next((value[name] for name in _RELATION if name in value), None)
            found = _stated(value.get("subject"), relation, value.get("object"))
            inner = [(_kind(key, kind), each) for key, each in value.items()]
        elif isinstance(value, list):
            if _may_state(kind, value):
                found = _stated(*value)
            inner = [(_inside(kind), each) for each in value]
            if value and _name(value[0]) is not None:  # lists after it are its relations or attributes
                inner = [(inside, each) for inside, each in inner if isinstance(each, dict)]
        yield from found
        waiting += [] if found else reversed(inner)


def _may_state(kind: _Kind, value: list[Any]) -> bool:
    """Return whether a list of a kind has the form of a statement: three parts, or three and a score."""
    if len(value) != 3 and not (len(value) == 4 and isinstance(value[3], int | float)):
        return False
    if kind is _Kind.STATEMENT_OR_RELATIONS:
        return not any(_is_relation(_name(end) or "") for end in (value[0], value[2]))
    return kind is _Kind.STATEMENT


def _is_relation(text: str) -> bool:
    """Return whether a text names a relation rather than a thing: "riding", "sits on", "in front of"."""
    words, known = relation_words(text), lexicon()
    if not words:
        return True
    verb = verb_lemma(words[0])
    return (
        not known.prepositions.isdisjoint({words[0], words[-1]})
        or (words[0].endswith("ing") and words[0] not in known.nouns_in_ing)
        or (verb in known.verbs and verb not in known.noun_like_verbs)
    )


def _stated(subject: Any, relation: Any, target: Any, _score: float = 1.0) -> list[tuple[str, str, str]]:
    """Return the statements of one or more relations between two entities; none where the parts are something else."""
    first, second, relations = _name(subject), _name(target), relation if isinstance(relation, list) else [relation]
    if first is None or second is None or not all(isinstance(each, str) for each in relations):
        return []
    return [(first, each, second) for each in relations]


def _name(value: Any) -> str | None:
    """Return the name of an entity, which is a text or an object with a name; None of anything else, "..." included."""
    name = _lower(value).get("name") if isinstance(value, dict) else value
    return name if isinstance(name, str) and any(map(str.isalnum, name)) else None


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
