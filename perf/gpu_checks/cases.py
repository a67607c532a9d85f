"""Sizes of a full run and of a dry run, and the networks and inputs that they mean.

Shape legend: B batch, Q queries, S cells of all levels, L levels, K points, M heads, D channels per head, T texts, No object texts
("no objects" last).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from perf.gpu_checks.device import Device
from rlip_model import ModelConfig, Rlip, Targets, build_model
from rlip_model.config import BackboneConfig

TINY_SWIN = BackboneConfig(kind="swin", stem=16, depths=(1, 1, 1, 1), widths=(16, 32, 64, 128), heads=(1, 2, 4, 8))


@dataclass(frozen=True)
class Sizes:
    """Differences between the full run and the dry run, and nothing else."""

    image: tuple[int, int] = (800, 1333)
    """Height and width in pixels."""
    levels: tuple[tuple[int, int], ...] = ((100, 167), (50, 84), (25, 42), (13, 21))
    """Rows and columns of the maps of such an image."""
    heads: int = 8
    points: int = 4
    decoder_queries: int = 200
    head_sizes: tuple[int, ...] = (32, 16, 64)
    """The published one first."""
    kernel_batch: int = 8
    copied_megabytes: int = 2000
    networks: tuple[tuple[str, str], ...] = (("ResNet-50", "parseda_r50"), ("Swin-L", "parseda_swin_large"))
    queries: int = 128
    objects: int = 81
    texts: int = 198
    batches: tuple[int, ...] = (1, 8)
    training_preset: str = "parseda_r50"
    training_batch: int = 8
    """Published batch per GPU of ResNet-50 on Visual Genome and COCO."""
    largest_batch: int = 64
    training_objects: int = 334
    training_texts: int = 501
    triplets: int = 20
    overfit_steps: int = 30
    tagger_preset: str = "tagger_r50"
    tagger_batch: int = 16
    tagger_objects: int = 366
    tagger_texts: int = 430
    tagger_pairs: int = 200
    caption_batches: tuple[int, ...] = (16, 32, 64, 128, 256)
    captions: int = 10
    blip_layers: int = 12
    blip_width: int = 768
    blip_image: int = 384
    blip_vocabulary: int = 30524
    small_memory_batch: int = 16
    golden: tuple[str, ...] = ()
    """Golden cases; none means all."""
    compiled: tuple[tuple[str, str, str, int], ...] = (
        ("ResNet-50", "parseda_r50", "bf16", 8),
        ("ResNet-50", "parseda_r50", "tf32", 8),
        ("Swin-L", "parseda_swin_large", "bf16", 8),
    )
    compiler: str = "inductor"
    budget: float = 1.0
    """Seconds that the repeats of one measurement should take."""


TINY = Sizes(
    image=(48, 64),
    levels=((5, 7), (2, 1)),
    heads=2,
    points=2,
    decoder_queries=6,
    head_sizes=(16,),
    kernel_batch=1,
    copied_megabytes=1,
    networks=(("ResNet-50", "micro_parseda"), ("Swin-L", "micro_parseda_swin")),
    queries=8,
    objects=5,
    texts=9,
    batches=(1, 2),
    training_preset="micro_parseda",
    training_batch=2,
    largest_batch=4,
    training_objects=5,
    training_texts=9,
    triplets=3,
    overfit_steps=6,
    tagger_preset="micro_tagger",
    tagger_batch=2,
    tagger_objects=5,
    tagger_texts=9,
    tagger_pairs=30,
    caption_batches=(1, 2),
    captions=2,
    blip_layers=1,
    blip_width=32,
    blip_image=32,
    blip_vocabulary=60,
    small_memory_batch=4,
    golden=("tagger",),
    compiled=(("ResNet-50", "micro_parseda", "bf16", 1),),
    compiler="eager",
    budget=0.0,
)


def preset(name: str) -> ModelConfig:
    """Return a published preset, or for a dry run a micro one with few layers, with a Swin too."""
    if not name.startswith("micro_"):
        return ModelConfig.preset(name)
    config = replace(ModelConfig.preset(name.removesuffix("_swin")), encoder_layers=2, decoder_layers=1)
    return replace(config, backbone=TINY_SWIN) if name.endswith("_swin") else config


def build(config: ModelConfig, device: Device) -> Rlip:
    """Return a network with fresh weights, made on the device, where random numbers are fast."""
    torch.manual_seed(0)
    with device.torch:
        return build_model(config).to(device.torch)


@torch.no_grad()
def shake(model: nn.Module) -> None:
    """Move weights off their fresh values, which sample exactly at cell centres and are zero in places; the backbone stays.

    Its fixed statistics fit no other weights.
    """
    for name, parameter in model.named_parameters():
        if not name.startswith("backbone."):
            scale = 0.02 if parameter.dim() == 1 else 0.2 / parameter.shape[-1] ** 0.5
            parameter.add_(torch.randn_like(parameter) * scale)


@dataclass(frozen=True)
class Batch:
    """images (B, 3, H, W), mask (B, H, W), True = padding: the last image is narrower. ids and present: (T, N) tokens."""

    images: Tensor
    mask: Tensor
    ids: Tensor
    present: Tensor
    num_objects: int


def make_batch(config: ModelConfig, sizes: Sizes, device: Device, batch: int, num_objects: int, texts: int) -> Batch:
    """Return random images and texts of two to four words."""
    generator = torch.Generator().manual_seed(0)
    height, width = sizes.image
    images = torch.randn(batch, 3, height, width, device=device.torch)
    mask = torch.zeros(batch, height, width, dtype=torch.bool, device=device.torch)
    if batch > 1:
        mask[-1, :, width * 3 // 4 :] = True
        images = images.masked_fill(mask[:, None], 0.0)
    lengths = torch.randint(3, 7, (texts, 1), generator=generator)
    place = torch.arange(6)
    ids = torch.randint(5, config.text.vocabulary, (texts, 6), generator=generator)
    ids[:, 0] = 0
    ids = ids.masked_fill(place == lengths - 1, 2).masked_fill(place >= lengths, config.text.pad_id)
    present = (place < lengths).long()
    return Batch(images, mask, ids.to(device.torch), present.to(device.torch), num_objects)


def make_targets(sizes: Sizes, device: Device, batch: int, num_objects: int, relations: int) -> list[Targets]:
    """Return random triplets for each image, with one or two relations each."""
    generator = torch.Generator().manual_seed(1)
    result = []
    for _ in range(batch):
        count = sizes.triplets
        boxes = torch.rand(2, count, 4, generator=generator) * 0.4 + torch.tensor([0.3, 0.3, 0.05, 0.05])
        labels = torch.randint(num_objects - 1, (2, count), generator=generator)
        given = torch.zeros(count, relations)
        for column in torch.randint(relations, (2, count), generator=generator):
            given[torch.arange(count), column] = 1.0
        result.append(Targets(labels[0], labels[1], given, boxes[0], boxes[1]).to(device.torch))
    return result


@dataclass(frozen=True)
class Sampling:
    """Input of `sample_bags`: values (B, S, M, D), positions (B, Q, 2, M, L K), weights (B, Q, M, L K)."""

    values: Tensor
    shapes: Sequence[tuple[int, int]]
    positions: Tensor
    weights: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Tensors that gradients are taken for."""
        return self.values, self.positions, self.weights


