"""The built-in parser: from elements to (subject, relation, object) triplets.

Elements are read once from left to right. A relation waits for its object (`_Waiting`); what a participle or a preposition says it of
is decided by rules 10 to 12 of `docs/caption_annotation_rules.md`: a verb that acts takes the nearest person or animal, another verb the
nearest thing, a preposition after a verb that has its object describes the subject.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from rlip_assets.datasets.language.lexicon import lexicon
from rlip_assets.labelling.caption_parsing.elements import Action, Element, Entity, Form, Preposition, Sign, elements


@dataclass(frozen=True)
class TextTriplet:
    """A (subject, relation, object) statement of a caption.

    `subject` and `object` are noun phrases without determiners whose last word, the head, is in the singular; `relation` is the lemma of
    the verb with its prepositions ("sit on"), `surface` the same as written ("sitting on").
    """

    subject: str
    relation: str
    surface: str
    object: str


CaptionParser = Callable[[Sequence[str]], list[list[TextTriplet]]]
"""Captions to the triplets of each."""

_STATIC = frozenset(
    {"park", "sit", "stand", "lay", "lie", "hang", "dock", "perch", "seat", "gather", "place", "moor", "line"}
)
"""Participles after which "by" says where, not who."""


def parse_caption(caption: str) -> list[TextTriplet]:
    """The triplets that a caption states, each once, in the order in which they end."""
    return list(dict.fromkeys(_Reader(elements(caption)).run()))


@dataclass
class _Waiting:
    """A relation that waits for its object. `reversed`: a passive with "by", whose object acts."""

    subjects: list[Entity]
    lemma: str
    surface: str
    reversed: bool = False


@dataclass
class _Clause:
    """The current clause, as far as it has been read."""

    subjects: list[Entity] = field(default_factory=list)
    mentioned: list[Entity] = field(default_factory=list)
    last: list[Entity] = field(default_factory=list)
    action: Action | None = None
    actors: list[Entity] = field(default_factory=list)
    complete: bool = False
    """The action has an object or a prepositional phrase."""
    preposition: str = ""
    """The last bare preposition, until an action comes."""


class _Reader:
    """Reads the elements of one caption."""

    def __init__(self, found: list[Element]) -> None:
        self.found = found
        self.clause = _Clause()
        self.waiting: _Waiting | None = None
        self.answered: _Waiting | None = None
        self.triplets: list[TextTriplet] = []

    def run(self) -> list[TextTriplet]:
        for index, element in enumerate(self.found):
            if isinstance(element, Entity):
                self._entity(index, element)
            elif isinstance(element, Action):
                self._action(index, element)
            elif isinstance(element, Preposition):
                self._preposition(index, element)
            elif element is Sign.PRONOUN:
                self._pronoun()
            elif element is Sign.EACH_OTHER:
                self._each_other()
            elif element is Sign.BREAK:
                self.waiting = self.answered = None
        return self.triplets

    def _before(self, index: int) -> Element | None:
        return self.found[index - 1] if index else None

    def _say(self, waiting: _Waiting, target: Entity) -> None:
        for subject in waiting.subjects:
            first, second = (target, subject) if waiting.reversed else (subject, target)
            self.triplets.append(TextTriplet(first.text, waiting.lemma, waiting.surface, second.text))

    def _entity(self, index: int, entity: Entity) -> None:
        clause, before = self.clause, self._before(index)
        if entity.possessor:
            self.triplets.append(TextTriplet(entity.possessor.text, "have", "has", entity.text))
            clause.mentioned.append(entity.possessor)
        if self.waiting:
            self._say(self.waiting, entity)
            self.answered, self.waiting = self.waiting, None
            clause.last = [entity]
            clause.complete = True
        elif before in (Sign.AND, Sign.COMMA) and self.answered and not self._begins_clause(index):
            self._say(self.answered, entity)
            clause.last = [*clause.last, entity]
        elif before in (Sign.AND, Sign.COMMA) and not self.answered and not clause.action:
            clause.subjects = clause.last = [*clause.subjects, entity]
        elif before is Sign.AUXILIARY and clause.subjects:
            return  # "the man is a chef"
        elif isinstance(before, Entity | Preposition | Action):
            clause.last = [entity]
        else:
            self.clause = clause = _Clause([entity], last=[entity])
            self.answered = None
        clause.mentioned.append(entity)

    def _begins_clause(self, index: int) -> bool:
        """Return whether a coordinated entity is the subject of what follows ("... and a dog sitting on a bench").

        Before a preposition that is so when the entity is alive or the relation before it says a place, as its own does.
        """
        following = self.found[index + 1] if index + 1 < len(self.found) else None
        entity = self.found[index]
        if isinstance(following, Preposition) and self.answered and isinstance(entity, Entity):
            last = self.answered.lemma.rpartition(" ")[2]
            place = last in lexicon().prepositions and last not in ("with", "of", "to")
            return following.text != "of" and (place or entity.alive)
        return isinstance(following, Action) or following is Sign.AUXILIARY

    def _action(self, index: int, action: Action) -> None:
        clause = self.clause
        following = self.found[index + 1] if index + 1 < len(self.found) else None
        actors = self._actors(index, action)
        if following is Sign.TO and action.verb in lexicon().infinitive_starters:
            clause.actors = actors
            return
        clause.action, clause.actors, clause.complete = action, actors, False
        self.waiting, self.answered = _Waiting(actors, action.lemma, action.surface), None

    def _actors(self, index: int, action: Action) -> list[Entity]:
        """Return the subjects of an action."""
        clause, before = self.clause, self._before(index)
        if before is Sign.RELATIVE:
            return clause.last
        if before is Sign.AUXILIARY:
            return clause.last if self._before(index - 1) is Sign.RELATIVE else clause.subjects
        if before in (Sign.AND, Sign.COMMA, Sign.TO) and clause.actors:
            return clause.actors
        if before in (Sign.AND, Sign.COMMA, Sign.BREAK, Sign.TO) or action.form is Form.FINITE:
            return clause.subjects
        return self._nearest(action)

    def _nearest(self, action: Action) -> list[Entity]:
        """The nearest entities that can be meant by a participle."""
        clause, words = self.clause, lexicon()
        acts = action.verb in words.agentive_verbs and action.form is Form.PROGRESSIVE
        groups = [clause.last, *([entity] for entity in reversed(clause.mentioned)), clause.subjects]
        for group in groups:
            if group and all(entity.alive if acts else entity.head not in words.places for entity in group):
                return group
        return clause.last

    def _preposition(self, index: int, preposition: Preposition) -> None:
        clause, before, text = self.clause, self._before(index), preposition.text
        if isinstance(before, Action) and self.waiting:
            by_actor = text == "by" and before.form is Form.PARTICIPLE and before.verb not in _STATIC
            suffix = "" if by_actor else f" {text}"
            lemma, surface = self.waiting.lemma + suffix, self.waiting.surface + suffix
            self.waiting = _Waiting(self.waiting.subjects, lemma, surface, reversed=by_actor)
            return
        self.answered = None
        self.waiting = _Waiting(self._described(index, text), text, text)
        if clause.action is None:
            clause.preposition = text

    def _described(self, index: int, text: str) -> list[Entity]:
        """Return the subjects of a prepositional phrase."""
        clause, before = self.clause, self._before(index)
        following = self.found[index + 1] if index + 1 < len(self.found) else None
        if before is Sign.RELATIVE or (before is Sign.AUXILIARY and self._before(index - 1) is Sign.RELATIVE):
            return clause.last
        if before is Sign.AUXILIARY:
            return clause.subjects
        if text == "of":
            return clause.last
        if isinstance(following, Entity) and following.head in lexicon().body_parts:
            return clause.last
        if clause.action is not None:
            return clause.actors if clause.complete else clause.last
        someone = any(entity.alive for entity in clause.subjects)
        return clause.last if clause.preposition == "with" and not someone else clause.subjects

    def _pronoun(self) -> None:
        """ "a table with a clock on it": the pronoun points back to the subject of the clause."""
        waiting, self.waiting = self.waiting, None
        if waiting is None or not self.clause.subjects:
            return
        last = [entity for entity in self.clause.last if entity not in self.clause.subjects]
        subjects = waiting.subjects if waiting.subjects != self.clause.subjects else last
        for target in self.clause.subjects:
            if subjects:
                self._say(replace(waiting, subjects=subjects), target)

    def _each_other(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is None:
            return
        several = len(waiting.subjects) > 1
        for subject in waiting.subjects:
            for target in waiting.subjects:
                if not several or target != subject:
                    self._say(replace(waiting, subjects=[subject]), target)
