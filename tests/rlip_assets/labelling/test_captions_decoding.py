"""Sampling many captions from one encoding: against the model's own passes, and independent of how work is divided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from transformers import TopKLogitsWarper, TopPLogitsWarper

from rlip_assets.labelling.captions.captioner import Captioner
from rlip_assets.labelling.captions.decoding import Nucleus, choose, penalise, sample_captions
from rlip_assets.labelling.captions.random_streams import uniform_table
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.images import open_image
from tests.support.label_factory import draw_bucket, open_captioner


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captioner")


@pytest.fixture(scope="module")
def images(base: Path) -> list[Image.Image]:
    return [open_image(base / "raw" / scene.file_name) for scene in draw_bucket(base / "raw", 6)]


def captions(captioner: Captioner, images: list[Image.Image], batch: int) -> list[list[str]]:
    found = []
    for start in range(0, len(images), batch):
        part = list(range(start, min(start + batch, len(images))))
        found += captioner([str(i) for i in part], [images[i] for i in part])
    return found


def plain_sample(captioner: Captioner, image: Image.Image, chances: np.ndarray, settings: Nucleus) -> list[int]:
    """One caption by the definition: whole forward passes without any cache."""
    text = captioner.model.config.text_config
    tokens = list(captioner.prompt)
    for chance in chances:
        vision = captioner.model.vision_model(captioner.pixels([image])).last_hidden_state
        logits = captioner.model.text_decoder(input_ids=torch.tensor([tokens]), encoder_hidden_states=vision).logits[
            0, -1
        ]
        for token in set(tokens):
            logits[token] = (
                logits[token] * settings.repetition_penalty
                if logits[token] < 0
                else logits[token] / settings.repetition_penalty
            )
        if len(tokens) < settings.min_tokens:
            logits[text.sep_token_id] = -torch.inf
        probabilities = logits.double().softmax(-1)
        ranked = sorted(range(len(probabilities)), key=lambda t: -float(probabilities[t]))[: settings.top_k]
        probabilities /= probabilities[ranked].sum()
        kept, total = [], 0.0
        for token in ranked:
            if total > settings.top_p:
                break
            kept.append(token)
            total += float(probabilities[token])
        position, reached = chance * total, 0.0
        for token in kept:
            reached += float(probabilities[token])
            if reached > position:
                break
        tokens.append(token)
        if token == text.sep_token_id:
            break
    return tokens


@torch.inference_mode()
def test_cached_decoding_equals_whole_passes(base: Path, images: list[Image.Image]) -> None:
    captioner = open_captioner(base, captions_per_image=3)
    settings = Nucleus(max_tokens=12)
    steps = settings.max_tokens - len(captioner.prompt)
    chances = np.stack([uniform_table(5, str(i), 3, steps) for i in range(3)])
    found = sample_captions(
        captioner.model, captioner.pixels(images[:3]), captioner.prompt, torch.from_numpy(chances), settings
    )
    for i in range(3):
        for n in range(3):
            expected = plain_sample(captioner, images[i], chances[i, n], settings)
            row = found[i, n].tolist()
            assert row[: len(expected)] == expected
            assert set(row[len(expected) :]) <= {captioner.model.config.text_config.pad_token_id}


def test_captions_differ_between_images_and_samples(base: Path, images: list[Image.Image]) -> None:
    found = captions(open_captioner(base, captions_per_image=4), images, 6)
    assert len({tuple(texts) for texts in found}) == len(images)
    assert all(len(set(texts)) > 1 for texts in found)


def test_sharding_and_order_do_not_matter(base: Path, images: list[Image.Image]) -> None:
    captioner = open_captioner(base, captions_per_image=4)
    together = captioner([str(i) for i in range(6)], images)
    backwards = captioner([str(i) for i in reversed(range(6))], images[::-1])
    assert backwards[::-1] == together
    assert captions(captioner, images, 3) == together  # other batch sizes may differ in the last float bits only


def test_more_captions_and_another_seed(base: Path, images: list[Image.Image]) -> None:
    few, many = (open_captioner(base, captions_per_image=n)(["a", "b"], images[:2]) for n in (2, 5))
    assert [texts[:2] for texts in many] == few
    assert open_captioner(base, captions_per_image=2, seed=1)(["a", "b"], images[:2]) != few


def test_beam_search_gives_one_caption_and_repeats(base: Path, images: list[Image.Image]) -> None:
    captioner = open_captioner(base, mode="beam")
    found = captioner(["a", "b"], images[:2])
    assert [len(texts) for texts in found] == [1, 1]
    assert captioner(["x", "y"], images[:2]) == found


def test_the_prompt_is_removed(base: Path, images: list[Image.Image]) -> None:
    captioner = open_captioner(base, captions_per_image=1)
    assert len(captioner.prompt) == 4
    (texts,) = captioner(["a"], images[:1])
    assert len(texts[0].split()) <= 12 - 4


def test_bad_sources_and_lengths_are_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no BLIP captioner"):
        Captioner.open(tmp_path, open_captioner(base).params)
    with pytest.raises(InputError, match=r"captions\.max_tokens"):
        open_captioner(base, max_tokens=41)


def test_nucleus_is_the_smallest_set_beyond_top_p() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().repeat(2000, 1)
    chances = torch.linspace(0, 1, 2001)[:-1]
    drawn = choose(logits, chances, 0.7)
    assert set(drawn.tolist()) == {0, 1}
    assert stats.chisquare(torch.bincount(drawn).numpy(), [1250, 750]).pvalue > 0.9
    assert set(choose(logits, chances, 0.85).tolist()) == {0, 1, 2}
    assert set(choose(logits, chances, 1e-9).tolist()) == {0}
    assert set(choose(logits, chances, 1.0).tolist()) == {0, 1, 2, 3}


def test_the_most_likely_tokens_alone_share_the_nucleus_as_published() -> None:
    """The tokens that transformers' own filters leave, top-k before top-p, each as often as they say."""
    chances = torch.linspace(0, 1, 4001)[:-1]
    logits = torch.randn(5, 30, generator=torch.Generator().manual_seed(1)) * 2
    for top_k in (1, 5, 50):
        kept = TopPLogitsWarper(0.9)(None, TopKLogitsWarper(top_k)(None, logits)).softmax(-1)
        for row, expected in zip(logits, kept, strict=True):
            drawn = choose(row.repeat(4000, 1), chances, 0.9, top_k)
            share = torch.bincount(drawn, minlength=30) / 4000
            assert torch.allclose(share, expected, atol=1e-3)
    wide = torch.zeros(4000, 30)
    assert len(set(choose(wide, chances, 0.9).tolist())) > len(set(choose(wide, chances, 0.9, 5).tolist()))


def test_repetition_penalty_acts_on_seen_tokens_once() -> None:
    logits = torch.tensor([[2.0, -2.0, 3.0]])
    assert penalise(logits, torch.tensor([[0, 1, 1]]), 2.0).tolist() == [[1.0, -4.0, 3.0]]
    assert penalise(logits, torch.tensor([[0, 1]]), 1.0).tolist() == logits.tolist()


def test_uniform_table_depends_on_seed_image_and_caption_alone() -> None:
    table = uniform_table(3, "42", 4, 9)
    assert (table[:2, :5] == uniform_table(3, "42", 2, 5)).all()
    assert (table[0] != table[1]).all()
    assert (table != uniform_table(3, "43", 4, 9)).all()
    assert (table != uniform_table(4, "42", 4, 9)).all()
    many = np.concatenate([uniform_table(0, str(i), 5, 20).ravel() for i in range(100)])
    assert stats.kstest(many, "uniform").pvalue > 0.01
