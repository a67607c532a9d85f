"""The shipped text encoder: a micro RoBERTa whose pooled vector of a label lies near those of its paraphrases.

The published pipeline starts from RoBERTa-base, which has read what "walking" and "leading" have in common. This one learns it from
captions: phrases that different captions of one scene use for one thing are pulled together (InfoNCE, arXiv 1807.03748; two dropout views
of one text as in SimCSE, arXiv 2104.08821), captions of one scene likewise, and masked words are guessed.

Shape legend: T texts, N tokens of a text, W text width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlip_assets.micro_world.starting_weights.fit import Machine, Schedule, fit
from rlip_assets.micro_world.starting_weights.phrase_corpus import (
    HeldOut,
    PhraseCorpus,
    build_corpus,
    caption_scenes,
    label_texts,
)
from rlip_assets.micro_world.starting_weights.record import TrainingRecord
from rlip_assets.storage.files import atomic_folder
from rlip_assets.training.processes import Processes
from rlip_model import LabelTokenizer, ModelConfig, train_label_tokenizer
from rlip_model.text import SPECIAL_TOKENS, build_text_encoder

PRESET = "micro_parseda"
HELD_OUT_SEED = 1_000_000
"""Added to the seed of the training stream."""
MASK_ID = SPECIAL_TOKENS.index("<mask>")
IGNORED = -100


@dataclass(frozen=True)
class TextEncoderTraining:
    """Everything that decides the outcome."""

    seed: int = 0
    steps: int = 1500
    scenes: int = 4000
    captions: int = 8
    """Sentences per scene."""
    phrase_batch: int = 128
    """Phrase pairs per step."""
    caption_batch: int = 8
    """Scenes per step, two captions each."""
    temperature: float = 0.1
    caption_weight: float = 0.3
    masked_weight: float = 0.3
    masked_share: float = 0.15
    dropout: float = 0.1
    """Of the training alone; the configuration that is saved has that of the presets."""
    lr: float = 1.5e-3
    weight_decay: float = 1e-2
    warmup: int = 100
    held_out_share: float = 0.15
    held_out_scenes: int = 300


def make_text_encoder(
    folder: Path, machine: Machine | None = None, settings: TextEncoderTraining | None = None
) -> None:
    """Train tokenizer and encoder, measure them on held-out pairs and captions, write them with their record.

    It takes minutes on one core, so it trains on the CPU anywhere. An existing folder is replaced whole.
    """
    machine, settings = (
        replace(machine or Machine(), device=torch.device("cpu"), processes=Processes()),
        settings or TextEncoderTraining(),
    )
    record = TrainingRecord("text_encoder", asdict(settings))
    scenes = caption_scenes(settings.seed, settings.scenes, settings.captions)
    corpus, held_out = build_corpus(scenes, settings.held_out_share, settings.seed)
    tokenizer = train_tokenizer(corpus, ModelConfig.preset(PRESET).text.vocabulary)
    encoder = train_text_encoder(tokenizer, corpus, scenes, settings, record, machine)
    fresh = caption_scenes(settings.seed + HELD_OUT_SEED, settings.held_out_scenes, 2)
    # Measured as shipped: in 16-bit precision, widened again.
    encoder.half().float()
    figures = {**phrase_figures(encoder, tokenizer, held_out), **caption_figures(encoder, tokenizer, fresh)}
    with atomic_folder(folder) as target:
        encoder.half().save_pretrained(target)
        tokenizer.save_pretrained(target)
        record.write(target, figures)


def train_tokenizer(corpus: PhraseCorpus, vocabulary: int) -> LabelTokenizer:
    """Byte-level BPE of the phrases that captions use and of all label texts."""
    return train_label_tokenizer([*corpus.phrases, *label_texts()], vocabulary)


def train_text_encoder(
    tokenizer: LabelTokenizer,
    corpus: PhraseCorpus,
    scenes: Sequence[Sequence[str]],
    settings: TextEncoderTraining,
    record: TrainingRecord,
    machine: Machine,
) -> Any:
    """A `RobertaModel` of the micro presets, in evaluation mode."""
    torch.manual_seed(settings.seed)
    config = ModelConfig.preset(PRESET).text
    encoder: Any = build_text_encoder(replace(config, dropout=settings.dropout)).train()
    guess = MaskedWords(encoder, config.width, config.vocabulary)
    close = torch.from_numpy(corpus.close)
    several = [scene for scene in scenes if len(scene) > 1]

    def losses(generator: np.random.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = torch.from_numpy(corpus.draw(settings.phrase_batch, generator))
        left, right = pool(encoder, tokenizer, [corpus.phrases[i] for i in pairs.T.flatten().tolist()]).chunk(2)
        phrases = info_nce(left, right, settings.temperature, close[pairs[:, :1], pairs[None, :, 1]])
        sentences = _two_captions(several, settings.caption_batch, generator)
        left, right = pool(encoder, tokenizer, sentences).chunk(2)
        captions = info_nce(left, right, settings.temperature)
        masked = guess(tokenizer, sentences, settings.masked_share, generator)
        loss = phrases + settings.caption_weight * captions + settings.masked_weight * masked
        return loss, {"phrases": phrases, "captions": captions, "masked": masked}

    schedule = Schedule(settings.lr, settings.steps, settings.warmup, settings.weight_decay)
    # Each step draws its texts while it reads them: the batch is the generator.
    fit([encoder, guess], schedule, lambda generator: generator, losses, record, machine, settings.seed)
    trained: Any = build_text_encoder(config)
    trained.load_state_dict(encoder.state_dict())
    return trained.eval()


def _two_captions(scenes: Sequence[Sequence[str]], number: int, generator: np.random.Generator) -> list[str]:
    """First captions of `number` scenes, then second ones."""
    chosen = [scenes[index] for index in generator.choice(len(scenes), size=number, replace=False).tolist()]
    pairs = [[scene[i] for i in generator.choice(len(scene), size=2, replace=False).tolist()] for scene in chosen]
    return [pair[side] for side in (0, 1) for pair in pairs]


def pool(encoder: Any, tokenizer: LabelTokenizer, texts: Sequence[str]) -> Tensor:
    """(T, W) pooler output, as the relation network reads it."""
    batch = tokenizer(texts)
    pooled: Tensor = encoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask).pooler_output
    return pooled


def info_nce(left: Tensor, right: Tensor, temperature: float, close: Tensor | None = None) -> Tensor:
    """Each row of `left` (T, W) must find its own row of `right` by cosine among all, and the reverse.

    Args:
        close: (T, T) bool, rows that are no wrong answer to each other; the diagonal is always the right one.
    """
    similarity = F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).T / temperature
    if close is not None:
        similarity = similarity.masked_fill(close & ~torch.eye(len(left), dtype=torch.bool), -torch.inf)
    answer = torch.arange(len(left))
    return (F.cross_entropy(similarity, answer) + F.cross_entropy(similarity.T, answer)) / 2


class MaskedWords(nn.Module):
    """Guesses masked tokens of captions; its output matrix is the encoder's embedding. Serves training only."""

    def __init__(self, encoder: Any, width: int, vocabulary: int) -> None:
        super().__init__()
        self._encoder = [encoder]  # in a list, so that its parameters are not this module's
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(
        self, tokenizer: LabelTokenizer, texts: Sequence[str], share: float, generator: np.random.Generator
    ) -> Tensor:
        """Cross-entropy over the masked tokens, a scalar."""
        encoder = self._encoder[0]
        batch = tokenizer(texts)
        word = (batch.input_ids > MASK_ID) & batch.attention_mask.bool()
        masked = word & torch.from_numpy(generator.random(tuple(word.shape)) < share)
        wanted = batch.input_ids.masked_fill(~masked, IGNORED)
        hidden = encoder(
            input_ids=batch.input_ids.masked_fill(masked, MASK_ID), attention_mask=batch.attention_mask
        ).last_hidden_state[masked]
        logits = F.linear(self.norm(F.gelu(self.dense(hidden))), encoder.embeddings.word_embeddings.weight, self.bias)
        return F.cross_entropy(logits, wanted[masked])


