"""Captions and relation answers of models beyond BLIP, from folders as they come from the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from rlip_assets.datasets.scenes import Scene, make_scene
from rlip_assets.labelling.captions.captioner import Captioner
from rlip_assets.labelling.captions.image_text_captioner import ImageTextCaptioner
from rlip_assets.labelling.captions.stage import open_captioner
from rlip_assets.labelling.image_text_model import ImageTextModel
from rlip_assets.labelling.label_tables import CandidateRow
from rlip_assets.labelling.tagging.pair_judge import OBJECT_COLOUR, SUBJECT_COLOUR, PairJudge, judge_scenes, mark_pair
from rlip_assets.lineage.params.labels import CaptionParams, TaggingParams
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.images import BadImageError
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
    assert all(0 < confidence < 1 for confidence in found)
    assert (found[0] != found[1]) == (family != "florence2")
    assert judge(photo(0), SCENE, 1, 0, ["riding"]) != found[:1]
    chances = model.first_token(
        mark_pair(photo(0), SCENE, 0, 1), question.format(subject="person", relation="on", object="horse")
    )
    yes, no = (
        sum(float(chances[token]) for token in model.tokens_of(*words)) for words in (("yes", "Yes"), ("no", "No"))
    )
    assert found[1] == pytest.approx(yes / (yes + no))


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
