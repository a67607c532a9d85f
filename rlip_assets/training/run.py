"""One training of a stage: train by a recipe, evaluate on the way, choose the result, write the checkpoint, predict the test split."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.datasets.sources.roots import image_root
from rlip_assets.evaluation.core.vocabulary import PERSON
from rlip_assets.evaluation.headlines import EVALUATED, HEADLINE
from rlip_assets.lineage.context import StageContext
from rlip_assets.lineage.datasets import HUMAN_EXCLUSIONS, PERSON_BENCHMARKS, ZERO_SHOT_BENCHMARK
from rlip_assets.lineage.params.training import RecipeChoice
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import ParameterError
from rlip_assets.storage.files import digest_json, write_json, write_text
from rlip_assets.training.benchmark_evaluation import BenchmarkEvaluation, evenly, has_triplets
from rlip_assets.training.benchmark_predictions import BenchmarkSplit, draw_examples, predict_split
from rlip_assets.training.label_lists import benchmark_labels
from rlip_assets.training.loop import Evaluate, Settings, Trainer
from rlip_assets.training.merging import MERGE_FILE, MergeChoice, merge_with_start
from rlip_assets.training.processes import choose_device, join_processes
from rlip_assets.training.resume import HISTORY, History, Resume
from rlip_assets.training.retained import BEST, RetainedCheckpoints, best_step
from rlip_assets.training.run_data import RunData, count_test_images, open_scenes, read_run_data
from rlip_assets.training.start import START_FILE, Start, model_config
from rlip_assets.training.training_images import TrainingImages
from rlip_assets.training.validation import validate
from rlip_model import LabelTokenizer, Rlip, load_checkpoint, save_checkpoint

RETAINED = "kept"
"""Folder inside a checkpoint with those that were retained beside it."""
FREQUENT_TEXTS = 100
"""Object and relation texts that a pre-trained checkpoint offers for photos when the caller names none."""


class TrainingRun:
    """One training of a stage.

    Args:
        choice: the recipe with the profile's changes.
        classes: of the benchmark that is fine-tuned on; None in pre-training.
    """

    def __init__(self, ctx: StageContext, choice: RecipeChoice, classes: Classes | None = None) -> None:
        params = ctx.params.training
        torch.set_num_threads(params.threads)
        self.ctx, self.recipe, self.classes = ctx, choice.resolve(), classes
        self.seed = params.seed if choice.seed is None else choice.seed
        self.device = choose_device(params.device)
        self.processes = join_processes(self.device)
        self.policy = params.tagger_checkpoints if self.recipe.kind == "tagger" else params.checkpoints

    @property
    def name(self) -> str:
        """The network's name, such as "finetune/hico_full"."""
        return "/".join(filter(None, (self.ctx.stage, self.ctx.partition)))

    def run(self, model: Rlip, tokenizer: LabelTokenizer, start: Start, output: Path) -> dict[str, Any]:
        """Train and write the checkpoint folder; return the figures, nothing in a process that is not the first."""
        start = start.relative_to(self.ctx.root)
        self.ctx.log.info(start.sentence())
        self.ctx.log.params({f"start.{role}": folder for role, folder in start.sources.items()})
        data = read_run_data(self.ctx, self.recipe, self.classes, self.seed, self.processes, model.config.pairs)
        self._announce(data)
        resume = Resume(self.ctx.work / "training", digest_json([self.recipe.model_dump(mode="json"), self.seed]))
        retained = self._retained(data)
        before = copy.deepcopy(model.state_dict()) if self.recipe.merge else {}
        choice_of_share = self._choice_of_share(data)
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
            retained,
        )
        history = trainer.run()
        if not self.processes.is_first:
            return {}
        chosen = self._choose(model, history, retained) if retained else {}
        merged = self._merge(model, tokenizer, before, choice_of_share) if self.recipe.merge else None
        held_out = validate(model, tokenizer, self.recipe, data.held_out, self.device)
        self.ctx.log.metrics(held_out, step=len(history.rows))
        figures = {
            "steps": len(history.rows),
            "training_images": len(data.train),
            "test_images_in_training": count_test_images(self.ctx, data.train),
            **({"excluded_images": data.train.excluded} if HUMAN_EXCLUSIONS in self.ctx.inputs else {}),
            **({"emptied_images": data.train.emptied} if self.recipe.unseen_images == "drop_empty" else {}),
            **({"own_alone": data.train.own_alone, "own_labels": data.train.own.account()} if data.train.own else {}),
            "held_out_images": len(data.held_out.images),
            "unreadable_images": history.unreadable_images,
            "cut_pairs": history.cut_pairs,
            "final_loss": _last_mean(history, "loss"),
            **held_out,
            **chosen,
            **({"merge_alpha": merged.alpha} if merged else {}),
        }
        save_checkpoint(output, model, tokenizer, self._metadata(data.train, figures))
        self.ctx.log.model(output)
        write_text(output / HISTORY, history.text())
        write_json(output / START_FILE, start.as_json())
        if merged:
            write_json(output / MERGE_FILE, merged.as_json())
        if retained and retained.folder.is_dir():
            shutil.copytree(retained.folder, output / RETAINED)
        return figures

    def _settings(self, data: RunData) -> Settings:
        params = self.ctx.params.training
        return Settings(
            self.device,
            params.precision,
            params.workers,
            params.checkpoint_every,
            params.gradient_checkpointing,
            data.steps(self.policy.evaluate_every),
        )

    def _retained(self, data: RunData) -> RetainedCheckpoints | None:
        """The checkpoints beside the last state, where the profile asks for any."""
        if self.policy.evaluate_every is None and self.policy.keep_every is None:
            return None
        figure = "held_out_f1" if self.recipe.kind == "tagger" else HEADLINE
        return RetainedCheckpoints(
            self.ctx.work / "training" / RETAINED,
            f"{EVALUATED}{figure}",
            data.steps(self.policy.keep_every),
            self._metadata(data.train, {}),
        )

    def _choose(self, model: Rlip, history: History, retained: RetainedCheckpoints) -> dict[str, Any]:
        """Give the network the weights that are the training's result; return the best step and its figure."""
        best = best_step(history.rows, retained.metric)
        if best is None:
            return {}
        if self.policy.result == "best":
            model.load_state_dict(load_checkpoint(retained.folder / BEST).model.state_dict())
        return {"best_step": best, f"best_{retained.metric}": history.rows[best - 1][retained.metric]}

    def _merge(
        self, model: Rlip, tokenizer: LabelTokenizer, before: Mapping[str, Tensor], evaluate: Evaluate | None
    ) -> MergeChoice:
        """Give the network the weights between its own and those of its start that are best on held-out images."""
        choice = merge_with_start(model, tokenizer, before, self.recipe.merge, evaluate)
        self.ctx.log.info(f"merged with the start: {choice.alpha:g} of the fine-tuned weights")
        return choice

    def _choice_of_share(self, data: RunData) -> Evaluate | None:
        """The evaluation by which `merge` chooses among several shares, on all held-out images.

        Raises:
            ParameterError: they have no triplet to evaluate.
        """
        if len(self.recipe.merge) < 2:
            return None
        scenes = list(data.held_out.images)
        if not has_triplets(scenes):
            lacking = f"none of {len(scenes)} has a seen triplet" if scenes else "there are none"
            raise ParameterError(
                f"merge chooses on held-out images, of which {lacking}; raise holdout, or give one share"
            )
        return self._benchmark_evaluation(scenes)

    def _evaluation(self, data: RunData) -> Evaluate:
        """The evaluation of the network on the way.

        Raises:
            ParameterError: there are no images to evaluate it on.
        """
        scenes = list(data.held_out.images)
        if self.ctx.stage == "pretrain":
            if ZERO_SHOT_BENCHMARK in self.recipe.sources:
                raise ParameterError(
                    f"training.checkpoints.evaluate_every judges zero-shot on {ZERO_SHOT_BENCHMARK}, which this recipe trains on; "
                    "set it to null"
                )
            if "benchmark_scenes" not in self.ctx.inputs:
                raise ParameterError(
                    f"training.checkpoints.evaluate_every judges zero-shot on {ZERO_SHOT_BENCHMARK}, which this profile leaves out; set it "
                    "to null"
                )
            store = open_scenes(self.ctx, self.ctx.inputs["benchmark_scenes"])
            scenes = [store[row] for row in store.indices("train", with_triplets=True).tolist()]
        if self.recipe.kind != "tagger":
            scenes = evenly(scenes, self.policy.evaluate_images)
        if not has_triplets(scenes):
            raise ParameterError(
                f"evaluate_every needs images with triplets that are not trained on, and of {len(scenes)} none has one; set or raise "
                "holdout in the recipe, raise evaluate_images, or set evaluate_every: null"
            )
        if self.recipe.kind == "tagger":
            return lambda model, tokenizer: validate(model, tokenizer, self.recipe, data.held_out, self.device)
        return self._benchmark_evaluation(scenes)

    def _benchmark_evaluation(self, scenes: Sequence[Scene]) -> BenchmarkEvaluation:
        zero_shot = self.ctx.stage == "pretrain"
        dataset = ZERO_SHOT_BENCHMARK if zero_shot else next(iter(self.recipe.sources))
        return BenchmarkEvaluation(
            self.ctx.inputs["benchmark_classes" if zero_shot else "classes"],
            scenes,
            image_root(self.ctx, dataset),
            self.recipe.augmentation,
            self.ctx.work / "evaluation",
            zero_shot=zero_shot,
            workers=self.ctx.params.training.workers,
        )

    def _metadata(self, images: TrainingImages, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Metadata of a checkpoint: how it was made, and defaults for its use on photos.

        The default texts are those of the benchmark, or in pre-training those that the training tables use most.
        """
        augmentation = self.recipe.augmentation
        subjects = self.classes is None or self.classes.dataset not in PERSON_BENCHMARKS
        if self.classes is not None:
            labels = benchmark_labels(self.classes)
            objects, relations = list(labels.real_objects), list(labels.relations)
        else:
            counts = images.object_counts(), images.relation_counts()
            objects, relations = ([text for text, _ in each.most_common(FREQUENT_TEXTS)] for each in counts)
        rehearsal = self.ctx.params.rehearsal
        where = f"{rehearsal}, " if rehearsal else "the micro world, " if self.ctx.params.is_micro_world else ""
        return {
            "name": self.name,
            "trained_on": where + ", ".join(self.recipe.sources),
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
        """Write the predictions of a benchmark's test split in the first process; return their number."""
        if not self.processes.is_first:
            return {}
        store = open_scenes(self.ctx, tables)
        scenes = [store[row] for row in store.indices("test").tolist()]
        split = BenchmarkSplit(classes, scenes, image_root(self.ctx, classes.dataset))
        path = self.ctx.outputs["predictions"] / f"{classes.dataset}.parquet"
        number = predict_split(
            path,
            (model, tokenizer),
            split,
            self.recipe.augmentation,
            self.ctx.work / "predictions",
            {"stage": self.ctx.stage, "partition": self.ctx.partition, "zero_shot": zero_shot},
            zero_shot=zero_shot,
            workers=self.ctx.params.training.workers,
            log=self.ctx.log,
        )
        draw_examples(path, split, self.name, self.ctx.log)
        return {"predicted_images": number}

    def _announce(self, data: RunData) -> None:
        self.ctx.log.params({f"recipe.{name}": value for name, value in self.recipe.model_dump(mode="json").items()})
        self.ctx.log.params(compared(self.recipe) | {"seed": self.seed})
        names = ", ".join(self.recipe.sources)
        if self.ctx.params.training.device == "auto" and self.device.type == "cpu" and torch.cuda.is_available():
            self.ctx.log.info(
                f"{self.processes.count} processes want a GPU each, and {torch.cuda.device_count()} are here: they train on the processor"
            )
        self.ctx.log.info(
            f"training {self.recipe.model} on {len(data.train)} images of {names}, {len(data.parts[0])} steps"
        )


def compared(recipe: Recipe) -> dict[str, Any]:
    """Return the values that tell trainings apart, as columns to group by in a list of runs."""
    config = model_config(recipe)
    return {
        "data_mix": "+".join(recipe.sources),
        "backbone": f"{config.backbone.kind}-{'-'.join(map(str, config.backbone.depths))}",
        "fusion": config.fusion if config.fusion != "alif" else f"alif x {config.fusions}, gate {config.gate}",
        "shots": recipe.image_list or recipe.share,
        "unseen": (recipe.unseen if isinstance(recipe.unseen, str) else f"{len(recipe.unseen)} listed")
        if recipe.unseen
        else "",
    }


def _last_mean(history: History, name: str, steps: int = 20) -> float:
    values = [row[name] for row in history.rows[-steps:]]
    return sum(values) / len(values)
