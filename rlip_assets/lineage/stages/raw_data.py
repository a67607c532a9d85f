"""Stages of raw data: the drawn ones, what they are listed and read as, and images that occur in test splits."""

from __future__ import annotations

from collections.abc import Iterable

from rlip_assets.lineage.datasets import DATASETS, HUMAN_DATASET
from rlip_assets.lineage.layout import classes_file, local_roots, manifest_file, partition_key, scene_folder
from rlip_assets.lineage.spec import StageItem, StageSpec
from rlip_assets.lineage.stages.profile_lineage import ProfileLineage

_RECEIPT = "data/micro_world.json"


def micro_world(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that draws the micro world; without items where every dataset is real."""
    outputs = {"receipt": _RECEIPT}
    if lineage.sources.known_truth:
        outputs["truth"] = "data/truth"
    params = ("micro_world", *(f"sources.{dataset}.root" for dataset in DATASETS if dataset in lineage.sources.names))
    item = StageItem("micro_world", None, {}, outputs, params)
    return StageSpec(
        name="micro_world",
        function="rlip_assets.micro_world.stage:generate_stage",
        description="Procedural scenes drawn with emoji sprites, in the official raw layout of each of the six datasets.",
        items=(item,) if lineage.params.is_micro_world else (),
        group="sources",
    )


def raw_manifest(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that lists raw datasets."""
    return StageSpec(
        name="raw_manifest",
        function="rlip_assets.datasets.sources.stage:raw_manifest_stage",
        description="Names, sizes and checksums of a raw dataset by bucket of image ids, and its classes.",
        items=tuple(
            StageItem(
                "raw_manifest",
                dataset,
                {"receipt": _RECEIPT} if lineage.params.is_micro_world else {},
                {"manifests": f"data/manifests/{dataset}"},
                (lineage.sources.key(dataset),),
                untracked=local_roots(raw=lineage.sources.of(dataset).root),
            )
            for dataset in lineage.read
        ),
        group="sources",
        kinds=("python", "json"),
    )


def scenes(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that makes scene tables."""
    return StageSpec(
        name="scenes",
        function="rlip_assets.datasets.sources.stage:scenes_stage",
        description="One row per image with its entities and, where the dataset has them, human relation triplets.",
        items=tuple(
            StageItem(
                "scenes",
                partition_key(dataset, bucket),
                {"manifest": manifest_file(dataset, bucket), "classes": classes_file(dataset)},
                {"scenes": f"{scene_folder(dataset)}/{bucket}"},
                (lineage.sources.key(dataset),),
            )
            for dataset, bucket in lineage.buckets(lineage.read)
        ),
        group="sources",
        kinds=("python", "parquet"),
    )


def decontamination(lineage: ProfileLineage) -> list[StageSpec]:
    """Return a stage for the images that receive pseudo labels and one for those with human triplets; none where there is nothing to
    compare. The first has all buckets, like its fellows; only those of real datasets are used."""
    labels = _decontamination(
        lineage,
        "decontamination",
        lineage.labelled_here,
        "Images that occur in the test split of a benchmark, by id and by looks: they receive no pseudo labels.",
    )
    human = _decontamination(
        lineage,
        "human_decontamination",
        (HUMAN_DATASET,),
        "Images of Visual Genome that occur in the test split of a benchmark, by id and by looks: nothing is trained on them.",
    )
    return [*([labels] if lineage.decontaminated else []), *([human] if lineage.human_exclusions else [])]


def _decontamination(lineage: ProfileLineage, name: str, datasets: Iterable[str], description: str) -> StageSpec:
    tests = {f"benchmark/{benchmark}": scene_folder(benchmark) for benchmark in lineage.sources.benchmarks}
    items = tuple(
        StageItem(
            name,
            partition_key(dataset, bucket),
            {"scenes": f"{lineage.boxes(dataset)}/{bucket}", **lineage.facts(dataset), **tests},
            {"decontamination": f"data/decontamination/{dataset}/{bucket}"},
            ("decontamination",),
        )
        for dataset, bucket in lineage.buckets(name for name in datasets if name in lineage.sources.names)
    )
    function = "rlip_assets.datasets.decontamination:decontamination_stage"
    return StageSpec(name, function, description, items, group="pseudo_labels", kinds=("python", "json"))
