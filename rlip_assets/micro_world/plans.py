"""Which deeds happen in which image.

HICO-DET is planned as a whole, so that the number of instances of every class is exact; everywhere else each image draws its own deeds.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from rlip_assets.micro_world.world import (
    COCO_CATEGORIES,
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
SHARES = {"classes": 0.6, "other_persons": 0.1, "animals_and_things": 0.3}
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
    rest = instances[images:]
    slots = [number for number in range(images) for _ in range(MOST_DEEDS - 1)]
    rng.shuffle(slots)
    spare = slots[len(rest) :]
    for number, deed in zip(slots, rest, strict=False):
        if deed in plan[number] and spare:
            spare.insert(0, number)
            number = spare.pop()
        plan[number].append(deed)
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
    return [_draw_deed(dataset, rng) for _ in range(rng.choice(DEEDS_PER_IMAGE))]


def _draw_deed(dataset: str, rng: Random) -> Deed:
    while True:
        if dataset == "objects365" and rng.random() < OBJECTS365_SHARE:
            return rng.choice(objects365_deeds())
        dice = rng.random()
        if dice < SHARES["classes"]:
            item = rng.choices(interactions(), weights=[item.frequency**0.5 for item in interactions()])[0]
            deed = Deed(item.verb, "person", item.object)
        elif dice < SHARES["classes"] + SHARES["other_persons"]:
            deed = rng.choice(person_deeds()[len(interactions()) :])
        else:
            deed = rng.choice(other_deeds())
        if dataset != "visual_genome" or VISUAL_GENOME_WORDING.get(deed.relation) != "absent":
            return deed


def bystanders(dataset: str) -> tuple[str, ...]:
    """Categories that stand around without a relation; HICO-DET has only those of its classes."""
    names = hico_objects() if dataset == "hico_det" else COCO_CATEGORIES
    extra = ("tent", "penguin", "flower", "camera", "hat", "duck", "pig") if dataset == "objects365" else ()
    return tuple(name for name in names if name != "person") + extra
