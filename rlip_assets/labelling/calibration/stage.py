"""The stage `calibration`: human triplets that the R-Tagger was not trained on say how far its scores can be trusted.

The images that the recipe holds out go the whole way of images without triplets, from captions to scored candidates, because the share of
right labels at a score depends on what is proposed. A candidate is right when its pair has that relation, or one that
`relationship_alias.txt` of Visual Genome calls the same. Real annotators noted some relations only, so that there, as in the stage
`label_quality`, candidates of pairs without any annotated relation are left out; those of the micro world noted all that happens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.datasets.decontamination import read_listed
from rlip_assets.datasets.language.lemmas import relation_lemma
from rlip_assets.datasets.scenes import Scene, bucket_folders, read_scenes
from rlip_assets.datasets.sources.bucket_images import BucketImages
from rlip_assets.datasets.sources.dataset_facts import read_facts
from rlip_assets.datasets.sources.roots import raw_root
from rlip_assets.labelling.calibration.curves import (
    CALIBRATION_FILE,
    cross_validated_error,
    fit_calibration,
    reliability,
)
from rlip_assets.labelling.candidates import candidates_of, match_triplets
from rlip_assets.labelling.caption_parsing.class_matching import ClassMatcher
from rlip_assets.labelling.caption_parsing.stage import count_triplets, open_parser
from rlip_assets.labelling.captions.stage import caption_scenes, open_captioner
from rlip_assets.labelling.label_tables import CandidateRow, CaptionRow
from rlip_assets.labelling.synonyms import read_synonyms
from rlip_assets.labelling.tagging.filters import Labels
from rlip_assets.labelling.tagging.stage import open_tagger, tag_scenes, tagger_digest
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.datasets import HUMAN_DATASET, HUMAN_EXCLUSIONS
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.shards import shard_of
from rlip_assets.storage.errors import DataError
from rlip_assets.storage.files import write_json
from rlip_assets.training.micro_batches import MicroBatches
from rlip_assets.training.training_images import is_held_out

ENOUGH_LABELS = 1000
"""Measured in the micro world: maps of 400 labels leave an expected calibration error of 0.06 on other images, of 1,000 labels 0.04."""


def calibration_stage(ctx: StageContext) -> dict[str, Any]:
    """Fit the map from the R-Tagger's scores to confidences.

    Inputs: `scenes` and `manifests` of Visual Genome (folders of buckets), `r_tagger`, `captioner` (unless `captions.model` is a hub name),
    and `decontamination/visual_genome` where images may occur in a test split. Output: `calibration` with `calibration.json`.

    Raises:
        InputError: a damaged table, no captioner or no R-Tagger.
        DataError: no held-out image can be read, or no candidate could be judged.
    """
    params = ctx.params
    root = raw_root(params.sources, HUMAN_DATASET, ctx.root)
    scenes, images = _held_out(ctx, root)
    source = str(ctx.inputs.get("captioner") or params.captions.model)
    captioner = open_captioner(source, params.captions, params.training.device)
    captions, unreadable = caption_scenes(
        lambda part, photos: captioner([scene.image_id for scene in part], photos),
        scenes,
        images,
        MicroBatches(params.captions.batch_size, "lower captions.captions_per_image (captions.beams of a beam search)"),
    )
    if scenes and not captions:
        raise DataError(
            f"no one of the {len(scenes)} held-out images can be read, such as {unreadable[0]['file_name']} "
            f"({unreadable[0]['reason']}); check the images in {root}"
        )
    objects = sorted({label for scene in scenes for label in scene.labels})
    facts = read_facts(ctx.inputs["manifests"] / "facts.json")
    items = list(_candidates(scenes, captions, objects, dict(facts.object_aliases), params))
    tagger = open_tagger(ctx.inputs["r_tagger"], objects, params.tagging, params.training.device)
    scored = dict(tag_scenes(*tagger, items, images)[0])
    aliases = {relation_lemma(text): relation_lemma(name) for text, name in reversed(facts.relation_aliases)}
    complete = params.sources.is_drawn(HUMAN_DATASET)
    judged = [
        (shard_of(scene.image_id, 2) == 1, *one)
        for scene, _ in items
        if scene.image_id in scored
        for one in _judge(scene, scored[scene.image_id], aliases, complete)
    ]
    second_half, confidence, right = (
        np.array([one[column] for one in judged], kind) for column, kind in enumerate((bool, float, bool))
    )
    method = params.tagging.calibration
    assert method != "none"
    fitted = fit_calibration(method, confidence, right)
    fitted = fitted.model_copy(update={"tagger": tagger_digest(ctx.inputs["r_tagger"])})
    write_json(ctx.outputs["calibration"] / CALIBRATION_FILE, fitted.model_dump(mode="json"))
    if len(judged) < ENOUGH_LABELS:
        ctx.log.info(
            f"{len(judged)} labels of {len(captions)} held-out images are few to calibrate on (about {ENOUGH_LABELS} are enough): raise "
            "holdout in training.r_tagger.changes"
        )
    return {
        "held_out_images": len(scenes),
        "unreadable_images": len(unreadable),
        "judged_labels": len(judged),
        "right": float(right.mean()),
        "expected_calibration_error_before": reliability(confidence, right)["expected_calibration_error"],
        "expected_calibration_error_cross_validated": cross_validated_error(method, confidence, right, second_half),
    }


def _held_out(ctx: StageContext, root: Path) -> tuple[list[Scene], BucketImages]:
    """The images that the R-Tagger's recipe holds out and that are in no test split."""
    share = ctx.params.training.r_tagger.resolve().holdout
    exclusions = bucket_folders(ctx.inputs[HUMAN_EXCLUSIONS]) if HUMAN_EXCLUSIONS in ctx.inputs else []
    excluded = frozenset[str]().union(*map(read_listed, exclusions))
    scenes: list[Scene] = []
    checksums: dict[str, str | None] = {}
    for table in bucket_folders(ctx.inputs["scenes"]):
        found = [
            scene
            for scene in read_scenes(table)
            if is_held_out(scene.image_id, share) and scene.image_id not in excluded and scene.relation
        ]
        manifest = ctx.inputs["manifests"] / f"{table.name}.json"
        checksums |= BucketImages.of(manifest, root, found, table).checksums
        scenes += found
    return scenes, BucketImages(root, checksums)


