"""Quality of the pseudo labels, measured on relations that were kept aside, or on human triplets for real COCO images.

A label is right when its relation, in normal form, names a true relation of its pair or one that this implies. A true relation is found
when a label of its pair names it. Relations that happen ("ride") and relations of place ("next to", which hold for all pairs that stand so
and which captions mention now and then) are counted apart for recall.

Images are divided into two halves by a hash of their id: one chooses the operating threshold, the other one is reported. Of the true
relations that no label above the threshold names it is reported at which step they were lost (`lost_relations.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.datasets.language.lemmas import relation_lemma
from rlip_assets.datasets.scenes import Scene, bucket_folders, read_scenes
from rlip_assets.datasets.sources.classes import read_classes
from rlip_assets.datasets.sources.dataset_facts import read_facts
from rlip_assets.labelling.calibration.curves import CALIBRATION_FILE, read_calibration, reliability
from rlip_assets.labelling.caption_parsing.class_matching import ClassMatcher
from rlip_assets.labelling.human_ground_truth import human_relations
from rlip_assets.labelling.lost_relations import FOUND, OUTCOMES, Trails, read_trails
from rlip_assets.labelling.quality_plots import quality_picture
from rlip_assets.labelling.synonyms import read_synonyms
from rlip_assets.labelling.true_relations import TrueRelation, by_image, read_true_relations
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.shards import shard_of
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import write_json
from rlip_assets.training.training_images import is_held_out
from rlip_assets.training.transforms import keep_triplets

QUALITY_FILE = "label_quality.json"
THRESHOLDS = np.round(np.arange(0.05, 1.0, 0.05), 2)
"""Points of the curve."""
_OPERATING = np.round(np.arange(0.05, 1.0, 0.01), 2)
"""Thresholds to choose from: near the asked precision, 0.05 more costs three points of recall."""


@dataclass
class Judged:
    """Labels and true relations of some images, judged.

    confidence, right, relation: of m labels; `relation` is the true relation that a label's text names, in this image or another, or its
    own text. best, spatial, name: of n true relations; `best` is the confidence of the best label that names it, -1 where none does;
    `lost_at` the step at which it is lost if that is too little, where the steps are known.
    """

    confidence: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    relation: list[str] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    spatial: list[bool] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    images: int = 0
    lost_at: list[str] = field(default_factory=list)

    def add(
        self,
        scene: Scene,
        truth: Sequence[TrueRelation],
        trails: Trails | None = None,
        wordings: Mapping[str, str] | None = None,
    ) -> None:
        """Judge the labels of one image.

        Args:
            trails: what came before the labels.
            wordings: see `wordings_of`; those of `truth` alone where not given.
        """
        wordings = wordings_of(truth) if wordings is None else wordings
        names: dict[tuple[int, int], list[tuple[int, frozenset[str], frozenset[str]]]] = {}
        start = len(self.best)
        for number, relation in enumerate(truth):
            accepted = frozenset(map(relation_lemma, relation.accepted))
            implied = frozenset(map(relation_lemma, relation.implied))
            names.setdefault((relation.subject, relation.object), []).append((start + number, accepted, implied))
            self.best.append(-1.0)
            self.spatial.append(relation.spatial)
            self.name.append(relation.relation)
            if trails:
                self.lost_at.append(trails.lost_at(scene, relation))
        for s, o, text, score in zip(
            scene.subject.tolist(), scene.object.tolist(), scene.relation, scene.confidence.tolist(), strict=True
        ):
            lemma, right = relation_lemma(text), False
            said = wordings.get(lemma, text)
            for index, accepted, implied in names.get((s, o), ()):
                if lemma in accepted:
                    self.best[index] = max(self.best[index], score)
                    right, said = True, self.name[index]
                elif lemma in implied:
                    right = True
            self.confidence.append(score)
            self.right.append(right)
            self.relation.append(said)
        self.images += 1

    def __add__(self, other: Judged) -> Judged:
        return Judged(*(getattr(self, column.name) + getattr(other, column.name) for column in fields(self)))


def quality_stage(ctx: StageContext) -> dict[str, Any]:
    """Measure the pseudo labels of all datasets whose truth is known.

    Inputs: `pseudo_labels/DATASET` (folders of buckets), `truth` (DATASET.parquet) and, where COCO is real, `human_scenes` and `facts`
    (tables and facts of Visual Genome); of datasets that are labelled here, `captions/DATASET`, `caption_triplets/DATASET`,
    `candidates/DATASET` (folders of buckets) and `classes/DATASET`; `calibration` where scores are calibrated. Output: `label_quality` with
    `label_quality.json`.

    Labels of real COCO images are judged where Visual Genome has its `image_data.json`; without it the report says `not_judged`, and why.

    Raises:
        InputError: no truth for a dataset that has labels. DataError: truth of boxes that the labels' scenes do not have.
    """
    choosing, reported = Judged(), Judged()
    human: Counter[str] = Counter()
    not_judged = ""
    by_dataset: dict[str, Judged] = {}
    for name, folder in sorted(ctx.inputs.items()):
        if not name.startswith("pseudo_labels/"):
            continue
        dataset = name.removeprefix("pseudo_labels/")
        if dataset == "coco" and "human_scenes" in ctx.inputs:
            twins = read_facts(ctx.inputs["facts"]).coco_ids
            if twins is None:
                not_judged = (
                    "labels of coco: image_data.json, which names the COCO image of each image of Visual Genome, is not in its raw folder; "
                    "fetch it and run the raw_manifest stage of visual_genome again"
                )
                ctx.log.info(f"not judged: {not_judged}")
                continue
            first, second = judge_on_human_triplets(ctx, bucket_folders(folder), twins, human)
        else:
            truth = ctx.inputs["truth"] / f"{dataset}.parquet"
            first, second = judge_dataset(bucket_folders(folder), truth, _Steps.of(ctx, dataset))
        choosing, reported = choosing + first, reported + second
        by_dataset[dataset] = second
    threshold = operating_threshold(choosing, ctx.params.tagging.operating_precision)
    reached = at_threshold(reported, threshold)
    errors = reliability_of(reported)
    report: dict[str, Any] = {
        "chosen_on_images": choosing.images,
        "reported_on_images": reported.images,
        "operating_threshold": threshold if choosing.images else None,
        "operating_precision_asked": ctx.params.tagging.operating_precision,
        **reached,
        "expected_calibration_error": errors["expected_calibration_error"],
        "by_dataset": {dataset: at_threshold(judged, threshold) for dataset, judged in by_dataset.items()},
        "curve": [{"threshold": float(t), **at_threshold(reported, float(t))} for t in THRESHOLDS],
        "losses": {
            dataset: losses(judged, threshold)
            for dataset, judged in by_dataset.items()
            if len(judged.lost_at) == len(judged.best)
        },
        "by_relation": by_relation(reported, threshold),
        "calibration": errors,
    }
    if "calibration" in ctx.inputs:
        scores = read_calibration(ctx.inputs["calibration"] / CALIBRATION_FILE).undo(np.asarray(reported.confidence))
        report["uncalibrated"] = reliability(scores, np.asarray(reported.right, bool))
        report["expected_calibration_error_uncalibrated"] = report["uncalibrated"]["expected_calibration_error"]
    if human:
        report["human"] = dict(human)
    if not_judged:
        report["not_judged"] = not_judged
    write_json(ctx.outputs["label_quality"] / QUALITY_FILE, report)
    ctx.log.picture("label-quality", quality_picture(report))
    return {name: value for name, value in report.items() if isinstance(value, int | float | None)}


@dataclass(frozen=True)
class _Steps:
    """The tables of the steps before the tagger, folders of buckets, and the matcher of nouns to the dataset's classes."""

    tables: tuple[Path, ...]
    matcher: ClassMatcher

    @classmethod
    def of(cls, ctx: StageContext, dataset: str) -> _Steps | None:
        """Return those of a dataset, None where its labels come from elsewhere."""
        if f"captions/{dataset}" not in ctx.inputs:
            return None
        objects = read_classes(ctx.inputs[f"classes/{dataset}"]).objects
        tables = tuple(ctx.inputs[f"{step}/{dataset}"] for step in ("captions", "caption_triplets", "candidates"))
        return cls(tables, ClassMatcher(objects, read_synonyms(ctx.params.candidates.synonyms)))

    def trails(self, bucket: str) -> Trails:
        captions, triplets, candidates = (table / bucket for table in self.tables)
        return read_trails(captions, triplets, candidates, self.matcher)


