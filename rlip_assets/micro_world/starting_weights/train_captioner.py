"""A micro BLIP, trained on the micro world's caption corpus, with the layout of the published captioners.

Two phases. First the vision transformer learns what each of its patches shows, does and undergoes (a linear head on the patch tokens,
dropped afterwards): it stands in for the pre-training that a published image encoder brings along, and saves most of the steps. Then
image encoder and text decoder learn to caption, with all sentences of an image decoded against one encoding of it.

Shape legend: B images, K captions per image, S tokens, G x G patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from rlip_assets.micro_world.group import STATURE
from rlip_assets.micro_world.picture import Picture
from rlip_assets.micro_world.render import render
from rlip_assets.micro_world.starting_weights.fit import Schedule, fit, shuffled
from rlip_assets.micro_world.starting_weights.record import TrainingRecord
from rlip_assets.micro_world.wording import FORMS
from rlip_assets.micro_world.world import CATEGORIES
from rlip_assets.storage.files import atomic_folder

if TYPE_CHECKING:
    from transformers import BertTokenizer, BlipForConditionalGeneration

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[DEC]", "[SEP]"
PROMPT = "a picture of "
MOST_TOKENS = 40
HELD_OUT_SEED = 0
Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CaptionerSize:
    """Sizes of the micro BLIP."""

    image: int = 128
    patch: int = 16
    vision_width: int = 192
    vision_layers: int = 5
    text_width: int = 128
    text_layers: int = 3
    heads: int = 4
    vocabulary: int = 512


@dataclass(frozen=True)
class CaptionerSchedule:
    """Everything that decides the outcome besides the corpora."""

    seed: int = 7
    dense_images: int = 10000
    dense_steps: int = 3500
    dense_batch: int = 32
    caption_images: int = 10000
    caption_steps: int = 4000
    batch: int = 24
    captions: int = 5
    rate: float = 1e-3
    weight_decay: float = 0.02
    shift: int = 6
    """Largest random displacement of an image, pixels."""
    held_out_pictures: int = 300

    def of(self, steps: int) -> Schedule:
        """Return the learning rates of one phase."""
        return Schedule(self.rate, steps, warmup=100, weight_decay=self.weight_decay)


def train_tokenizer(captions: Iterable[str], vocabulary: int) -> BertTokenizer:
    """A WordPiece tokenizer of the BERT kind whose words are those of `captions` and the prompt."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizer

    learner = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    learner.normalizer = normalizers.BertNormalizer(lowercase=True)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [PAD, UNKNOWN, "[CLS]", END, "[MASK]", START]
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    learner.train_from_iterator([*sorted(set(captions)), PROMPT * 50], trainer=trainer)
    return BertTokenizer(vocab=learner.get_vocab(), bos_token=START, model_max_length=MOST_TOKENS)