def make_sampling(
    sizes: Sizes, device: Device, kind: str, batch: int, width: int, dtype: torch.dtype, outside: bool = False
) -> Sampling:
    """Return what the sampler gets in a network.

    Args:
        kind: `encoder`, where every cell is a query and reads around itself, or `decoder`, with queries anywhere.
        width: D.
        dtype: of the values, lower under autocast; positions and weights are float32.
        outside: pad a quarter of the values with zeros, and put references outside the image, some of them very far.
    """
    generator = torch.Generator(device.torch).manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, device=device.torch)

    heads, samples = sizes.heads, len(sizes.levels) * sizes.points
    cells = sum(height * columns for height, columns in sizes.levels)
    references = (_cell_centres(sizes) if kind == "encoder" else torch.rand(sizes.decoder_queries, 2)).to(device.torch)
    references = references.expand(batch, -1, -1)
    count = references.shape[1]
    values = normal(batch, cells, heads, width)
    if outside:
        values[:, -(cells // 4) :] = 0.0
        references = references * 1.4 - 0.2
        far = torch.tensor([[1e4, -1e4], [1e30, 1e30], [-1e30, 0.5]], device=device.torch)
        references[:, : len(far)] = far
    scale = references.new_tensor([[columns, height] for height, columns in sizes.levels])
    place = references[:, :, None] * scale - 0.5  # (B, Q, L, 2)
    place = place.transpose(2, 3).repeat_interleave(sizes.points, dim=-1)[:, :, :, None]
    positions = place + 2 * normal(batch, count, 2, heads, samples)
    weights = normal(batch, count, heads, samples).softmax(-1)
    given = (values.to(dtype), positions, weights)
    return Sampling(given[0].requires_grad_(), sizes.levels, given[1].requires_grad_(), given[2].requires_grad_())


def _cell_centres(sizes: Sizes) -> Tensor:
    """(S, 2): centre of every cell of every level, x and y as fractions."""
    levels = []
    for height, width in sizes.levels:
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
        levels.append(torch.stack([x, y], -1).flatten(0, 1))
    return torch.cat(levels)