@torch.no_grad()
def phrase_figures(encoder: Any, tokenizer: LabelTokenizer, held_out: HeldOut) -> dict[str, float]:
    """Return how well the paraphrase is found among all phrases of its kind, in percent.

    For a held-out pair (a, b), b must be nearer to a (cosine) than every phrase that is no known paraphrase of a, and the reverse.
    `*_nearest` is the share of all phrases whose nearest neighbour paraphrases them; `*_similar` and `*_other` are mean cosines.
    """
    figures: dict[str, float] = {}
    for kind, known in held_out.known.items():
        vectors = F.normalize(pool(encoder, tokenizer, known.phrases), dim=-1)
        cosine = (vectors @ vectors.T).fill_diagonal_(-1).numpy().astype(np.float64)
        number = {phrase: index for index, phrase in enumerate(known.phrases)}
        paired = np.zeros(cosine.shape, bool)
        for first, second in known.pairs:
            paired[number[first], number[second]] = paired[number[second], number[first]] = True
        tests = [(number[a], number[b]) for pair in held_out.pairs[kind] for a, b in (pair, pair[::-1])]
        found = [cosine[a, b] > np.where(paired[a], -1, cosine[a]).max() for a, b in tests]
        rows = paired.any(1)
        other = ~paired & ~np.eye(len(cosine), dtype=bool)
        figures |= {
            f"{kind}_held_out_pairs": len(held_out.pairs[kind]),
            f"{kind}_retrieved": _percent(np.array(found)),
            f"{kind}_nearest": _percent(paired[rows, cosine[rows].argmax(1)]),
            f"{kind}_similar": round(float(cosine[paired].mean()), 3),
            f"{kind}_other": round(float(cosine[other].mean()), 3),
        }
    return figures


@torch.no_grad()
def caption_figures(encoder: Any, tokenizer: LabelTokenizer, scenes: Sequence[Sequence[str]]) -> dict[str, float]:
    """Share of fresh scenes whose second caption is the nearest of all second captions to the first, in percent."""
    several = [scene for scene in scenes if len(scene) > 1]
    left, right = (F.normalize(pool(encoder, tokenizer, [scene[side] for scene in several]), dim=-1) for side in (0, 1))
    found = (left @ right.T).argmax(1) == torch.arange(len(several))
    return {"caption_scenes": len(several), "captions_retrieved": _percent(found.numpy())}


def _percent(values: npt.NDArray[np.bool_]) -> float:
    return round(100 * float(values.mean()), 1) if values.size else 0.0
