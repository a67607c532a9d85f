"""Stages of results: figures of the benchmarks, and the report."""

from __future__ import annotations

from rlip_assets.lineage.datasets import HUMAN_DATASET, ZERO_SHOT_BENCHMARK
from rlip_assets.lineage.layout import classes_file, scene_folder
from rlip_assets.lineage.report_files import METRICS_FOLDER, report_plots
from rlip_assets.lineage.spec import StageItem, StageSpec
from rlip_assets.lineage.stages.labelling import label_quality
from rlip_assets.lineage.stages.profile_lineage import ProfileLineage
from rlip_assets.lineage.starts import checkpoint_folder


def benchmark_runs(lineage: ProfileLineage) -> dict[str, str]:
    """Return the benchmark of every run whose predictions are judged."""
    judged = ZERO_SHOT_BENCHMARK in lineage.sources.names
    runs = {f"pretrain-{name}": ZERO_SHOT_BENCHMARK for name in lineage.training.pretrain if judged}
    runs |= {f"finetune-{name}": str(choice.resolve().benchmark) for name, choice in lineage.training.finetune.items()}
    return runs | {f"predict-{name}": choice.on for name, choice in lineage.params.predictions.items()}


def predict(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that predicts benchmarks with checkpoints made before."""
    items = [
        StageItem(
            "predict",
            name,
            {
                "checkpoint": checkpoint_folder(choice.checkpoint),
                "scenes": scene_folder(choice.on),
                "classes": classes_file(choice.on),
            },
            {"predictions": f"data/predictions/predict-{name}"},
            (f"predictions.{name}", "training.device"),
        )
        for name, choice in lineage.params.predictions.items()
    ]
    return StageSpec(
        name="predict",
        function="rlip_assets.inference.benchmark:predict_stage",
        description="The test split of a benchmark, predicted by a checkpoint that was made before, here or elsewhere.",
        items=tuple(items),
        group="benchmarks",
        torch=True,
        tracked=True,
        pool="gpu",
        kinds=("pytorch", "parquet"),
    )


def benchmark(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that judges predictions."""
    return StageSpec(
        name="benchmark",
        function="rlip_assets.evaluation.stage:benchmark_stage",
        description="Predictions judged by the benchmark's published protocol.",
        items=tuple(
            StageItem(
                "benchmark",
                run,
                {
                    "predictions": f"data/predictions/{run}",
                    "scenes": scene_folder(benchmark),
                    "classes": classes_file(benchmark),
                },
                {"benchmark": f"data/benchmarks/{run}"},
                ("benchmarks",),
            )
            for run, benchmark in benchmark_runs(lineage).items()
        ),
        tracked=True,
        measures="predictions",
        group="benchmarks",
        kinds=("python", "json"),
    )


def report(lineage: ProfileLineage) -> StageSpec:
    """Return the stage that reports all results; without items where nothing is judged."""
    training, runs = lineage.training, benchmark_runs(lineage)
    present = {
        "benchmarks": ("data/benchmarks", runs),
        "label_quality": ("data/label_quality", label_quality(lineage).items),
        "pretrained": ("data/models/pretrain", training.pretrain),
        "scenes": (scene_folder(HUMAN_DATASET), HUMAN_DATASET in lineage.sources.names),
        "classes": (classes_file(ZERO_SHOT_BENCHMARK), ZERO_SHOT_BENCHMARK in lineage.sources.names),
    }
    inputs = {name: path for name, (path, there) in present.items() if there}
    inputs |= {f"predictions/{run}": f"data/predictions/{run}" for run in training.pictured_runs if run in runs}
    inputs |= lineage.labels(lineage.sources.detection)
    # Where each fine-tuning starts, and what came from elsewhere; a change is seen by the last stage at the latest.
    params = ["profile", "benchmarks", "training.start", "training.finetune", "external"]
    params += ["predictions"] if lineage.params.predictions else []
    return StageSpec(
        name="report",
        function="rlip_assets.report.stage:report_stage",
        description="Results table in the shape of the published one, data scaling, fusions side by side, pictures.",
        items=(StageItem("report", None, inputs, {"report": "reports"}, tuple(params)),) if runs else (),
        group="benchmarks",
        kinds=("markdown", "html"),
        metrics=(METRICS_FOLDER,),
        plots=report_plots(
            training.pretrain,
            [run for run in training.pictured_runs if run in runs],
            labels="label_quality" in inputs,
        ),
    )
