"""Which deeds happen in which image.

HICO-DET is planned as a whole, so that the number of instances of every class is exact; everywhere else each image draws its own deeds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

from rlip_assets.micro_world.deeds import goes_with
from rlip_assets.micro_world.world import (
    COCO_CATEGORIES,
    HICO_VERBS,
    RARE_BELOW,
    VISUAL_GENOME_WORDING,
    Deed,
    Interaction,
    hico_objects,
    interactions,
    objects365_deeds,
    other_deeds,
    person_deeds,
)

DEEDS_PER_IMAGE = (1, 1, 1, 2, 2, 2, 2, 3, 3)
MOST_DEEDS = 3
LEAST_TEST_INSTANCES = 5
REFERENCE_TRAIN = 2400
TOGETHER = 0.6  # how often a further deed is chosen to share a person or an object with the first
LOOK_AHEAD = 20
SHARES = {"classes": 0.6, "other_persons": 0.1, "animals_and_things": 0.3}
V_COCO_CLASSES = 0.75  # of the deeds in V-COCO images; the others are the other deeds of persons
OBJECTS365_SHARE = 0.25  # of the deeds in Objects365 images that need a category of Objects365 alone
Plan = list[list[Deed]]


def train_instances(item: Interaction, images: int) -> int:
    """Instances of a class in a training split of `images`; a rare class stays rare at any size."""
    if item.frequency < RARE_BELOW:
        return item.frequency
    return max(RARE_BELOW, round(item.frequency * images / REFERENCE_TRAIN))


def test_instances(item: Interaction, images: int) -> int:
    """Instances of a class in a test split of `images`: a flatter distribution, at least five."""
    return max(LEAST_TEST_INSTANCES, round(0.72 * item.frequency**0.75 * images / 600))


def _deal(instances: list[Deed], images: int, rng: Random) -> Plan:
    """Spread instances over images, one to three each, no deed twice in an image where that can be helped."""
    if not images <= len(instances) <= MOST_DEEDS * images:
        raise ValueError(
            f"{len(instances)} instances do not fit {images} images with 1 to {MOST_DEEDS} each; change the number of images"
        )
    rng.shuffle(instances)
    plan: Plan = [[deed] for deed in instances[:images]]
    slots = [number for number in range(images) for _ in range(MOST_DEEDS - 1)]
    rng.shuffle(slots)
    for deed in instances[images:]:
        nearby = range(len(slots) - 1, max(-1, len(slots) - 1 - LOOK_AHEAD), -1)
        fitting = [place for place in nearby if deed not in plan[slots[place]]]
        if rng.random() < TOGETHER:
            fitting = [place for place in fitting if goes_with(plan[slots[place]][0], deed)] or fitting
        plan[slots.pop(fitting[0] if fitting else -1)].append(deed)
    return plan


def hico_plan(split: str, images: int, seed: int) -> Plan:
    """Deeds of every image of HICO-DET train or test; surplus images repeat the most frequent classes."""
    count: Callable[[Interaction, int], int] = train_instances if split == "train" else test_instances
    instances = [Deed(item.verb, "person", item.object) for item in interactions() for _ in range(count(item, images))]
    frequent = sorted(interactions(), key=lambda item: (-item.frequency, item.hoi_id))[:30]
    for number in range(images - len(instances)):
        item = frequent[number % len(frequent)]
        instances.append(Deed(item.verb, "person", item.object))
    return _deal(instances, images, Random(f"{seed}/hico_det/{split}/plan"))


def draw_deeds(dataset: str, rng: Random) -> list[Deed]:
    """Deeds of one image of any part but HICO-DET."""
    deeds = [_draw_deed(dataset, rng)]
    for _ in range(rng.choice(DEEDS_PER_IMAGE) - 1):
        deeds.append(_companion(dataset, deeds[0], rng) if rng.random() < TOGETHER else _draw_deed(dataset, rng))
    return deeds


def _companion(dataset: str, first: Deed, rng: Random) -> Deed:
    """A deed with the object of the first, or one for a free hand, or any."""
    sharing = [deed for deed in _possible(dataset) if deed.object == first.object and goes_with(first, deed)]
    if sharing and rng.random() < 0.5:
        return rng.choice(sharing)
    drawn = [_draw_deed(dataset, rng) for _ in range(LOOK_AHEAD)]
    return next((deed for deed in drawn if goes_with(first, deed)), drawn[0])


@cache
def _possible(dataset: str) -> tuple[Deed, ...]:
    deeds = person_deeds() if dataset == "v_coco" else (*person_deeds(), *other_deeds())
    return tuple(deed for deed in deeds if _happens_in(dataset, deed))


def _happens_in(dataset: str, deed: Deed) -> bool:
    return dataset != "visual_genome" or VISUAL_GENOME_WORDING.get(deed.relation) != "absent"


def _draw_deed(dataset: str, rng: Random) -> Deed:
    """V-COCO is about persons alone; Objects365 has deeds of its own; Visual Genome lacks some verbs."""
    while True:
        dice = rng.random()
        if dataset == "objects365" and rng.random() < OBJECTS365_SHARE:
            deed = rng.choice(objects365_deeds())
        elif dice < SHARES["classes"] or (dataset == "v_coco" and dice < V_COCO_CLASSES):
            deed = _draw_class(rng)
        elif dice < SHARES["classes"] + SHARES["other_persons"] or dataset == "v_coco":
            deed = rng.choice(person_deeds()[len(interactions()) :])
        else:
            deed = rng.choice(other_deeds())
        if _happens_in(dataset, deed):
            return deed


def _draw_class(rng: Random) -> Deed:
    """A verb, then one of its objects, each by the square root of its frequency: the tail is longer than in HICO-DET."""
    verbs, weights = _verb_weights()
    verb = rng.choices(verbs, weights)[0]
    nouns = HICO_VERBS[verb][1]
    noun = rng.choices(list(nouns), [frequency**0.5 for _, frequency in nouns.values()])[0]
    return Deed(verb, "person", noun)


@cache
def _verb_weights() -> tuple[list[str], list[float]]:
    totals = {verb: sum(frequency for _, frequency in nouns.values()) for verb, (_, nouns) in HICO_VERBS.items()}
    return list(totals), [total**0.5 for total in totals.values()]


def bystanders(dataset: str) -> tuple[str, ...]:
    """Categories that stand around without a relation; HICO-DET has only those of its classes."""
    names = hico_objects() if dataset == "hico_det" else COCO_CATEGORIES
    extra = ("tent", "penguin", "flower", "camera", "hat", "duck", "pig") if dataset == "objects365" else ()
    return tuple(name for name in names if name != "person") + extra
