"""Captions say what is true; the corpora are nobody's test images."""

from __future__ import annotations

import hashlib
from random import Random

import numpy as np

from rlip_assets.micro_world.captions import caption_corpus, describe, detection_corpus
from rlip_assets.micro_world.render import render
from rlip_assets.micro_world.shots import shots
from rlip_assets.micro_world.vocabularies import coco_classes, objects365_classes
from rlip_assets.micro_world.wording import NOUNS, accepted
from rlip_assets.micro_world.world import CATEGORIES, LOOKS


def test_every_caption_names_a_true_relation_and_only_things_that_are_there() -> None:
    nouns = {kind: set(NOUNS.get(kind, (kind,))) for kind in [*CATEGORIES, *LOOKS]}
    for shot in shots("objects365", "train", 120, 4):
        picture = shot.picture
        present = set().union(*(nouns[thing.kind] for thing in picture.things))
        absent = set().union(*nouns.values()) - present - {"cap", "ball", "plant", "person", "pizza", "table"}
        for seed in range(3):
            caption = describe(picture, Random(seed))
            assert any(f" {text} a" in caption for r in picture.relations for text in accepted(r.text)), caption
            words = f" {caption} "
            assert not [noun for noun in absent if f" a {noun} " in words or f" an {noun} " in words], caption


def test_captions_of_one_picture_are_paraphrases() -> None:
    _, captions = zip(*caption_corpus(1, 30), strict=True)
    assert all(len(set(texts)) == len(texts) for texts in captions)
    assert sum(len(texts) >= 3 for texts in captions) > 20
    assert all(" an " not in text or text.split(" an ")[1][0] in "aeiou" for texts in captions for text in texts)


def test_corpora_are_reproducible_and_share_no_image_with_each_other_or_a_dataset() -> None:
    def digests(images: list[object]) -> set[str]:
        return {hashlib.sha256(image.tobytes()).hexdigest() for image in images}  # type: ignore[attr-defined]

    captioned = digests([image for image, _ in caption_corpus(2023, 40)])
    assert captioned == digests([image for image, _ in caption_corpus(2023, 40)])
    detected = digests([image for image, _, _ in detection_corpus(2023, 40)])
    raw = digests([render(s.picture) for d in ("coco", "objects365", "v_coco") for s in shots(d, "train", 40, 2023)])
    assert len(captioned) == len(detected) == 40
    assert not captioned & detected
    assert not (captioned | detected) & raw


def test_the_detection_corpus_speaks_both_vocabularies() -> None:
    for vocabulary, classes in (("coco", coco_classes()), ("objects365", objects365_classes())):
        names: set[str] = set()
        for image, boxes, labels in detection_corpus(3, 120, vocabulary):
            assert boxes.dtype == np.float32
            assert boxes.shape == (len(labels), 4)
            assert (boxes[:, 2:] <= np.array(image.size)).all()
            assert (boxes[:, :2] < boxes[:, 2:]).all()
            names.update(labels)
        assert names <= set(classes["objects"])
        assert len(names) > 0.8 * len(classes["objects"])
