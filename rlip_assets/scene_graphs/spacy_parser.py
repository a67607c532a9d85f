"""Triplets from a spaCy dependency parse, for machines that have a model (an extra; the built-in parser needs none).

The dependency tree decides what belongs to what; entities, words of quantity and normal forms are those of the built-in parser, so that the
two give texts of one kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlip_assets.errors import InputError
from rlip_assets.language.lemmas import noun_lemma, verb_lemma
from rlip_assets.language.lexicon import lexicon
from rlip_assets.scene_graphs.triplets import TextTriplet

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

_SUBJECTS, _OBJECTS = ("nsubj",), ("dobj", "obj", "attr")
_CLAUSES = ("acl", "relcl", "advcl", "conj", "xcomp", "ccomp")


def open_spacy(model: str) -> tuple[Callable[[str], list[TextTriplet]], dict[str, str]]:
    """A parser on the spaCy model of this name or folder, and what identifies it: versions and a hash of its files.

    Raises:
        InputError: spaCy or the model is not installed.
    """
    try:
        import spacy
    except ImportError:
        raise InputError(
            "parsing.parser is spacy, which is not installed; `pip install -e '.[spacy]'` or set it to rules"
        ) from None
    try:
        pipeline = spacy.load(model, exclude=["ner"])
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the spaCy model {model} cannot be opened ({reason}); install it or set parsing.parser to rules"
        ) from None
    record = {
        "name": "spacy",
        "spacy": spacy.__version__,
        "model": f"{pipeline.meta['lang']}_{pipeline.meta['name']}",
        "model_version": str(pipeline.meta["version"]),
        "model_hash": _hash(pipeline.path),
    }
    return lambda caption: parse_document(pipeline(caption)), record


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
        elif token.dep_ == "prep" and token.head.pos_ in ("NOUN", "PROPN"):
            found += _of_preposition(token, [token.head], "", "")
    return list(dict.fromkeys(found))


def _of_verb(verb: Token) -> Iterator[TextTriplet]:
    """A verb with its subject and objects, and the prepositional phrases of its clause."""
    subjects = [entity for subject in _subjects(verb) for entity in _coordinated(subject)]
    passive = any(child.dep_ in ("nsubjpass", "auxpass") for child in verb.children) or verb.tag_ == "VBN"
    copula = verb.lemma_ == "be"
    lemma, surface = ("", "") if copula else (verb_lemma(verb.text.lower()), verb.text.lower())
    objects = [
        entity for child in verb.children if child.dep_ in _OBJECTS and not copula for entity in _coordinated(child)
    ]
    for subject in subjects:
        for target in objects:
            yield from _triplet(subject, lemma, surface, target)
    for child in verb.children:
        if child.dep_ == "agent" or (passive and child.dep_ == "prep" and child.lower_ == "by"):
            for actor in (entity for pobj in child.children if pobj.dep_ == "pobj" for entity in _coordinated(pobj)):
                for subject in subjects:
                    yield from _triplet(actor, lemma, surface, subject)
        elif child.dep_ == "prep":
            bare = bool(objects) or copula
            yield from _of_preposition(child, subjects, "" if bare else lemma, "" if bare else surface)


def _of_preposition(prep: Token, subjects: Sequence[Token], lemma: str, surface: str) -> Iterator[TextTriplet]:
    """A prepositional phrase said of `subjects`; "on top of" is followed to its last preposition."""
    for middle in (child for child in prep.children if child.dep_ in ("pobj", "pcomp", "prep")):
        inner = [child for child in middle.children if child.dep_ == "prep" and child.lower_ in ("of", "to")]
        words, targets = [prep.lower_], list(_coordinated(middle)) if middle.dep_ == "pobj" else []
        if middle.dep_ == "prep":
            words.append(middle.lower_)
            targets = [entity for child in middle.children if child.dep_ == "pobj" for entity in _coordinated(child)]
        elif inner and (prep.lower_, middle.lower_, inner[0].lower_) in _long_prepositions():
            words += [middle.lower_, inner[0].lower_]
            targets = [entity for child in inner[0].children if child.dep_ == "pobj" for entity in _coordinated(child)]
        text = " ".join(words)
        for subject in subjects:
            for target in targets:
                yield from _triplet(subject, f"{lemma} {text}".strip(), f"{surface} {text}".strip(), target)


def _long_prepositions() -> frozenset[tuple[str, ...]]:
    return frozenset(phrase for phrases in lexicon().long_prepositions.values() for phrase in phrases)


def _subjects(verb: Token) -> list[Token]:
    """Who a verb is said of: its own subject, the noun that it describes, or that of the clause above."""
    own = [child for child in verb.children if child.dep_ in (*_SUBJECTS, "nsubjpass")]
    if own and own[0].pos_ != "PRON":
        return own
    if verb.dep_ in ("acl", "relcl"):
        return [verb.head]
    if verb.dep_ in _CLAUSES and verb.head.pos_ in ("VERB", "AUX"):
        return _subjects(verb.head)
    return []


def _coordinated(token: Token) -> Iterator[Token]:
    """A noun and those joined to it, words of quantity replaced by what they count."""
    counted = [
        c for p in token.children if p.dep_ == "prep" and p.lower_ == "of" for c in p.children if c.dep_ == "pobj"
    ]
    if token.lemma_.lower() in lexicon().quantities and counted:
        for noun in counted:
            yield from _coordinated(noun)
    else:
        yield token
    for child in token.children:
        if child.dep_ == "conj" and child.pos_ in ("NOUN", "PROPN"):
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
