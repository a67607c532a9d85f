"""The training stages of the lineage: R-Tagger, pre-training and fine-tuning.

Each one initialises a network, trains it by its recipe, writes the checkpoint with its history, and ends with the predictions that a
benchmark stage judges: pre-training zero-shot on HICO-DET, fine-tuning on the test split of its benchmark.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlip_assets.datasets.decontamination import read_listed
from rlip_assets.datasets.image_identity import image_key
from rlip_assets.datasets.scenes import SceneStore, bucket_folders
from rlip_assets.datasets.sources.classes import Classes, read_classes
from rlip_assets.datasets.sources.roots import image_root
from rlip_assets.evaluation.core.vocabulary import PERSON
from rlip_assets.evaluation.examples import first_examples
from rlip_assets.evaluation.headlines import EVALUATED, HEADLINE
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.params.training import RecipeChoice
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.lineage.registry import ZERO_SHOT_BENCHMARK
from rlip_assets.storage.errors import ParameterError
from rlip_assets.storage.files import digest_json, write_text
from rlip_assets.storage.images import save_picture
from rlip_assets.training.batches import Part, StepBatches
from rlip_assets.training.evaluation import BenchmarkEvaluation, evenly
from rlip_assets.training.few_shot import pairs_with, unseen_pairs, unseen_texts
from rlip_assets.training.kept import BEST, KeptCheckpoints, best_step
from rlip_assets.training.loop import Evaluate, Settings, Trainer
from rlip_assets.training.predict import SCENE_GRAPH_BENCHMARKS, predict, write_predictions
from rlip_assets.training.processes import Processes, choose_device, join_processes
from rlip_assets.training.resume import HISTORY, History, Resume
from rlip_assets.training.sources import ImageSource, TrainingImages, training_images
from rlip_assets.training.start import model_config, network_from_checkpoint, network_from_parts
from rlip_assets.training.validation import validate
from rlip_assets.training.vocabulary import BatchVocabulary, FixedVocabulary, NameSampler, Vocabulary, benchmark_labels
from rlip_model import LabelTokenizer, Rlip, load_checkpoint, save_checkpoint

HUMAN_SOURCE = "visual_genome"
EXCLUSIONS = f"decontamination/{HUMAN_SOURCE}"
KEPT = "kept"
"""Folder of a checkpoint with those that were kept beside it."""
FREQUENT_TEXTS = 100
"""Object and relation texts that a pre-trained checkpoint offers for photos when nobody names any."""


def r_tagger_stage(ctx: StageContext) -> dict[str, Any]:
    """Train the R-Tagger on the human triplets of Visual Genome.

    Inputs: `scenes` (tables of Visual Genome), `detector`, `text_encoder`, and `decontamination/visual_genome` (folder of buckets) where
    images may be those of a test split. Output: `checkpoint`.
    """
    choice = ctx.params.training.r_tagger
    recipe = choice.resolve()
    training = _Training(ctx, choice, _sources(ctx, recipe))
    model, tokenizer = network_from_parts(recipe, ctx.inputs["detector"], ctx.inputs["text_encoder"], training.seed)
    figures = training.run(model, tokenizer, ctx.outputs["checkpoint"])
    ctx.log.model("r_tagger", ctx.outputs["checkpoint"])
    return figures


def pretrain_stage(ctx: StageContext) -> dict[str, Any]:
    """Pre-train on human triplets and pseudo labels, then predict HICO-DET's test split with its texts, unseen until then.

    Inputs: `scenes`, `pseudo_labels/DATASET`, `detector`, `text_encoder`, `benchmark_scenes`, `benchmark_classes`, and
    `decontamination/visual_genome` as in `r_tagger_stage`. Outputs: `checkpoint`, `predictions`.
    """
    choice = _choice(ctx.params.training.pretrain, ctx.partition)
    recipe = choice.resolve()
    training = _Training(ctx, choice, _sources(ctx, recipe))
    model, tokenizer = network_from_parts(recipe, ctx.inputs["detector"], ctx.inputs["text_encoder"], training.seed)
    figures = training.run(model, tokenizer, ctx.outputs["checkpoint"])
    classes = read_classes(ctx.inputs["benchmark_classes"])
    figures |= training.predict(model, tokenizer, classes, ctx.inputs["benchmark_scenes"], zero_shot=True)
    ctx.log.model("rlip-pretrained", ctx.outputs["checkpoint"])
    return figures


def finetune_stage(ctx: StageContext) -> dict[str, Any]:
    """Fine-tune a pre-trained network on a benchmark, then predict its test split.

    Inputs: `checkpoint`, `scenes`, `classes`, and `image_list` where the recipe names one. Outputs: `checkpoint`, `predictions`.
    """
    choice = _choice(ctx.params.training.finetune, ctx.partition)
    recipe = choice.resolve()
    classes = read_classes(ctx.inputs["classes"])
    training = _Training(ctx, choice, _sources(ctx, recipe), classes)
    model, tokenizer = network_from_checkpoint(recipe, ctx.inputs["checkpoint"])
    figures = training.run(model, tokenizer, ctx.outputs["checkpoint"])
    return figures | training.predict(model, tokenizer, classes, ctx.inputs["scenes"], zero_shot=False)


@dataclass(frozen=True)
class _Data:
    """What a training reads: images of this process's parts, and held-out ones."""

    train: TrainingImages
    parts: list[StepBatches]
    held_out: StepBatches


