"""Captions and relation answers of models beyond BLIP, from folders as they come from the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_assets.labelling.captions import stage as captions_module
from rlip_assets.labelling.captions.captioner import Captioner
from rlip_assets.labelling.captions.image_text_captioner import ImageTextCaptioner
from rlip_assets.labelling.captions.stage import caption_scenes, open_captioner
from rlip_assets.labelling.image_text_model import ImageTextModel
from rlip_assets.labelling.label_tables import CandidateRow
from rlip_assets.labelling.tagging.pair_judge import (
    OBJECT_COLOUR,
    SUBJECT_COLOUR,
    PairJudge,
    check_answers,
    count_unscored,
    judge_scenes,
    mark_pair,
)
from rlip_assets.lineage.params.labels import CaptionParams, TaggingParams
from rlip_assets.storage.errors import DataError, InputError
from rlip_assets.storage.images import BadImageError
from rlip_assets.training.micro_batches import MicroBatches
from tests.support.image_text_models import FAMILIES, image_text_folder
from tests.support.label_factory import captioner_folder

PARAMS = CaptionParams(prompt="describe the picture", captions_per_image=3, min_tokens=4, max_tokens=8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def photo(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("family", FAMILIES)
def test_captions_depend_on_image_and_seed_alone(family: str, base: Path) -> None:
    captioner = open_captioner(str(image_text_folder(base, family)), PARAMS, "cpu")
    assert isinstance(captioner, ImageTextCaptioner)
    photos = [photo(0), photo(1)]
    together = captioner(["a", "b"], photos)
    torch.manual_seed(99)
    assert captioner(["b"], photos[1:]) == together[1:]
    assert [len(captions) for captions in together] == [3, 3]
    assert all(2 <= len(caption.split()) <= 8 for captions in together for caption in captions)
    assert not any("describe the picture" in caption for captions in together for caption in captions)
    assert len({*together[0], *together[1]}) > 3
    assert replace_seed(captioner, 1)(["a", "b"], photos) != together


def replace_seed(captioner: ImageTextCaptioner, seed: int) -> ImageTextCaptioner:
    return ImageTextCaptioner(captioner.model, captioner.params.model_copy(update={"seed": seed}))


def test_a_beam_search_writes_one_caption(base: Path) -> None:
    params = PARAMS.model_copy(update={"mode": "beam"})
    captioner = open_captioner(str(image_text_folder(base, "llava")), params, "cpu")
    assert [len(captions) for captions in captioner(["a"], [photo(0)])] == [1]


def test_shards_made_when_models_decoded_as_they_preferred_are_made_again(base: Path, tmp_path: Path) -> None:
    blip, other = str(captioner_folder(tmp_path)), str(image_text_folder(base, "llava"))
    assert captions_module._identity(blip) == {"model": captions_module.model_digest(blip)}
    assert captions_module._identity(other) == {"model": captions_module.model_digest(other), "decoding": "2"}


PREFERENCES = {
    "qwen2_5_vl": {"do_sample": True, "temperature": 1e-06, "top_k": 1, "repetition_penalty": 1.05},
    "florence2": {"num_beams": 3, "no_repeat_ngram_size": 3, "early_stopping": True, "forced_eos_token_id": 2},
    "llava": {"min_p": 1.0, "typical_p": 0.01, "no_repeat_ngram_size": 1, "suppress_tokens": [5, 6]},
}
"""Of generation_config.json: those of two released models, and others that leave nothing to choose."""


@pytest.mark.parametrize("family", PREFERENCES)
def test_models_decode_as_told_whatever_they_prefer(family: str, base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(image_text_folder(base, family), tmp_path / "model")
    plain = ImageTextModel.open(folder)
    given = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(given | PREFERENCES[family]))
    model = ImageTextModel.open(folder)
    assert model.model.generation_config.eos_token_id == plain.model.generation_config.eos_token_id is not None
    for changes in ({}, {"mode": "beam"}, {"top_p": 0.5, "captions_per_image": 10}):
        params = PARAMS.model_copy(update=changes)
        captions = ImageTextCaptioner(model, params)(["a"], [photo(0)])
        if family == "llava":  # these tokens are no words of its language
            assert not {"a", "person"} & {word for text in captions[0] for word in text.split()}
        else:
            assert captions == ImageTextCaptioner(plain, params)(["a"], [photo(0)])
        assert len({*captions[0]}) > 1 or changes == {"mode": "beam"}


def test_blip_keeps_its_published_sampler(tmp_path: Path) -> None:
    params = CaptionParams(max_tokens=12)
    assert isinstance(open_captioner(str(captioner_folder(tmp_path)), params, "cpu"), Captioner)


@pytest.mark.parametrize("damage", ["no folder", "no weights", "cut off", "no tokenizer", "another kind"])
def test_a_folder_that_is_no_model_is_one_sentence(damage: str, base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    if damage != "no folder":
        FAMILIES["llava"](folder)
    if damage == "no weights":
        (folder / "model.safetensors").unlink()
    if damage == "cut off":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    if damage == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    if damage == "another kind":
        (folder / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(
        InputError, match=r"is no image-text-to-text model .*; give a folder or hub name of one"
    ) as caught:
        ImageTextModel.open(folder)
    assert "\n" not in str(caught.value)


SCENE = make_scene("1", "coco", "train", "1.jpg", 80, 60, [(2, 3, 40, 50), (30, 8, 70, 55)], ["person", "horse"])
ROW = CandidateRow(
    "1", "", [0, 0, 1], [1, 1, 0], ["ride", "feed", "carry"], ["riding", "feeding", "carrying"], [1, 1, 1]
)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_judge_gives_the_chance_of_yes(family: str, base: Path) -> None:
    model = ImageTextModel.open(image_text_folder(base, family))
    question = "<CAPTION>" if family == "florence2" else "is the {subject} {relation} the {object}"
    judge = PairJudge(model, question)
    found = judge(photo(0), SCENE, 0, 1, ["riding", "on"])
    assert all(confidence is not None and 0 < confidence < 1 for confidence in found)
    assert (found[0] != found[1]) == (family != "florence2")
    assert judge(photo(0), SCENE, 1, 0, ["riding"]) != found[:1]
    chances = model.first_token(
        mark_pair(photo(0), SCENE, 0, 1), question.format(subject="person", relation="on", object="horse")
    )
    yes, no = (
        sum(float(chances[token]) for token in model.tokens_of(*words)) for words in (("yes", "Yes"), ("no", "No"))
    )
    assert found[1] == pytest.approx(yes / (yes + no))


def test_the_first_token_of_an_answer_comes_after_the_start_of_every_text(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(image_text_folder(base, "florence2"), tmp_path / "model")
    given = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(given | {"forced_bos_token_id": 1}))
    model = ImageTextModel.open(folder)
    inputs = model._inputs(photo(0), "<CAPTION>")
    with torch.inference_mode():
        logits = model.model(**inputs, decoder_input_ids=torch.tensor([[2, 1]])).logits[0]
    assert model.first_token(photo(0), "<CAPTION>").numpy() == pytest.approx(logits[1].softmax(-1).numpy(), abs=1e-6)


def test_a_tokenizer_that_puts_a_blank_before_words_tells_yes_from_no(base: Path) -> None:
    model = ImageTextModel.open(image_text_folder(base, "llava"))
    words = ("yes", "Yes", "no", "No")
    merges = [("▁" + word[:end], letter) for word in words for end, letter in enumerate(word)]
    names = ["<unk>", "▁", *sorted({*"".join(words)}), *("".join(merge) for merge in merges)]
    core = Tokenizer(BPE({name: number for number, name in enumerate(names)}, merges, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)])
    model.processor.tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    tokenizer = model.processor.tokenizer
    assert [tokenizer.tokenize(text) for text in ("yes", " yes")] == [["▁yes"], ["▁", "▁yes"]]
    assert tokenizer.convert_ids_to_tokens(model.tokens_of("yes", "Yes")) == ["▁yes", "▁Yes"]
    assert tokenizer.convert_ids_to_tokens(model.tokens_of("no", "No")) == ["▁no", "▁No"]
    PairJudge(model, "is it {relation}")


def test_a_pair_is_marked_in_red_and_blue() -> None:
    plain = Image.new("RGB", (80, 60), (9, 9, 9))
    marked = mark_pair(plain, SCENE, 0, 1)
    assert marked.getpixel((2, 20)) == SUBJECT_COLOUR
    assert marked.getpixel((70, 20)) == OBJECT_COLOUR
    assert plain.getpixel((2, 20)) == (9, 9, 9)


class Photos:
    def open(self, scene: Scene) -> Image.Image:
        if scene.image_id == "bad":
            raise BadImageError(Path("1.jpg"), "cut off")
        return photo(0)


def test_every_candidate_gets_the_answer_for_its_pair() -> None:
    asked: list[tuple[int, int, list[str]]] = []

    def source(photo: Image.Image, scene: Scene, subject: int, target: int, relations: Sequence[str]) -> list[float]:
        asked.append((subject, target, list(relations)))
        return [0.1 * (1 + number) + 0.5 * subject for number in range(len(relations))]

    items = [
        (SCENE, ROW),
        (replace(SCENE, image_id="bad"), ROW),
        (replace(SCENE, image_id="2"), replace(ROW, subject=[], object=[], relation=[])),
    ]
    scores, left_out = judge_scenes(source, items, Photos())
    assert [name for name, _ in scores] == ["1", "2"]
    assert asked == [(0, 1, ["ride", "feed"]), (1, 0, ["carry"])]
    labels = scores[0][1]
    assert list(zip(labels.subject, labels.object, labels.relation, strict=True)) == [
        (0, 1, "ride"),
        (0, 1, "feed"),
        (1, 0, "carry"),
    ]
    assert labels.confidence.tolist() == pytest.approx([0.1, 0.2, 0.6])
    assert len(scores[1][1]) == 0
    assert [entry["image_id"] for entry in left_out] == ["bad"]


def test_candidates_without_an_answer_become_no_labels() -> None:
    scores, _ = judge_scenes(lambda *_: [0.25, None] if len(_[-1]) == 2 else [None], [(SCENE, ROW)], Photos())
    assert (scores[0][1].relation, scores[0][1].confidence.tolist()) == (("ride",), [0.25])
    away = replace(SCENE, image_id="2", boxes=np.array([(90, 5, 99, 20), (30, 8, 70, 55)], np.float32))
    items = [(SCENE, ROW), (away, ROW), (replace(SCENE, image_id="bad"), ROW)]
    scores, _ = judge_scenes(lambda *_: [0.25, None] if len(_[-1]) == 2 else [None], items, Photos())
    assert count_unscored(items, scores) == {"unanswered": 2, "outside": 3}
    silent, _ = judge_scenes(lambda *_: [None] * len(_[-1]), [(SCENE, ROW)] * 7, Photos())
    assert count_unscored([(SCENE, ROW)], silent) == {"unanswered": 3, "outside": 0}


def test_a_bucket_without_any_answer_is_refused() -> None:
    check_answers({"scored": 1, "unanswered": 500}, "team/judge")
    check_answers({"scored": 0, "unanswered": 19}, "team/judge")
    check_answers({"scored": 0, "outside": 500}, "team/judge")
    with pytest.raises(DataError, match=r"team/judge answers none of 20 candidates of this bucket with yes or no"):
        check_answers({"scored": 0, "unanswered": 20}, "team/judge")


@pytest.mark.parametrize("answers", [[], [0.5], [0.5, 1.5], [0.5, float("nan")], [0.5, -0.1], [0.1, 0.2, 0.3]])
def test_answers_that_are_not_one_number_per_relation_are_refused(answers: list[float]) -> None:
    with pytest.raises(DataError, match=r"2 relations of boxes \(0, 1\) of image 1; it must give one number"):
        judge_scenes(lambda *_: answers, [(SCENE, ROW)], Photos())


def test_a_model_that_answers_in_another_language_has_no_confidence(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ImageTextModel.open(image_text_folder(base, "llava"))
    judge = PairJudge(model, "is the {subject} {relation} the {object}")
    for chances in (torch.eye(1000)[999], torch.full((1000,), torch.nan)):  # another word; numbers that overflowed
        monkeypatch.setattr(model, "first_token", lambda *_, chances=chances: chances)
        assert judge(photo(0), SCENE, 0, 1, ["riding", "on"]) == [None, None]


def test_odd_boxes_are_marked_where_they_can_be_seen(base: Path) -> None:
    judge = PairJudge(ImageTextModel.open(image_text_folder(base, "llava")), "is the {subject} {relation} the {object}")

    def answer(*box: float) -> float | None:
        scene = replace(SCENE, boxes=np.array([box, (30, 8, 70, 55)], np.float32))
        row = replace(ROW, subject=[0], object=[1], relation=["riding"])
        labels = judge_scenes(judge, [(scene, row)], Photos())[0][0][1]
        return float(labels.confidence[0]) if len(labels) else None

    turned, plain = answer(40, 50, 2, 3), answer(2, 3, 40, 50)
    assert turned == plain
    assert answer(20, 20, 20, 20) is not None  # without area: a point
    assert answer(90, 5, 99, 20) is None
    assert answer(-30, -30, -10, -10) is None
    tiny = replace(SCENE, width=1, height=1, boxes=np.array([(0, 0, 1, 1)] * 2, np.float32))
    assert judge(Image.new("RGB", (1, 1)), tiny, 0, 1, ["riding"])[0] is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_and_thin_images_are_captioned_or_refused_as_images(family: str, base: Path) -> None:
    captioner = open_captioner(str(image_text_folder(base, family)), PARAMS, "cpu")
    for size in ((1, 1), (3, 80), (80, 3)):
        assert len(captioner(["a"], [photo(0, size)])[0]) == 3
    if family == "qwen2_5_vl":
        with pytest.raises(BadImageError, match=r"the model cannot prepare it .*aspect ratio"):
            captioner(["a"], [photo(0, (400, 1))])
    else:
        assert captioner(["a"], [photo(0, (400, 1))])


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_a_model_without_its_chat_template_is_one_sentence(family: str, base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(image_text_folder(base, family), folder)
    for file in folder.glob("*.json"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps({key: value for key, value in content.items() if key != "chat_template"}))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    captioner = ImageTextCaptioner.open(folder, PARAMS)
    with pytest.raises(
        InputError, match="has no chat template, cannot read the instruction 'describe the picture'"
    ) as e:
        captioner(["a"], [photo(0)])
    assert "write <" in str(e.value)
    asking = PARAMS.model_copy(update={"prompt": f"{captioner.model.processor.image_token} describe the picture"})
    assert ImageTextCaptioner(captioner.model, asking)(["a"], [photo(0)])


class Scenes:
    """The photos of scenes: one is too thin."""

    def open(self, scene: Scene) -> Image.Image:
        return photo(0, (400, 1) if scene.image_id == "thin" else (80, 60))


def test_an_image_that_the_model_cannot_prepare_goes_to_quarantine(base: Path) -> None:
    params = PARAMS.model_copy(update={"captions_per_image": 1})
    captioner = ImageTextCaptioner.open(image_text_folder(base, "qwen2_5_vl"), params)
    boxes = np.array([(0, 0, 9, 1), (5, 0, 50, 1)], np.float32)
    scenes = [replace(SCENE, image_id=name, boxes=boxes) for name in ("a", "thin", "b")]

    def write(part: Sequence[Scene], photos: Sequence[Image.Image]) -> list[list[str]]:
        return captioner([scene.image_id for scene in part], photos)

    rows, left_out = caption_scenes(write, scenes, Scenes(), MicroBatches(2, ""))  # type: ignore[arg-type]
    assert [row.image_id for row in rows] == ["a", "b"]
    assert [row.captions for row in rows] == captioner(["a", "b"], [photo(0)] * 2)
    assert [(entry["image_id"], "aspect ratio" in entry["reason"]) for entry in left_out] == [("thin", True)]
    judge = PairJudge(captioner.model, "is the {subject} {relation} the {object}")
    _, left_out = judge_scenes(judge, [(scene, ROW) for scene in scenes], Scenes())
    assert [entry["image_id"] for entry in left_out] == ["thin"]


@pytest.mark.parametrize("given", [[], [["a"]], [["a"], ["b"], ["c"]], [["a"], None], [["a"], "text"], [["a"], [None]]])
def test_a_captioner_that_gives_no_texts_per_image_is_refused(given: Any) -> None:
    scenes = [replace(SCENE, image_id=name) for name in ("a", "b")]
    with pytest.raises(DataError, match="no list of texts for each of 2 images, of which a is the first"):
        caption_scenes(lambda *_: given, scenes, Scenes(), MicroBatches(2, ""))  # type: ignore[arg-type]


def test_empty_captions_are_kept_as_such() -> None:
    rows, left_out = caption_scenes(lambda part, _: [[""]] * len(part), [SCENE], Scenes(), MicroBatches(2, ""))  # type: ignore[arg-type]
    assert ([row.captions for row in rows], left_out) == ([[""]], [])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"source": "image_text"}, "needs"),
        ({"model": "somewhere"}, "of source image_text"),
        ({"question": "is it true?"}, "must name {relation}"),
        ({"question": "{relation} {verb}"}, "only"),
        ({"question": "{relation.x.y}"}, "only"),
        ({"question": "{relation"}, "only"),
    ],
)
def test_sources_that_cannot_be_asked_are_refused(fields: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        TaggingParams.model_validate(fields)
