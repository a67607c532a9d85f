"""Sentences about pictures, and corpora of pictures with sentences or boxes to train the starting weights on.

The corpora draw from separate random streams: none of their images occurs in a dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image

from rlip_assets.micro_world.picture import Picture, Relation
from rlip_assets.micro_world.plans import bystanders, draw_events
from rlip_assets.micro_world.render import render
from rlip_assets.micro_world.scene_generator import compose
from rlip_assets.micro_world.vocabularies import category_text
from rlip_assets.micro_world.wording import PREPOSITIONS, noun, pick_form

SPATIAL_SHARE = 0.25  # of the captions mention where something stands


def with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def describe(picture: Picture, rng: Random) -> str:
    """One sentence with one or two relations of the picture, as a person would caption it.

    Examples: "a man is riding a horse", "a dog chases a cat and a woman is holding a cup", "a man riding a horse next to a dog".
    """
    happening = [relation for relation in picture.relations if not relation.spatial]
    placed = [relation for relation in picture.relations if relation.spatial]
    names = [noun(thing.kind, rng) for thing in picture.things]
    first = rng.choice(happening)
    partners = [other for other in happening if (other.subject, other.object) != (first.subject, first.object)]
    dice = rng.random()
    if placed and dice < SPATIAL_SHARE:
        return _with_place(first, placed, names, rng)
    if partners and dice < 0.7:
        return _two(first, rng.choice(partners), names, rng)
    return _clause(first, names, rng, full=rng.random() < 0.7)


def _predicate(relation: Relation, rng: Random, *, full: bool) -> str:
    """ "is riding", "rides" (full) or "riding"."""
    progressive, third = pick_form(relation.text, rng)
    if not full:
        return progressive
    return third if rng.random() < 0.35 else f"is {progressive}"


def _clause(relation: Relation, names: list[str], rng: Random, *, full: bool) -> str:
    subject, target = with_article(names[relation.subject]), with_article(names[relation.object])
    return f"{subject} {_predicate(relation, rng, full=full)} {target}"


def _two(first: Relation, second: Relation, names: list[str], rng: Random) -> str:
    if first.subject == second.subject:
        full = rng.random() < 0.7
        joint = rng.choice(("and", "while")) if second.text not in PREPOSITIONS else "and"
        progressive, _ = pick_form(second.text, rng)
        return f"{_clause(first, names, rng, full=full)} {joint} {progressive} {with_article(names[second.object])}"
    joint = rng.choice(("and", "and", "while"))
    full = joint == "while" or rng.random() < 0.7
    return f"{_clause(first, names, rng, full=full)} {joint} {_clause(second, names, rng, full=full)}"


def _with_place(first: Relation, placed: list[Relation], names: list[str], rng: Random) -> str:
    """A clause with "next to a dog" appended where that says something of its object; otherwise a separate clause."""
    place = rng.choice(placed)
    following = [other for other in placed if other.subject == first.object and other.object != first.subject]
    if following:
        place = rng.choice(following)
        return f"{_clause(first, names, rng, full=rng.random() < 0.7)} {pick_form(place.text, rng)[0]} {with_article(names[place.object])}"
    if rng.random() < 0.5:
        return _clause(place, names, rng, full=rng.random() < 0.7)
    return f"{_clause(first, names, rng, full=True)} and {_clause(place, names, rng, full=True)}"


def corpus_pictures(kind: str, seed: int, count: int) -> Iterator[tuple[Picture, Random]]:
    """Pictures as in COCO and Objects365, by turns, from the stream of a corpus."""
    for number in range(count):
        yield corpus_picture(kind, seed, number)


def corpus_picture(kind: str, seed: int, number: int) -> tuple[Picture, Random]:
    """Return a picture of the stream of a corpus, and the generator that goes on from it."""
    rng = Random(f"corpus/{kind}/{seed}/{number}")
    dataset = ("coco", "objects365")[number % 2]
    return compose(rng, draw_events(dataset, rng), bystanders(dataset)), rng


def caption_corpus(seed: int, count: int, captions: int = 5) -> Iterator[tuple[Image.Image, list[str]]]:
    """`count` pairs of an RGB image (128 to 160 x 128) and up to `captions` different sentences about it."""
    for picture, rng in corpus_pictures("captions", seed, count):
        yield render(picture), list(dict.fromkeys(describe(picture, rng) for _ in range(captions)))


def detection_corpus(
    seed: int, count: int, vocabulary: str = "coco"
) -> Iterator[tuple[Image.Image, npt.NDArray[np.float32], list[str]]]:
    """`count` triples of an RGB image, boxes (n, 4) float32 x1 y1 x2 y2 in pixels, and n names.

    `vocabulary` "coco" gives COCO names and leaves out what COCO does not know; "objects365" gives the texts of Objects365.
    """
    for number in range(count):
        yield annotated_image(seed, number, vocabulary)


def annotated_image(seed: int, number: int, vocabulary: str) -> tuple[Image.Image, npt.NDArray[np.float32], list[str]]:
    """Return an item of `detection_corpus`."""
    picture, _ = corpus_picture("detection", seed, number)
    named = [
        (thing.box, name)
        for thing in picture.things
        if (name := category_text(thing.category, thing.sprite, vocabulary))
    ]
    boxes = np.array([box for box, _ in named], dtype=np.float32).reshape(-1, 4)
    return render(picture), boxes, [name for _, name in named]
