"""Names of the evaluation protocols. A figure is quoted with the name of its protocol, never with the dataset's alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator

HICO_RLIPV2 = "hico_det/rlipv2"
HICO_MATLAB = "hico_det/matlab"
HICO_RLIPV2_KNOWN_OBJECT = "hico_det/rlipv2_known_object"
HICO_MATLAB_KNOWN_OBJECT = "hico_det/matlab_known_object"
VCOCO_OFFICIAL = "v_coco/official"
VCOCO_TRAINING = "v_coco/training"
OI_TRIPLET = "open_images/oi_triplet"
OI_TRIPLET_COMPAT = "open_images/oi_triplet_compat"
OI_PREDICATE = "open_images/oi_predicate"

PLAIN, NMS = "plain", "nms"

DESCRIPTIONS = {
    HICO_RLIPV2: (
        "HICO-DET Default setting as RLIP and RLIPv2 (and QPIC, CDN, GEN-VLKT) compute it: the best 100 triplets per image, "
        "classes with test relations averaged, detections in images without annotated boxes ignored. Compare with their tables."
    ),
    HICO_MATLAB: (
        "HICO-DET Default setting as the official Matlab evaluation computes it: all detections, every interaction "
        "class averaged, detections in images without annotated boxes wrong, the +1 applied before boxes are tested for contact."
    ),
    HICO_RLIPV2_KNOWN_OBJECT: "As hico_det/rlipv2, but a class sees only the images labelled as showing its object.",
    HICO_MATLAB_KNOWN_OBJECT: "As hico_det/matlab, but a class sees only the images labelled as showing its object.",
    VCOCO_OFFICIAL: (
        "The official V-COCO evaluation: agent AP over all actions, role AP in scenario 1 (a missing role must be left out) and "
        "scenario 2 (whatever is said about a missing role is right), over all roles and without 'point'."
    ),
    VCOCO_TRAINING: (
        "The quick V-COCO evaluation that RLIPv2 runs between epochs (11-point AP by verb, the best 100 triplets). "
        "It is not the number that papers report."
    ),
    OI_TRIPLET: (
        "Open Images as RLIPv2 evaluates it, over triplet classes (subject, object, predicate), with its two defects repaired: "
        "phrases are credited to the phrase that matched, and images without annotated boxes are treated alike for both tasks."
    ),
    OI_TRIPLET_COMPAT: "Open Images as RLIPv2 publishes it, defects included; for comparison with its table only.",
    OI_PREDICATE: (
        "The usual Open Images protocol (Ji Zhang, PySGG): one class per predicate, two predicates per pair, no suppression. "
        "Not comparable with the triplet protocol, although its figures have the same names."
    ),
}

NO_KNOWN_OBJECT = (
    "the Known-Object setting of HICO-DET. It needs HICO's image labels (of the classification task; boxes cannot replace them): "
    "give them with --image-labels."
)
NO_OFFICIAL = (
    "the official V-COCO evaluation. A list of pairs lacks persons without an action and roles without a box: give a scene table, or "
    "vcoco_test.json with COCO's instances."
)


def left_out(benchmark: str, computed: Collection[str]) -> Iterator[str]:
    """Yield the settings of a benchmark that were not computed, and what they would need.

    Args:
        computed: names of the protocols that were.
    """
    if benchmark == "hico_det" and HICO_RLIPV2_KNOWN_OBJECT not in computed:
        yield NO_KNOWN_OBJECT
    if benchmark == "v_coco" and VCOCO_OFFICIAL not in computed:
        yield NO_OFFICIAL
