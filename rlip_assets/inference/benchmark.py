"""Predictions of any checkpoint on the images of any benchmark, for `rlip evaluate` and the benchmark stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlip_assets.datasets.sources.classes import read_classes, trained_datasets
from rlip_assets.datasets.sources.raw_split import write_raw_split
from rlip_assets.datasets.sources.roots import image_root, open_reader
from rlip_assets.evaluation.core.ground_truth import benchmark_scenes
from rlip_assets.inference.relation_detector import RelationDetector
from rlip_assets.lineage.context import StageContext, StageLog
from rlip_assets.lineage.datasets import PERSON_BENCHMARKS
from rlip_assets.lineage.params.sources import SourcesParams
from rlip_assets.lineage.recipes import Augmentation, Combinations, Recipe
from rlip_assets.storage.errors import InputError, ParameterError
from rlip_assets.training.benchmark_predictions import BenchmarkSplit, draw_examples, predict_split
from rlip_assets.training.processes import choose_device
from rlip_assets.training.start import model_config
from rlip_model import Checkpoint


@dataclass(frozen=True)
class Predictor:
    """A checkpoint as it is judged on a benchmark.

    Attributes:
        zero_shot: judged as a network that was not trained on the benchmark.
        unseen: zero-shot setting of its training, whose unseen classes are reported.
    """

    checkpoint: Checkpoint
    name: str
    benchmark: str
    zero_shot: bool
    unseen: str | Combinations | None = None
    batch: int = 16

    @property
    def persons_only(self) -> bool:
        """Return whether pairs whose subject is no person are dropped: the published rule without fine-tuning. A network that was
        fine-tuned on persons alone has learnt nothing about subjects, so the rule does not hold for it on another benchmark."""
        learnt_subjects = bool(self.checkpoint.metadata.get("subject_scores", True))
        return self.zero_shot and self.benchmark in PERSON_BENCHMARKS and learnt_subjects

    def predict(
        self, path: Path, split: BenchmarkSplit, work: Path, metadata: dict[str, Any], log: StageLog, workers: int = 0
    ) -> dict[str, Any]:
        """Write the predictions file of a benchmark's images; a killed call goes on where it was.

        Args:
            work: folder of finished shards; the caller removes it.
            metadata: kept in the file, besides the settings.
        """
        short, longest = self.checkpoint.metadata.get("image_size", (800, 1333))
        rule = "pairs without a person as subject are dropped" if self.persons_only else "all pairs are kept"
        log.info(
            f"{self.name} predicts {len(split.scenes)} images of {self.benchmark} "
            f"{'zero-shot' if self.zero_shot else 'as fine-tuned on it'}: {rule}, short side {short}, label texts "
            f"{self.checkpoint.config.label_texts}"
        )
        settings = {"zero_shot": self.zero_shot, "unseen": self.unseen, "checkpoint": self.name}
        number = predict_split(
            path,
            (self.checkpoint.model, self.checkpoint.tokenizer),
            split,
            Augmentation(test_short_side=int(short), longest=int(longest)),
            work,
            {**metadata, **settings},
            zero_shot=self.persons_only,
            batch=self.batch,
            workers=workers,
            log=log,
        )
        return {"predicted_images": number, "zero_shot": self.zero_shot}


def open_predictor(
    folder: Path,
    benchmark: str,
    device: str,
    *,
    zero_shot: bool | None = None,
    unseen: str | Combinations | None = None,
    recipe: Recipe | None = None,
) -> Predictor:
    """Open a checkpoint to be judged on a benchmark.

    Args:
        zero_shot: None asks the checkpoint whether it was trained on the benchmark.
        unseen: None asks the checkpoint, where it was fine-tuned on the benchmark.
        recipe: the setting whose network this must be, with its batch.

    Raises:
        InputError: no checkpoint, or an R-Tagger, or one that does not say what it was trained on and nobody else does.
        ParameterError: another network than the recipe's.
    """
    detector = RelationDetector.from_pretrained(folder, device)
    checkpoint, trained = detector.checkpoint, trained_datasets(detector.checkpoint.metadata)
    if recipe is not None:
        _check_network(recipe, checkpoint, folder)
    if zero_shot is None:
        if not trained:
            raise InputError(
                f"{folder} does not say what it was trained on: say whether it was fine-tuned on {benchmark} or is judged zero-shot"
            )
        zero_shot = benchmark not in trained
    own = checkpoint.metadata.get("recipe") or checkpoint.metadata
    if unseen is None and not zero_shot:
        unseen = own.get("unseen") or None
        unseen = tuple(map(tuple, unseen)) if isinstance(unseen, list) else unseen
    batch = recipe.batch_per_process if recipe is not None and recipe.kind == "zero_shot" else 16
    return Predictor(checkpoint, detector.name, benchmark, zero_shot, unseen, batch)


def _check_network(recipe: Recipe, checkpoint: Checkpoint, folder: Path) -> None:
    """Refuse a checkpoint of another network than the recipe's. How many queries it has, and how it learnt texts, is its own."""
    wanted = model_config(recipe).without_dropout().to_dict()
    given = checkpoint.config.without_dropout().to_dict()
    for name in wanted:
        if name not in ("queries", "label_texts") and wanted[name] != given[name]:
            raise ParameterError(
                f"{folder} holds a network with {name} = {given[name]}, that of the recipe has {wanted[name]}: name another recipe, or none"
            )


