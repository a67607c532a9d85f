"""Label tokenizer and the text side of the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlip_model.text import (
    LabelTokenizer,
    build_text_encoder,
    sign_text_mask,
    train_label_tokenizer,
)
from tests.support.network_cases import small

TEXTS = ["person", "sports ball", "dining table", "no objects", "sit on/at", "look at", "naïve café 熊 🐻"]


def test_special_tokens_and_padding() -> None:
    tokenizer = train_label_tokenizer(TEXTS, 400)
    batch = tokenizer(["person", "sports ball on a very long table"])
    assert (batch.input_ids[:, 0] == 0).all()
    for row, mask in zip(batch.input_ids, batch.attention_mask, strict=True):
        length = int(mask.sum())
        assert row[length - 1] == 2
        assert (row[length:] == 1).all()
        assert not (row[:length] == 1).any()
    assert int(batch.input_ids.max()) < tokenizer.vocabulary <= 400


def test_order_of_training_texts_does_not_matter() -> None:
    a, b = train_label_tokenizer(TEXTS, 400), train_label_tokenizer(reversed(TEXTS * 2), 400)
    assert torch.equal(a(TEXTS).input_ids, b(TEXTS).input_ids)


def test_every_text_has_tokens_of_its_own() -> None:
    """Byte-level: letters that were never seen, slashes and emoji are no unknown tokens."""
    tokenizer = train_label_tokenizer(["person"], 261)
    ids = tokenizer([*TEXTS, ""]).input_ids
    assert not (ids == 3).any()
    assert len({tuple(row.tolist()) for row in ids}) == len(TEXTS) + 1


def test_save_and_open(tmp_path: Path) -> None:
    tokenizer = train_label_tokenizer(TEXTS, 400, max_length=6)
    tokenizer.save_pretrained(tmp_path)
    again = LabelTokenizer.from_pretrained(tmp_path)
    for ours, theirs in zip(tokenizer(TEXTS), again(TEXTS), strict=True):
        assert torch.equal(ours, theirs)
    assert again.max_length == 6


def test_long_text_is_cut_to_the_positions() -> None:
    config = small("micro_parseda").text
    tokenizer = train_label_tokenizer(TEXTS, config.vocabulary)
    batch = tokenizer(["x" * 10_000, "person"])
    assert batch.input_ids.shape[1] == tokenizer.max_length <= config.positions - 2
    pooled = build_text_encoder(config).eval()(*batch).pooler_output
    assert torch.isfinite(pooled).all()


def test_refuses() -> None:
    with pytest.raises(ValueError, match="no texts to tokenise"):
        train_label_tokenizer(TEXTS, 400)([])
    with pytest.raises(ValueError, match="at least 261"):
        train_label_tokenizer(TEXTS, 100)


def test_missing_tokenizer_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"give a folder that holds tokenizer\.json"):
        LabelTokenizer.from_pretrained(tmp_path / "absent")


def test_padding_does_not_change_a_label() -> None:
    config = small("micro_parseda").text
    encoder = build_text_encoder(config).eval()
    tokenizer = train_label_tokenizer(TEXTS, config.vocabulary)
    alone, together = tokenizer(["person"]), tokenizer(["person", "x" * 60])
    with torch.no_grad():
        a, b = encoder(*alone).pooler_output[0], encoder(*together).pooler_output[0]
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_sign_mask() -> None:
    pooled = torch.tensor([[0.5, -0.4], [-0.5, 0.4], [0.0, 0.0], [1.0, 1.0]])
    assert sign_text_mask(pooled).tolist() == [False, True, True, False]
