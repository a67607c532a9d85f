"""The folder of the stand-ins: raw datasets, weights as they come from elsewhere, and what the importing commands make of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from perf.rehearsal.datasets import write_datasets
from perf.rehearsal.doors import rlip
from rlip_assets.micro_world.stage import WRITERS

HICO_ARGUMENTS = {
    "dataset_file": "hico",
    "gating_mechanism": "VXAc",
    "verb_query_tgt_type": "vanilla_MBF",
    "dropout": 0.0,
}
"""Of the command line that a fine-tuning on HICO-DET stores in its checkpoints."""
TAGGER_ARGUMENTS = {"dataset_file": "vg", "gating_mechanism": "GLIP"}
"""Of the command line that the training of the R-Tagger stores in its checkpoints."""


class StandIns:
    """Paths below a folder; each part is written once, whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.raw, files, self.weights = folder / "raw", folder / "files", folder / "weights"
        self.roots = {dataset: self.raw / dataset for dataset in WRITERS}
        self.roberta, self.blip = folder / "roberta-base", folder / "blip-image-captioning-base"
        self.detectors, self.released = files / "detectors", files / "rlipv2_parseda_r50_hico_det.pth"
        self.imported = self.weights / "rlipv2_parseda_r50_hico_det"
        self.released_tagger, self.tagger = files / "rlipv2_tagger_r50_vg.pth", self.weights / "rlipv2_tagger_r50_vg"
        self.labels_file, self.labels = files / "pseudo_labels_coco.json", self.weights / "pseudo_labels_coco"
        self.tagger_detector, self.detector = self.weights / "deformable_detr", self.weights / "dab_deformable_detr"

    def write(self, images: int) -> None:
        """Write what is missing, with `images` images per split of a dataset."""
        from perf.rehearsal import weights

        self.released.parent.mkdir(parents=True, exist_ok=True)
        _once(self.raw, lambda path: write_datasets(path, images))
        _once(self.roberta, weights.write_roberta)
        _once(self.blip, weights.write_blip)
        _once(self.detectors, weights.write_detectors)
        _once(self.released, lambda path: weights.write_released(path, "parseda_r50", HICO_ARGUMENTS))
        _once(self.released_tagger, lambda path: weights.write_released(path, "tagger_r50", TAGGER_ARGUMENTS))

    def import_weights(self) -> None:
        """Import the detectors and the released checkpoints as a user does."""
        names = ("r50_deformable_detr_plus_iterative_bbox_refinement.pth", "dab_deformable_detr_r50.pth")
        for name, folder in zip(names, (self.tagger_detector, self.detector), strict=True):
            if not folder.exists():
                rlip("import-detector", str(self.detectors / name), str(folder))
        for file, folder in ((self.released, self.imported), (self.released_tagger, self.tagger)):
            if not folder.exists():
                rlip("import-checkpoint", str(file), str(folder), "--tokenizer", str(self.roberta))

    def import_labels(self, profile: str, labels: Path) -> None:
        """Write pseudo labels of a profile as a released file has them, and import that file as a user does."""
        self.labels_file.unlink(missing_ok=True)
        rlip("labels", "export", str(labels), "--output", str(self.labels_file), "--profile", profile)
        if not self.labels.exists():
            rlip("labels", "import", str(self.labels_file), "--output", str(self.labels), "--profile", profile)


def _once(path: Path, write: Callable[[Path], object]) -> None:
    if path.exists():
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    write(unfinished)
    unfinished.rename(path)
