"""Wording: nouns for categories, verb forms for relations, in captions and in the Visual Genome part.

Every relation has a base text (the benchmark's own words, "sit on") and forms: pairs of progressive and third person. Any of these
texts names the relation; `accepted` lists them all.
"""

from __future__ import annotations

from random import Random

from rlip_assets.micro_world.world import DATA, VISUAL_GENOME_WORDING

NOUNS: dict[str, list[str]] = DATA["nouns"]
"""Nouns by look (for persons) or category, repeated by how common they are; a category that is missing is called by its name."""

Form = tuple[str, str]
FORMS: dict[str, tuple[Form, ...]] = {
    relation: tuple((progressive, third) for progressive, third in forms) for relation, forms in DATA["forms"].items()
}
PREPOSITIONS = frozenset({"on", "under", "next to", "behind"})


def noun(kind: str, rng: Random) -> str:
    """A noun for a look ("man") or a category ("dog")."""
    return rng.choice(NOUNS.get(kind, (kind,)))


def accepted(relation: str) -> list[str]:
    """Every text that names the relation, its base text first."""
    return list(dict.fromkeys([relation, *(text for form in FORMS[relation] for text in form)]))


def pick_form(relation: str, rng: Random) -> Form:
    """A form of the relation, the first one in about two of three cases."""
    forms = FORMS[relation]
    return forms[0] if len(forms) == 1 or rng.random() < 0.65 else rng.choice(forms[1:])


def visual_genome_predicate(relation: str, rng: Random) -> str:
    """Free-form predicate as a Visual Genome annotator would write it.

    Verbs of wording "exact" appear in base form in a quarter of the cases; verbs of wording "synonym" never do.
    """
    if VISUAL_GENOME_WORDING.get(relation) == "exact" and rng.random() < 0.25:
        return relation
    progressive, third = pick_form(relation, rng)
    predicate = third if rng.random() < 0.3 else progressive
    return predicate.capitalize() if rng.random() < 0.05 else predicate


def object_aliases() -> list[list[str]]:
    """Synonym lines for `object_alias.txt`, the canonical name first."""
    return [
        sorted(set(nouns) - {"person"}, key=nouns.index) for nouns in NOUNS.values() if len(set(nouns) - {"person"}) > 1
    ]


def relationship_aliases() -> list[list[str]]:
    """Synonym lines for `relationship_alias.txt`, the canonical predicate first."""
    return [accepted(relation) for relation in FORMS]
