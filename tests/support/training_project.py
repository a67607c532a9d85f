"""A profile of drawn images in which the training stages run at toy size."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rlip_assets.datasets.scenes import Scene, make_scene, write_scenes
from rlip_assets.lineage.context import NullLog, StageContext
from rlip_assets.lineage.params import Params
from rlip_model import LabelTokenizer, ModelConfig
from rlip_model.checkpoints.detector import save_detector
from rlip_model.dab_deformable_detr import DabDeformableDetr
from rlip_model.text import build_text_encoder
from tests.support.training_toys import OBJECTS, RELATIONS, draw_scene

CHANGES = {
    "steps": 2,
    "batch_per_process": 4,
    "label_budget": 8,
    "holdout": 0.3,
    "augmentation": {"short_sides": [48], "crop": 0.0, "test_short_side": 48},
}
CLEAN = {"unseen_images": "drop_empty", "unseen_cells": "ignore"}
TRAINING: dict[str, Any] = {
    "r_tagger": {"recipe": "micro_tagger", "changes": CHANGES},
    "pretrain": {"vg_coco": {"recipe": "micro_vg_coco", "changes": CHANGES}},
    "start": "pretrain/vg_coco",
    "finetune": {
        "hico_full": {"recipe": "micro_hico_full", "changes": CHANGES | {"label_budget": 0}},
        "hico_uc_rf": {"recipe": "micro_hico_uc_rf", "changes": CHANGES | {"label_budget": 0}},
        "hico_own": {
            "recipe": "micro_hico_uc_rf",
            "changes": CHANGES
            | {
                "label_budget": 0,
                "own_labels": "hico_det",
                "confidence_weight": True,
                "merge": [0.0, 0.5, 1.0],
                **CLEAN,
            },
        },
        "v_coco": {"recipe": "micro_v_coco", "changes": CHANGES | {"label_budget": 0}},
        "hico_uo": {
            "recipe": "micro_hico_uc_rf",
            "changes": CHANGES | {"label_budget": 0, "unseen": "uo", "unseen_texts": "removed"},
        },
    },
}
POLICIES = ("checkpoints", "tagger_checkpoints")
CLASSES: dict[str, Any] = {
    "objects": list(OBJECTS),
    "relations": list(RELATIONS),
    "hois": [[0, 1], [0, 2], [1, 1], [2, 3]],
    "splits": {"uc_rf": [1], "uo": [3]},
}


class MemoryLog(NullLog):
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.pictures: list[str] = []
        self.steps: list[int] = []

    def model(self, folder: Path) -> None:
        assert (folder / "model.safetensors").is_file()
        self.models.append(folder.name)

    def picture(self, name: str, image: object) -> None:
        self.pictures.append(name)

    def metrics(self, values: object, step: int | None = None) -> None:
        if step is not None:
            self.steps.append(step)


def _own(root: Path, number: int) -> Scene:
    """A HICO-DET image with pseudo labels of its own."""
    scene = draw_scene(number, root / "data/raw/hico_det", triplets=3, pseudo=True)
    return replace(scene, dataset="hico_det", split="test" if number % 5 == 4 else "train")


class Project:
    """A profile's root with drawn datasets and untrained external weights."""

    def __init__(self, root: Path, tokenizer: LabelTokenizer, size: tuple[int, int] | None = None) -> None:
        self.root = root
        self.params = Params.model_validate({"training": TRAINING})
        for dataset in ("visual_genome", "coco", "hico_det", "v_coco"):
            scenes = []
            for number in range(14):
                folder, pseudo = root / "data/raw" / dataset, dataset == "coco"
                scene = draw_scene(number, folder, triplets=2, pseudo=pseudo, size=size)
                scenes.append(replace(scene, dataset=dataset, split="test" if number % 5 == 4 else "train"))
            if dataset == "v_coco":
                scenes[0] = make_scene(
                    "i0",
                    dataset,
                    "train",
                    "0000.png",
                    scenes[0].width,
                    scenes[0].height,
                    [(1, 1, 20, 20)],
                    ["person"],
                    [(0, -1, "stand")],
                )
            write_scenes(root / "data/scenes" / dataset / "bucket-0", scenes)
            (root / f"{dataset}.json").write_text(json.dumps(CLASSES | {"dataset": dataset}))
        labels = [scene for scene in map(partial(_own, root), range(14)) if scene.split == "train"]
        write_scenes(root / "own_labels/bucket-0", labels)
        torch.manual_seed(0)
        config = ModelConfig.preset("micro_parseda")
        save_detector(
            root / "detector", DabDeformableDetr(ModelConfig.preset("micro_detector"), 5), {"classes": []}, half=True
        )
        build_text_encoder(config.text).save_pretrained(root / "text")  # type: ignore[operator]
        tokenizer.save_pretrained(root / "text")

    def context(self, stage: str, partition: str | None, log: NullLog | None = None, name: str = "out") -> StageContext:
        scenes = self.root / "data/scenes"
        benchmark = {"v_coco": "v_coco"}.get(partition or "", "hico_det")
        inputs = {
            "r_tagger": {
                "scenes": scenes / "visual_genome",
                "detector": self.root / "detector",
                "text_encoder": self.root / "text",
            },
            "pretrain": {
                "scenes": scenes / "visual_genome",
                "pseudo_labels/coco": scenes / "coco",
                "detector": self.root / "detector",
                "text_encoder": self.root / "text",
                "benchmark_scenes": scenes / "hico_det",
                "benchmark_classes": self.root / "hico_det.json",
            },
            "predict": {
                "checkpoint": self.root / "out/pretrain-vg_coco/checkpoint",
                "scenes": scenes / benchmark,
                "classes": self.root / f"{benchmark}.json",
            },
            "finetune": {
                "checkpoint": self.root / "out/pretrain-vg_coco/checkpoint",
                "scenes": scenes / benchmark,
                "classes": self.root / f"{benchmark}.json",
            },
        }[stage]
        if partition == "hico_own":
            inputs["pseudo_labels/hico_det"] = self.root / "own_labels"
        outputs = {key: self.root / name / f"{stage}-{partition}" / key for key in ("checkpoint", "predictions")}
        for path in outputs.values():
            path.mkdir(parents=True, exist_ok=True)
        work = self.root / "work" / stage / f"{name}{partition}"
        work.mkdir(parents=True, exist_ok=True)
        return StageContext(stage, partition, self.params, inputs, outputs, work, log or NullLog())
