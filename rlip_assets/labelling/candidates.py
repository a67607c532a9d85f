"""Relation candidates: text triplets of an image's captions, matched to the classes of its boxes.

A caption says "a man is riding a horse" but not which man. Every ordered pair of boxes whose classes the triplet names is a candidate
for its relation; the R-Tagger decides (`pseudo_labels`). How a noun finds its class: `caption_parsing/class_matching.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlip_assets.datasets.scenes import Scene, read_scenes, scene_hash
from rlip_assets.datasets.sources.classes import read_classes
from rlip_assets.labelling.caption_parsing.class_matching import ClassMatcher
from rlip_assets.labelling.label_tables import CandidateRow, TripletRow, read_rows, write_rows
from rlip_assets.labelling.synonyms import read_synonyms
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params.labels import CandidateParams
from rlip_assets.lineage.shard_progress import rows_done
from rlip_assets.lineage.shards import ShardStore, add_figures, collect, split
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import sha256_file
from rlip_model.boxes import iou

_FILE = "candidates.parquet"
_LISTED = 200
"""Relations that the figures list by name; the others are added up."""


@dataclass(frozen=True)
class ClassTriplet:
    """A statement of an image's captions about its boxed classes."""

    subject: str
    relation: str
    object: str
    surface: str
    votes: int


def candidate_stage(ctx: StageContext) -> dict[str, Any]:
    """Match the caption triplets of one bucket to the boxes of its images.

    Inputs: `caption_triplets`, `scenes`, `classes`. Output: `candidates`, one row for each row of `caption_triplets`; an image without a
    candidate has a row of empty lists.

    Raises:
        DataError: a caption of an image that the scene table does not have.
        InputError: a damaged table, or a synonym table that does not exist.
    """
    params = ctx.params.candidates
    classes = read_classes(ctx.inputs["classes"])
    matcher = ClassMatcher(classes.objects, read_synonyms(params.synonyms))
    scenes = {scene.image_id: scene for scene in read_scenes(ctx.inputs["scenes"])}
    triplets = list(read_rows(ctx.inputs["caption_triplets"], TripletRow))
    unknown = [row.image_id for row in triplets if row.image_id not in scenes]
    if unknown:
        raise DataError(
            f"{ctx.inputs['caption_triplets']} has {len(unknown)} images that {ctx.inputs['scenes']} does not have, "
            f"for example {unknown[0]}; run the captions of this bucket again"
        )

    def make(rows: list[TripletRow], folder: Path) -> dict[str, Any]:
        figures = _Yields()
        found = []
        for row in rows:
            scene = scenes[row.image_id]
            matched = match_triplets(row, set(scene.labels), matcher, params)
            candidate = candidates_of(scene, matched, params.overlap_filter)
            figures.count(row, matched, candidate)
            found.append(candidate)
            rows_done()
        write_rows(folder / _FILE, CandidateRow, found)
        return figures.as_dict()

    def content(row: TripletRow) -> list[object]:
        return [scene_hash(scenes[row.image_id]), row.subject, row.relation, row.surface, row.object, row.votes]

    shards = split(triplets, params.rows_per_shard, lambda row: row.image_id, content)
    settings = {
        "params": params.model_dump(mode="json"),
        "synonyms": {name: list(nouns) for name, nouns in read_synonyms(params.synonyms).items()},
        "classes": sha256_file(ctx.inputs["classes"]),
    }
    finished = ShardStore.of(ctx, settings).make_all(shards, make, ctx.log, "images")
    collect(finished, ctx.outputs["candidates"], _FILE)
    figures = add_figures(shard.figures for shard in finished)
    figures["by_relation"] = most_frequent(figures["by_relation"], _LISTED)
    return {"scenes": len(scenes), "scenes_without_captions": len(scenes) - len(triplets), **figures}


def match_triplets(
    row: TripletRow, present: set[str], matcher: ClassMatcher, params: CandidateParams
) -> list[ClassTriplet]:
    """The triplets of an image whose nouns both name a boxed class, most stated first.

    Wordings that come to the same classes and relation are one: their votes are added, the surface is the most stated one.
    """
    votes: Counter[tuple[str, str, str]] = Counter()
    surfaces: dict[tuple[str, str, str], Counter[str]] = {}
    for subject, relation, surface, target, count in zip(
        row.subject, row.relation, row.surface, row.object, row.votes, strict=True
    ):
        first, second = matcher.match(subject, present), matcher.match(target, present)
        if first is None or second is None:
            continue
        key = (first, relation if params.relation_text == "lemma" else surface, second)
        votes[key] += count
        surfaces.setdefault(key, Counter())[surface] += count
    return [
        ClassTriplet(*key, surfaces[key].most_common(1)[0][0], count)
        for key, count in votes.most_common()
        if count >= params.min_votes
    ]


def candidates_of(scene: Scene, triplets: Iterable[ClassTriplet], overlapping_only: bool = False) -> CandidateRow:
    """All ordered pairs of different boxes whose classes a triplet names, triplet by triplet, pairs in box order."""
    boxes_of: dict[str, list[int]] = {}
    for index, label in enumerate(scene.labels):
        boxes_of.setdefault(label, []).append(index)
    overlap = iou(scene.boxes[:, None], scene.boxes[None]) if overlapping_only else None
    row = CandidateRow(scene.image_id, scene_hash(scene), [], [], [], [], [])
    for triplet in triplets:
        for i in boxes_of.get(triplet.subject, ()):
            for j in boxes_of.get(triplet.object, ()):
                if i == j or (overlap is not None and overlap[i, j] == 0):
                    continue
                row.subject.append(i)
                row.object.append(j)
                row.relation.append(triplet.relation)
                row.surface.append(triplet.surface)
                row.votes.append(triplet.votes)
    return row


class _Yields:
    """Counts of the triplets that were matched, in all, by class and by relation."""

    def __init__(self) -> None:
        counted = ("images", "statements", "class_triplets", "candidates", "images_without_candidate")
        self.total = Counter[str](dict.fromkeys(counted, 0))
        self.by_class, self.by_relation = Counter[str](), Counter[str]()

    def count(self, row: TripletRow, matched: list[ClassTriplet], candidate: CandidateRow) -> None:
        self.total["images"] += 1
        self.total["statements"] += sum(row.votes)
        self.total["matched_statements"] += sum(triplet.votes for triplet in matched)
        self.total["class_triplets"] += len(matched)
        self.total["candidates"] += len(candidate.relation)
        self.total["images_without_candidate"] += not candidate.relation
        for triplet in matched:
            self.by_class.update((triplet.subject, triplet.object))
            self.by_relation[triplet.relation] += 1

    def as_dict(self) -> dict[str, Any]:
        return {**self.total, "by_class": dict(self.by_class), "by_relation": dict(self.by_relation)}


def most_frequent(counts: dict[str, int], limit: int) -> dict[str, int]:
    """The `limit` largest counts (ties by name), and the sum of the others under "(others)" where there are any."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ranked[limit:])
    return dict(ranked[:limit]) | ({"(others)": rest} if rest else {})
