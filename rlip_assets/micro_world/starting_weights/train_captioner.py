"""A micro BLIP, trained on scenes of the micro world and sentences about them, with the layout of the published captioners.

Two parts. First the vision transformer learns what each of its patches shows, does and undergoes (a linear head on the patch tokens,
dropped afterwards): it stands in for the pre-training that a published image encoder brings along, and saves most of the steps. Then
image encoder and text decoder learn to caption, with several sentences of an image decoded against one encoding of it, while the
patches go on being taught.

Shape legend: B images, K sentences of one image, n statements of one image, N tokens of a sentence, G x G patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlip_assets.micro_world.starting_weights.captioned_scenes import (
    STATEMENTS,
    CaptionedScene,
    captioned_scene,
    scene_sentences,
)
from rlip_assets.micro_world.starting_weights.fit import Machine, Schedule, fit
from rlip_assets.micro_world.starting_weights.record import TrainingRecord, earlier
from rlip_assets.micro_world.starting_weights.stream import Stream
from rlip_assets.storage.files import atomic_folder

if TYPE_CHECKING:
    from transformers import BertTokenizer, BlipForConditionalGeneration

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[DEC]", "[SEP]"
PROMPT = "a picture of "
MOST_TOKENS = 40
HELD_OUT_SEED = 0
IGNORED = -100
TYPICAL_SHARE = 1 / 16
"""Of the patches that a statement holds for: sets what false statements weigh beside true ones."""


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
class CaptionerTraining:
    """Everything that decides the outcome besides the sizes."""

    seed: int = 7
    images: int = 20_000
    """Distinct scenes."""
    steps: int = 8000
    batch: int = 24
    sentences: int = 3
    """Of each image of a batch."""
    captions_from: float = 0.3
    """Share of the training after which captions are learned too."""
    patch_weight: float = 0.25
    """Weight of the patch loss from then on; falls to 0 over the last fifth."""
    rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: int = 150
    shift: int = 6
    """Largest random displacement of an image, pixels."""
    tokenizer_scenes: int = 4000
    held_out_pictures: int = 300

    @classmethod
    def further(cls) -> CaptionerTraining:
        """Return the settings that train finished weights on: other scenes, the vision transformer alone for a shorter time."""
        return cls(seed=9, captions_from=0.0)

    def schedule(self) -> Schedule:
        """Return the learning rates."""
        return Schedule(self.rate, self.steps, self.warmup, self.weight_decay, parts=(self.captions_from,))


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


def size_of(model: BlipForConditionalGeneration) -> CaptionerSize:
    """Return the sizes of a captioner that `build_micro_captioner` built."""
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    return CaptionerSize(
        vision.image_size,
        vision.patch_size,
        vision.hidden_size,
        vision.num_hidden_layers,
        text.hidden_size,
        text.num_hidden_layers,
        text.num_attention_heads,
        text.vocab_size,
    )


@dataclass(frozen=True)
class CaptionBatch:
    """pixels (B, H, H, 3) uint8; statements (B, n), padded with `STATEMENTS`; boxes (B, n, 4); tokens (B K, N); owner (B K,), the image of
    each sentence; mirrored (B,) bool; shift (B, 2) pixels; gain and offset (B, 1, 1, 1) and (B, 1, 1, 3) of the colours."""

    pixels: Tensor
    statements: Tensor
    boxes: Tensor
    tokens: Tensor
    owner: Tensor
    mirrored: Tensor
    shift: Tensor
    gain: Tensor
    offset: Tensor


class SentenceCoder:
    """Token rows of sentences: start token, prompt, sentence and end token. A word is split once."""

    def __init__(self, tokenizer: BertTokenizer) -> None:
        number = tokenizer.get_vocab()
        self.pad, self._end = number[PAD], number[END]
        self.tokenizer = tokenizer
        self._words: dict[str, list[int]] = {}
        self.prompt = [number[START], *self._ids(PROMPT)]

    def __call__(self, sentence: str) -> list[int]:
        return [*self.prompt, *self._ids(sentence), self._end]

    def _ids(self, text: str) -> list[int]:
        for word in text.split():
            if word not in self._words:
                self._words[word] = self.tokenizer(word, add_special_tokens=False)["input_ids"]
        return [number for word in text.split() for number in self._words[word]]


def draw_batch(
    scenes: Sequence[CaptionedScene],
    coder: SentenceCoder,
    sentences: int,
    shift: int,
    generator: np.random.Generator,
) -> CaptionBatch:
    """Return a batch of all `scenes` with up to `sentences` sentences of each, and how each image is to be shown."""
    count, most = len(scenes), max(len(scene.statements) for scene in scenes)
    statements = np.full((count, most), STATEMENTS)
    boxes = np.zeros((count, most, 4), np.float32)
    rows, owner = [], []
    for place, scene in enumerate(scenes):
        statements[place, : len(scene.statements)] = scene.statements
        boxes[place, : len(scene.statements)] = scene.boxes
        chosen = generator.permutation(len(scene.sentences))[:sentences].tolist()
        rows += [torch.tensor(coder(scene.sentences[pick])) for pick in chosen]
        owner += [place] * len(chosen)
    return CaptionBatch(
        torch.from_numpy(np.stack([scene.pixels for scene in scenes])),
        torch.from_numpy(statements),
        torch.from_numpy(boxes),
        nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=coder.pad),
        torch.tensor(owner),
        torch.from_numpy(generator.random(count) < 0.5),
        torch.from_numpy(generator.integers(-shift, shift + 1, (count, 2))),
        torch.from_numpy(generator.uniform(0.8, 1.2, (count, 1, 1, 1)).astype(np.float32)),
        torch.from_numpy(generator.uniform(-0.08, 0.08, (count, 1, 1, 3)).astype(np.float32)),
    )


def shown_pixels(batch: CaptionBatch) -> Tensor:
    """(B, 3, H, H): mirrored where asked, then moved down and right by `shift` (edges repeated), colours varied, CLIP-normalised."""
    from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    side = batch.pixels.shape[1]
    place = torch.arange(side, device=batch.pixels.device)
    rows, columns = ((place - batch.shift[:, axis, None]).clamp(0, side - 1) for axis in (0, 1))
    columns = torch.where(batch.mirrored[:, None], side - 1 - columns, columns)
    image = torch.arange(len(batch.pixels), device=batch.pixels.device)[:, None, None]
    pixels = batch.pixels[image, rows[:, :, None], columns[:, None, :]].float() / 255
    mean, deviation = (pixels.new_tensor(values) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (((pixels * batch.gain + batch.offset).clamp(0, 1) - mean) / deviation).permute(0, 3, 1, 2)


def shown_patches(batch: CaptionBatch, grid: int) -> Tensor:
    """(B, STATEMENTS, G G) 0 or 1: a statement holds for the patches that its region, as `shown_pixels` shows it, covers at least half as
    much as the one it covers most. So each region has a patch, however small it is."""
    left, top, right, bottom = batch.boxes.unbind(-1)
    mirrored = batch.mirrored[:, None]
    left, right = torch.where(mirrored, 1 - right, left), torch.where(mirrored, 1 - left, right)
    down, across = (batch.shift.float() / batch.pixels.shape[1])[..., None].unbind(1)
    edges = torch.arange(grid + 1, device=left.device) / grid

    def overlap(start: Tensor, end: Tensor) -> Tensor:
        return (torch.minimum(end[..., None], edges[1:]) - torch.maximum(start[..., None], edges[:-1])).clamp(min=0)

    rows, columns = overlap(top + down, bottom + down), overlap(left + across, right + across)
    covered = (rows[..., :, None] * columns[..., None, :]).flatten(2)
    holds = ((covered > 0) & (covered >= covered.amax(-1, keepdim=True) / 2)).float()
    target = holds.new_zeros(len(holds), STATEMENTS + 1, grid * grid)
    target.scatter_add_(1, batch.statements[..., None].expand_as(holds), holds)
    return target[:, :STATEMENTS].clamp(max=1)


def train_captioner(
    model: BlipForConditionalGeneration,
    tokenizer: BertTokenizer,
    scenes: Stream[CaptionedScene],
    training: CaptionerTraining,
    record: TrainingRecord,
    machine: Machine,
) -> None:
    """Train a captioner with fresh weights; it comes back in evaluation mode on the CPU."""
    vision, coder = model.vision_model, SentenceCoder(tokenizer)
    head = nn.Linear(vision.post_layernorm.normalized_shape[0], STATEMENTS)
    nn.init.constant_(head.bias, -4.0)
    model.train().to(machine.device)
    head.to(machine.device)
    size = size_of(model)
    grid = size.image // size.patch
    # With a limit on time the images made so far serve; else all, so that the outcome does not depend on the workers.
    scenes.wait(training.batch if machine.seconds else scenes.count)

    def batch(generator: np.random.Generator) -> CaptionBatch:
        chosen = [scenes[row] for row in generator.integers(0, len(scenes), training.batch).tolist()]
        drawn = draw_batch(chosen, coder, training.sentences, training.shift, generator)
        return CaptionBatch(**{name: machine.move(value) for name, value in vars(drawn).items()})

    def losses(batch: CaptionBatch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        with machine.autocast():
            image = vision(shown_pixels(batch)).last_hidden_state
            patches = patch_loss(head(image[:, 1:]), shown_patches(batch, grid))
            if progress < training.captions_from:
                return patches, {"patches": patches}
            captions = caption_loss(model, image[batch.owner], batch.tokens, coder)
        weight = training.patch_weight * min(1.0, (1 - progress) / 0.2)
        return captions + weight * patches, {"captions": captions, "patches": patches}

    fit([model, head], training.schedule(), batch, losses, record, machine, training.seed)
    model.eval().to("cpu")


def patch_loss(logits: Tensor, holds: Tensor) -> Tensor:
    """Binary cross-entropy of (B, G G, STATEMENTS) logits. A statement weighs as much as any other, however few patches it holds for:
    a ball counts like a bed."""
    patches = holds.sum(-1, keepdim=True).clamp(min=1)
    weight = torch.where(holds > 0, TYPICAL_SHARE * holds.shape[-1] / patches, 1.0)
    loss = F.binary_cross_entropy_with_logits(logits.float().transpose(1, 2), holds, weight, reduction="sum")
    return loss / (weight * holds).sum().clamp(min=1)


def caption_loss(model: BlipForConditionalGeneration, image: Tensor, tokens: Tensor, coder: SentenceCoder) -> Tensor:
    """Cross-entropy of the next token of every sentence; the prompt is given, not learned."""
    labels = tokens.masked_fill(tokens == coder.pad, IGNORED)
    labels[:, : len(coder.prompt)] = IGNORED
    loss: Tensor = model.text_decoder(
        input_ids=tokens, attention_mask=(tokens != coder.pad).long(), encoder_hidden_states=image, labels=labels
    ).loss
    return loss


def save_captioner(
    model: BlipForConditionalGeneration, tokenizer: BertTokenizer, size: CaptionerSize, folder: Path
) -> None:
    """Write weights (fp16 safetensors), tokenizer and image processor as `from_pretrained` expects them."""
    from transformers import BlipImageProcessorPil

    model.half().save_pretrained(folder)
    model.float()
    tokenizer.save_pretrained(folder)
    BlipImageProcessorPil(size={"height": size.image, "width": size.image}).save_pretrained(folder)


def make_captioner(
    folder: Path,
    machine: Machine | None = None,
    size: CaptionerSize | None = None,
    training: CaptionerTraining | None = None,
    *,
    further: bool = False,
) -> None:
    """Train the captioner, measure it on held-out pictures and write the weights with their record; a folder is replaced whole.

    With `further` the weights in the folder are trained on, of whatever size they are.
    """
    from transformers import BertTokenizer, BlipForConditionalGeneration

    from rlip_assets.labelling.captions.captioner import Captioner
    from rlip_assets.lineage.params.labels import CaptionParams
    from rlip_assets.micro_world.starting_weights.caption_quality import measure

    machine, size = machine or Machine(), size or CaptionerSize()
    training = training or (CaptionerTraining.further() if further else CaptionerTraining())
    torch.manual_seed(training.seed)
    if further:
        tokenizer = BertTokenizer.from_pretrained(folder)
        model = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        size = size_of(model)
    else:
        tokenizer = train_tokenizer(scene_sentences(training.seed, training.tokenizer_scenes), size.vocabulary)
        model = build_micro_captioner(tokenizer, size)
    record = TrainingRecord(
        "captioner", asdict(size) | asdict(training) | machine.shared, machine.name, earlier(folder, further)
    )
    draw = partial(captioned_scene, seed=training.seed, side=size.image)
    with Stream(draw, training.images, machine.workers, machine.processes.index * training.images) as scenes:
        train_captioner(model, tokenizer, scenes, training, record, machine)
    if not machine.processes.is_first:
        return
    with atomic_folder(folder) as temporary:
        save_captioner(model, tokenizer, size, temporary)
        held_out = measure(Captioner.open(temporary, CaptionParams()), HELD_OUT_SEED, training.held_out_pictures)
        record.write(temporary, held_out)
