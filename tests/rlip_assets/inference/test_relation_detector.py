"""Relations in photos: results refer to the caller's pixels and texts, whatever the image and however many texts."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from rlip_assets.datasets.sources.classes import preset_classes
from rlip_assets.inference.predict import find_checkpoint, predict_photos
from rlip_assets.inference.relation_detector import LISTS_KEPT, RelationDetector, usable_device
from rlip_assets.inference.text_vectors import TextVectors
from rlip_assets.storage.errors import DataError, InputError, ParameterError
from rlip_model import Checkpoint, ModelConfig, build_model, save_checkpoint, train_label_tokenizer
from rlip_model.checkpoints.detector import save_detector
from rlip_model.dab_deformable_detr import DabDeformableDetr
from rlip_model.triplets import Triplet

OBJECTS, RELATIONS = ["person", "horse", "dog"], ["ride", "feed"]


def make_detector(**metadata: object) -> RelationDetector:
    torch.manual_seed(0)
    config = ModelConfig.preset("micro_parseda").without_dropout()
    tokenizer = train_label_tokenizer([*OBJECTS, *RELATIONS, "no objects"], 300)
    settings = {"image_size": [96, 160], "objects": OBJECTS, "relations": RELATIONS} | metadata
    return RelationDetector(
        Checkpoint(build_model(config).eval(), tokenizer, config, settings), "test model", "the micro world"
    )


@pytest.fixture(scope="module")
def detector() -> RelationDetector:
    return make_detector()


def photo(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 80).convert("RGB")


def test_triplets_are_best_first_inside_the_image_and_in_the_callers_words(detector: RelationDetector) -> None:
    image = photo(300, 200)
    triplets = detector([image], threshold=0.0, limit=7)[0]
    assert len(triplets) == 7
    assert [t.score for t in triplets] == sorted((t.score for t in triplets), reverse=True)
    for t in triplets:
        assert t.subject in OBJECTS
        assert t.relation in RELATIONS
        assert t.object_box is not None
        for x1, y1, x2, y2 in (t.subject_box, t.object_box):
            assert 0 <= x1 <= x2 <= 300
            assert 0 <= y1 <= y2 <= 200


def test_a_batch_gives_what_single_calls_give(detector: RelationDetector) -> None:
    same = [photo(160, 120), photo(160, 120)]
    for together, image in zip(detector(same, threshold=0.0), same, strict=True):
        alone = detector([image], threshold=0.0)[0]
        assert [(t.subject, t.relation, t.object) for t in together] == [
            (t.subject, t.relation, t.object) for t in alone
        ]
        assert [t.score for t in together] == pytest.approx([t.score for t in alone], abs=1e-4)


def test_texts_are_encoded_once(detector: RelationDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    detector([photo(100, 100)], OBJECTS, ["ride", "walk"])
    calls: list[int] = []
    monkeypatch.setattr(detector.checkpoint.model, "encode_text", lambda ids, mask: calls.append(len(ids)))
    detector([photo(100, 100)], OBJECTS, ["ride", "walk"])
    assert calls == []


def test_repeated_texts_count_once(detector: RelationDetector) -> None:
    image = photo(100, 100)
    once = detector([image], OBJECTS, RELATIONS, threshold=0.0)[0]
    twice = detector([image], [*OBJECTS, "dog"], [*RELATIONS, " ride "], threshold=0.0)[0]
    assert once == twice


def test_weights_without_subject_scores_call_every_subject_a_person() -> None:
    triplets = make_detector(subject_scores=False)([photo(100, 100)], threshold=0.0)[0]
    assert {t.subject for t in triplets} == {"person"}


@pytest.mark.parametrize("size", [(1, 1), (10_000, 200), (200, 10_000)])
def test_extreme_shapes_are_answered(detector: RelationDetector, size: tuple[int, int]) -> None:
    assert len(detector([photo(*size)], threshold=0.0, limit=3)[0]) >= 1


def test_many_and_long_texts_are_answered(detector: RelationDetector) -> None:
    many = [f"relation number {i}" for i in range(4999)] + ["very " * 2500 + "long"]
    assert len(detector([photo(64, 64)], OBJECTS, many, threshold=0.0, limit=5)[0]) == 5


@pytest.mark.parametrize(
    ("vocabulary", "objects", "relations"), [("hico_det", 80, 117), ("v_coco", 80, 29), ("open_images", 601, 30)]
)
def test_vocabularies_take_the_place_of_the_checkpoints_texts(
    detector: RelationDetector, vocabulary: str, objects: int, relations: int
) -> None:
    classes = preset_classes(vocabulary)
    assert (len(classes.objects), len(classes.relations or ())) == (objects, relations)
    found = detector([photo(64, 64)], threshold=0.0, vocabulary=vocabulary)[0]
    assert {triplet.relation for triplet in found} <= set(classes.relations or ())
    assert {triplet.object for triplet in found} <= set(classes.objects)
    own = detector([photo(64, 64)], relations=["juggle"], threshold=0.0, vocabulary=vocabulary)[0]
    assert {triplet.relation for triplet in own} == {"juggle"}


@pytest.mark.parametrize(
    ("dataset", "benchmark"), [("hico", "hico_det"), ("vcoco", "v_coco"), ("oi_sgg", "open_images")]
)
def test_an_imported_checkpoint_answers_with_the_texts_of_its_benchmark(dataset: str, benchmark: str) -> None:
    """`trained_on` is the file's `args.dataset_file`; texts that are given still win, one kind at a time."""
    imported = make_detector(objects=[], relations=[])
    imported.trained_on = dataset
    assert imported.benchmark == benchmark
    assert imported.objects == tuple(preset_classes(benchmark).objects)
    assert imported.relations == tuple(preset_classes(benchmark).relations or ())
    found = imported([photo(64, 64)], relations=["juggle"], threshold=0.0)[0]
    assert {triplet.object for triplet in found} <= set(imported.objects)
    assert {triplet.relation for triplet in found} == {"juggle"}