def build_micro_captioner(tokenizer: BertTokenizer, size: CaptionerSize | None = None) -> BlipForConditionalGeneration:
    """A BLIP captioner with fresh weights for this tokenizer."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    size = size or CaptionerSize()
    number = tokenizer.get_vocab()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": size.text_width,
        "encoder_hidden_size": size.vision_width,
        "intermediate_size": 2 * size.text_width,
        "projection_dim": size.text_width,
        "num_hidden_layers": size.text_layers,
        "num_attention_heads": size.heads,
        "max_position_embeddings": MOST_TOKENS,
        "bos_token_id": number[START],
        "sep_token_id": number[END],
        "eos_token_id": number[END],
        "pad_token_id": number[PAD],
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "label_smoothing": 0.0,
    }
    vision = {
        "hidden_size": size.vision_width,
        "intermediate_size": 2 * size.vision_width,
        "num_hidden_layers": size.vision_layers,
        "num_attention_heads": size.heads,
        "image_size": size.image,
        "patch_size": size.patch,
        "initializer_range": 0.02,
    }
    config = BlipConfig(
        vision_config=vision, text_config=text, projection_dim=size.text_width, image_text_hidden_size=size.text_width
    )
    return BlipForConditionalGeneration(config)


@dataclass(frozen=True)
class CaptionedImages:
    """Images in memory, (n, H, W, 3) uint8, with their sentences."""

    pixels: Pixels
    captions: list[list[str]]

    @classmethod
    def draw(cls, corpus: Iterable[tuple[Image.Image, list[str]]], side: int) -> CaptionedImages:
        """Keep a corpus, resized to squares of `side` pixels as the captioner reads them."""
        pixels, captions = [], []
        for image, texts in corpus:
            pixels.append(np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)))
            captions.append(texts)
        return cls(np.stack(pixels), captions)


@dataclass(frozen=True)
class DenseImages:
    """Images in memory, (n, H, W, 3) uint8, with what each patch shows: (n, C, G, G) bool.

    The C statements about a patch: it shows a thing of a kind; the thing does an event; an event is done to it; it does something to a
    thing of a kind.
    """

    pixels: Pixels
    shown: npt.NDArray[np.bool_]

    @classmethod
    def draw(cls, pictures: Iterable[Picture], size: CaptionerSize) -> DenseImages:
        """Draw pictures; a patch shows a thing when its centre lies in the box of the thing."""
        kinds = {kind: number for number, kind in enumerate(sorted({*CATEGORIES, *STATURE} - {"person"}))}
        events = {event: number for number, event in enumerate(FORMS)}
        does, done, to = len(kinds), len(kinds) + len(events), len(kinds) + 2 * len(events)
        centres = (np.arange(size.image // size.patch) + 0.5) / (size.image // size.patch)
        pixels, shown = [], []
        for picture in pictures:
            image = render(picture).convert("RGB")
            pixels.append(np.asarray(image.resize((size.image, size.image), Image.Resampling.BICUBIC)))
            grid = np.zeros((to + len(kinds), len(centres), len(centres)), bool)
            patches = []
            for thing in picture.things:
                x1, y1, x2, y2 = np.array(thing.box) / np.array([image.width, image.height] * 2)
                rows, columns = (centres >= y1) & (centres <= y2), (centres >= x1) & (centres <= x2)
                patches.append(rows[:, None] & columns)
                grid[kinds[thing.kind]] |= patches[-1]
            for relation in picture.relations:
                if not relation.spatial:
                    subject, target = patches[relation.subject], patches[relation.object]
                    grid[does + events[relation.text]] |= subject
                    grid[done + events[relation.text]] |= target
                    grid[to + kinds[picture.things[relation.object].kind]] |= subject
            shown.append(grid)
        return cls(np.stack(pixels), np.stack(shown))


def train_captioner(
    captioned: CaptionedImages,
    dense: DenseImages,
    size: CaptionerSize,
    schedule: CaptionerSchedule,
    record: TrainingRecord,
) -> tuple[BlipForConditionalGeneration, BertTokenizer]:
    """Train tokenizer and captioner; the result depends on the arguments alone (on one machine)."""
    torch.manual_seed(schedule.seed)
    generator = np.random.default_rng(schedule.seed)
    tokenizer = train_tokenizer((text for texts in captioned.captions for text in texts), size.vocabulary)
    model = build_micro_captioner(tokenizer, size)
    _learn_patches(model, dense, schedule, generator, record)
    _learn_captions(model, tokenizer, captioned, schedule, generator, record)
    return model.eval(), tokenizer


def save_captioner(
    model: BlipForConditionalGeneration, tokenizer: BertTokenizer, size: CaptionerSize, folder: Path
) -> None:
    """Write weights (fp16 safetensors), tokenizer and image processor as `from_pretrained` expects them."""
    from transformers import BlipImageProcessorPil

    model.half().save_pretrained(folder)
    model.float()
    tokenizer.save_pretrained(folder)
    BlipImageProcessorPil(size={"height": size.image, "width": size.image}).save_pretrained(folder)


def _learn_patches(
    model: BlipForConditionalGeneration,
    images: DenseImages,
    schedule: CaptionerSchedule,
    generator: np.random.Generator,
    record: TrainingRecord,
) -> None:
    """Phase 1: what each patch shows, does and undergoes."""
    statements, grid = images.shown.shape[1:3]
    head = nn.Linear(model.vision_model.post_layernorm.normalized_shape[0], statements)
    nn.init.constant_(head.bias, -4.0)
    model.train()

    def losses(rows: Rows, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        mirrored = generator.random(len(rows)) < 0.5
        target = torch.from_numpy(images.shown[rows]).float()
        target = torch.where(torch.from_numpy(mirrored)[:, None, None, None], target.flip(-1), target)
        pixels = _tensors(images.pixels[rows], mirrored, generator)
        tokens = model.vision_model(pixels).last_hidden_state[:, 1:]
        logits = head(tokens).transpose(1, 2).reshape(len(rows), statements, grid, grid)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / target.sum().clamp(min=1)
        return loss, {"patches": loss}

    batches = shuffled(len(images.pixels), schedule.dense_batch, schedule.dense_steps, generator)
    parameters = [*model.vision_model.parameters(), *head.parameters()]
    fit(parameters, schedule.of(schedule.dense_steps), batches, losses, record)


def _learn_captions(
    model: BlipForConditionalGeneration,
    tokenizer: BertTokenizer,
    images: CaptionedImages,
    schedule: CaptionerSchedule,
    generator: np.random.Generator,
    record: TrainingRecord,
) -> None:
    """Phase 2: next token of every sentence; the prompt is given, not learned."""
    encoded = [_token_rows(tokenizer, texts) for texts in images.captions]
    prompt = len(tokenizer(PROMPT.strip(), add_special_tokens=False)["input_ids"]) + 1
    pad = tokenizer.get_vocab()[PAD]
    model.train()

    def losses(rows: Rows, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        mirrored = generator.random(len(rows)) < 0.5
        pixels = _tensors(images.pixels[rows], mirrored, generator, schedule.shift)
        vision = model.vision_model(pixels).last_hidden_state
        chosen = [generator.permutation(len(encoded[row]))[: schedule.captions] for row in rows]
        owner = torch.tensor([place for place, picks in enumerate(chosen) for _ in picks])
        sentences = [
            torch.tensor(encoded[row][pick]) for row, picks in zip(rows, chosen, strict=True) for pick in picks
        ]
        tokens = nn.utils.rnn.pad_sequence(sentences, batch_first=True, padding_value=pad)
        labels = tokens.masked_fill(tokens == pad, -100)
        labels[:, :prompt] = -100
        loss = model.text_decoder(
            input_ids=tokens, attention_mask=(tokens != pad).long(), encoder_hidden_states=vision[owner], labels=labels
        ).loss
        return loss, {"captions": loss}

    batches = shuffled(len(encoded), schedule.batch, schedule.caption_steps, generator)
    fit(model.parameters(), schedule.of(schedule.caption_steps), batches, losses, record)


def _token_rows(tokenizer: BertTokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Start token, prompt, sentence and end token of each text."""
    start, end = (tokenizer.get_vocab()[token] for token in (START, END))
    rows = tokenizer([PROMPT + text for text in texts], add_special_tokens=False)["input_ids"]
    return [[start, *row, end] for row in rows]


