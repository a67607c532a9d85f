"""From words to elements: entities, actions, prepositions and the small words that steer how they combine.

A caption has a narrow grammar, so no tagger is needed: closed word classes come from the lexicon, and a word of an open class is a
verb only where its form and its neighbours say so ("a man rides a horse", but "a bus stop", "a building", "a flying kite").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from rlip_assets.datasets.language.lemmas import is_plural, noun_lemma, tokens, verb_lemma
from rlip_assets.datasets.language.lexicon import lexicon


class Sign(Enum):
    """Elements that carry no content."""

    AND = auto()
    COMMA = auto()
    BREAK = auto()  # full stop, "while", "as": a new clause may begin
    RELATIVE = auto()
    AUXILIARY = auto()
    TO = auto()  # of an infinitive
    EACH_OTHER = auto()
    PRONOUN = auto()


@dataclass(frozen=True)
class Entity:
    """A noun phrase. `text`: its words without determiner, the head (last word) in the singular."""

    text: str
    possessor: Entity | None = None
    mine: bool = False
    """Said with a possessive pronoun ("its mouth")."""

    @property
    def head(self) -> str:
        """The noun itself, singular."""
        return self.text.rpartition(" ")[2]

    @property
    def alive(self) -> bool:
        """Return whether it is a person or an animal, which a "hot dog" is not."""
        words = lexicon()
        return self.head in words.animate and tuple(self.text.split()[-2:]) not in words.fixed_compounds


class Form(Enum):
    """The form of a verb in its clause."""

    PROGRESSIVE = auto()
    PARTICIPLE = auto()  # "parked", "ridden"
    FINITE = auto()  # "rides", "ride", "rode"


@dataclass(frozen=True)
class Action:
    """A verb, or a verb with a light object ("give food to"). `surface`: as written; `lemma`: normal form."""

    lemma: str
    surface: str
    form: Form

    @property
    def verb(self) -> str:
        """The verb alone."""
        return self.lemma.partition(" ")[0]


@dataclass(frozen=True)
class Preposition:
    """One or several words, articles dropped."""

    text: str


Element = Entity | Action | Preposition | Sign


def elements(caption: str) -> list[Element]:
    """The elements of one caption, in order."""
    return _look_through(_Chunker(_joined(tokens(caption))).run())


def _joined(words: list[str]) -> list[str]:
    """ "close up" is one word of quantity."""
    text = " ".join(words).replace("close up of", "close-up of").replace("close - up", "close-up")
    return text.split(" ") if text else []


class _Chunker:
    """One pass over the words, with the noun phrase under construction as the only state."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.lexicon = lexicon()
        self.found: list[Element] = []
        self.phrase: list[str] = []
        self.after_determiner = False
        self.mine = False
        self.possessor: Entity | None = None

    def run(self) -> list[Element]:
        position = 0
        while position < len(self.words):
            position += self._step(position)
        self._close()
        return self.found

    def _step(self, i: int) -> int:
        """Consume the words at `i`; returns how many."""
        words, word = self.lexicon, self.words[i]
        if any(self._matched(i, phrase) for phrase in words.reciprocals.get(word, ())):
            return self._add(Sign.EACH_OTHER, 2)
        if action := self._verb_phrase(i):
            return self._add(*action)
        if preposition := self._long_preposition(i):
            return self._add(*preposition)
        if word == "'s":
            return self._possessive(i)
        if word in (".", ";") or word in words.clause_conjunctions:
            return self._add(Sign.BREAK, 1)
        if word in words.conjunctions or word == ",":
            if self.phrase and self.phrase[-1] in words.colours and self._word(i + 1) in words.colours:
                return 1  # "a black and white cat" is one cat
            return self._add(Sign.COMMA if word == "," else Sign.AND, 1)
        if word in words.relatives and (word != "that" or self.phrase or self._last_is(Entity)):
            return self._add(Sign.RELATIVE, 1)
        if word in words.auxiliaries:
            return self._auxiliary(i)
        if word in words.determiners:
            return self._determiner(word)
        if word in words.pronouns:
            return self._add(Sign.PRONOUN, 1)
        if word == "to" and self._is_base_verb(i + 1):
            return self._add(Sign.TO, 1)
        if word in words.prepositions:
            return self._add(Preposition(word), 1)
        if word in words.adverbs:
            return 1
        if form := self._verb_form(i):
            return self._add(Action(verb_lemma(word), word, form), 1)
        self.phrase.append(word)
        return 1

    def _add(self, element: Element, count: int) -> int:
        self._close()
        last = self.found[-1] if self.found else None
        if isinstance(element, Preposition) and isinstance(last, Preposition):
            self.found[-1] = Preposition(f"{last.text} {element.text}")
        else:
            self.found.append(element)
        return count

    def _close(self) -> None:
        """End the noun phrase under construction."""
        if self.phrase:
            *front, head = self.phrase
            text = " ".join([*front, noun_lemma(head)])
            self.found.append(Entity(text, self.possessor, self.mine))
            self.possessor = None
        self.phrase, self.after_determiner, self.mine = [], False, False

    def _determiner(self, word: str) -> int:
        self._close()
        self.after_determiner, self.mine = True, word in self.lexicon.possessives
        return 1

    def _possessive(self, i: int) -> int:
        """ "a man's hat": the man is kept with the hat; "a man's riding" is an auxiliary."""
        if self._word(i + 1).endswith("ing") and self._word(i + 1) not in self.lexicon.nouns_in_ing:
            return self._add(Sign.AUXILIARY, 1)
        self._close()
        if self._last_is(Entity):
            owner = self.found.pop()
            assert isinstance(owner, Entity)
            self.possessor = owner
        self.after_determiner = True
        return 1

    def _auxiliary(self, i: int) -> int:
        if verb_lemma(self.words[i]) != "have":
            return self._add(Sign.AUXILIARY, 1)
        following = self._next_content(i + 1)
        perfect = following in self.lexicon.auxiliaries or (
            following.endswith("ed") and verb_lemma(following) in self.lexicon.verbs
        )
        return self._add(Sign.AUXILIARY if perfect else Action("have", self.words[i], Form.FINITE), 1)

    def _word(self, i: int) -> str:
        return self.words[i] if i < len(self.words) else ""

    def _next_content(self, i: int) -> str:
        """The next word that is no adverb."""
        while i < len(self.words) and self.words[i] in self.lexicon.adverbs:
            i += 1
        return self._word(i)

    def _last_is(self, kind: type | Sign) -> bool:
        if not self.found:
            return False
        return self.found[-1] is kind if isinstance(kind, Sign) else isinstance(self.found[-1], kind)

    def _verb_phrase(self, i: int) -> tuple[Action, int] | None:
        """A light-object phrase at `i`: "giving food to", "takes a picture of", "has on"."""
        verb = verb_lemma(self.words[i])
        for phrase in self.lexicon.verb_phrases.get(verb, ()):
            if used := self._matched(i + 1, phrase[1:]):
                form = Form.PROGRESSIVE if self.words[i].endswith("ing") else Form.FINITE
                return Action(" ".join(phrase), " ".join((self.words[i], *phrase[1:])), form), used + 1
        return None

    def _long_preposition(self, i: int) -> tuple[Preposition, int] | None:
        for phrase in self.lexicon.long_prepositions.get(self.words[i], ()):
            if used := self._matched(i, phrase):
                return Preposition(" ".join(phrase)), used
        return None

    def _matched(self, i: int, phrase: tuple[str, ...]) -> int:
        """Return the number of words from `i` on that spell `phrase`, articles inside allowed; 0 if they do not."""
        start = i
        for expected in phrase:
            while i > start and self._word(i) in ("a", "an", "the"):
                i += 1
            if self._word(i) != expected:
                return 0
            i += 1
        return i - start

    def _is_base_verb(self, i: int) -> bool:
        word = self._word(i)
        return word in self.lexicon.verbs and verb_lemma(word) == word

    def _verb_form(self, i: int) -> Form | None:
        """The form in which the word at `i` is a verb, or None if it belongs to a noun phrase."""
        word, words = self.words[i], self.lexicon
        lemma, following = verb_lemma(word), self._next_content(i + 1)
        if self._last_is(Sign.TO) and not self.phrase:
            return Form.FINITE
        if self.after_determiner and not self.phrase:
            return None  # "a flying kite", "the parked cars", "a watch"
        if word.endswith("ing") and len(word) > 4:
            return self._progressive(word, lemma, following)
        if lemma not in words.verbs or word in words.adjectives_in_ed:
            return None
        if word != lemma and not word.endswith("s"):
            return self._past(following)
        return Form.FINITE if self._agrees(word, lemma, following) else None

    def _starts_argument(self, word: str) -> bool:
        """Return whether `word` begins what follows a verb: its object, a preposition, or the end of the clause."""
        words = self.lexicon
        closed = (words.determiners, words.prepositions, words.pronouns, words.conjunctions, words.clause_conjunctions)
        return not word or word in (",", ".", ";") or any(word in group for group in closed)

    def _progressive(self, word: str, lemma: str, following: str) -> Form | None:
        known = lemma in self.lexicon.verbs
        someone = bool(self.phrase) and noun_lemma(self.phrase[-1]) in self.lexicon.animate
        if word in self.lexicon.nouns_in_ing and not (known and (someone or self._last_is(Sign.AUXILIARY))):
            return None  # a "washing machine", but "two kids washing horses" and "is washing a dog"
        if not self.phrase and (self._last_is(Action) or self._last_is(Preposition)):
            return Form.PROGRESSIVE if self._starts_argument(following) and known else None  # "wearing running shoes"
        return Form.PROGRESSIVE if known or self._starts_argument(following) else None

    def _past(self, following: str) -> Form | None:
        """Participle before a preposition or the end ("a car parked on", "horses ridden"), past tense before an object."""
        words = self.lexicon
        if not (self.phrase or self.found):
            return None
        if self._last_is(Sign.AUXILIARY) and not self.phrase:
            return Form.PARTICIPLE
        if (
            following in words.prepositions
            or not following
            or following in (",", ".")
            or following in words.conjunctions
        ):
            return Form.PARTICIPLE
        return Form.FINITE if self.phrase and (following in words.determiners or following in words.pronouns) else None

    def _agrees(self, word: str, lemma: str, following: str) -> bool:
        """Return whether a base form or third person agrees with the noun before it and is likelier a verb than a noun."""
        words = self.lexicon
        noun_like = lemma in words.noun_like_verbs
        before_object = following in words.determiners or following in words.pronouns
        if not self.phrase:
            if self._last_is(Sign.RELATIVE):
                return True
            return self._last_is(Sign.AND) and word != lemma and (before_object or not noun_like)
        last = self.phrase[-1]
        someone = noun_lemma(last) in words.animate
        if word == lemma:
            if not is_plural(last):
                return False
            return before_object or (self._starts_argument(following) and (someone or not noun_like)) or someone
        if is_plural(last) and noun_lemma(last) != last:
            return False
        return before_object or not noun_like or (someone and following != "")


def _look_through(found: list[Element]) -> list[Element]:
    """Drop words of quantity before "of", and prepositional phrases that tell a circumstance ("in the background")."""
    words = lexicon()
    result: list[Element] = []
    i = 0
    while i < len(found):
        element = found[i]
        following = found[i + 1] if i + 1 < len(found) else None
        of_follows = isinstance(following, Preposition) and following.text == "of"
        if isinstance(element, Entity) and of_follows and element.head in words.quantities and i + 2 < len(found):
            i += 2
            continue
        circumstance = isinstance(element, Entity) and element.head in words.circumstances and not of_follows
        if circumstance and result and isinstance(result[-1], Preposition):
            result.pop()
            i += 1
            continue
        result.append(element)
        i += 1
    return result
