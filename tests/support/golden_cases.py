"""Reads the reference cases for the evaluators: synthetic detections and annotations with the figures of published evaluators.

A case is `NAME.npz` beside `NAME.expected.json`. Ragged data uses offsets: image i owns rows `off[i]:off[i + 1]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlip_assets.evaluation.core.ground_truth import AnnotatedImage, GroundTruth, ground_truth_of
from rlip_assets.evaluation.core.vocabulary import Vocabulary
from rlip_assets.evaluation.formats.predictions import ImagePredictions, PredictionBatch
from rlip_assets.evaluation.v_coco.actions import OFFICIAL_VERBS, actions_of_names
from rlip_assets.evaluation.v_coco.ground_truth import CocoBoxes, OfficialTruth, official_truth_of_coco
from rlip_assets.evaluation.v_coco.official import OfficialDetections, agent_score
from rlip_assets.storage.errors import InputError


@dataclass(frozen=True)
class PairCase:
    """A case of the HICO-DET, V-COCO (in training) or Open Images evaluators.

    Attributes:
        train_triplets, train_counts: (T, 3) subject label, object label, verb, and their training counts.
    """

    truth: GroundTruth
    vocabulary: Vocabulary
    predictions: tuple[ImagePredictions, ...]
    train_triplets: npt.NDArray[np.int64]
    train_counts: npt.NDArray[np.int64]

    @property
    def batch(self) -> PredictionBatch:
        """All predictions in one batch."""
        return PredictionBatch.of(self.predictions, len(self.vocabulary.verbs))

    def without(self, dropped: npt.NDArray[np.bool_]) -> PairCase:
        """The case without some images."""
        kept = tuple(each for each, drop in zip(self.predictions, dropped, strict=True) if not drop)
        return PairCase(self.truth.select(~dropped), self.vocabulary, kept, self.train_triplets, self.train_counts)

    @property
    def crashing(self) -> npt.NDArray[np.bool_]:
        """(N,) images on which the published evaluators fail: boxes but no detections (V-COCO) or no relations (others)."""
        has_boxes = np.diff(self.truth.box_offsets) > 0
        if self.vocabulary.dataset == "v_coco":
            return has_boxes & np.array([len(each.scores) == 0 for each in self.predictions])
        detected = np.array([len(each.scores) > 0 for each in self.predictions])
        return has_boxes & detected & (np.diff(self.truth.relation_offsets) == 0)


def load_arrays(path: Path) -> dict[str, npt.NDArray]:
    """The arrays of an .npz, read without unpickling.

    Raises:
        InputError: no such file, or not an archive of plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as arrays ({error}); fetch the reference cases again") from None


def load_pair_case(path: Path) -> PairCase:
    """Read one case of the evaluators that match pairs."""
    data = load_arrays(path)
    dataset = {"hico": "hico_det", "vcoco": "v_coco", "oi": "open_images"}[str(data["kind"])]
    num_verbs, num_objects = data["correct_mat"].shape
    # The Open Images evaluators run without a validity mask.
    hois = () if dataset == "open_images" else tuple(zip(*np.nonzero(data["correct_mat"]), strict=True))
    vocabulary = Vocabulary(
        dataset,
        ("person", *(f"object {i}" for i in range(1, num_objects))),
        OFFICIAL_VERBS if dataset == "v_coco" else tuple(f"verb {i}" for i in range(num_verbs)),
        tuple((int(verb), int(label)) for verb, label in hois),
    )
    images, predictions = [], []
    for i in range(int(data["n_images"])):

        def rows(name: str, off: str, i: int = i) -> npt.NDArray:
            return data[name][data[off][i] : data[off][i + 1]]

        images.append(
            AnnotatedImage(
                str(i), (0, 0), rows("gt_boxes", "gt_off"), rows("gt_labels", "gt_off"), rows("gt_rels", "rel_off")
            )
        )
        boxes, labels = rows("pred_boxes", "pred_off"), rows("pred_labels", "pred_off")
        subject, target = rows("q_sub", "q_off"), rows("q_obj", "q_off")
        predictions.append(
            ImagePredictions(
                str(i), boxes[subject], boxes[target], labels[subject], labels[target], rows("verb_scores", "q_off")
            )
        )
    return PairCase(
        ground_truth_of(images), vocabulary, tuple(predictions), data["train_triplets"], data["train_counts"]
    )


def load_official_case(path: Path) -> tuple[OfficialTruth, OfficialDetections]:
    """Read the case of the official V-COCO evaluator."""
    data = load_arrays(path)
    actions = actions_of_names(OFFICIAL_VERBS)
    number = {int(image_id): i for i, image_id in enumerate(data["image_ids"])}
    coco = CocoBoxes(
        data["ann_id"],
        np.array([number[int(image_id)] for image_id in data["ann_image"]]),
        data["ann_cat"],
        data["ann_bbox"],
        data["ann_area"],
        np.zeros(len(data["ann_id"]), bool),
    )
    truth = official_truth_of_coco(
        tuple(str(image_id) for image_id in data["image_ids"]),
        data["image_wh"],
        actions,
        coco,
        data["person_ann"],
        data["act_label"],
        data["act_role"],
    )
    image = np.array([number[int(image_id)] for image_id in data["det_image"]])
    order = np.argsort(image, kind="stable")
    scores = data["det_score"][order]
    agent = np.stack([agent_score(scores[:, actions.verbs_of(a)]) for a in range(len(actions.names))], axis=1)
    role = scores[:, [verb for _, _, verb in actions.role_verbs]]
    detections = OfficialDetections(image[order], data["det_person"][order], data["det_object"][order], agent, role)
    return truth, detections