def _tensors(pixels: Pixels, mirrored: npt.NDArray[np.bool_], generator: np.random.Generator, shift: int = 0) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W), mirrored where asked, moved by up to `shift` pixels, colours varied, CLIP-normalised."""
    from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    images = torch.where(torch.from_numpy(mirrored)[:, None, None, None], images.flip(-1), images)
    if shift:
        padded = F.pad(images, (shift,) * 4, mode="replicate")
        side = images.shape[-1]
        corners = generator.integers(0, 2 * shift + 1, (len(images), 2))
        images = torch.stack(
            [image[:, y : y + side, x : x + side] for image, (y, x) in zip(padded, corners, strict=True)]
        )
    gain = torch.from_numpy(generator.uniform(0.8, 1.2, (len(images), 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(generator.uniform(-0.08, 0.08, (len(images), 3, 1, 1)).astype(np.float32))
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return ((images * gain + offset).clamp(0, 1) - mean) / deviation


def make_captioner(folder: Path, size: CaptionerSize | None = None, schedule: CaptionerSchedule | None = None) -> None:
    """Train the captioner, measure it on held-out pictures and write the weights with their record; a folder is replaced whole."""
    from rlip_assets.labelling.captions.captioner import Captioner
    from rlip_assets.lineage.params.labels import CaptionParams
    from rlip_assets.micro_world.captions import caption_corpus, corpus_pictures
    from rlip_assets.micro_world.starting_weights.caption_quality import measure

    size, schedule = size or CaptionerSize(), schedule or CaptionerSchedule()
    torch.set_num_threads(1)
    record = TrainingRecord("captioner", asdict(size) | asdict(schedule), schedule.dense_steps + schedule.caption_steps)
    dense = DenseImages.draw(
        (picture for picture, _ in corpus_pictures("detection", schedule.seed, schedule.dense_images)), size
    )
    captioned = CaptionedImages.draw(caption_corpus(schedule.seed, schedule.caption_images), size.image)
    model, tokenizer = train_captioner(captioned, dense, size, schedule, record)
    with atomic_folder(folder) as temporary:
        save_captioner(model, tokenizer, size, temporary)
        held_out = measure(Captioner.open(temporary, CaptionParams()), HELD_OUT_SEED, schedule.held_out_pictures)
        record.write(temporary, held_out)