def judge_dataset(tables: Iterable[Path], truth: Path, steps: _Steps | None = None) -> tuple[Judged, Judged]:
    """Judge the labels in some scene tables; the halves that choose and that are reported.

    Args:
        steps: what came before the labels.

    Raises:
        InputError, DataError: see `quality_stage`.
    """
    relations = read_true_relations(truth)
    wordings = wordings_of(relation for known in relations.values() for relation in known)
    halves = Judged(), Judged()
    for table in tables:
        trails = steps.trails(table.name) if steps else None
        for scene in read_scenes(table):
            known = relations.get(scene.image_id, [])
            if any(max(relation.subject, relation.object) >= len(scene.labels) for relation in known):
                raise DataError(
                    f"{truth} has a relation of image {scene.image_id} beyond its {len(scene.labels)} boxes in {table}; "
                    "make truth and scene tables from the same raw data"
                )
            halves[shard_of(scene.image_id, 2)].add(scene, known, trails, wordings)
    return halves


def judge_on_human_triplets(
    ctx: StageContext, tables: Sequence[Path], twins: Mapping[str, str], counts: Counter[str]
) -> tuple[Judged, Judged]:
    """Judge labels of COCO by the human triplets of Visual Genome; the halves that choose and that are reported.

    Args:
        twins: Visual Genome id -> COCO id.

    Where the R-Tagger's recipe holds images back, they alone are judged, for it was trained on the triplets of the others. Labels of pairs
    without an annotated relation are not judged. Added to `counts`: those labels (`labels_not_judged`), the judged images that were trained
    on (`images_trained_on`), and what `human_relations` counts.
    """
    wanted, steps = set(twins.values()), _Steps.of(ctx, "coco")
    labelled: dict[str, Scene] = {}
    trails: dict[str, Trails] = {}
    for table in tables:
        of_bucket = steps.trails(table.name) if steps else None
        for scene in read_scenes(table):
            if scene.image_id in wanted:
                labelled[scene.image_id] = scene
                if of_bucket:
                    trails[scene.image_id] = of_bucket.only(scene.image_id)
    params = ctx.params
    # What an imported R-Tagger was trained on is not known, nor who made imported labels.
    imported = params.external.r_tagger is not None or "coco" in params.external.labels
    share = 0.0 if imported else params.training.r_tagger.resolve().holdout
    annotated = (
        scene
        for table in bucket_folders(ctx.inputs["human_scenes"])
        for scene in read_scenes(table)
        if not share or is_held_out(scene.image_id, share)
    )
    halves = Judged(), Judged()
    for image_id, known in by_image(human_relations(labelled, annotated, twins, counts)).items():
        scene, pairs = labelled[image_id], {(relation.subject, relation.object) for relation in known}
        ends = zip(scene.subject.tolist(), scene.object.tolist(), strict=True)
        judged = np.array([pair in pairs for pair in ends], bool)
        counts["labels_not_judged"] += int((~judged).sum())
        counts["images_trained_on"] += not share
        halves[shard_of(image_id, 2)].add(keep_triplets(scene, judged), known, trails.get(image_id))
    return halves


