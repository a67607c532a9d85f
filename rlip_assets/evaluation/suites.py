"""The evaluators of a benchmark: all protocols that its annotations allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.evaluator import Evaluator
from rlip_assets.evaluation.core.ground_truth import GroundTruth
from rlip_assets.evaluation.core.results import ProtocolResult
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.annotations import PAIRS_ONLY
from rlip_assets.evaluation.formats.predictions import PredictionBatch
from rlip_assets.evaluation.hico_det.evaluator import HicoDetEvaluator, rare_groups, zero_shot_groups
from rlip_assets.evaluation.hico_det.known_object import KnownObjects
from rlip_assets.evaluation.open_images.predicate import OpenImagesPredicateEvaluator
from rlip_assets.evaluation.open_images.triplet import OpenImagesTripletEvaluator
from rlip_assets.evaluation.v_coco.actions import actions_of_vocabulary
from rlip_assets.evaluation.v_coco.ground_truth import official_truth_of_pairs
from rlip_assets.evaluation.v_coco.official import VcocoOfficialEvaluator
from rlip_assets.evaluation.v_coco.training_metric import VcocoTrainingEvaluator
from rlip_assets.storage.errors import DataError

Suite = list[Evaluator[Any, list[ProtocolResult]]]
VERB_GROUPS = "visual_genome"
"""Entry of a vocabulary's `groups` that says how Visual Genome names each verb: "exact", "synonym" or "absent"."""


def suite(
    truth: GroundTruth,
    vocabulary: Vocabulary,
    *,
    zero_shot: bool = False,
    unseen: str | Sequence[Sequence[str]] | None = None,
    known_objects: KnownObjects | None = None,
) -> Suite:
    """Evaluators of a benchmark.

    Args:
        zero_shot: the network saw no annotation of the benchmark: pairs whose subject is no person are dropped (HICO-DET).
        unseen: zero-shot setting of the training ("uc_rf", ..., or (verb, object) names), whose unseen and seen classes are reported.
        known_objects: image labels, which add the Known-Object setting (HICO-DET).

    Raises:
        DataError: a dataset without a benchmark.
    """
    match vocabulary.dataset:
        case "hico_det":
            groups = rare_groups(vocabulary) | _verb_groups(vocabulary)
            if unseen:
                groups |= zero_shot_groups(vocabulary, unseen)
            return [
                HicoDetEvaluator(
                    truth, vocabulary, class_groups=groups, person_filter=zero_shot, known_objects=known_objects
                )
            ]
        case "v_coco":
            actions = actions_of_vocabulary(vocabulary)
            training = VcocoTrainingEvaluator(truth, vocabulary, actions.left_out_verbs)
            if PAIRS_ONLY in vocabulary.groups:
                return [training]
            official = official_truth_of_pairs(truth, actions, vocabulary.person)
            return [VcocoOfficialEvaluator(official, vocabulary), training]
        case "open_images":
            return [
                OpenImagesTripletEvaluator(truth, vocabulary),
                OpenImagesTripletEvaluator(truth, vocabulary, compat=True),
                OpenImagesPredicateEvaluator(truth, vocabulary),
            ]
    raise DataError(f"{vocabulary.dataset!r} is no benchmark; there are hico_det, v_coco and open_images")


def judge(evaluators: Suite, batches: Iterable[PredictionBatch]) -> list[ProtocolResult]:
    """Results of all protocols from one pass over the predictions."""
    for batch in batches:
        for evaluator in evaluators:
            evaluator.update(batch)
    return [result for evaluator in evaluators for result in evaluator.compute()]


def _verb_groups(vocabulary: Vocabulary) -> dict[str, npt.NDArray[np.int64]]:
    """Class keys by how Visual Genome names their verb."""
    kinds = vocabulary.groups.get(VERB_GROUPS) or {}
    of_class = np.array([kinds.get(vocabulary.verbs[verb], "") for verb, _ in vocabulary.hois])
    return {f"verbs_{kind}": vocabulary.hoi_keys[of_class == kind] for kind in sorted(set(kinds.values()))}
