"""The tables of the world agree with the official ones and with the sprites."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from rlip_assets.datasets.sources.classes import Classes, coco_names, official_table
from rlip_assets.lineage.recipe_files import recipe
from rlip_assets.micro_world import sprite_sheet, world
from rlip_assets.micro_world.plans import hico_plan
from rlip_assets.micro_world.vocabularies import hico_classes, objects365_classes, open_images_objects
from rlip_assets.micro_world.wording import FORMS, accepted

PACKAGE = Path(sprite_sheet.__file__).parent


def test_the_world_is_large_enough() -> None:
    assert len(world.COCO_CATEGORIES) >= 22
    assert len(world.HICO_VERBS) >= 14
    assert 45 <= len(world.interactions()) <= 70
    assert len({event.relation for event in world.other_events()}) >= 5


def test_ids_are_the_official_ones() -> None:
    for name, category in world.CATEGORIES.items():
        assert category.coco_id is None or coco_names()[category.coco_id] == name
    table = official_table("hico_det")
    verbs = {row["id"]: row["text"] for row in table["verbs"]}
    for item in world.interactions():
        row = table["hois"][item.hoi_id - 1]
        assert (row["verb"].replace("_", " "), row["object"].replace("_", " ")) == (item.verb, item.object)
        assert verbs[item.verb_id] == item.verb


def test_objects365_knows_more_than_coco() -> None:
    objects = objects365_classes()["objects"]
    assert len(objects) > len(world.COCO_CATEGORIES) + 10
    assert {"hat", "rabbit", "soccer", "suv", "monitor/tv"} <= set(objects)
    assert {"person", "soccer"} <= set(objects)
    assert "sports ball" not in objects


def test_open_images_calls_persons_men_women_and_boys() -> None:
    names = open_images_objects()
    assert {"Man", "Woman", "Boy"} <= set(names)
    assert "Person" not in names


@pytest.mark.parametrize("unseen", [world.unseen_rare_first(), world.unseen_nonrare_first()])
def test_unseen_classes_leave_every_verb_and_object_seen(unseen: list[int]) -> None:
    assert 10 <= len(unseen) <= 12
    seen = [item for item in world.interactions() if item.hoi_id not in unseen]
    assert {item.verb for item in seen} == set(world.HICO_VERBS)
    assert {item.object for item in seen} == set(world.hico_objects()) - {"person"}


def test_the_study_of_unseen_classes_hides_as_much_as_the_real_uc_nf() -> None:
    """There 64 % of the instances, and every instance of 45 % of the images; here as many non-rare classes as a seen rest allows."""
    unseen = set(recipe("micro_hico_unseen").unseen or ())
    assert len(unseen) == 43
    seen = [item for item in world.interactions() if (item.verb, item.object) not in unseen]
    assert {item.verb for item in seen} == set(world.HICO_VERBS)
    assert {item.object for item in seen} == set(world.hico_objects()) - {"person"}
    classes = {(item.verb, item.object) for item in world.interactions()}
    images = [
        [(event.relation, event.object) in unseen for event in events if (event.relation, event.object) in classes]
        for events in hico_plan("train", 2400, 2023)
    ]
    assert sum(map(sum, images)) / sum(map(len, images)) == pytest.approx(0.64, abs=0.02)
    assert sum(all(hidden) for hidden in images) / len(images) == pytest.approx(0.45, abs=0.03)


def test_rare_first_and_nonrare_first_are_disjoint_and_ordered_by_frequency() -> None:
    frequency = {item.hoi_id: item.frequency for item in world.interactions()}
    rare, frequent = world.unseen_rare_first(), world.unseen_nonrare_first()
    assert not set(rare) & set(frequent)
    assert max(frequency[number] for number in rare) < min(frequency[number] for number in frequent)


def test_unseen_objects_leave_every_verb_seen() -> None:
    unseen = world.unseen_objects()
    gone = {item.object for item in world.interactions() if item.hoi_id in unseen}
    left = [item for item in world.interactions() if item.hoi_id not in unseen]
    assert len(gone) == world.UNSEEN_OBJECTS
    assert not gone & {item.object for item in left}
    assert {item.verb for item in left} == set(world.HICO_VERBS)


def test_the_class_table_is_valid_and_holds_rare_classes() -> None:
    classes = Classes.model_validate(hico_classes())
    assert classes.hois is not None
    assert 8 <= len(classes.rare) <= 15
    assert set(classes.groups["visual_genome"].values()) == {"exact", "synonym", "absent"}


def test_every_relation_can_be_said_and_no_text_names_two_verbs() -> None:
    events = (*world.person_events(), *world.other_events(), *world.objects365_events())
    assert {event.relation for event in events} | set(world.SPATIAL_RELATIONS) == set(FORMS)
    texts = [text for relation in FORMS for text in accepted(relation)]
    assert len(texts) == len(set(texts))


def test_the_sheet_is_small_and_holds_every_sprite_that_is_used() -> None:
    assert (PACKAGE / "sprites.png").stat().st_size < 500_000
    names = set(json.loads((sprite_sheet.FOLDER / "sprites.json").read_text())["sprites"])
    for category in world.CATEGORIES.values():
        used = category.sprites if category.name != "person" else [f"{look}_dark_sit" for look in world.LOOKS]
        assert set(used) <= names, category.name


def test_every_sprite_is_tight_and_names_its_code_points() -> None:
    index = json.loads((PACKAGE / "sprites.json").read_text())["sprites"]
    with Image.open(PACKAGE / "sprites.png") as image:
        sheet = image.convert("RGBA")
    drawn = [name for name, sprite in index.items() if not sprite["codepoints"]]
    assert sorted(drawn) == ["bench", "dining_table", "surfboard"]
    for name, sprite in index.items():
        alpha = sheet.crop(sprite["box"]).getchannel("A").point([0] * 40 + [255] * 216)
        left, top, right, bottom = alpha.getbbox() or (0, 0, 0, 0)
        assert max(left, top, alpha.width - right, alpha.height - bottom) <= 2, name


def test_the_notice_names_font_and_licences() -> None:
    notice = (PACKAGE.parent.parent / "NOTICE").read_text()
    assert "Noto Color Emoji" in notice
    assert "SIL Open Font License, Version 1.1" in notice
    assert "Apache License, Version 2.0" in notice
