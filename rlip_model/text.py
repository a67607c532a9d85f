"""Label texts: tokenizer, RoBERTa text encoder, and the resizing of its vectors (RoBERTa, as in RLIPv1).

One label, one vector: the pooler output of the encoder. No prompt, no article. Rows are objects, then "no objects",
then relations; the order within each is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from rlip_model.checkpoints.files import first_line, member, naming, read_json, write_json
from rlip_model.config import TextConfig
from rlip_model.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NO_OBJECTS = "no objects"
"""The label of the background; always the last object row."""

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
TOKENIZER_LIMIT = 64 << 20
"""Bytes of a `tokenizer.json`; RoBERTa's takes four megabytes."""

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""RoBERTa's special tokens with ids 0 to 4."""


class TokenBatch(NamedTuple):
    """input_ids and attention_mask: (T, N) int64, padded to the longest label; 1 in the mask = a token."""

    input_ids: Tensor
    attention_mask: Tensor


class LabelTokenizer:
    """A fast byte-level BPE tokenizer of the RoBERTa kind; a call returns padded tensors."""

    def __init__(self, tokenizer: Tokenizer, max_length: int = 512) -> None:
        pad = tokenizer.token_to_id("<pad>")
        if pad is None:
            raise ValueError("the tokenizer has no <pad> token: it is not of the RoBERTa kind")
        self.pad_id = int(pad)
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._tokenizer.enable_padding(pad_id=self.pad_id, pad_token="<pad>")
        self._tokenizer.enable_truncation(max_length=max_length)

    def shortened(self, max_length: int) -> LabelTokenizer:
        """Return this tokenizer with texts cut at `max_length` tokens, where it does not cut them shorter."""
        return self if self.max_length <= max_length else LabelTokenizer(self._tokenizer, max_length)

    @property
    def vocabulary(self) -> int:
        """Number of token ids, special tokens included."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        """Return the tokens of T texts; texts beyond the encoder's positions are cut. Raises ValueError on an empty list."""
        if not texts:
            raise ValueError("there are no texts to tokenise: give at least one label")
        with naming("the tokenizer"):
            encodings = self._tokenizer.encode_batch(list(texts))
        return TokenBatch(
            torch.tensor([encoding.ids for encoding in encodings], dtype=torch.int64),
            torch.tensor([encoding.attention_mask for encoding in encodings], dtype=torch.int64),
        )

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path) -> LabelTokenizer:
        """Open a folder with `tokenizer.json`, or any RoBERTa-like tokenizer that `transformers` can find by name.

        Raises:
            CheckpointError: nothing is found, or a file of the folder is damaged.
        """
        from tokenizers import Tokenizer

        folder = Path(name_or_folder)
        if (folder / TOKENIZER).exists():
            file = member(folder, TOKENIZER)
            with naming(file):
                if file.stat().st_size > TOKENIZER_LIMIT:
                    raise ValueError(f"more than {TOKENIZER_LIMIT >> 20} MB")
                result = cls(Tokenizer.from_file(str(file)), _max_length(folder))
                if not len(result._tokenizer.encode("person")):
                    raise ValueError("a text has no tokens")
            return result
        from transformers import AutoTokenizer

        try:
            fast = AutoTokenizer.from_pretrained(str(name_or_folder), use_fast=True)
            return cls(Tokenizer.from_str(fast.backend_tokenizer.to_str()))
        except (AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"no tokenizer at {name_or_folder}: give a folder that holds tokenizer.json, or the name of a "
                f"RoBERTa tokenizer that can be downloaded ({first_line(error)})"
            ) from error

    def save_pretrained(self, folder: Path) -> None:
        """Write `tokenizer.json` and its settings, which `transformers` reads too, into an existing folder."""
        (folder / TOKENIZER).write_text(self._tokenizer.to_str(pretty=True))
        special = dict(
            zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL_TOKENS, strict=True)
        )
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": self.max_length, **special}
        write_json(folder / SETTINGS, settings)


def _max_length(folder: Path) -> int:
    """The length limit stored beside a tokenizer; 512 where none is, or, as `transformers` writes it, one without end."""
    for name, key in (("label_tokenizer.json", "max_length"), (SETTINGS, "model_max_length")):
        if (folder / name).exists():
            value = read_json(member(folder, name)).get(key, 512)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 3:
                raise CheckpointError(
                    f"{folder / name}: {key} is {value!r}, not a number of at least 3: restore the file"
                )
            return int(value) if value < 1 << 20 else 512
    return 512


def train_label_tokenizer(texts: Iterable[str], vocabulary: int, max_length: int = 64) -> LabelTokenizer:
    """Learn a byte-level BPE vocabulary of at most `vocabulary` tokens from label texts; the result depends on the texts only.

    Args:
        texts: labels, in any order (sorted before use).
        vocabulary: upper limit; at least 261 (256 bytes and 5 special tokens).
        max_length: tokens per label, the two sentence marks included.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    floor = 256 + len(SPECIAL_TOKENS)
    if vocabulary < floor:
        raise ValueError(f"a byte-level vocabulary needs at least {floor} tokens, got {vocabulary}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(texts)), trainer=trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return LabelTokenizer(tokenizer, max_length=max_length)


def build_text_encoder(config: TextConfig) -> nn.Module:
    """Return a `RobertaModel` with pooler and fresh weights."""
    from transformers.models.roberta.modeling_roberta import RobertaModel

    return RobertaModel(roberta_config(config))


def roberta_config(config: TextConfig) -> Any:
    """Return the `transformers` configuration of text encoder and language layers."""
    from transformers import RobertaConfig

    return RobertaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.feed_forward,
        max_position_embeddings=config.positions,
        type_vocab_size=1,
        pad_token_id=config.pad_id,
        bos_token_id=0,
        eos_token_id=2,
        layer_norm_eps=config.layer_norm_eps,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )


class TextResizer(nn.Module):
    """Text width to model width: linear, layer norm (eps 1e-12), dropout."""

    def __init__(self, text_width: int, width: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(text_width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, labels: Tensor) -> Tensor:
        """Return labels of model width (..., T, C) from those of text width (..., T, W)."""
        result: Tensor = self.dropout(self.norm(self.linear(labels)))
        return result


def sign_text_mask(pooled: Tensor) -> Tensor:
    """Return the mask of the published training: labels whose vector has a component sum that is not positive.

    It marked padding rows of per-image label lists; with one merged list there are none, and it hides valid labels.
    Evaluation never used it.

    Args:
        pooled: (T, W) pooled label vectors.
    Returns:
        (T,) bool, True = ignored as a key.
    """
    return ~(pooled.sum(-1) > 0)