def _candidates(
    scenes: Iterable[Scene],
    captions: Sequence[CaptionRow],
    objects: Sequence[str],
    aliases: Mapping[str, str],
    params: Params,
) -> Iterator[tuple[Scene, CandidateRow]]:
    """Scenes with the candidates that their captions give; a label is also known by the nouns that Visual Genome calls the same."""
    parser, _ = open_parser(params.parsing)
    texts = list(dict.fromkeys(caption for row in captions for caption in row.captions))
    parsed = dict(zip(texts, parser(texts), strict=True))
    same: dict[str, list[str]] = {}
    for noun, name in aliases.items():
        same.setdefault(name, []).append(noun)
    synonyms = read_synonyms(params.candidates.synonyms)
    known = {label: [*same.get(aliases.get(label, label), ()), *synonyms.get(label, ())] for label in objects}
    matcher = ClassMatcher(objects, known)
    rows = {row.image_id: row for row in captions}
    for scene in scenes:
        if scene.image_id in rows:
            triplets = count_triplets(rows[scene.image_id], parsed)
            matched = match_triplets(triplets, set(scene.labels), matcher, params.candidates)
            yield scene, candidates_of(scene, matched, params.candidates.overlap_filter)


def _judge(scene: Scene, labels: Labels, aliases: Mapping[str, str], complete: bool) -> Iterator[tuple[float, bool]]:
    """Yield the confidence of each label, and whether it is right.

    Args:
        aliases: normal form of a relation -> that of the relation which it is the same as.
        complete: every relation that holds is annotated; if not, labels of pairs without one are left out.
    """

    def name(text: str) -> str:
        lemma = relation_lemma(text)
        return aliases.get(lemma, lemma)

    annotated: dict[tuple[int, int], set[str]] = {}
    for s, o, text in zip(scene.subject.tolist(), scene.object.tolist(), scene.relation, strict=True):
        annotated.setdefault((s, o), set()).add(name(text))
    for s, o, text, score in zip(
        labels.subject.tolist(), labels.object.tolist(), labels.relation, labels.confidence.tolist(), strict=True
    ):
        if complete or (s, o) in annotated:
            yield score, name(text) in annotated.get((s, o), ())