@pytest.mark.parametrize("dataset", ["", "vg", "vg_coco2017_hico", "the micro world, hico_det"])
def test_a_checkpoint_without_a_benchmark_asks_for_texts(dataset: str) -> None:
    imported = make_detector(objects=[], relations=[])
    imported.trained_on = dataset
    assert imported.benchmark is None
    with pytest.raises(DataError, match="no object texts: give at least one"):
        imported([photo(64, 64)])


def test_own_texts_win_over_those_of_a_benchmark() -> None:
    own = make_detector()
    own.trained_on = "hico"
    assert own.benchmark is None
    assert own.relations == tuple(RELATIONS)


def test_an_unknown_vocabulary_names_the_known_ones(detector: RelationDetector) -> None:
    with pytest.raises(ParameterError, match="hico_det, v_coco, open_images"):
        detector([photo(64, 64)], vocabulary="coco")


@pytest.mark.parametrize("texts", [[], [" "], ["ride", ""]])
def test_missing_texts_are_refused(detector: RelationDetector, texts: list[str]) -> None:
    with pytest.raises(DataError, match="texts"):
        detector([photo(64, 64)], OBJECTS, texts)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    tokenizer = train_label_tokenizer(["person"], 300)
    tagger = ModelConfig.preset("micro_tagger").without_dropout()
    save_checkpoint(tmp_path / "tagger", build_model(tagger), tokenizer, {"name": "my tagger"})
    with pytest.raises(InputError, match="my tagger is an R-Tagger: it needs boxes"):
        RelationDetector.from_pretrained(tmp_path / "tagger")
    detector = ModelConfig.preset("micro_detector")
    save_detector(tmp_path / "boxes", DabDeformableDetr(detector, 4), {})
    with pytest.raises(InputError, match="box detector"):
        RelationDetector.from_pretrained(tmp_path / "boxes")


