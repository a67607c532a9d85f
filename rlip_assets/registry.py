"""The stages of the lineage: one table that feeds the command line, `dvc.yaml` and the Dagster assets.

Read it top to bottom as the lineage: raw data -> scene tables -> captions -> triplets -> candidates -> pseudo labels -> pre-training
-> fine-tuning -> benchmarks -> report. The names on the left of each `inputs` and `outputs` mapping are what the stage function finds in
`ctx.inputs` and `ctx.outputs`; folders stand for all buckets inside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rlip_assets.params import Params, load_params
from rlip_assets.stage_spec import Registry, StageItem, StageSpec

DETECTION_DATASETS = ("coco", "objects365")
"""Datasets with boxes but no relations: they receive pseudo labels."""

BUCKETS = {"visual_genome": 1, "coco": 2, "objects365": 2, "open_images": 1, "hico_det": 1, "v_coco": 1}
WEIGHTS = "rlip_assets/external_weights/weights"

PRETRAIN_SOURCES: dict[str, tuple[str, ...]] = {
    "vg": (),
    "vg_coco": ("coco",),
    "vg_coco_o365": ("coco", "objects365"),
    "late_vg_coco_o365": ("coco", "objects365"),
}
FINETUNE_BENCHMARKS = {
    "hico_full": "hico_det",
    "hico_10": "hico_det",
    "hico_1": "hico_det",
    "hico_uc_rf": "hico_det",
    "hico_uc_nf": "hico_det",
    "v_coco": "v_coco",
    "open_images": "open_images",
}


def _scenes(dataset: str) -> str:
    return f"data/scenes/{dataset}"


def _classes(dataset: str) -> str:
    return f"data/manifests/{dataset}/classes.json"


def _buckets(dataset: str) -> list[int]:
    return list(range(BUCKETS[dataset]))


def _micro_world() -> StageSpec:
    item = StageItem(
        "micro_world", None, {}, {"receipt": "data/micro_world.json", "truth": "data/truth"}, ("micro_world",)
    )
    return StageSpec(
        name="micro_world",
        function="rlip_assets.micro_world.stage:generate_stage",
        description="Procedural scenes drawn with emoji sprites, on disk in the official raw layout of each of the six datasets.",
        items=(item,),
        group="sources",
        kinds=("python",),
    )


def _raw_manifest() -> StageSpec:
    items = tuple(
        StageItem(
            "raw_manifest",
            dataset,
            {"receipt": "data/micro_world.json"},
            {f"bucket-{k}": f"data/manifests/{dataset}/bucket-{k}.json" for k in _buckets(dataset)}
            | {"classes": _classes(dataset)},
            (f"sources.{dataset}",),
        )
        for dataset in BUCKETS
    )
    return StageSpec(
        name="raw_manifest",
        function="rlip_assets.sources.stage:raw_manifest_stage",
        description="Names, sizes and checksums of a raw dataset, by bucket of image ids, and its classes; what DVC versions in the place of raw data.",
        items=items,
        group="sources",
        kinds=("json",),
    )


def _scene_tables() -> StageSpec:
    items = tuple(
        StageItem(
            "scenes",
            f"{dataset}-{k}",
            {"manifest": f"data/manifests/{dataset}/bucket-{k}.json", "classes": _classes(dataset)},
            {"scenes": f"data/scenes/{dataset}/bucket-{k}"},
            (f"sources.{dataset}",),
        )
        for dataset in BUCKETS
        for k in _buckets(dataset)
    )
    return StageSpec(
        name="scenes",
        function="rlip_assets.sources.stage:scenes_stage",
        description="Scene tables: one row an image with its entities and, where people drew them, relation triplets.",
        items=items,
        group="sources",
        kinds=("parquet",),
    )


def _bucketed(stage: str, params: tuple[str, ...], inputs: Mapping[str, str]) -> tuple[StageItem, ...]:
    """Items of a stage over the buckets of the detection datasets; `inputs` may use {dataset} and {bucket}."""
    return tuple(
        StageItem(
            stage,
            f"{dataset}-{k}",
            {name: path.format(dataset=dataset, bucket=f"bucket-{k}") for name, path in inputs.items()},
            {stage: f"data/{stage}/{dataset}/bucket-{k}"},
            params,
        )
        for dataset in DETECTION_DATASETS
        for k in _buckets(dataset)
    )


def _captions() -> StageSpec:
    return StageSpec(
        name="captions",
        function="rlip_assets.captions:caption_stage",
        description="N nucleus-sampled BLIP captions of every image.",
        items=_bucketed(
            "captions", ("captions",), {"scenes": "data/scenes/{dataset}/{bucket}", "captioner": f"{WEIGHTS}/captioner"}
        ),
        group="captions",
        torch=True,
        pool="gpu",
        kinds=("pytorch", "parquet"),
    )


def _caption_triplets() -> StageSpec:
    return StageSpec(
        name="caption_triplets",
        function="rlip_assets.scene_graphs:parse_stage",
        description="Subject, relation and object texts parsed from the captions.",
        items=_bucketed("caption_triplets", ("parsing",), {"captions": "data/captions/{dataset}/{bucket}"}),
        group="captions",
        kinds=("parquet",),
    )


def _candidates() -> StageSpec:
    return StageSpec(
        name="candidates",
        function="rlip_assets.candidates:candidate_stage",
        description="Caption triplets matched to the classes that are boxed in the image: which pairs may hold which relation.",
        items=_bucketed(
            "candidates",
            ("candidates",),
            {
                "caption_triplets": "data/caption_triplets/{dataset}/{bucket}",
                "scenes": "data/scenes/{dataset}/{bucket}",
                "classes": "data/manifests/{dataset}/classes.json",
            },
        ),
        group="captions",
        kinds=("parquet",),
    )


def _r_tagger() -> StageSpec:
    inputs = {
        "scenes": _scenes("visual_genome"),
        "detector": f"{WEIGHTS}/detector",
        "text_encoder": f"{WEIGHTS}/text_encoder",
    }
    return StageSpec(
        name="r_tagger",
        function="rlip_assets.training.stages:r_tagger_stage",
        description="R-Tagger: given boxes, labels and relation texts, says between which pairs a relation holds. Trained on Visual Genome.",
        items=(StageItem("r_tagger", None, inputs, {"checkpoint": "data/models/r_tagger"}, ("training",)),),
        group="pseudo_labels",
        torch=True,
        pool="gpu",
        kinds=("pytorch", "mlflow"),
    )


def _pseudo_labels() -> StageSpec:
    return StageSpec(
        name="pseudo_labels",
        function="rlip_assets.pseudo_labels:tagging_stage",
        description="Candidates with the R-Tagger's confidence: a scene table like the human ones.",
        items=_bucketed(
            "pseudo_labels",
            ("tagging",),
            {
                "candidates": "data/candidates/{dataset}/{bucket}",
                "scenes": "data/scenes/{dataset}/{bucket}",
                "classes": "data/manifests/{dataset}/classes.json",
                "r_tagger": "data/models/r_tagger",
            },
        ),
        group="pseudo_labels",
        torch=True,
        pool="gpu",
        kinds=("pytorch", "parquet"),
    )


def _label_quality() -> StageSpec:
    inputs = {f"pseudo_labels/{dataset}": f"data/pseudo_labels/{dataset}" for dataset in DETECTION_DATASETS} | {
        "truth": "data/truth"
    }
    return StageSpec(
        name="label_quality",
        function="rlip_assets.label_quality:quality_stage",
        description="Precision, recall and calibration of the pseudo labels against the truth that was kept aside.",
        items=(StageItem("label_quality", None, inputs, {"label_quality": "data/label_quality"}, ("tagging",)),),
        group="pseudo_labels",
        kinds=("json",),
    )


def _pretrain() -> StageSpec:
    def inputs(sources: tuple[str, ...]) -> dict[str, str]:
        return {
            "scenes": _scenes("visual_genome"),
            "detector": f"{WEIGHTS}/detector",
            "text_encoder": f"{WEIGHTS}/text_encoder",
            "benchmark_scenes": _scenes("hico_det"),
            "benchmark_classes": _classes("hico_det"),
        } | {f"pseudo_labels/{dataset}": f"data/pseudo_labels/{dataset}" for dataset in sources}

    items = tuple(
        StageItem(
            "pretrain",
            recipe,
            inputs(sources),
            {"checkpoint": f"data/models/pretrain/{recipe}", "predictions": f"data/predictions/pretrain-{recipe}"},
            ("training",),
        )
        for recipe, sources in PRETRAIN_SOURCES.items()
    )
    return StageSpec(
        name="pretrain",
        function="rlip_assets.training.stages:pretrain_stage",
        description="ParSeDA pre-trained on human and pseudo-labelled triplets; predicts HICO-DET's test split without fine-tuning at the end.",
        items=items,
        group="pretraining",
        torch=True,
        pool="gpu",
        kinds=("pytorch", "mlflow"),
    )


def _finetune() -> StageSpec:
    items = tuple(
        StageItem(
            "finetune",
            recipe,
            {
                "checkpoint": "data/models/pretrain/vg_coco_o365",
                "scenes": _scenes(benchmark),
                "classes": _classes(benchmark),
            },
            {"checkpoint": f"data/models/finetune/{recipe}", "predictions": f"data/predictions/finetune-{recipe}"},
            ("training",),
        )
        for recipe, benchmark in FINETUNE_BENCHMARKS.items()
    )
    return StageSpec(
        name="finetune",
        function="rlip_assets.training.stages:finetune_stage",
        description="The pre-trained checkpoint fine-tuned on a benchmark's training split; predicts the test split at the end.",
        items=items,
        group="finetuning",
        torch=True,
        pool="gpu",
        kinds=("pytorch", "mlflow"),
    )


def _benchmark() -> StageSpec:
    runs = {f"pretrain-{recipe}": "hico_det" for recipe in PRETRAIN_SOURCES}
    runs |= {f"finetune-{recipe}": benchmark for recipe, benchmark in FINETUNE_BENCHMARKS.items()}
    items = tuple(
        StageItem(
            "benchmark",
            run,
            {"predictions": f"data/predictions/{run}", "scenes": _scenes(benchmark), "classes": _classes(benchmark)},
            {"benchmark": f"data/benchmarks/{run}"},
            ("benchmarks",),
        )
        for run, benchmark in runs.items()
    )
    return StageSpec(
        name="benchmark",
        function="rlip_assets.benchmarks.stage:benchmark_stage",
        description="Predictions judged by the benchmark's published protocol.",
        items=items,
        group="benchmarks",
        kinds=("json", "parquet"),
    )


def _report() -> StageSpec:
    inputs = {"benchmarks": "data/benchmarks", "label_quality": "data/label_quality"}
    return StageSpec(
        name="report",
        function="rlip_assets.report.stage:report_stage",
        description="The results table in the shape of the published one, data scaling, ALIF beside late fusion, label quality, pictures.",
        items=(StageItem("report", None, inputs, {"report": "reports"}),),
        group="benchmarks",
        kinds=("markdown", "html"),
    )


def build_registry(params: Params) -> Registry:
    """The stages of a profile with these parameters."""
    return Registry(
        [
            _micro_world(),
            _raw_manifest(),
            _scene_tables(),
            _captions(),
            _caption_triplets(),
            _candidates(),
            _r_tagger(),
            _pseudo_labels(),
            _label_quality(),
            _pretrain(),
            _finetune(),
            _benchmark(),
            _report(),
        ]
    )


def load_registry(root: Path) -> Registry:
    """The stages of the profile whose root folder is `root`."""
    return build_registry(load_params(root / "params.yaml"))
