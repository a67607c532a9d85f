"""The step of the pipeline at which a true relation is lost: not captioned, not parsed, not matched, or not sure.

A relation that no confident label names is lost at the first step that has nothing of it:

* not captioned: no caption names a thing of the subject's class, then the relation, then a thing of the object's class;
* not parsed: a caption does, but no triplet says so of things that may be these;
* not matched: a triplet does, but the pair of boxes is no candidate for the relation;
* not sure: it is a candidate, and the tagger's confidence is too low.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rlip_assets.datasets.language.lemmas import relation_lemma, tokens
from rlip_assets.datasets.scenes import Scene
from rlip_assets.labelling.caption_parsing.class_matching import ClassMatcher
from rlip_assets.labelling.label_tables import CandidateRow, CaptionRow, TripletRow, read_rows
from rlip_assets.labelling.true_relations import TrueRelation

FOUND = "found"
NOT_CAPTIONED, NOT_PARSED, NOT_MATCHED, NOT_SURE = "not captioned", "not parsed", "not matched", "not sure"
OUTCOMES = (FOUND, NOT_SURE, NOT_MATCHED, NOT_PARSED, NOT_CAPTIONED)
"""Outcomes of a true relation, from the end of the pipeline to its start."""
_LONGEST_NOUN = 3


@dataclass(frozen=True)
class Trail:
    """What each step before the tagger made of one image."""

    captions: CaptionRow
    triplets: TripletRow
    candidates: CandidateRow


@dataclass(frozen=True)
class Trails:
    """The trails of a bucket's images, and the matcher of nouns to the classes of the dataset."""

    of_image: Mapping[str, Trail]
    matcher: ClassMatcher

    def only(self, image_id: str) -> Trails:
        """Return the trail of one image alone."""
        return Trails({image_id: self.of_image[image_id]} if image_id in self.of_image else {}, self.matcher)

    def lost_at(self, scene: Scene, relation: TrueRelation) -> str:
        """Return the step at which a true relation of an image is lost if no confident label names it."""
        trail = self.of_image.get(scene.image_id)
        if trail is None:
            return NOT_CAPTIONED
        names = frozenset(map(relation_lemma, relation.accepted))
        if _is_candidate(trail.candidates, relation, names):
            return NOT_SURE
        ends = scene.labels[relation.subject], scene.labels[relation.object]
        present = frozenset(scene.labels)
        if self._is_parsed(trail.triplets, ends, names):
            return NOT_MATCHED
        return NOT_PARSED if self._is_captioned(trail.captions, ends, names, present) else NOT_CAPTIONED

    def _is_parsed(self, row: TripletRow, ends: tuple[str, str], names: frozenset[str]) -> bool:
        """Return whether a triplet names the relation, each of its nouns naming that end's class or no class at all."""
        return any(
            relation_lemma(relation) in names and self._may_be(s, ends[0]) and self._may_be(o, ends[1])
            for s, relation, o in zip(row.subject, row.relation, row.object, strict=True)
        )

    def _may_be(self, noun: str, label: str) -> bool:
        named = self.matcher.named(noun)
        return not named or label in named

    def _is_captioned(
        self, row: CaptionRow, ends: tuple[str, str], names: frozenset[str], present: frozenset[str]
    ) -> bool:
        """Return whether a caption names the subject's class, later the relation, and the object's class next after it."""
        for caption in dict.fromkeys(row.captions):
            words = tokens(caption)
            phrases = (words[max(0, end - _LONGEST_NOUN) : end] for end in range(1, len(words) + 1))
            classes = [self.matcher.match(" ".join(phrase), present) for phrase in phrases]
            for start, stop in _occurrences(words, names):
                following = next((name for name in classes[stop:] if name), None)
                if ends[0] in classes[:start] and following == ends[1]:
                    return True
        return False


def _is_candidate(row: CandidateRow, relation: TrueRelation, names: frozenset[str]) -> bool:
    wanted = relation.subject, relation.object
    candidates = zip(row.subject, row.object, row.relation, strict=True)
    return any((s, o) == wanted and relation_lemma(text) in names for s, o, text in candidates)


def _occurrences(words: list[str], names: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Spans of words that are a wording of the relation with one of these normal forms."""
    for length in sorted({len(name.split()) for name in names}):
        for start in range(len(words) - length + 1):
            if relation_lemma(" ".join(words[start : start + length])) in names:
                yield start, start + length


def read_trails(captions: Path, triplets: Path, candidates: Path, matcher: ClassMatcher) -> Trails:
    """Return the trails of a bucket from its three tables.

    Raises:
        InputError: a table is missing or damaged.
    """
    parsed = {row.image_id: row for row in read_rows(triplets, TripletRow)}
    matched = {row.image_id: row for row in read_rows(candidates, CandidateRow)}
    found = {
        row.image_id: Trail(row, parsed[row.image_id], matched[row.image_id])
        for row in read_rows(captions, CaptionRow)
        if row.image_id in parsed and row.image_id in matched
    }
    return Trails(found, matcher)
