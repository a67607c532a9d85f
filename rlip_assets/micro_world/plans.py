"""The plan of a dataset: which events happen in which image.

HICO-DET is planned as a whole, so that the number of instances of every class is exact; everywhere else each image draws its own events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from random import Random

from rlip_assets.micro_world.relation_drawing import goes_with
from rlip_assets.micro_world.world import (
    COCO_CATEGORIES,
    HICO_VERBS,
    RARE_BELOW,
    VISUAL_GENOME_WORDING,
    Event,
    Interaction,
    hico_objects,
    interactions,
    objects365_events,
    other_events,
    person_events,
)

EVENTS_PER_IMAGE = (1, 1, 1, 2, 2, 2, 2, 3, 3)
MOST_EVENTS = 3
LEAST_TEST_INSTANCES = 5
REFERENCE_TRAIN = 2400
TOGETHER = 0.6  # how often a further event is chosen to share a person or an object with the first
LOOK_AHEAD = 20
SHARES = {"classes": 0.6, "other_persons": 0.1, "animals_and_things": 0.3}
V_COCO_CLASSES = 0.75  # of the events in V-COCO images; the others are the other events of persons
OBJECTS365_SHARE = 0.25  # of the events in Objects365 images that need a category of Objects365 alone
Plan = list[list[Event]]


def train_instances(item: Interaction, images: int) -> int:
    """Instances of a class in a training split of `images`; a rare class stays rare at any size."""
    if item.frequency < RARE_BELOW:
        return item.frequency
    return max(RARE_BELOW, round(item.frequency * images / REFERENCE_TRAIN))


def test_instances(item: Interaction, images: int) -> int:
    """Instances of a class in a test split of `images`: a flatter distribution, at least five."""
    return max(LEAST_TEST_INSTANCES, round(0.72 * math.pow(item.frequency, 0.75) * images / 600))


def _deal(instances: list[Event], images: int, rng: Random) -> Plan:
    """Spread instances over images, one to three each, no event twice in an image where that can be helped."""
    if not images <= len(instances) <= MOST_EVENTS * images:
        raise ValueError(
            f"{len(instances)} instances do not fit {images} images with 1 to {MOST_EVENTS} each; change the number of images"
        )
    rng.shuffle(instances)
    plan: Plan = [[event] for event in instances[:images]]
    slots = [number for number in range(images) for _ in range(MOST_EVENTS - 1)]
    rng.shuffle(slots)
    for event in instances[images:]:
        nearby = range(len(slots) - 1, max(-1, len(slots) - 1 - LOOK_AHEAD), -1)
        fitting = [place for place in nearby if event not in plan[slots[place]]]
        if rng.random() < TOGETHER:
            fitting = [place for place in fitting if goes_with(plan[slots[place]][0], event)] or fitting
        plan[slots.pop(fitting[0] if fitting else -1)].append(event)
    return plan


def hico_plan(split: str, images: int, seed: int) -> Plan:
    """Events of every image of HICO-DET train or test; surplus images repeat the most frequent classes."""
    count: Callable[[Interaction, int], int] = train_instances if split == "train" else test_instances
    instances = [Event(item.verb, "person", item.object) for item in interactions() for _ in range(count(item, images))]
    frequent = sorted(interactions(), key=lambda item: (-item.frequency, item.hoi_id))[:30]
    for number in range(images - len(instances)):
        item = frequent[number % len(frequent)]
        instances.append(Event(item.verb, "person", item.object))
    return _deal(instances, images, Random(f"{seed}/hico_det/{split}/plan"))


def draw_events(dataset: str, rng: Random) -> list[Event]:
    """Events of one image of any part but HICO-DET."""
    events = [_draw_event(dataset, rng)]
    for _ in range(rng.choice(EVENTS_PER_IMAGE) - 1):
        events.append(_companion(dataset, events[0], rng) if rng.random() < TOGETHER else _draw_event(dataset, rng))
    return events


def _companion(dataset: str, first: Event, rng: Random) -> Event:
    """A event with the object of the first, or one for a free hand, or any."""
    sharing = [event for event in _possible(dataset) if event.object == first.object and goes_with(first, event)]
    if sharing and rng.random() < 0.5:
        return rng.choice(sharing)
    drawn = [_draw_event(dataset, rng) for _ in range(LOOK_AHEAD)]
    return next((event for event in drawn if goes_with(first, event)), drawn[0])


@cache
def _possible(dataset: str) -> tuple[Event, ...]:
    events = person_events() if dataset == "v_coco" else (*person_events(), *other_events())
    return tuple(event for event in events if _happens_in(dataset, event))


def _happens_in(dataset: str, event: Event) -> bool:
    return dataset != "visual_genome" or VISUAL_GENOME_WORDING.get(event.relation) != "absent"


def _draw_event(dataset: str, rng: Random) -> Event:
    """V-COCO is about persons alone; some events occur in Objects365 alone; Visual Genome lacks some verbs."""
    while True:
        dice = rng.random()
        if dataset == "objects365" and rng.random() < OBJECTS365_SHARE:
            event = rng.choice(objects365_events())
        elif dice < SHARES["classes"] or (dataset == "v_coco" and dice < V_COCO_CLASSES):
            event = _draw_class(rng)
        elif dice < SHARES["classes"] + SHARES["other_persons"] or dataset == "v_coco":
            event = rng.choice(person_events()[len(interactions()) :])
        else:
            event = rng.choice(other_events())
        if _happens_in(dataset, event):
            return event


def _draw_class(rng: Random) -> Event:
    """A verb, then one of its objects, each by the square root of its frequency: the tail is longer than in HICO-DET."""
    verbs, weights = _verb_weights()
    verb = rng.choices(verbs, weights)[0]
    nouns = HICO_VERBS[verb][1]
    noun = rng.choices(list(nouns), [frequency**0.5 for _, frequency in nouns.values()])[0]
    return Event(verb, "person", noun)


@cache
def _verb_weights() -> tuple[list[str], list[float]]:
    totals = {verb: sum(frequency for _, frequency in nouns.values()) for verb, (_, nouns) in HICO_VERBS.items()}
    return list(totals), [total**0.5 for total in totals.values()]


def bystanders(dataset: str) -> tuple[str, ...]:
    """Categories that stand around without a relation; HICO-DET has only those of its classes."""
    names = hico_objects() if dataset == "hico_det" else COCO_CATEGORIES
    extra = ("tent", "penguin", "flower", "camera", "hat", "duck", "pig") if dataset == "objects365" else ()
    return tuple(name for name in names if name != "person") + extra
