"""Pictures of a dataset split, one by one, each from its own random stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.plans import bystanders, draw_events, hico_plan
from rlip_assets.micro_world.scene_generator import compose


@dataclass(frozen=True)
class Shot:
    """A picture with its number in its split (from 0) and a random stream for what an annotator decides."""

    number: int
    picture: Picture
    annotator: Random


def shots(dataset: str, split: str, count: int, seed: int) -> Iterator[Shot]:
    """`count` pictures; picture i depends on seed, dataset, split and i alone (HICO-DET: and on the plan of its split)."""
    plan = hico_plan(split, count, seed) if dataset == "hico_det" else None
    around = bystanders(dataset)
    for number in range(count):
        stream = f"{seed}/{dataset}/{split}/{number}"
        rng = Random(stream)
        events = draw_events(dataset, rng) if plan is None else plan[number]
        yield Shot(number, compose(rng, events, around), Random(f"{stream}/annotator"))
