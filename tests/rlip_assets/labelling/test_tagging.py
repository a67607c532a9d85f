"""The tagger against plain single passes: chunks, batches, wordings and the published grouping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rlip_assets.datasets.scenes import make_scene, scene_hash
from rlip_assets.datasets.sources.bucket_images import BucketImages
from rlip_assets.datasets.sources.classes import read_classes
from rlip_assets.labelling.label_tables import CandidateRow
from rlip_assets.labelling.tagging.candidate_tagger import CandidateTagger, TaggingImage, pairs_to_tag
from rlip_assets.labelling.tagging.filters import Labels
from rlip_assets.labelling.tagging.stage import open_tagger, tag_scenes
from rlip_assets.lineage.params.labels import TaggingParams
from rlip_assets.lineage.recipes import Augmentation
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.images import open_image
from rlip_assets.training.targets import unit_boxes
from rlip_assets.training.transforms import for_evaluation
from rlip_model import NO_OBJECTS
from rlip_model.tagger import collate_pairs
from rlip_model.vision.images import image_tensor, stack_images
from tests.support.label_factory import OBJECTS, draw_bucket, tagger_folder, write_classes, write_raw_manifest

PAIRS = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
TEXTS = (("ride", "riding"), ("sit on", "sitting on"), ("hold", "holds"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagger")
    tagger_folder(folder / "tagger", pairs=4)
    tagger_folder(folder / "wide", pairs=8)
    write_classes(folder)
    return folder


def tagger(base: Path, name: str = "tagger", **params: Any) -> CandidateTagger:
    values = {"store_threshold": 0.0, **params}
    return open_tagger(
        base / name, read_classes(base / "classes.json").objects, TaggingParams.model_validate(values), "cpu"
    )[0]


@pytest.fixture(scope="module")
def images(base: Path) -> list[TaggingImage]:
    """Four images; the first has six pairs (more than four slots), the third has no candidate."""
    found = []
    for number, scene in enumerate(draw_bucket(base / "raw", 4)):
        entries = [(s, o, *TEXTS[(number + k) % 3]) for k, (s, o) in enumerate(PAIRS[: (6, 3, 0, 1)[number]])]
        if number == 0:
            entries.append((0, 1, *TEXTS[1]))  # a second relation of a pair
        row = CandidateRow(
            scene.image_id,
            scene_hash(scene),
            subject=[entry[0] for entry in entries],
            object=[entry[1] for entry in entries],
            relation=[entry[2] for entry in entries],
            surface=[entry[3] for entry in entries],
            votes=[1] * len(entries),
        )
        found.append(
            TaggingImage(scene, row, image_tensor(open_image(base / "raw" / scene.file_name).resize((80, 64))))
        )
    return found


@torch.inference_mode()
def plain_scores(
    tagger: CandidateTagger, image: TaggingImage, pairs: list[tuple[int, int]], texts: list[str]
) -> np.ndarray:
    """(pairs, texts) scores of one whole forward pass."""
    pixels, mask = stack_images([image.pixels])
    boxes = torch.from_numpy(unit_boxes(image.scene))
    labels = torch.tensor([OBJECTS.index(label) for label in image.scene.labels])
    sub, obj = torch.tensor(pairs).T
    queries = collate_pairs([(boxes[sub], boxes[obj], labels[sub], labels[obj])], tagger.slots)
    pooled = tagger.vectors([*OBJECTS, NO_OBJECTS, *texts])
    out = tagger.model(pixels, mask, pooled, len(OBJECTS) + 1, pairs=queries)
    return out.relation_logits[-1].sigmoid()[0, : len(pairs)].numpy()


def test_one_image_equals_a_plain_pass(base: Path, images: list[TaggingImage]) -> None:
    wide = tagger(base, "wide", wording="relation")
    (labels,) = wide.tag(images[:1])
    texts = ["ride", "sit on", "hold"]
    table = plain_scores(wide, images[0], PAIRS, texts)
    row = images[0].candidates
    expected = [
        table[PAIRS.index((s, o)), texts.index(r)]
        for s, o, r in zip(row.subject, row.object, row.relation, strict=True)
    ]
    assert labels.confidence == pytest.approx(expected, abs=1e-5)
    assert (labels.subject.tolist(), labels.object.tolist(), list(labels.relation)) == (
        row.subject,
        row.object,
        row.relation,
    )
    assert np.ptp(labels.confidence) > 1e-3


def test_pairs_beyond_the_slots_go_in_chunks_of_one_encoding(base: Path, images: list[TaggingImage]) -> None:
    narrow = tagger(base, wording="relation")
    encodings = []
    original = narrow.model.encode
    narrow.model.encode = lambda *args: encodings.append(len(args[0])) or original(*args)  # type: ignore[method-assign]
    (labels,) = narrow.tag(images[:1])
    assert encodings == [1]
    texts = ["ride", "sit on", "hold"]
    table = np.concatenate([plain_scores(narrow, images[0], part, texts) for part in (PAIRS[:4], PAIRS[4:])])
    row = images[0].candidates
    expected = [
        table[PAIRS.index((s, o)), texts.index(r)]
        for s, o, r in zip(row.subject, row.object, row.relation, strict=True)
    ]
    assert labels.confidence == pytest.approx(expected, abs=1e-5)


def test_free_slots_hold_other_pairs_of_the_image(base: Path, images: list[TaggingImage]) -> None:
    """As in training: pairs see each other in the decoder."""
    scene, few, many = images[1].scene, images[1].candidates, images[0].candidates
    assert pairs_to_tag(scene, few, 4) == [(0, 1), (0, 2), (1, 0), (1, 2)]
    assert pairs_to_tag(scene, many, 4) == PAIRS  # an image has no more
    assert pairs_to_tag(scene, images[2].candidates, 4) == []
    narrow = tagger(base, wording="relation")
    (labels,) = narrow.tag(images[1:2])
    alone = plain_scores(narrow, images[1], PAIRS[:3], list(few.relation))
    filled = plain_scores(narrow, images[1], PAIRS[:4], list(few.relation))
    places = range(len(few.relation))
    assert labels.confidence == pytest.approx([filled[n, n] for n in places], abs=1e-5)
    assert labels.confidence != pytest.approx([alone[n, n] for n in places], abs=1e-5)


def test_images_with_the_same_texts_share_a_pass_without_change(base: Path, images: list[TaggingImage]) -> None:
    together = tagger(base, wording="relation").tag(images[:2])
    alone = [tagger(base, wording="relation").tag([image])[0] for image in images[:2]]
    for a, b in zip(together, alone, strict=True):
        assert a.confidence == pytest.approx(b.confidence, abs=1e-5)


def test_an_image_without_candidates_has_no_label(base: Path, images: list[TaggingImage]) -> None:
    found = tagger(base).tag(images)
    assert [len(labels) for labels in found] == [7, 3, 0, 1]
    assert len(tagger(base).tag(images[2:3])[0]) == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (80, 60)])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (5, 5, 5, 5), (9, 9, 2, 3), (-500, -500, -20, -20)])
def test_tiny_images_and_boxes_without_area_have_scores(
    size: tuple[int, int], box: tuple[int, ...], base: Path
) -> None:
    one = tagger(base)
    scene = make_scene("1", "coco", "train", "1.jpg", *size, [box, (0, 0, 30, 30)], OBJECTS[:2])
    row = CandidateRow("1", "", [0, 1], [1, 0], ["ride", "ride"], ["riding", "riding"], [1, 1])
    pixels = image_tensor(for_evaluation((Image.new("RGB", size), scene), Augmentation(test_short_side=32))[0])
    scores = one.tag([TaggingImage(scene, row, pixels)])[0].confidence
    assert ((scores > 0) & (scores < 1)).all()


def test_a_diverged_tagger_is_a_sentence(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = draw_bucket(base / "more", 1)[0]
    row = CandidateRow(scene.image_id, scene_hash(scene), [0], [1], ["ride"], ["riding"], [1])
    nothing = Labels.of([0], [1], ["ride"], [float("nan")])
    one = tagger(base)
    monkeypatch.setattr(one, "tag", lambda images: [nothing] * len(images))
    write_raw_manifest(base, base / "more", [scene])
    files = BucketImages.of(base / "bucket-0.json", base / "more", [scene], base)
    with pytest.raises(DataError, match=f"no number for a candidate of image {scene.image_id}: its training diverged"):
        tag_scenes(one, Augmentation(test_short_side=32), [(scene, row)], files)


def test_the_best_wording_counts(base: Path, images: list[TaggingImage]) -> None:
    wide = tagger(base, "wide", wording="best")
    (best,) = wide.tag(images[1:2])
    row = images[1].candidates
    texts = list(dict.fromkeys(text for both in zip(row.relation, row.surface, strict=True) for text in both))
    table = plain_scores(wide, images[1], PAIRS, texts)
    expected = [
        max(table[k, texts.index(r)], table[k, texts.index(f)])
        for k, (r, f) in enumerate(zip(row.relation, row.surface, strict=True))
    ]
    assert best.confidence == pytest.approx(expected, abs=1e-5)
    assert list(best.relation) == row.relation


def test_batches_keep_to_both_limits(base: Path, images: list[TaggingImage]) -> None:
    def sizes(**params: Any) -> list[int]:
        return [len(batch) for batch in tagger(base, wording="relation", **params).batches(images)]

    assert sizes() == [4]
    assert sizes(batch_size=3) == [3, 1]
    assert sizes(max_texts=1) == [1, 1, 2]
    assert sum(sizes(max_texts=2)) == 4


def test_published_groups_score_every_text_for_every_pair_of_the_pass(base: Path, images: list[TaggingImage]) -> None:
    published = tagger(base, groups="published", batch_size=1)
    (labels,) = published.tag(images[:1])
    row = images[0].candidates
    entries = sorted(zip(row.subject, row.object, row.relation, strict=True), key=lambda entry: entry[:2])
    assert entries[1][:2] == (0, 1), "the second relation of a pair is in its group, not where its triplet comes"
    expected = []
    for group in (entries[:4], entries[4:]):
        texts = list(dict.fromkeys(relation for _, _, relation in group))
        table = plain_scores(published, images[0], [(s, o) for s, o, _ in group], texts)
        expected += [(s, o, text, table[i, v]) for i, (s, o, _) in enumerate(group) for v, text in enumerate(texts)]
    found = list(zip(labels.subject.tolist(), labels.object.tolist(), labels.relation, strict=True))
    assert found == [entry[:3] for entry in expected]
    assert labels.confidence == pytest.approx([entry[3] for entry in expected], abs=1e-5)
    assert len(found) > len(entries)


def test_published_groups_in_one_pass_share_their_texts(base: Path, images: list[TaggingImage]) -> None:
    one, both = (tagger(base, groups="published", batch_size=size).tag(images[:1])[0] for size in (1, 16))
    assert len(both) == 7 * 3
    assert len(one) <= len(both)


def test_a_text_is_encoded_once(base: Path) -> None:
    made = tagger(base)
    calls = []
    original = made.model.encode_text
    made.model.encode_text = lambda *args: calls.append(len(args[0])) or original(*args)  # type: ignore[method-assign]
    made.vectors(["ride", "hold", "ride"])
    made.vectors(["hold"])
    assert calls == [2]


def test_scores_of_a_shard_are_the_same_whatever_was_scored_before(base: Path) -> None:
    """The vectors here depend on the texts of the same pass as real ones do, but in more than their last bits."""
    scenes = draw_bucket(base / "two", 2)
    write_raw_manifest(base, base / "two", scenes)
    files = BucketImages.of(base / "bucket-0.json", base / "two", scenes, base)
    first, second = (
        (
            scene,
            CandidateRow(
                scene.image_id, scene_hash(scene), [0] * len(texts), [1] * len(texts), texts, texts, [1] * len(texts)
            ),
        )
        for scene, texts in zip(scenes, [["ride", "hold", "lead"], ["ride", "sit on"]], strict=True)
    )

    def scored(*shards: Any) -> list[float]:
        made = tagger(base)
        encode = made.model.encode_text
        made.model.encode_text = lambda ids, mask: encode(ids, mask) + len(ids)  # type: ignore[method-assign, assignment]
        ((_, labels),) = [tag_scenes(made, Augmentation(test_short_side=32), [shard], files)[0] for shard in shards][-1]
        return labels.confidence.tolist()

    assert scored(second) == scored(first, second)
    assert scored(second) != scored(first)


@pytest.mark.parametrize(("groups", "most"), [("union", 1), ("union", 2), ("published", 1)])
def test_images_in_parts_keep_their_scores(
    base: Path, images: list[TaggingImage], groups: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for `most` images at a time: texts and padding stay those of the whole batch."""
    smaller = TaggingImage(images[1].scene, images[1].candidates, images[1].pixels[:, :40])
    batch = [images[0], smaller, images[3]]
    whole = tagger(base, groups=groups).tag(batch)
    poor = tagger(base, groups=groups)
    backbone, decoder = poor.model.backbone.forward, poor.model.entity_decoder.forward
    passes = []

    def encode(pixels: torch.Tensor) -> object:
        passes.append(len(pixels))
        if len(pixels) > most:
            torch.empty(2**50, dtype=torch.uint8)
        return backbone(pixels)

    def decode(*arguments: Any, **options: Any) -> object:
        if len(arguments[0]) > most:
            torch.empty(2**50, dtype=torch.uint8)
        return decoder(*arguments, **options)

    monkeypatch.setattr(poor.model.backbone, "forward", encode)
    monkeypatch.setattr(poor.model.entity_decoder, "forward", decode)
    found = poor.tag(batch)
    assert max(passes) > most
    for a, b in zip(found, whole, strict=True):
        assert (a.subject.tolist(), a.object.tolist(), a.relation) == (
            b.subject.tolist(),
            b.object.tolist(),
            b.relation,
        )
        assert a.confidence == pytest.approx(b.confidence, abs=1e-5)


def test_memory_for_not_even_one_image_is_a_sentence(
    base: Path, images: list[TaggingImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = tagger(base)
    monkeypatch.setattr(poor.model.backbone, "forward", lambda pixels: torch.empty(2**50, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"train the R-Tagger with a smaller augmentation\.test_short_side"):
        poor.tag(images)
