"""Matching captions to boxes: words instead of substrings, every pair once, yields that add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlip_assets.datasets.scenes import make_scene, scene_hash
from rlip_assets.datasets.sources.classes import coco_names, official_table
from rlip_assets.labelling.candidates import ClassTriplet, candidate_stage, candidates_of, match_triplets, most_frequent
from rlip_assets.labelling.caption_parsing.class_matching import ClassMatcher, names_of
from rlip_assets.labelling.label_tables import CandidateRow, TripletRow, read_rows, write_rows
from rlip_assets.labelling.synonyms import read_synonyms
from rlip_assets.lineage.params.labels import CandidateParams
from rlip_assets.storage.errors import DataError, InputError
from tests.support.label_factory import Log, content, context, draw_bucket, make_params, write_bucket, write_classes

COCO = list(coco_names().values())
PARAMS = CandidateParams()


def coco_matcher() -> ClassMatcher:
    return ClassMatcher(COCO, read_synonyms(("coco",)))


def published_match(text: str, present: list[str]) -> str | None:
    """The published rule: substring of the phrase, the last class wins."""
    synonyms = read_synonyms(("coco",))
    matched = [name for name in present if any(noun in text.lower() for noun in (name, *synonyms.get(name, ())))]
    return matched[-1] if matched else None


@pytest.mark.parametrize(
    ("text", "present", "substring", "words"),
    [
        ("the red carpet", ["car"], "car", None),
        ("a business man", ["person", "bus"], "bus", "person"),
        ("a woman", ["person", "dining table"], "person", "person"),
        ("fresh vegetables", ["dining table"], "dining table", None),
        ("a hot dog", ["dog"], "dog", None),
        ("a hot dog", ["hot dog", "dog"], "dog", "hot dog"),
        ("a teddy bear", ["teddy bear", "bear"], "bear", "teddy bear"),
        ("a manhole", ["person"], "person", None),
        ("cattle", ["cat", "cow"], "cow", "cow"),
        ("cattle", ["cow", "cat"], "cat", "cow"),
        ("a snow covered street", ["cow"], None, None),
        ("a scar", ["car"], "car", None),
    ],
)
def test_failures_of_the_substring_rule_are_gone(
    text: str, present: list[str], substring: str | None, words: str | None
) -> None:
    assert published_match(text, present) == substring
    assert coco_matcher().match(text, present) == words


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("two young women", "person"),
        ("baseball players", "person"),
        ("white cell phones", "cell phone"),
        ("phone", "cell phone"),
        ("Motor bikes", "motorcycle"),
        ("a wooden dining table", "dining table"),
        ("knives", "knife"),
        ("skis", "skis"),
        ("ski", "skis"),
        ("wine glass", "wine glass"),
        ("glass", "cup"),
        ("glasses", None),
        ("table tennis", None),
        ("", None),
    ],
)
def test_coco_nouns(text: str, name: str | None) -> None:
    assert coco_matcher().match(text, COCO) == name


def test_man_and_woman_are_classes_apart_where_a_dataset_divides_them() -> None:
    matcher = ClassMatcher(["man", "woman", "person"], {})
    assert [matcher.match(text, ["man", "woman", "person"]) for text in ("man", "a tall woman", "women", "people")] == [
        "man",
        "woman",
        "woman",
        "person",
    ]


def test_ties_go_to_the_own_name_then_to_the_order_of_the_vocabulary() -> None:
    synonyms = {"desk": ["table"], "dining table": ["table"], "side table": ["table"]}
    classes = ["desk", "dining table", "table", "side table"]
    assert ClassMatcher(classes, synonyms).match("table", classes) == "table"
    assert ClassMatcher(classes, synonyms).match("table", ["side table", "dining table"]) == "dining table"
    assert ClassMatcher(classes[::-1], synonyms).match("table", ["side table", "dining table"]) == "side table"


def test_every_official_class_name_finds_its_class() -> None:
    names = [row["name"].lower() for row in official_table("objects365")["objects"]]
    for classes, tables in ((COCO, ("coco",)), (names, ("objects365", "coco"))):
        matcher = ClassMatcher(classes, read_synonyms(tables))
        for name in classes:
            for part in names_of(name):
                assert matcher.match(part, [name]) == name, part


def test_synonym_tables_speak_only_of_known_classes_and_have_no_contradiction() -> None:
    synonyms = read_synonyms(("coco",))
    assert set(synonyms) == set(COCO)
    nouns = [noun for name in synonyms for noun in synonyms[name]]
    assert len(nouns) == len(set(nouns))
    assert not set(nouns) & set(COCO)


def test_bad_synonym_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no synonym table 'klingon'"):
        read_synonyms(("klingon",))
    for text, words in (
        ("[synonyms", "not TOML"),
        ('[synonyms]\na=["b"]', "`source`"),
        ('source="x"\n[synonyms]\na="b"', "'a'"),
        ('source="x"\n[synonyms]\na=["b", " "]', "'a' is not a list of nouns"),
        ('source="\xe9"', "not TOML"),
    ):
        table = tmp_path / f"{len(text)}.toml"
        table.write_text(text, encoding="latin-1")
        with pytest.raises(DataError, match=words):
            read_synonyms((str(table),))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(DataError, match="not TOML"):
        read_synonyms((str(tmp_path / "folder.toml"),))


ROW = TripletRow(
    "7",
    ["man", "woman", "puppy", "man", "sky"],
    ["ride", "ride", "sit on", "ride", "over"],
    ["riding", "rides", "sitting on", "riding", "over"],
    ["horse", "horse", "bench", "cat", "horse"],
    [3, 2, 1, 1, 1],
)


def test_wordings_of_one_triplet_are_joined() -> None:
    matcher = ClassMatcher(["person", "horse", "dog", "bench"], read_synonyms(("coco",)))
    present = {"person", "horse", "dog", "bench"}
    assert match_triplets(ROW, present, matcher, PARAMS) == [
        ClassTriplet("person", "ride", "horse", "riding", 5),
        ClassTriplet("dog", "sit on", "bench", "sitting on", 1),
    ]
    surface = CandidateParams(relation_text="surface")
    assert [t.relation for t in match_triplets(ROW, present, matcher, surface)] == ["riding", "rides", "sitting on"]
    votes = CandidateParams(min_votes=2)
    assert [t.relation for t in match_triplets(ROW, present, matcher, votes)] == ["ride"]
    assert match_triplets(ROW, present - {"person"}, matcher, PARAMS)[0].subject == "dog"


def test_every_ordered_pair_of_the_classes_once() -> None:
    boxes = [(0, 0, 9, 9), (5, 5, 20, 20), (30, 30, 40, 40), (9, 0, 12, 9)]
    scene = make_scene("1", "d", "train", "f", 50, 50, boxes, ["person", "dog", "person", "person"])
    triplets = [
        ClassTriplet("person", "next to", "person", "next to", 2),
        ClassTriplet("person", "walk", "dog", "walking", 1),
    ]
    row = candidates_of(scene, triplets)
    pairs = list(zip(row.subject, row.object, row.relation, strict=True))
    assert pairs[:6] == [(i, j, "next to") for i, j in ((0, 2), (0, 3), (2, 0), (2, 3), (3, 0), (3, 2))]
    assert pairs[6:] == [(0, 1, "walk"), (2, 1, "walk"), (3, 1, "walk")]
    assert row.scene_hash == scene_hash(scene)
    assert row.votes == [2] * 6 + [1] * 3
    overlapping = candidates_of(scene, triplets, overlapping_only=True)  # boxes that touch do not overlap
    assert list(zip(overlapping.subject, overlapping.object, strict=True)) == [(0, 1), (3, 1)]


def test_stage_counts_add_up_and_repeat(tmp_path: Path) -> None:
    scenes = draw_bucket(tmp_path / "raw", 12)
    inputs = {
        "scenes": write_bucket(tmp_path, scenes),
        "classes": write_classes(tmp_path),
        "caption_triplets": tmp_path / "triplets",
    }
    rows = [
        TripletRow(s.image_id, ["man", "tree"], ["walk", "on"], ["walking", "on"], ["dog", "bench"], [4, 1])
        for s in scenes[:9]
    ]
    write_rows(inputs["caption_triplets"] / "part-00000.parquet", TripletRow, rows)
    params = make_params(tmp_path / "raw", candidates={"rows_per_shard": 4})
    runs = [context(tmp_path, "candidates", params, inputs, "candidates", Log()) for _ in range(2)]
    figures = [candidate_stage(run) for run in runs]
    assert figures[0] == figures[1]
    assert content(runs[0].outputs["candidates"]) == content(runs[1].outputs["candidates"])
    assert runs[1].log.lines == ["4 of 4 shards were there already"]  # type: ignore[attr-defined]
    assert figures[0]["scenes_without_captions"] == 3
    assert (figures[0]["statements"], figures[0]["matched_statements"], figures[0]["candidates"]) == (45, 36, 9)
    assert figures[0]["by_class"] == {"dog": 9, "person": 9}
    assert figures[0]["by_relation"] == {"walk": 9}
    found = list(read_rows(runs[0].outputs["candidates"], CandidateRow))
    assert sorted(row.image_id for row in found) == sorted(row.image_id for row in rows)
    assert all((row.subject, row.object) == ([0], [1]) for row in found)


def test_captions_of_unknown_images_are_refused(tmp_path: Path) -> None:
    inputs = {
        "scenes": write_bucket(tmp_path, draw_bucket(tmp_path / "raw", 2)),
        "classes": write_classes(tmp_path),
        "caption_triplets": tmp_path / "triplets",
    }
    write_rows(inputs["caption_triplets"] / "part-00000.parquet", TripletRow, [TripletRow("99", [], [], [], [], [])])
    with pytest.raises(DataError, match="99"):
        candidate_stage(context(tmp_path, "candidates", make_params(tmp_path), inputs, "candidates"))


def test_most_frequent_keeps_the_sum() -> None:
    assert most_frequent({"a": 1, "b": 3, "c": 2}, 2) == {"b": 3, "c": 2, "(others)": 1}
    assert most_frequent({}, 2) == {}


def test_matching_is_independent_of_the_order_of_boxes() -> None:
    rng = np.random.default_rng(0)
    matcher = coco_matcher()
    nouns = [noun for names in read_synonyms(("coco",)).values() for noun in names]
    for noun in rng.choice(nouns, 100):
        present = list(rng.choice(COCO, 10, replace=False))
        assert matcher.match(noun, present) == matcher.match(noun, present[::-1])
