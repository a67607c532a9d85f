"""Figures on held-out training images, by which thresholds and lengths of training are chosen: no test image decides anything."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from rlip_assets.lineage.recipes import Recipe
from rlip_assets.training.batches import Batch
from rlip_assets.training.loop import loss_config
from rlip_model import LabelTokenizer, ModelOutput, RelationCriterion, Rlip
from rlip_model.losses import TERM_NAMES

THRESHOLDS = np.round(np.arange(0.05, 0.96, 0.05), 2)


@torch.no_grad()
def validate(
    model: Rlip, tokenizer: LabelTokenizer, recipe: Recipe, batches: Dataset[Batch], device: torch.device
) -> dict[str, float]:
    """Return mean losses on held-out images, and for an R-Tagger its best threshold. Empty without images."""
    criterion = RelationCriterion(loss_config(recipe))
    totals: dict[str, float] = {}
    scored: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]] = []
    images = 0
    model.eval()
    for batch in DataLoader(batches, batch_size=None):
        batch = batch.to(device)
        pooled = model.encode_text(*(ids.to(device) for ids in tokenizer(batch.labels.texts)))
        output = model(batch.images, batch.mask, pooled, batch.labels.num_objects, pairs=batch.pairs)
        losses = criterion(
            output, batch.targets, pooled=pooled, num_objects=batch.labels.num_objects, ignored=batch.ignored
        )
        number = len(batch.image_ids)
        images += number
        for name, value in {"loss": losses.total, **{name: losses.terms[name] for name in TERM_NAMES}}.items():
            totals[name] = totals.get(name, 0.0) + float(value) * number
        if recipe.kind == "tagger":
            scored += tagger_scores(output, batch)
    figures = {f"held_out_{name}": value / images for name, value in totals.items()}
    return figures | (best_threshold(scored) if scored else {})


def tagger_scores(output: ModelOutput, batch: Batch) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]:
    """Return per image the scores of all (pair, relation) cells, and whether each is annotated."""
    scores = output.relation_logits[-1].sigmoid().cpu().numpy()
    return [
        (scores[row, : len(target)].ravel(), target.relations.cpu().numpy().ravel() > 0)
        for row, target in enumerate(batch.targets)
    ]


def best_threshold(scored: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]) -> dict[str, float]:
    """Return the threshold of highest F1 over all (pair, relation) cells, with its precision and recall.

    Unannotated relations count as wrong although many of them hold, so precision is a lower bound.
    """
    scores, right = (np.concatenate(parts) for parts in zip(*scored, strict=True))
    judged = []
    for threshold in THRESHOLDS:
        chosen = scores >= threshold
        hits = float((chosen & right).sum())
        precision, recall = hits / max(chosen.sum(), 1), hits / max(right.sum(), 1)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        judged.append({"threshold": float(threshold), "f1": f1, "precision": precision, "recall": recall})
    best = max(judged, key=lambda figures: figures["f1"])  # the lowest threshold of equals
    return {f"held_out_{name}": value for name, value in best.items()}