def operating_threshold(judged: Judged, precision: float) -> float:
    """The threshold of best F1 among those that reach `precision`, or of best F1 where none does."""
    points = [(float(threshold), at_threshold(judged, float(threshold))) for threshold in _OPERATING]
    reaching = [point for point in points if (point[1]["precision"] or 0.0) >= precision] or points
    return max(reaching, key=lambda point: (point[1]["f1"] or 0.0, point[0]))[0]


def at_threshold(judged: Judged, threshold: float) -> dict[str, float | int | None]:
    """Precision over all labels; recall and F1 over relations that happen; recall over relations of place apart.

    A share of nothing is None.
    """
    confidence, right = np.asarray(judged.confidence, np.float32), np.asarray(judged.right, bool)
    kept = confidence >= np.float32(threshold)
    found = np.asarray(judged.best, np.float32) >= np.float32(threshold)
    spatial = np.asarray(judged.spatial, bool)
    precision, recall = _share(right[kept]), _share(found[~spatial])
    both = (precision or 0.0) + (recall or 0.0)
    return {
        "labels": int(kept.sum()),
        "true_relations": int((~spatial).sum()),
        "precision": precision,
        "recall": recall,
        "f1": None if precision is None or recall is None else (2 * precision * recall / both if both else 0.0),
        "spatial_recall": _share(found[spatial]),
    }


def by_relation(judged: Judged, threshold: float) -> dict[str, dict[str, float | int | None]]:
    """Precision, recall and counts of each relation. A label counts for the relation that its text names."""
    names = np.asarray(judged.relation, object), np.asarray(judged.name, object)
    kept = np.asarray(judged.confidence, np.float32) >= np.float32(threshold)
    found = np.asarray(judged.best, np.float32) >= np.float32(threshold)
    right = np.asarray(judged.right, bool)
    return {
        relation: {
            "labels": int((of_labels := kept & (names[0] == relation)).sum()),
            "true_relations": int((of_truth := names[1] == relation).sum()),
            "precision": _share(right[of_labels]),
            "recall": _share(found[of_truth]),
        }
        for relation in sorted({*names[0][kept], *names[1]})
    }


def losses(judged: Judged, threshold: float) -> dict[str, int]:
    """Count the relations that happen by what became of them: found by a label above the threshold, or lost at one of the steps."""
    found = np.asarray(judged.best, np.float32) >= np.float32(threshold)
    counts = Counter(
        FOUND if known else step
        for known, step, spatial in zip(found.tolist(), judged.lost_at, judged.spatial, strict=True)
        if not spatial
    )
    return {outcome.replace(" ", "_"): counts[outcome] for outcome in OUTCOMES}


def reliability_of(judged: Judged) -> dict[str, Any]:
    """Return the reliability curve of the judged labels and their expected calibration error."""
    return reliability(np.asarray(judged.confidence), np.asarray(judged.right, bool))


def wordings_of(truth: Iterable[TrueRelation]) -> dict[str, str]:
    """Normal form of every text that names a relation of `truth` -> that relation: "give food to" -> "feed"."""
    return {relation_lemma(text): relation.relation for relation in truth for text in relation.accepted}


def _share(values: npt.NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
