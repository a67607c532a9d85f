"""The stages of the lineage: one table that feeds the command line, `dvc.yaml` and the Dagster assets.

Read it top to bottom as the lineage: raw data, scene tables, captions, triplets, candidates, pseudo labels, pre-training,
fine-tuning, benchmarks, report. The names on the left of each `inputs` and `outputs` mapping are what the stage function
finds in `ctx.inputs` and `ctx.outputs`; the folder of a dataset stands for all buckets inside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from rlip_assets.lineage.datasets import (
    BENCHMARKS,
    DATASETS,
    DETECTION_DATASETS,
    HUMAN_DATASET,
    HUMAN_EXCLUSIONS,
    ZERO_SHOT_BENCHMARK,
)
from rlip_assets.lineage.layout import classes_file, local_roots, manifest_file, partition_key, scene_folder
from rlip_assets.lineage.params import Params, load_params
from rlip_assets.lineage.params.training import DetectorChoice
from rlip_assets.lineage.profiles import relative_project
from rlip_assets.lineage.report_files import METRICS_FOLDER, report_plots
from rlip_assets.lineage.spec import Registry, StageItem, StageSpec
from rlip_assets.lineage.starts import checkpoint_folder, model_folder


def build_registry(params: Params, project: str = ".") -> Registry:
    """Return the stages of a profile with these parameters.

    Args:
        project: path from the profile's root to the project's root, where shipped files lie.
    """
    lineage = _Lineage(params, PurePosixPath(project))
    specs = [
        lineage.micro_world(),
        lineage.raw_manifest(),
        lineage.scenes(),
        lineage.captions(),
        lineage.caption_triplets(),
        lineage.candidates(),
        *lineage.decontamination(),
        lineage.r_tagger(),
        lineage.pseudo_labels(),
        lineage.label_quality(),
        lineage.pretrain(),
        lineage.finetune(),
        lineage.predict(),
        lineage.benchmark(),
        lineage.report(),
    ]
    specs = [spec for spec in specs if spec.items]
    return Registry(specs if params.rehearsal is None else map(_in_rehearsal, specs))


def load_registry(root: Path) -> Registry:
    """Return the stages of the profile whose root folder is `root`."""
    return build_registry(load_params(root / "params.yaml"), relative_project(root))


class _Lineage:
    """One method per stage, in the order of the lineage."""

    def __init__(self, params: Params, project: PurePosixPath) -> None:
        self.params = params
        shipped = project / "rlip_assets/micro_world/starting_weights/weights"
        self.shipped = shipped
        self.text_encoder = params.external.text_encoder or str(shipped / "text_encoder")
        self.tagger = params.external.r_tagger or model_folder("r_tagger")
        self.labelled_here = tuple(d for d in params.sources.detection if d not in params.external.labels)

    def buckets(self, datasets: Iterable[str]) -> list[tuple[str, str]]:
        """(dataset, bucket name) of every bucket."""
        return [
            (dataset, f"bucket-{k}") for dataset in datasets for k in range(self.params.sources.of(dataset).buckets)
        ]

    def detector(self, choice: DetectorChoice) -> str:
        """Return the folder of the detector that a network starts from."""
        return choice.detector or self.params.external.detector or str(self.shipped / "detector")

    def labels(self, datasets: Iterable[str]) -> dict[str, str]:
        """Return the pseudo labels of some datasets as inputs: those made here, or the imported ones."""
        imported = self.params.external.labels
        return {f"pseudo_labels/{d}": imported.get(d, f"data/pseudo_labels/{d}") for d in datasets}

    def labelled(self, stage: str, inputs: Mapping[str, str], *params: str) -> tuple[StageItem, ...]:
        """Items over the buckets that receive pseudo labels; `inputs` may speak of {dataset} and {bucket}."""
        return tuple(
            StageItem(
                stage,
                partition_key(dataset, bucket),
                {name: path.format(dataset=dataset, bucket=bucket) for name, path in inputs.items()},
                {stage: f"data/{stage}/{dataset}/{bucket}"},
                params,
            )
            for dataset, bucket in self.buckets(self.labelled_here)
        )

    def micro_world(self) -> StageSpec:
        outputs = {"receipt": "data/micro_world.json"}
        if self.params.sources.known_truth:
            outputs["truth"] = "data/truth"
        params = ("micro_world", *(f"sources.{dataset}.root" for dataset in DATASETS))
        return StageSpec(
            name="micro_world",
            function="rlip_assets.micro_world.stage:generate_stage",
            description="Procedural scenes drawn with emoji sprites, in the official raw layout of each of the six datasets.",
            items=(StageItem("micro_world", None, {}, outputs, params),),
            group="sources",
        )

    def raw_manifest(self) -> StageSpec:
        return StageSpec(
            name="raw_manifest",
            function="rlip_assets.datasets.sources.stage:raw_manifest_stage",
            description="Names, sizes and checksums of a raw dataset by bucket of image ids, and its classes.",
            items=tuple(
                StageItem(
                    "raw_manifest",
                    dataset,
                    {"receipt": "data/micro_world.json"},
                    {"manifests": f"data/manifests/{dataset}"},
                    (self.params.sources.key(dataset),),
                    untracked=local_roots(raw=self.params.sources.of(dataset).root),
                )
                for dataset in self.params.sources.names
            ),
            group="sources",
            kinds=("python", "json"),
        )

    def scenes(self) -> StageSpec:
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
                    (self.params.sources.key(dataset),),
                )
                for dataset, bucket in self.buckets(self.params.sources.names)
            ),
            group="sources",
            kinds=("python", "parquet"),
        )

    def captions(self) -> StageSpec:
        inputs = {
            "scenes": "data/scenes/{dataset}/{bucket}",
            "manifest": manifest_file("{dataset}", "{bucket}"),
        }
        if self.params.captions.model is None:
            inputs["captioner"] = self.params.external.captioner or str(self.shipped / "captioner")
        oracle, function = self.params.oracle.captions, "rlip_assets.labelling.captions.stage:caption_stage"
        if oracle:
            inputs["truth"] = "data/truth"
            function = "rlip_assets.micro_world.simulated_captions:simulated_caption_stage"
        return StageSpec(
            name="captions",
            function=function,
            description="N nucleus-sampled BLIP captions of every image.",
            items=self.labelled("captions", inputs, "captions", *(["oracle"] if oracle else [])),
            group="captions",
            torch=True,
            tracked=True,
            pool="gpu",
            kinds=("pytorch", "parquet"),
        )

    def caption_triplets(self) -> StageSpec:
        return StageSpec(
            name="caption_triplets",
            function="rlip_assets.labelling.caption_parsing:parse_stage",
            description="Subject, relation and object texts parsed from the captions.",
            items=self.labelled("caption_triplets", {"captions": "data/captions/{dataset}/{bucket}"}, "parsing"),
            group="captions",
            kinds=("python", "parquet"),
        )

    def candidates(self) -> StageSpec:
        inputs = {
            "caption_triplets": "data/caption_triplets/{dataset}/{bucket}",
            "scenes": "data/scenes/{dataset}/{bucket}",
            "classes": classes_file("{dataset}"),
        }
        return StageSpec(
            name="candidates",
            function="rlip_assets.labelling.candidates:candidate_stage",
            description="Caption triplets matched to the boxed classes: which pairs of an image may hold which relation.",
            items=self.labelled("candidates", inputs, "candidates"),
            group="captions",
            kinds=("python", "parquet"),
        )

    @property
    def decontaminated(self) -> tuple[str, ...]:
        """Datasets whose images are compared with test images before they are labelled."""
        if not self.params.decontamination.exclude:
            return ()
        return tuple(dataset for dataset in self.labelled_here if not self.params.sources.is_drawn(dataset))

    def decontamination(self) -> list[StageSpec]:
        """A stage for the images that receive pseudo labels and one for those with human triplets; none where there is nothing to compare.
        The first has all buckets, like its fellows; only those of real datasets are used."""
        labels = self._decontamination(
            "decontamination",
            self.labelled_here,
            "Images that occur in the test split of a benchmark, by id and by looks: they receive no pseudo labels.",
        )
        human = self._decontamination(
            "human_decontamination",
            (HUMAN_DATASET,),
            "Images of Visual Genome that occur in the test split of a benchmark, by id and by looks: nothing is trained on them.",
        )
        return [*([labels] if self.decontaminated else []), *([human] if self.human_exclusions else [])]

    def _decontamination(self, name: str, datasets: Iterable[str], description: str) -> StageSpec:
        tests = {f"benchmark/{benchmark}": scene_folder(benchmark) for benchmark in BENCHMARKS}
        items = tuple(
            StageItem(
                name,
                partition_key(dataset, bucket),
                {"scenes": f"{scene_folder(dataset)}/{bucket}", **tests},
                {"decontamination": f"data/decontamination/{dataset}/{bucket}"},
                ("decontamination",),
            )
            for dataset, bucket in self.buckets(datasets)
        )
        function = "rlip_assets.datasets.decontamination:decontamination_stage"
        return StageSpec(name, function, description, items, group="pseudo_labels", kinds=("python", "json"))

    @property
    def human_exclusions(self) -> dict[str, str]:
        """Return the inputs of trainings on human triplets besides these."""
        if not self.params.decontamination.exclude or self.params.sources.is_drawn(HUMAN_DATASET):
            return {}
        return {HUMAN_EXCLUSIONS: f"data/{HUMAN_EXCLUSIONS}"}

    def r_tagger(self) -> StageSpec:
        inputs = {
            "scenes": scene_folder(HUMAN_DATASET),
            "detector": self.detector(self.params.training.r_tagger),
            "text_encoder": self.text_encoder,
            **self.human_exclusions,
        }
        params = self.params.training.keys("r_tagger", "tagger_checkpoints")
        item = StageItem("r_tagger", None, inputs, {"checkpoint": model_folder("r_tagger")}, params)
        description = "R-Tagger, trained on Visual Genome: says between which boxes a relation text holds."
        needed = self.labelled_here and not self.params.external.r_tagger
        return _training("r_tagger", description, [item] if needed else [], "pseudo_labels")

    def pseudo_labels(self) -> StageSpec:
        inputs = {
            "candidates": "data/candidates/{dataset}/{bucket}",
            "scenes": "data/scenes/{dataset}/{bucket}",
            "manifest": manifest_file("{dataset}", "{bucket}"),
            "classes": classes_file("{dataset}"),
        }
        if self.params.tagging.source == "r_tagger":
            inputs["r_tagger"] = self.tagger
        items = tuple(
            replace(item, inputs={**item.inputs, "decontamination": f"data/decontamination/{dataset}/{bucket}"})
            if dataset in self.decontaminated
            else item
            for item, (dataset, bucket) in zip(
                self.labelled("pseudo_labels", inputs, "tagging"),
                self.buckets(self.labelled_here),
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

    def label_quality(self) -> StageSpec:
        """Measured on the truth that the micro world keeps aside; for real COCO images on human triplets of real Visual Genome images."""
        labels = self.labels(self.params.sources.known_truth)
        inputs = {**labels, "truth": "data/truth"} if labels else {}
        params: tuple[str, ...] = ("tagging",)
        if not any(map(self.params.sources.is_drawn, ("coco", "visual_genome"))):
            inputs |= {**self.labels(["coco"]), "human_scenes": scene_folder(HUMAN_DATASET)}
            params = ("tagging", "training.r_tagger")  # names the human-annotated images that it was not trained on
        return StageSpec(
            name="label_quality",
            function="rlip_assets.labelling.quality:quality_stage",
            description="Precision, recall and calibration of the pseudo labels against the truth that was kept aside.",
            items=(StageItem("label_quality", None, inputs, {"label_quality": "data/label_quality"}, params),),
            group="pseudo_labels",
            tracked=True,
            kinds=("python", "json"),
        )

    def pretrain(self) -> StageSpec:
        always = {
            "scenes": scene_folder(HUMAN_DATASET),
            "text_encoder": self.text_encoder,
            "benchmark_scenes": scene_folder(ZERO_SHOT_BENCHMARK),
            "benchmark_classes": classes_file(ZERO_SHOT_BENCHMARK),
            **self.human_exclusions,
        }
        items = []
        for name, choice in self.params.training.pretrain.items():
            sources = choice.resolve().sources
            inputs = {"scenes": always["scenes"], "detector": self.detector(choice), **always}
            inputs |= self.labels(d for d in self.params.sources.detection if d in sources)
            outputs = {"checkpoint": model_folder("pretrain", name), "predictions": f"data/predictions/pretrain-{name}"}
            params = self.params.training.keys(f"pretrain.{name}")
            items.append(StageItem("pretrain", name, inputs, outputs, params))
        words = "ParSeDA pre-trained on human and pseudo-labelled triplets; ends by predicting HICO-DET zero-shot."
        return _training("pretrain", words, items, "pretraining")

    def finetune(self) -> StageSpec:
        items = []
        for name, choice in self.params.training.finetune.items():
            recipe = choice.resolve()
            benchmark = str(recipe.benchmark)
            inputs = {
                "checkpoint": checkpoint_folder(self.params.training.start_of(name)),
                "scenes": scene_folder(benchmark),
                "classes": classes_file(benchmark),
            }
            if recipe.image_list:
                inputs["image_list"] = recipe.image_list
            outputs = {"checkpoint": model_folder("finetune", name), "predictions": f"data/predictions/finetune-{name}"}
            params = self.params.training.keys(f"finetune.{name}")
            items.append(StageItem("finetune", name, inputs, outputs, params))
        description = "The pre-trained checkpoint fine-tuned on a benchmark; ends by predicting its test split."
        return _training("finetune", description, items, "finetuning")

    def predict(self) -> StageSpec:
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
            for name, choice in self.params.predictions.items()
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

    def benchmark(self) -> StageSpec:
        runs = {f"pretrain-{name}": ZERO_SHOT_BENCHMARK for name in self.params.training.pretrain}
        for name, choice in self.params.training.finetune.items():
            runs[f"finetune-{name}"] = str(choice.resolve().benchmark)
        runs |= {f"predict-{name}": choice.on for name, choice in self.params.predictions.items()}
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
                for run, benchmark in runs.items()
            ),
            tracked=True,
            measures="predictions",
            group="benchmarks",
            kinds=("python", "json"),
        )

    def report(self) -> StageSpec:
        labels = self.labels(DETECTION_DATASETS)
        training = self.params.training
        inputs = {
            "benchmarks": "data/benchmarks",
            "label_quality": "data/label_quality",
            "pretrained": "data/models/pretrain",
            "scenes": scene_folder("visual_genome"),
            "classes": classes_file(ZERO_SHOT_BENCHMARK),
        } | {f"predictions/{run}": f"data/predictions/{run}" for run in training.pictured_runs}
        params = [
            *("profile", "benchmarks", "training.start", "training.finetune"),  # where each fine-tuning starts
            *(["predictions"] if self.params.predictions else []),
        ]
        return StageSpec(
            name="report",
            function="rlip_assets.report.stage:report_stage",
            description="Results table in the shape of the published one, data scaling, ALIF beside late fusion, pictures.",
            items=(StageItem("report", None, inputs | labels, {"report": "reports"}, tuple(params)),),
            group="benchmarks",
            kinds=("markdown", "html"),
            metrics=(METRICS_FOLDER,),
            plots=report_plots(training.pretrain, training.finetune),
        )


def _in_rehearsal(spec: StageSpec) -> StageSpec:
    """Return a stage whose items all declare the limits of the rehearsal, so that nothing of it passes for a result."""
    return replace(spec, items=tuple(replace(item, params=(*item.params, "rehearsal")) for item in spec.items))


def _training(name: str, description: str, items: Iterable[StageItem], group: str) -> StageSpec:
    return StageSpec(
        name=name,
        function=f"rlip_assets.training.stage:{name}_stage",
        description=description,
        items=tuple(items),
        group=group,
        torch=True,
        distributed=True,
        tracked=True,
        pool="gpu",
        kinds=("pytorch", "mlflow"),
    )