def test_files_say_which_model_and_what_it_was_trained_on(detector: RelationDetector, tmp_path: Path) -> None:
    photo(120, 90).save(tmp_path / "street.jpg")
    found = predict_photos(detector, [tmp_path / "street.jpg"], tmp_path / "out", threshold=0.0, limit=4)
    record, overlay = (file for file in found if isinstance(file, Path))
    content = json.loads(record.read_text())
    assert content["model"] == "test model"
    assert content["trained_on"] == "the micro world"
    assert len(content["relations"]) == 4
    assert Image.open(overlay).width > 500


def test_without_a_model_one_sentence_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make demo"):
        find_checkpoint(tmp_path)
    with pytest.raises(InputError, match="import-checkpoint"):
        RelationDetector.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"threshold": math.nan}, "threshold is nan"),
        ({"threshold": -0.1}, "threshold is -0.1"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": -3}, "limit is -3"),
    ],
)
def test_settings_without_meaning_are_refused(detector: RelationDetector, settings: dict[str, Any], word: str) -> None:
    with pytest.raises(ParameterError, match=word):
        detector([photo(40, 40)], **settings)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "", "cpu:x", "xla"])
def test_a_device_that_cannot_be_used_is_named(device: str) -> None:
    with pytest.raises(ParameterError, match=f"^Device '{device}' cannot be used here: give cpu"):
        usable_device(device)


def count_passes(detector: RelationDetector, monkeypatch: pytest.MonkeyPatch, shift: float = 0.0) -> list[int]:
    """Sizes of the passes of texts from now on; each text's vector is shifted by `shift` for each text of its pass."""
    passes: list[int] = []
    model = detector.checkpoint.model
    encode = model.encode_text

    def encode_counted(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        passes.append(len(ids))
        return encode(ids, mask) + shift * len(ids)

    monkeypatch.setattr(model, "encode_text", encode_counted)
    return passes


def test_an_answer_is_the_same_to_the_bit_whatever_was_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors here depend on the texts of the same pass as real ones do, but in more than their last bits."""
    image = photo(64, 64)

    def last(*lists: list[str]) -> list[Triplet]:
        served = make_detector()
        passes = count_passes(served, monkeypatch, shift=1.0)
        answers = [served([image], relations=texts, threshold=0.0)[0] for texts in lists]
        assert len(passes) == len(set(map(tuple, lists)))
        return answers[-1]

    asked, others = ["ride", "feed"], [["feed", "lead"], ["ride"], ["ride", "feed", "hold"], ["feed", "ride"]]
    assert last(asked) == last(*others, asked) == last(asked, asked)
    assert last(asked) != last(["ride"])


def test_text_vectors_of_few_lists_are_kept(detector: RelationDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = count_passes(detector, monkeypatch)
    lists = [[f"relation {number}"] for number in range(LISTS_KEPT + 1)]
    for texts in (*lists, lists[-1], lists[1], lists[0]):
        detector([photo(40, 40)], relations=texts)
    assert len(passes) == len(lists) + 1  # the first list was the oldest


def test_answers_have_the_callers_words_and_the_network_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that learnt the published names of Open Images reads "Sea turtle" where the caller says "sea turtle"."""
    learnt = make_detector()
    checkpoint = replace(learnt.checkpoint, config=replace(learnt.checkpoint.config, label_texts="published"))
    learnt = RelationDetector(checkpoint)
    read: list[str] = []
    encode = TextVectors.__call__

    def encode_told(own: TextVectors, texts: Sequence[str]) -> torch.Tensor:
        read.extend(texts)
        return encode(own, texts)

    monkeypatch.setattr(TextVectors, "__call__", encode_told)
    found = learnt([photo(64, 64)], ["sea turtle", "drink", "my cat"], ["inside of", "drink"], threshold=0.0)[0]
    assert read == ["Sea turtle", "Drink", "my cat", "no objects", "inside_of", "drink"]
    assert {triplet.relation for triplet in found} == {"inside of", "drink"}
    assert {triplet.object for triplet in found} <= {"sea turtle", "drink", "my cat"}
