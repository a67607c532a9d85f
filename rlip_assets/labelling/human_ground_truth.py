"""Human relations of Visual Genome as truth for pseudo labels of COCO, for the images that are in both (about 51,000 of Visual Genome's).

`image_data.json` of Visual Genome names the COCO image of each. The boxes of the two datasets differ, so a human triplet is carried
over to the COCO boxes that its boxes overlap best, by an IoU of at least `MINIMUM_IOU`. Annotators noted some relations and left out
others: only labels of pairs with an annotated relation can be judged, and "wrong" then means "not what was annotated".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from rlip_assets.datasets.language.lemmas import relation_lemma
from rlip_assets.datasets.scenes import NO_OBJECT, Scene
from rlip_assets.labelling.true_relations import TrueRelation
from rlip_model.boxes import iou

MINIMUM_IOU = 0.5
SPATIAL = frozenset(
    map(
        relation_lemma,
        ("above", "against", "at", "behind", "below", "beside", "by", "in", "in front of", "inside", "near", "next to", "on", "on top of",
         "over", "under", "with"),
    )
)  # fmt: skip
"""Relations of place, which annotators mention only now and then."""


def human_relations(
    labelled: Mapping[str, Scene], annotated: Iterable[Scene], twins: Mapping[str, str], counts: Counter[str]
) -> Iterator[TrueRelation]:
    """Human triplets on the boxes of labelled images.

    Args:
        labelled: COCO scenes by image id.
        annotated: Visual Genome scenes.
        twins: Visual Genome id -> COCO id.
        counts: added to: `images`, `human_triplets`, and how many of them are `carried_over`.
    """
    for scene in annotated:
        target = labelled.get(twins.get(scene.image_id, ""))
        if target is None:
            continue
        counts["images"] += 1
        counts["human_triplets"] += len(scene.relation)
        place = best_boxes(scene, target)
        seen = set()
        for s, o, text in zip(scene.subject.tolist(), scene.object.tolist(), scene.relation, strict=True):
            if o == NO_OBJECT or place[s] < 0 or place[o] < 0 or place[s] == place[o]:
                continue
            key = (int(place[s]), int(place[o]), relation_lemma(text))
            if key in seen:
                continue
            seen.add(key)
            counts["carried_over"] += 1
            yield TrueRelation(target.image_id, key[0], key[1], key[2], [text], [], key[2] in SPATIAL)


def best_boxes(scene: Scene, target: Scene) -> npt.NDArray[np.int64]:
    """For each box of `scene`, the box of `target` that overlaps it best after both images are brought to one size; -1 below
    `MINIMUM_IOU`."""
    if not len(scene.labels) or not len(target.labels):
        return np.full(len(scene.labels), -1)
    scale = np.array([target.width / scene.width, target.height / scene.height] * 2, np.float32)
    overlap = iou((scene.boxes * scale)[:, None], target.boxes[None])
    return np.where(overlap.max(1) >= MINIMUM_IOU, overlap.argmax(1), -1)
