"""Quality of a captioner on pictures whose relations are known, with the parser and the sampling of the lineage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from rlip_assets.datasets.language.lemmas import noun_lemma, relation_lemma
from rlip_assets.labelling.caption_parsing.parser import parse_caption
from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.plans import bystanders, draw_events
from rlip_assets.micro_world.render import render
from rlip_assets.micro_world.scene_generator import compose
from rlip_assets.micro_world.wording import NOUNS, accepted
from rlip_assets.micro_world.world import IMPLIED

if TYPE_CHECKING:
    from rlip_assets.labelling.captions.captioner import Captioner

Statement = tuple[str, str, str]


@dataclass(frozen=True)
class WordedRelation:
    """One relation of a picture: every (subject, relation, object) wording that states it. `happening`: it names an event."""

    statements: frozenset[Statement]
    happening: bool


def held_out_pictures(seed: int, count: int) -> Iterator[Picture]:
    """Pictures as in COCO and Objects365, by turns, from a random stream that no corpus and no dataset part uses."""
    for number in range(count):
        rng = Random(f"held-out-captions/{seed}/{number}")
        dataset = ("coco", "objects365")[number % 2]
        yield compose(rng, draw_events(dataset, rng), bystanders(dataset))


def worded_relations(picture: Picture) -> list[WordedRelation]:
    """The relations of a picture; what another relation implies ("on" when riding) counts as true too."""
    found = {(r.subject, r.object, r.text): not r.spatial for r in picture.relations}
    for relation in picture.relations:
        for text in IMPLIED.get(relation.text, ()):
            found.setdefault((relation.subject, relation.object, text), False)
    names = [{_entity(name) for name in NOUNS.get(thing.kind, (thing.kind,))} for thing in picture.things]
    return [
        WordedRelation(
            frozenset(
                (subject, relation_lemma(text), target)
                for subject in names[s]
                for target in names[o]
                for text in accepted(relation)
            ),
            happening,
        )
        for (s, o, relation), happening in found.items()
    ]


def measure(captioner: Captioner, seed: int, pictures: int, batch: int = 25) -> dict[str, float | int]:
    """Held-out figures of a captioner.

    Returns:
        `captions_all_true`: share of captions all of whose triplets are true (a caption without a triplet is not);
        `triplet_precision`: share of true triplets among all stated; `distinct_precision`: the same counted once an image;
        `recall`: share of events that at least one caption of their image states; `recall_first`: that the first one states.
    """
    chosen = list(held_out_pictures(seed, pictures))
    counts = dict.fromkeys(
        ("captions", "all_true", "triplets", "true", "distinct", "distinct_true", "events", "found", "first"), 0
    )
    for start in range(0, len(chosen), batch):
        part = chosen[start : start + batch]
        texts = captioner([f"held-out-{start + i}" for i in range(len(part))], [render(picture) for picture in part])
        for picture, captions in zip(part, texts, strict=True):
            _count(worded_relations(picture), captions, counts)
    return {
        "pictures": len(chosen),
        "captions_per_image": captioner.params.captions_per_image,
        "captions_all_true": counts["all_true"] / counts["captions"],
        "triplet_precision": counts["true"] / max(counts["triplets"], 1),
        "distinct_precision": counts["distinct_true"] / max(counts["distinct"], 1),
        "recall": counts["found"] / counts["events"],
        "recall_first": counts["first"] / counts["events"],
    }


def _count(relations: list[WordedRelation], captions: list[str], counts: dict[str, int]) -> None:
    every = frozenset().union(*(relation.statements for relation in relations))
    stated = [{(t.subject, t.relation, t.object) for t in parse_caption(caption)} for caption in captions]
    distinct = set().union(*stated)
    events = [relation for relation in relations if relation.happening]
    counts["captions"] += len(captions)
    counts["all_true"] += sum(bool(triplets) and triplets <= every for triplets in stated)
    counts["triplets"] += sum(map(len, stated))
    counts["true"] += sum(len(triplets & every) for triplets in stated)
    counts["distinct"] += len(distinct)
    counts["distinct_true"] += len(distinct & every)
    counts["events"] += len(events)
    counts["found"] += sum(bool(event.statements & distinct) for event in events)
    counts["first"] += sum(bool(event.statements & stated[0]) for event in events)


def _entity(name: str) -> str:
    """A noun as the parser gives it: "slice of pizza" is a pizza."""
    *front, head = name.removeprefix("slice of ").split()
    return " ".join([*front, noun_lemma(head)])
