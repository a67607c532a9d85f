"""A lost relation is counted at the first step that has nothing of it, and all relations are counted once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_assets.labelling.candidates import candidates_of, match_triplets
from rlip_assets.labelling.caption_parsing.class_matching import ClassMatcher
from rlip_assets.labelling.caption_parsing.parser import parse_caption
from rlip_assets.labelling.caption_parsing.stage import count_triplets
from rlip_assets.labelling.label_tables import CaptionRow, TripletRow
from rlip_assets.labelling.lost_relations import (
    FOUND,
    NOT_CAPTIONED,
    NOT_MATCHED,
    NOT_PARSED,
    NOT_SURE,
    OUTCOMES,
    Trail,
    Trails,
)
from rlip_assets.labelling.quality import Judged, at_threshold, losses
from rlip_assets.labelling.true_relations import TrueRelation
from rlip_assets.lineage.params.labels import CandidateParams

CLASSES = ("person", "horse", "dog", "bench")
MATCHER = ClassMatcher(CLASSES, {"person": ["man"]})
BOXES = [(0, 0, 9, 9), (5, 5, 20, 20), (20, 20, 30, 30)]
RIDE = TrueRelation("1", 0, 1, "ride", ["ride", "riding", "rides on"], ["on"], False)


def scene(labels: list[tuple[int, int, str, float]] | None = None) -> Scene:
    rows = labels or []
    triplets, confidence = [row[:3] for row in rows], [row[3] for row in rows]
    return make_scene("1", "coco", "train", "f", 40, 40, BOXES, ["person", "horse", "dog"], triplets, confidence)


def trails(*captions: str, min_votes: int = 1, triplets: TripletRow | None = None) -> Trails:
    row = CaptionRow("1", list(captions))
    parsed = triplets or count_triplets(row, {caption: parse_caption(caption) for caption in captions})
    matched = match_triplets(parsed, set(scene().labels), MATCHER, CandidateParams(min_votes=min_votes))
    return Trails({"1": Trail(row, parsed, candidates_of(scene(), matched))}, MATCHER)


@pytest.mark.parametrize(
    ("captions", "step"),
    [
        ([], NOT_CAPTIONED),
        (["a dog next to a horse"], NOT_CAPTIONED),
        (["a man is riding a dog"], NOT_CAPTIONED),  # of another class
        (["a man is riding a bench"], NOT_CAPTIONED),  # of a class that has no box
        (["a horse is riding a man"], NOT_CAPTIONED),  # the other way round
        (["a man is riding a pony"], NOT_MATCHED),  # a noun that no class is known by
        (["a man next to a dog", "a man rides on a horse"], NOT_SURE),
    ],
)
def test_the_step_at_which_a_relation_is_lost(captions: list[str], step: str) -> None:
    assert trails(*captions).lost_at(scene(), RIDE) == step


def test_a_caption_without_its_triplet_and_a_triplet_without_its_candidate() -> None:
    nothing = TripletRow("1", [], [], [], [], [])
    said = "while the man rides on, a horse"
    assert trails(said, triplets=nothing).lost_at(scene(), RIDE) == NOT_PARSED
    assert trails("a man riding past a dog, a horse", triplets=nothing).lost_at(scene(), RIDE) == NOT_CAPTIONED
    assert trails("a man is riding a horse", min_votes=2).lost_at(scene(), RIDE) == NOT_MATCHED
    assert Trails({}, MATCHER).lost_at(scene(), RIDE) == NOT_CAPTIONED
    assert trails("a man is riding a horse").only("2").lost_at(scene(), RIDE) == NOT_CAPTIONED


texts = st.sampled_from(["ride", "riding", "chase", "next to", "on"])
ends = st.sampled_from([(0, 1), (1, 0), (1, 2), (0, 2)])
captions = st.lists(
    st.sampled_from(["a man is riding a horse", "a horse chases a dog", "a man on a pony", "a dog", "riding"]),
    max_size=4,
)


@given(
    st.lists(st.tuples(ends, texts, st.booleans()), max_size=8),
    st.lists(st.tuples(ends, texts, st.floats(0, 1, width=32)), max_size=8),
    captions,
    st.sampled_from([0.05, 0.5, 0.95]),
)
def test_the_counts_add_up_to_the_true_relations(
    truth: list[tuple[tuple[int, int], str, bool]],
    labels: list[tuple[tuple[int, int], str, float]],
    said: list[str],
    threshold: float,
) -> None:
    relations = [TrueRelation("1", *pair, text, [text], [], spatial) for pair, text, spatial in truth]
    judged = Judged()
    judged.add(scene([(*pair, text, score) for pair, text, score in labels]), relations, trails(*said))
    counts, figures = losses(judged, threshold), at_threshold(judged, threshold)
    assert list(counts) == [outcome.replace(" ", "_") for outcome in OUTCOMES]
    assert sum(counts.values()) == figures["true_relations"]
    if counts[FOUND] or figures["true_relations"]:
        assert figures["recall"] == pytest.approx(counts[FOUND] / sum(counts.values()))
