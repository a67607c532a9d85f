"""Stages of pseudo labels: captions, triplets, candidates, confidences, and their quality."""

from __future__ import annotations

import os
from dataclasses import replace

from rlip_assets.lineage.datasets import HUMAN_DATASET
from rlip_assets.lineage.layout import (
    classes_file,
    detection_folder,
    is_folder,
    manifest_file,
    partition_key,
    scene_folder,
)
from rlip_assets.lineage.spec import StageItem, StageSpec
from rlip_assets.lineage.stages.profile_lineage import ProfileLineage

_CALIBRATION = "data/calibration"
_BEFORE_TAGGING = ("captions", "caption_triplets", "candidates")


def detections(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that finds boxes in the training images of benchmarks; without items where none receives own labels."""
    model, detector = lineage.params.detections.model, {}
    if model is None:
        detector["detection_model"] = lineage.shipped(lineage.params.external.detector, "detector")
    elif is_folder(model):
        detector["detection_model"] = os.path.normpath(model)
    items = [
        StageItem(
            "detections",
            partition_key(dataset, bucket),
            {"manifest": manifest_file(dataset, bucket), "classes": classes_file(dataset), **detector},
            {"detections": f"{detection_folder(dataset)}/{bucket}"},
            ("detections", "candidates.synonyms", "training.r_tagger"),
        )
        for dataset, bucket in lineage.buckets(lineage.own_labelled)
    ]
    return StageSpec(
        name="detections",
        function="rlip_assets.labelling.detections:detection_stage",
        description="Boxes that a detector finds in a benchmark's training images, for labels of their own; no annotation is read.",
        items=tuple(items),
        group="captions",
        torch=True,
        tracked=True,
        pool="gpu",
        kinds=("pytorch", "parquet"),
    )


def captions(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that captions images."""
    inputs = {
        "scenes": "{boxes}/{bucket}",
        "manifest": manifest_file("{dataset}", "{bucket}"),
    }
    inputs |= _captioner(lineage)
    oracle, function = lineage.params.oracle.captions, "rlip_assets.labelling.captions.stage:caption_stage"
    if oracle:
        inputs["truth"] = "data/truth"
        function = "rlip_assets.micro_world.simulated_captions:simulated_caption_stage"
    return StageSpec(
        name="captions",
        function=function,
        description="N captions of every image, by BLIP or another model.",
        items=lineage.labelled("captions", inputs, "captions", *(["oracle"] if oracle else [])),
        group="captions",
        torch=True,
        tracked=True,
        pool="gpu",
        kinds=("pytorch", "parquet"),
    )


def _captioner(lineage: ProfileLineage) -> dict[str, str]:
    """Return the folder of the captioner as an input; none where it has a name on a hub."""
    model = lineage.params.captions.model
    if model is None:
        return {"captioner": lineage.shipped(lineage.params.external.captioner, "captioner")}
    return {"captioner": os.path.normpath(model)} if is_folder(model) else {}


def caption_triplets(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that parses captions."""
    return StageSpec(
        name="caption_triplets",
        function="rlip_assets.labelling.caption_parsing:parse_stage",
        description="Subject, relation and object texts parsed from the captions.",
        items=lineage.labelled("caption_triplets", {"captions": "data/captions/{dataset}/{bucket}"}, "parsing"),
        group="captions",
        kinds=("python", "parquet"),
    )


def candidates(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that matches caption triplets to boxes."""
    inputs = {
        "caption_triplets": "data/caption_triplets/{dataset}/{bucket}",
        "scenes": "{boxes}/{bucket}",
        "classes": classes_file("{dataset}"),
    }
    return StageSpec(
        name="candidates",
        function="rlip_assets.labelling.candidates:candidate_stage",
        description="Caption triplets matched to the boxed classes: which pairs of an image may hold which relation.",
        items=lineage.labelled("candidates", inputs, "candidates"),
        group="captions",
        kinds=("python", "parquet"),
    )


def calibration(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that calibrates the R-Tagger's scores; without items where they are taken as they are."""
    inputs = {
        "scenes": scene_folder(HUMAN_DATASET),
        "manifests": f"data/manifests/{HUMAN_DATASET}",
        "r_tagger": lineage.tagger,
        **_captioner(lineage),
        **lineage.human_exclusions,
    }
    params = ("captions", "parsing", "candidates", "tagging", "training.r_tagger")
    item = StageItem("calibration", None, inputs, {"calibration": _CALIBRATION}, params)
    return StageSpec(
        name="calibration",
        function="rlip_assets.labelling.calibration.stage:calibration_stage",
        description="The R-Tagger's scores against human triplets that it was not trained on: how many labels of a score are right.",
        items=(item,) if lineage.params.tagging.calibration != "none" else (),
        group="pseudo_labels",
        torch=True,
        pool="gpu",
        kinds=("pytorch", "json"),
    )


def pseudo_labels(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that scores candidates with the relation source."""
    inputs = {
        "candidates": "data/candidates/{dataset}/{bucket}",
        "scenes": "{boxes}/{bucket}",
        "manifest": manifest_file("{dataset}", "{bucket}"),
        "classes": classes_file("{dataset}"),
    }
    model = lineage.params.tagging.model
    if model is None:
        inputs["r_tagger"] = lineage.tagger
    elif is_folder(model):
        inputs["tagging_model"] = os.path.normpath(model)
    if lineage.params.tagging.calibration != "none":
        inputs["calibration"] = _CALIBRATION
    items = tuple(
        replace(item, inputs={**item.inputs, "decontamination": f"data/decontamination/{dataset}/{bucket}"})
        if dataset in lineage.decontaminated
        else item
        for item, (dataset, bucket) in zip(
            lineage.labelled("pseudo_labels", inputs, "tagging"),
            lineage.buckets(lineage.labelled_here),
            strict=True,
        )
    )
    return StageSpec(
        name="pseudo_labels",
        function="rlip_assets.labelling.tagging:tagging_stage",
        description="Candidates with the relation source's confidence: a scene table like the human ones.",
        items=items,
        group="pseudo_labels",
        torch=True,
        tracked=True,
        pool="gpu",
        kinds=("pytorch", "parquet"),
    )


def label_quality(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that judges pseudo labels: by the truth that the micro world keeps aside, or those of real COCO images by the human
    triplets of real Visual Genome images; without items where there is neither."""
    labels = lineage.labels(lineage.sources.known_truth)
    inputs = {**labels, "truth": "data/truth"} if labels else {}
    params: tuple[str, ...] = ("candidates", "tagging")
    human = ("coco", HUMAN_DATASET)
    if set(human) <= {*lineage.sources.names} and not any(map(lineage.sources.is_drawn, human)):
        inputs |= {
            **lineage.labels(["coco"]),
            "human_scenes": scene_folder(HUMAN_DATASET),
            **lineage.facts(HUMAN_DATASET),
        }
        # The R-Tagger's recipe names the human-annotated images that it was not trained on.
        params += ("training.r_tagger", "external.r_tagger", "external.labels")
    for dataset in lineage.labelled_here:
        if f"pseudo_labels/{dataset}" in inputs:
            inputs |= {f"{step}/{dataset}": f"data/{step}/{dataset}" for step in _BEFORE_TAGGING}
            inputs[f"classes/{dataset}"] = classes_file(dataset)
    if inputs and lineage.params.tagging.calibration != "none":
        inputs["calibration"] = _CALIBRATION
    item = StageItem("label_quality", None, inputs, {"label_quality": "data/label_quality"}, params)
    return StageSpec(
        name="label_quality",
        function="rlip_assets.labelling.quality:quality_stage",
        description="Precision, recall and calibration of the pseudo labels against the truth that was kept aside.",
        items=(item,) if inputs else (),
        group="pseudo_labels",
        tracked=True,
        kinds=("python", "json"),
    )