def predict_raw_split(
    predictor: Predictor, root: Path, split: str, folder: Path, work: Path, log: StageLog, workers: int = 0
) -> BenchmarkSplit:
    """Predict a split of a benchmark in its official layout.

    Writes `BENCHMARK.parquet` and, for its evaluation, the scene table `scenes` with `classes.json` and `quarantine.parquet` into `folder`.

    Args:
        work: folder of finished work, which outlives a kill; the caller removes it.

    Raises:
        InputError: no such root, or an annotation file that is missing or damaged.
        DataError: more than 1 % of the images cannot be used.
    """
    benchmark = predictor.benchmark
    if not root.is_dir():
        raise InputError(f"{root} is no folder: give the root of {benchmark} in its official layout")
    sources = SourcesParams.model_validate({benchmark: {"root": str(root.resolve())}})
    tables = folder / "scenes"
    limit = sources.of(benchmark).quarantine_limit
    classes, quarantine = write_raw_split(
        open_reader(sources, benchmark, Path()), split, tables, limit, work / "index", log
    )
    if len(quarantine):
        log.info(f"{len(quarantine)} images or rows cannot be used, {quarantine.rows[0].reason} for example")
    found = BenchmarkSplit(classes, benchmark_scenes(tables, split), root)
    path = folder / f"{benchmark}.parquet"
    predictor.predict(path, found, work / "predictions", {"split": split}, log, workers)
    return found


def predict_stage(ctx: StageContext) -> dict[str, Any]:
    """Predict a benchmark's test split with a checkpoint.

    Inputs: `checkpoint`, `scenes`, `classes`. Output: `predictions`.
    """
    if ctx.partition not in ctx.params.predictions:
        raise ParameterError(
            f"predictions has no entry {ctx.partition!r}; params.yaml has {', '.join(ctx.params.predictions)}"
        )
    choice = ctx.params.predictions[ctx.partition]
    device = str(choose_device(ctx.params.training.device))
    predictor = open_predictor(
        ctx.inputs["checkpoint"],
        choice.on,
        device,
        zero_shot=choice.as_zero_shot,
        unseen=choice.unseen,
        recipe=choice.resolve(),
    )
    classes = read_classes(ctx.inputs["classes"])
    split = BenchmarkSplit(classes, benchmark_scenes(ctx.inputs["scenes"]), image_root(ctx, classes.dataset))
    path = ctx.outputs["predictions"] / f"{classes.dataset}.parquet"
    metadata = {"stage": ctx.stage, "partition": ctx.partition}
    workers = ctx.params.training.workers
    figures = predictor.predict(path, split, ctx.work / "predictions", metadata, ctx.log, workers)
    draw_examples(path, split, predictor.name, ctx.log)
    return figures
