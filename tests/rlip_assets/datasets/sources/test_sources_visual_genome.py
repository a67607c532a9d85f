"""Visual Genome and the steps of its cleaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlip_assets.datasets.sources.dataset_facts import DatasetFacts, read_facts
from rlip_assets.datasets.sources.vg_cleaning import (
    Aliases,
    Entity,
    Relation,
    drop_synonymous,
    keep_first,
    parse_record,
    read_aliases,
)
from rlip_assets.storage.errors import InputError

NO_ALIASES = Aliases({}, {})


def thing(number: int, names: Any, box: tuple[float, float, float, float] = (1, 2, 10, 8)) -> dict[str, Any]:
    x, y, w, h = box
    return {"object_id": number, "x": x, "y": y, "w": w, "h": h, "names": names, "synsets": []}


def link(subject: int, predicate: str, target: int) -> dict[str, Any]:
    return {"relationship_id": 1, "predicate": predicate, "subject_id": subject, "object_id": target, "synsets": []}


def test_steps_0_to_2_and_unusable_rows_are_counted() -> None:
    counts: Counter[str] = Counter()
    things = [thing(1, ["Man", "guy"]), thing(2, ["HORSE"]), thing(2, ["dog"]), thing(3, []), thing(4, [" "])]
    links = [
        link(1, "Riding", 2),
        link(1, "riding", 2),
        link(2, "riding", 1),
        link(1, "on", 3),
        link(1, "on", 77),
        link(1, " ", 2),
    ]
    entities, relations = parse_record(things, links, counts)
    assert entities == {1: Entity("man", (1, 2, 11, 10)), 2: Entity("horse", (1, 2, 11, 10))}
    assert relations == [Relation(1, "riding", 2), Relation(2, "riding", 1)]
    assert counts == {
        "objects_read": 5,
        "objects_several_names": 1,
        "objects_repeated_id": 1,
        "objects_without_name": 2,
        "relations_read": 6,
        "relations_step1_repeated": 1,
        "relations_unknown_end": 2,
        "relations_without_text": 1,
    }


def test_step_3_needs_equal_meaning_and_both_overlaps() -> None:
    boxes = {"same": (0, 0, 99, 99), "near": (0, 0, 99, 79), "far": (0, 0, 99, 60)}
    entities: dict[int | str, Entity] = {
        n: Entity(name, boxes[place])
        for n, (name, place) in enumerate(
            [("man", "same"), ("horse", "same"), ("guy", "near"), ("horse", "near"), ("man", "far")]
        )
    }
    aliases = Aliases({"guy": "man", "man": "man"}, {"ride": "ride", "riding": "ride"})
    relations = [
        Relation(0, "ride", 1),
        Relation(2, "riding", 3),  # the same up to aliases, overlaps of 0.8
        Relation(4, "ride", 1),  # subject overlap 0.61
        Relation(0, "feeds", 1),  # another predicate
        Relation(1, "ride", 0),  # the other way round
    ]
    counts: Counter[str] = Counter()
    assert drop_synonymous(entities, relations, aliases, 0.7, counts) == [relations[0], *relations[2:]]
    assert counts == {"relations_step3_synonymous": 1}
    assert drop_synonymous(entities, relations, NO_ALIASES, 0.7, Counter()) == relations
    assert drop_synonymous(entities, relations, aliases, 0.81, Counter()) == relations


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["on", "under"]), st.integers(0, 4)), max_size=30))
def test_step_3_keeps_the_first_of_each_meaning(links: list[tuple[int, str, int]]) -> None:
    entities: dict[int | str, Entity] = {n: Entity("man" if n < 3 else "dog", (0, 0, 10, 10)) for n in range(5)}
    relations = [Relation(*link) for link in dict.fromkeys(links)]
    counts: Counter[str] = Counter()
    kept = drop_synonymous(entities, relations, NO_ALIASES, 0.7, counts)
    meanings = [(entities[r.subject].name, r.predicate, entities[r.object].name) for r in kept]
    assert len(set(meanings)) == len(meanings)
    assert set(meanings) == {(entities[r.subject].name, r.predicate, entities[r.object].name) for r in relations}
    assert len(kept) + counts["relations_step3_synonymous"] == len(relations)


def test_step_4_keeps_the_first() -> None:
    relations = [Relation(0, str(n), 1) for n in range(5)]
    counts: Counter[str] = Counter()
    assert keep_first(relations, 3, counts) == relations[:3]
    assert counts == {"images_step4_truncated": 1, "relations_step4_beyond_limit": 2}
    assert keep_first(relations, 5, counts) == relations


def test_alias_files(raw: Any) -> None:
    path = raw.text("object_alias.txt", "Man, guy,male\nwoman,lady\nperson,man\n\n")
    assert read_aliases(path) == {
        "man": "man",
        "guy": "man",
        "male": "man",
        "woman": "woman",
        "lady": "woman",
        "person": "person",
    }
    assert read_aliases(raw.root / "absent.txt") == {}


def test_what_files_say_of_the_whole_dataset_is_written_beside_its_manifests(genome: Any, lineage: Any) -> None:
    """Later stages depend on that file: a raw one that changes behind it would leave them as they are."""
    lines = lineage("visual_genome")
    (genome.root / "image_data.json").unlink(missing_ok=True)
    lines.manifest()
    assert read_facts(lines.manifests / "facts.json").coco_ids is None
    genome.json("image_data.json", [{"image_id": 2, "coco_id": 7}, {"image_id": 3, "coco_id": None}, {"image_id": "x"}])
    genome.text("object_alias.txt", "man,guy\n")
    genome.text("relationship_alias.txt", "on,on top of\n")
    lines.manifest()
    assert read_facts(lines.manifests / "facts.json") == DatasetFacts(
        coco_ids={"2": "7"},
        object_aliases=[("man", "man"), ("guy", "man")],
        relation_aliases=[("on", "on"), ("on top of", "on")],
    )
    for content, reason in (
        (None, "does not exist"),
        ("{", "is no list of facts"),
        ('{"coco_ids": 1}', "is no list of facts"),
    ):
        path = lines.manifests / "facts.json"
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(InputError, match=rf"facts\.json {reason}.*run the raw_manifest stage"):
            read_facts(path)


@pytest.fixture
def genome(raw: Any) -> Any:
    graphs = [
        {
            "image_id": 2,
            "objects": [
                thing(10, ["Man"], (-5, 0, 20, 20)),
                thing(11, ["horse"], (0, 0, 40, 30)),
                thing(12, ["sky"], (50, 0, 10, 10)),
                thing(13, ["Man"], (0, 0, 15, 20)),
            ],
            "relationships": [
                link(10, "rides", 11),
                link(13, "RIDES", 11),
                link(10, "under", 12),
                link(11, "under", 10),
            ],
        },
        {"image_id": 1, "objects": [thing(20, ["man"])], "relationships": []},
    ]
    raw.json("scene_graphs.json", graphs)
    raw.text("object_alias.txt", "man,guy\n")
    raw.image("images/2.jpg")
    raw.image("VG_100K_2/1.jpg")
    return raw


def test_tables_hold_clipped_boxes_and_cleaned_relations(genome: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("visual_genome")
    figures = lines.run()
    rows = lines.rows()
    assert list(rows) == ["2", "1"]
    assert rows["2"].labels == ("man", "horse", "man")
    np.testing.assert_array_equal(rows["2"].boxes[0], np.array([0, 0, 15, 20], np.float32))
    assert rows["2"].relation == ("rides", "under")
    assert (rows["2"].subject.tolist(), rows["2"].object.tolist()) == ([0, 1], [1, 0])
    assert rows["1"].file_name == "VG_100K_2/1.jpg"
    assert figures["rules"] == {
        "boxes_clipped": 1,
        "boxes_outside": 1,
        "objects_read": 5,
        "relations_read": 4,
        "relations_step3_synonymous": 1,
        "relations_of_dropped_boxes": 1,
    }
    assert lines.classes.objects == []
    assert lines.classes.relations is None


def test_step_9_drops_relations_with_rare_texts(genome: Any, lineage: Callable[..., Any]) -> None:
    lines = lineage("visual_genome", min_relation_frequency=2)
    figures = lines.run()
    assert lines.rows()["2"].relation == ("under",)
    assert figures["rules"]["relations_step9_rare"] == 1
    assert lines.classes.relations == ["under"]
    strict = lineage("visual_genome", min_object_frequency=2)
    strict.run()
    assert strict.rows()["2"].relation == ()
    assert strict.rows()["2"].labels == ("man", "horse", "man")
    assert strict.classes.objects == ["man"]


def test_sizes_of_image_data_are_checked_against_the_files(genome: Any, lineage: Callable[..., Any]) -> None:
    sizes = [{"image_id": 2, "width": 41, "height": 30}, {"image_id": 1, "width": 40, "height": 30}]
    genome.json("image_data.json", [*sizes, {"image_id": 99, "width": 1, "height": 1}])
    lines = lineage("visual_genome")
    lines.run()
    assert [(row.image_id, row.reason) for row in lines.quarantined()] == [
        ("2", "the file has 40 x 30 pixels (annotated: 41 x 30)")
    ]


def test_a_malformed_object_is_quarantined(genome: Any, lineage: Callable[..., Any]) -> None:
    graph = {
        "image_id": 3,
        "objects": [{"object_id": 1, "x": 1, "y": 2, "w": 3, "names": ["cat"]}],
        "relationships": [],
    }
    genome.json("scene_graphs.json", [graph])
    genome.image("images/3.jpg")
    lines = lineage("visual_genome")
    lines.run()
    (row,) = lines.quarantined()
    assert row.reason.startswith("objects[0] has no 'h' ({'object_id': 1")
    assert row.reason.endswith("; scene_graphs.json row 0)")
