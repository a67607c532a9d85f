"""Scenes show what they are told to show, nothing else, and always the same."""

from __future__ import annotations

from collections import defaultdict
from random import Random

import numpy as np
import pytest

from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.plans import bystanders, hico_plan
from rlip_assets.micro_world.render import encode_jpeg, render
from rlip_assets.micro_world.scene_generator import compose
from rlip_assets.micro_world.shots import shots
from rlip_assets.micro_world.world import Event, interactions, objects365_events, other_events, person_events

EVENTS = sorted({*person_events(), *other_events(), *objects365_events()})
AROUND = bystanders("coco")


def events_of(picture: Picture) -> list[Event]:
    return sorted(picture.event(relation) for relation in picture.relations if not relation.spatial)


@pytest.mark.parametrize(
    "event", EVENTS, ids=lambda event: f"{event.subject}-{event.relation}-{event.object}".replace(" ", "_")
)
def test_every_event_is_drawn_inside_the_canvas_and_alone(event: Event) -> None:
    for seed in range(4):
        picture = compose(Random(f"{event}/{seed}"), [event], AROUND)
        assert events_of(picture) == [event]
        assert picture.width in range(128, 161)
        assert picture.height == 128
        for thing in picture.things:
            x0, y0, x1, y1 = thing.box
            assert 0 <= x0 < x1 <= picture.width
            assert 0 <= y0 < y1 <= picture.height
            assert max(x1 - x0, y1 - y0) >= 9, thing.sprite
        relation = picture.relations[0]
        assert max(picture.things[relation.subject].width, picture.things[relation.subject].height) >= 15


def test_many_events_all_happen_exactly_once() -> None:
    for seed in range(150):
        rng = Random(f"many/{seed}")
        events = sorted(rng.choice(EVENTS) for _ in range(3))
        assert events_of(compose(rng, list(events), AROUND)) == events


def test_a_picture_has_three_to_eight_boxes_as_a_rule() -> None:
    counts = [len(shot.picture.things) for shot in shots("coco", "train", 200, 1)]
    assert max(counts) <= 9
    assert sum(3 <= count <= 8 for count in counts) > 0.8 * len(counts)


def test_neither_labels_nor_touching_boxes_tell_the_relation() -> None:
    relations: dict[str, set[str]] = defaultdict(set)
    touching_without: set[str] = set()
    for shot in shots("hico_det", "train", 600, 1):
        picture = shot.picture
        happening = {(r.subject, r.object): r.text for r in picture.relations if not r.spatial}
        for i, person in enumerate(picture.things):
            for j, thing in enumerate(picture.things):
                if person.category != "person" or thing.category == "person":
                    continue
                if (i, j) in happening:
                    relations[thing.category].add(happening[i, j])
                elif abs(person.centre[0] - thing.centre[0]) < (person.width + thing.width) / 2 and (
                    abs(person.centre[1] - thing.centre[1]) < (person.height + thing.height) / 2
                ):
                    touching_without.add(thing.category)
    assert {"ride", "walk", "push"} <= relations["bicycle"]
    assert {"walk", "feed", "pet", "chase"} <= relations["dog"]
    assert {"ride", "stand on", "carry"} <= relations["skateboard"]
    assert sum(len(texts) >= 2 for texts in relations.values()) >= 16
    assert len(touching_without) >= 22


def test_things_take_part_in_several_relations() -> None:
    shared_subject = shared_object = 0
    for shot in shots("coco", "train", 200, 3):
        happening = [relation for relation in shot.picture.relations if not relation.spatial]
        shared_subject += len({relation.subject for relation in happening}) < len(happening)
        shared_object += len({relation.object for relation in happening}) < len(happening)
    assert shared_subject >= 20
    assert shared_object >= 10


def test_spatial_relations_hold_for_the_boxes() -> None:
    seen = 0
    for shot in shots("coco", "train", 100, 2):
        things = shot.picture.things
        texts = {(r.subject, r.object): r.text for r in shot.picture.relations if r.spatial}
        for (i, j), text in texts.items():
            one, two = things[i], things[j]
            seen += 1
            if text == "next to":
                assert texts[j, i] == "next to"
                assert abs(one.y + one.height - two.y - two.height) <= 8
            else:
                assert one.y + one.height < two.y + two.height
                assert one.depth < two.depth
    assert seen > 50


def test_a_box_is_where_the_sprite_is() -> None:
    event = Event("ride", "person", "elephant")
    picture = compose(Random("tight"), [event], AROUND)
    elephant = next(thing for thing in picture.things if thing.category == "elephant")
    pixels = np.asarray(render(picture), dtype=int)
    x0, y0, x1, y1 = (int(value) for value in elephant.box)
    inside = pixels[y0:y1, x0:x1]
    grey = (np.ptp(inside, axis=2) < 12) & (inside.mean(axis=2) > 120) & (inside.mean(axis=2) < 215)
    assert grey.mean() > 0.3
    assert grey[:, :2].any() or grey[:, -2:].any()


def test_the_same_seed_draws_the_same_bytes_whatever_was_drawn_before() -> None:
    alone = [encode_jpeg(render(shot.picture)) for shot in shots("coco", "train", 3, 9)]
    list(shots("objects365", "train", 5, 9))
    again = [encode_jpeg(render(shot.picture)) for shot in shots("coco", "train", 6, 9)][:3]
    assert alone == again
    assert alone != [encode_jpeg(render(shot.picture)) for shot in shots("coco", "train", 3, 10)]


@pytest.mark.parametrize(("split", "images"), [("train", 400), ("train", 2400), ("test", 200), ("test", 600)])
def test_the_plan_gives_every_class_its_instances(split: str, images: int) -> None:
    plan = hico_plan(split, images, 7)
    assert len(plan) == images
    assert all(1 <= len(events) <= 3 for events in plan)
    counts = {
        item: sum(events.count(Event(item.verb, "person", item.object)) for events in plan) for item in interactions()
    }
    rare = [item for item in interactions() if item.frequency < 10]
    if split == "test":
        assert min(counts.values()) >= 5
    else:
        assert all(counts[item] == item.frequency for item in rare)
        assert all(counts[item] >= 10 for item in interactions() if item not in rare)


def test_a_plan_that_cannot_be_dealt_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 50 images"):
        hico_plan("train", 50, 7)