class _Training:
    """One training of a stage: its data, its place in the work folder and what it writes."""

    def __init__(
        self, ctx: StageContext, choice: RecipeChoice, sources: list[ImageSource], classes: Classes | None = None
    ) -> None:
        params = ctx.params.training
        torch.set_num_threads(params.threads)
        self.ctx, self.recipe, self.sources, self.classes = ctx, choice.resolve(), sources, classes
        self.seed = params.seed if choice.seed is None else choice.seed
        self.device = choose_device(params.device)
        self.processes: Processes = join_processes(self.device)
        self.policy = params.tagger_checkpoints if self.recipe.kind == "tagger" else params.checkpoints

    @property
    def name(self) -> str:
        """The network's name, such as "finetune/hico_full"."""
        return "/".join(filter(None, (self.ctx.stage, self.ctx.partition)))

    def run(self, model: Rlip, tokenizer: LabelTokenizer, output: Path) -> dict[str, Any]:
        """Train and write the checkpoint folder; returns the figures, nothing in a process that is not the first."""
        data = self._data(model.config.pairs)
        self._announce(data)
        resume = Resume(self.ctx.work / "training", digest_json([self.recipe.model_dump(mode="json"), self.seed]))
        kept = self._kept(data)
        trainer = Trainer(
            model.to(self.device),
            tokenizer,
            self.recipe,
            data.parts,
            self._settings(data),
            self.processes,
            self.seed,
            self.ctx.log,
            resume,
            self._evaluation(data) if self.policy.evaluate_every else None,
            kept,
        )
        history = trainer.run()
        if not self.processes.is_first:
            return {}
        chosen = self._choose(model, history, kept) if kept else {}
        held_out = validate(model, tokenizer, self.recipe, data.held_out, self.device)
        self.ctx.log.metrics(held_out, step=len(history.rows))
        figures = {
            "steps": len(history.rows),
            "training_images": len(data.train),
            "test_images_in_training": self._test_images(data.train),
            **({"excluded_images": data.train.excluded} if EXCLUSIONS in self.ctx.inputs else {}),
            "held_out_images": len(data.held_out.images),
            "unreadable_images": trainer.counters.skipped_images,
            "cut_pairs": trainer.counters.cut_pairs,
            "final_loss": _last_mean(history, "loss"),
            **held_out,
            **chosen,
        }
        save_checkpoint(output, model, tokenizer, self._metadata(data.train, figures))
        write_text(output / HISTORY, history.text())
        if kept and kept.folder.is_dir():
            shutil.copytree(kept.folder, output / KEPT)
        return figures

    def _settings(self, data: _Data) -> Settings:
        params = self.ctx.params.training
        return Settings(
            self.device,
            params.precision,
            params.workers,
            params.checkpoint_every,
            params.gradient_checkpointing,
            self._steps(self.policy.evaluate_every, data),
        )

    @staticmethod
    def _steps(epochs: float | None, data: _Data) -> int | None:
        return None if epochs is None else max(1, round(epochs * data.parts[0].steps_per_epoch))

    def _kept(self, data: _Data) -> KeptCheckpoints | None:
        """Checkpoints beside the last state, where the profile asks for any."""
        if self.policy.evaluate_every is None and self.policy.keep_every is None:
            return None
        figure = "held_out_f1" if self.recipe.kind == "tagger" else HEADLINE
        return KeptCheckpoints(
            self.ctx.work / "training" / KEPT,
            f"{EVALUATED}{figure}",
            self._steps(self.policy.keep_every, data),
            self._metadata(data.train, {}),
        )

    def _choose(self, model: Rlip, history: History, kept: KeptCheckpoints) -> dict[str, Any]:
        """Give the network the weights that are the training's result; returns which step is the best, and its figure."""
        best = best_step(history.rows, kept.metric)
        if best is None:
            return {}
        if self.policy.result == "best":
            model.load_state_dict(load_checkpoint(kept.folder / BEST).model.state_dict())
        return {"best_step": best, f"best_{kept.metric}": history.rows[best - 1][kept.metric]}

    def _evaluation(self, data: _Data) -> Evaluate:
        """How the network is judged on the way.

        Raises:
            ParameterError: there are no images to judge it on.
        """
        held = data.held_out.images
        scenes, root, classes = [held[index] for index in range(len(held))], self.sources[0].image_root, "classes"
        if self.ctx.stage == "pretrain":
            if ZERO_SHOT_BENCHMARK in self.recipe.sources:
                raise ParameterError(
                    f"training.checkpoints.evaluate_every judges zero-shot on {ZERO_SHOT_BENCHMARK}, which this recipe trains on; "
                    "set it to null"
                )
            store = SceneStore.open(bucket_folders(self.ctx.inputs["benchmark_scenes"]), _cache(self.ctx))
            scenes = [store[row] for row in store.indices("train", with_triplets=True).tolist()]
            root, classes = image_root(self.ctx, ZERO_SHOT_BENCHMARK), "benchmark_classes"
        if not scenes:
            raise ParameterError(
                "training.checkpoints.evaluate_every needs images that are not trained on; set holdout in the recipe, or "
                "evaluate_every: null"
            )
        if self.recipe.kind == "tagger":
            return lambda model, tokenizer: validate(model, tokenizer, self.recipe, data.held_out, self.device)
        return BenchmarkEvaluation(
            self.ctx.inputs[classes],
            evenly(scenes, self.policy.evaluate_images),
            root,
            self.recipe.augmentation,
            self.ctx.work / "evaluation",
            zero_shot=self.ctx.stage == "pretrain",
            options={"workers": self.ctx.params.training.workers},
        )

    def _metadata(self, images: TrainingImages, figures: Mapping[str, Any]) -> dict[str, Any]:
        """What travels with a checkpoint: how it was made, and what somebody who opens it for a photo need not know.

        A network that was not fine-tuned on a benchmark's closed list is asked for the texts that its training tables use most.
        """
        augmentation = self.recipe.augmentation
        subjects = self.classes is None or self.classes.dataset in SCENE_GRAPH_BENCHMARKS
        if self.classes is not None:
            labels = benchmark_labels(self.classes)
            objects, relations = list(labels.real_objects), list(labels.relations)
        else:
            counts = images.object_counts(), images.relation_counts()
            objects, relations = ([text for text, _ in each.most_common(FREQUENT_TEXTS)] for each in counts)
        where = "the micro world, " if self.ctx.params.is_micro_world else ""
        return {
            "name": self.name,
            "trained_on": where + ", ".join(source.name for source in self.sources),
            "image_size": [augmentation.test_short_side, augmentation.longest],
            "objects": objects,
            "relations": relations,
            "subject_scores": subjects,
            "subject": PERSON,
            "stage": self.ctx.stage,
            "partition": self.ctx.partition,
            "recipe": self.recipe.model_dump(mode="json"),
            "seed": self.seed,
            "figures": dict(figures),
        }

    def predict(
        self, model: Rlip, tokenizer: LabelTokenizer, classes: Classes, tables: Path, *, zero_shot: bool
    ) -> dict[str, Any]:
        """Write the predictions of a benchmark's test split; the first process does it alone."""
        if not self.processes.is_first:
            return {}
        store = SceneStore.open(bucket_folders(tables), _cache(self.ctx))
        scenes = [store[row] for row in store.indices("test").tolist()]
        root = image_root(self.ctx, classes.dataset)
        found = predict(
            model,
            tokenizer,
            classes,
            scenes,
            root,
            self.recipe.augmentation,
            zero_shot=zero_shot,
            workers=self.ctx.params.training.workers,
            log=self.ctx.log,
        )
        metadata = {"stage": self.ctx.stage, "partition": self.ctx.partition, "zero_shot": zero_shot}
        path = self.ctx.outputs["predictions"] / f"{classes.dataset}.parquet"
        number = write_predictions(path, classes, found, metadata)
        for example in first_examples(path, scenes, root, self.name):
            name = f"{classes.dataset}_{example.name}"
            self.ctx.log.picture(name, example.picture)
            save_picture(self.ctx.outputs["predictions"] / f"{name}.png", example.picture)
        return {"predicted_images": number}

    def _data(self, slots: int) -> _Data:
        recipe, unseen = self.recipe, self._unseen()
        image_list = self.ctx.inputs.get("image_list")
        train, held = training_images(recipe, self.sources, unseen, _cache(self.ctx), self.seed, image_list)
        vocabulary = self._vocabulary(train)
        count = self.processes.count * recipe.accumulate
        if count > recipe.total_batch:
            raise ParameterError(
                f"{self.processes.count} processes with {recipe.accumulate} parts each cannot share a batch of {recipe.total_batch} "
                "images; lower training.processes or accumulate, or raise batch_per_process"
            )
        if recipe.published.part_counts and count != recipe.processes:
            self.ctx.log.info(
                f"the recipe's losses are those of {recipe.processes} parts (published.part_counts), this run has {count}: for its losses "
                f"let training.processes times accumulate be {recipe.processes}"
            )
        parts = [
            StepBatches(
                train,
                vocabulary,
                recipe,
                slots,
                self.seed,
                unseen,
                Part(self.processes.index * recipe.accumulate + index, count),
            )
            for index in range(recipe.accumulate)
        ]
        return _Data(train, parts, StepBatches(held, vocabulary, recipe, slots, self.seed, unseen, training=False))

    def _test_images(self, images: TrainingImages) -> int:
        """How many training images are, by their ids, test images of a benchmark whose tables this stage reads."""
        tests = set()
        for name in ("scenes", "benchmark_scenes"):
            if name in self.ctx.inputs:
                store = SceneStore.open(bucket_folders(self.ctx.inputs[name]), _cache(self.ctx))
                scenes = (store[row] for row in store.indices("test").tolist())
                tests |= {image_key(scene.dataset, scene.image_id) for scene in scenes}
        return sum(key in tests for key in images.image_keys())

    def _vocabulary(self, images: TrainingImages) -> Vocabulary:
        if self.classes is not None:
            objects, relations = self._removed_texts(self.classes)
            return FixedVocabulary(benchmark_labels(self.classes).without(objects, relations), objects)
        samplers = NameSampler(images.object_counts()), NameSampler(images.relation_counts())
        return BatchVocabulary(*samplers, self.recipe.label_budget, self.recipe.synonym_guard)

    def _unseen(self) -> frozenset[tuple[str, str]]:
        """(relation, object) texts that no training target may have.

        Raises:
            ParameterError: the recipe has a zero-shot split, and the stage no benchmark to split.
        """
        if self.recipe.unseen is None:
            return frozenset()
        if self.classes is None:
            raise ParameterError(
                f"the recipe's unseen: {self.recipe.unseen} needs the classes of a benchmark, which only fine-tuning has; set it to null"
            )
        return unseen_pairs(self.classes, self.recipe.unseen) | pairs_with(
            self.classes, *self._removed_texts(self.classes)
        )

    def _removed_texts(self, classes: Classes) -> tuple[frozenset[str], frozenset[str]]:
        """Object and relation texts that training does not see."""
        if self.recipe.unseen is None or self.recipe.unseen_texts == "kept":
            return frozenset(), frozenset()
        return unseen_texts(classes, self.recipe.unseen)

    def _announce(self, data: _Data) -> None:
        self.ctx.log.params({f"recipe.{name}": value for name, value in self.recipe.model_dump(mode="json").items()})
        self.ctx.log.params(compared(self.recipe))
        names = ", ".join(source.name for source in self.sources)
        self.ctx.log.info(
            f"training {self.recipe.model} on {len(data.train)} images of {names}, {len(data.parts[0])} steps"
        )


