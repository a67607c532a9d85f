"""Alignment and uniformity of a network's relation features on annotated images, and of its verb texts (RLIP, section on analysis).

A feature is the last relation decoder output of the query matched to an annotated pair, and counts for every verb of that pair.
See `perf/alignment.py` for the two measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlip_assets.datasets.scenes import Scene
from rlip_assets.datasets.sources.classes import Classes
from rlip_assets.evaluation.alignment import AlignmentEvaluator, uniformity
from rlip_assets.evaluation.suites import VERB_GROUPS
from rlip_assets.inference.relation_detector import resized
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.images import open_image
from rlip_assets.training.label_lists import benchmark_labels
from rlip_assets.training.targets import pair_targets, ranked_pairs
from rlip_model import Checkpoint
from rlip_model.matching import MatchCost, concatenate, match_hungarian
from rlip_model.vision.images import image_tensor, stack_images

BATCH = 8


@torch.no_grad()
def measure_features(
    checkpoint: Checkpoint, classes: Classes, scenes: Sequence[Scene], image_root: Path
) -> dict[str, float]:
    """Measure alignment and uniformity of a network's relation features.

    Args:
        classes: classes of the benchmark; its verbs are the classes of the features.
        scenes: annotated images; those without a relation are skipped.
        image_root: root of their files.

    Returns:
        Figures of `AlignmentEvaluator.compute`, and `text_uniformity`, also by how Visual Genome names the verbs
        (`text_uniformity_exact`, ...) if the classes have that group.

    Raises:
        InputError: the network is an R-Tagger, or no image has a relation. BadImageError: an image cannot be read.
    """
    if checkpoint.config.tagger:
        raise InputError("an R-Tagger needs boxes and detects none: give a ParSeDA or ParSeD checkpoint")
    scenes = [scene for scene in scenes if len(scene.relation)]
    if not scenes:
        raise InputError("no image has an annotated relation; give the scene table of a benchmark and its split")
    model, labels = checkpoint.model, benchmark_labels(classes, checkpoint.config.label_texts)
    short, longest = checkpoint.metadata.get("image_size", (800, 1333))
    cost = MatchCost(subject_class=bool(checkpoint.metadata.get("subject_scores", True)))
    device = next(model.parameters()).device
    pooled = model.encode_text(*(ids.to(device) for ids in checkpoint.tokenizer(labels.texts)))
    evaluator = AlignmentEvaluator(len(labels.relations))
    by_shape = sorted(scenes, key=lambda scene: (scene.width / scene.height, scene.image_id))
    with _last_features(model.relation_decoder) as features:
        for start in range(0, len(by_shape), BATCH):
            part = by_shape[start : start + BATCH]
            photos = [open_image(image_root / scene.file_name, (scene.width, scene.height)) for scene in part]
            images, mask = stack_images([image_tensor(resized(photo, int(short), int(longest))) for photo in photos])
            targets = [pair_targets(scene, ranked_pairs(scene), labels).to(device) for scene in part]
            output = model(images.to(device), mask.to(device), pooled, labels.num_objects)
            matches = match_hungarian(output, targets, cost)
            own = features[-1][matches.image[-1], matches.pair[-1]]
            row, verb = torch.nonzero(concatenate(targets).relations[matches.target[-1]], as_tuple=True)
            evaluator.update(own[row].float().cpu().numpy(), verb.cpu().numpy())
            features.clear()
    return evaluator.compute() | _of_texts(pooled[labels.num_objects :], labels.relations, classes.groups)


@contextmanager
def _last_features(decoder: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list that receives the last layer's output (B, P, C) at each call of a decoder."""
    kept: list[Tensor] = []

    def keep(decoder: nn.Module, arguments: Any, output: Any) -> None:
        del decoder, arguments
        kept.append(output.features[-1])

    hook = decoder.register_forward_hook(keep)
    try:
        yield kept
    finally:
        hook.remove()


def _of_texts(vectors: Tensor, verbs: Sequence[str], groups: Mapping[str, Any]) -> dict[str, float]:
    points = nn.functional.normalize(vectors.double(), dim=-1).cpu().numpy()
    kinds: Mapping[str, str] = groups.get(VERB_GROUPS) or {}
    kind_of = np.array([kinds.get(verb, "") for verb in verbs])
    by_kind = {f"text_uniformity_{kind}": uniformity(points[kind_of == kind]) for kind in sorted(set(kinds.values()))}
    return {"text_uniformity": uniformity(points)} | by_kind