def compared(recipe: Recipe) -> dict[str, Any]:
    """What trainings are told apart by, one short value each: columns to group by in a list of runs."""
    config = model_config(recipe)
    return {
        "data_mix": "+".join(recipe.sources),
        "backbone": f"{config.backbone.kind}-{'-'.join(map(str, config.backbone.depths))}",
        "fusion": config.fusion if config.fusion != "alif" else f"alif x {config.fusions}, gate {config.gate}",
        "shots": recipe.image_list or recipe.share,
        "unseen": recipe.unseen or "",
    }


def _choice(choices: Mapping[str, RecipeChoice], partition: str | None) -> RecipeChoice:
    if partition is None or partition not in choices:
        raise ParameterError(f"training has no recipe for {partition!r}; params.yaml knows {', '.join(choices)}")
    return choices[partition]


def _sources(ctx: StageContext, recipe: Recipe) -> list[ImageSource]:
    """Tables and image folder of every source: pseudo labels where the stage has them, the human triplets otherwise."""
    found = []
    for name in recipe.sources:
        labelled, benchmark = f"pseudo_labels/{name}", name == ZERO_SHOT_BENCHMARK and "benchmark_scenes" in ctx.inputs
        folder = ctx.inputs.get(labelled) or ctx.inputs["benchmark_scenes" if benchmark else "scenes"]
        excluded = _excluded(ctx) if name == HUMAN_SOURCE else frozenset[str]()
        found.append(ImageSource(name, tuple(bucket_folders(folder)), image_root(ctx, name), excluded))
    return found


def _excluded(ctx: StageContext) -> frozenset[str]:
    """Images of Visual Genome that occur in the test split of a benchmark, where the profile looks for them."""
    listed = ctx.inputs.get(EXCLUSIONS)
    return frozenset().union(*map(read_listed, bucket_folders(listed))) if listed else frozenset()


def _cache(ctx: StageContext) -> Path:
    """Memory-mapped scene tables, shared by all stages; can be deleted at any time."""
    return ctx.shared / "scene_cache"


def _last_mean(history: History, name: str, steps: int = 20) -> float:
    values = [row[name] for row in history.rows[-steps:]]
    return sum(values) / len(values)
