"""DAB-Deformable-DETR: the box detector whose weights the relation network starts from.

Same backbone, pyramid, encoder and decoder layers as ParSeDA; one decoder with a class head and a box head per layer and
iterative refinement. Saved in the key layout of the published detector, so that a converted published one fits too.

Shape legend: B batch, Q queries, D decoder layers, K classes, n boxes of one image, N boxes of the batch, M matched boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rlip_model.alif import Encoder
from rlip_model.boxes import generalized_iou, to_pixels
from rlip_model.config import ModelConfig
from rlip_model.decoder import AnchorPosition, DecoderLayer
from rlip_model.layers import BoxHead, Memory, on_levels
from rlip_model.matching import Matches, assign
from rlip_model.vision.backbone import build_backbone
from rlip_model.vision.pyramid import FeaturePyramid


@dataclass(frozen=True)
class DetectorOutput:
    """logits: (D, B, Q, K), sigmoid; boxes: (D, B, Q, 4) centre and size, fractions of the unpadded image."""

    logits: Tensor
    boxes: Tensor


class BoxDecoder(nn.Module):
    """Decoder layers with box refinement; as many layers as the relation network's two decoders have together."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        depth = 2 * config.decoder_layers
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(depth))
        self.boxes = nn.ModuleList(BoxHead(config.width, -2.0 if index == 0 else 0.0) for index in range(depth))
        self.anchor_position = AnchorPosition(config.width)

    def forward(self, content: Tensor, anchors: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return features (D, B, Q, C) and boxes (D, B, Q, 4) of content (B, Q, C) and anchors (B, Q, 4), as in DAB-DETR."""
        x, reference = content, anchors
        features, boxes = [], []
        for index, layer in enumerate(self.layers):
            at_finest = on_levels(reference, memory)[:, :, 0]
            x = layer(x, self.anchor_position(at_finest, x if index > 0 else None), reference, memory)
            features.append(x)
            boxes.append(self.boxes[index].refine(x, reference))  # type: ignore[operator]
            reference = boxes[-1].detach()
        return torch.stack(features), torch.stack(boxes)


class DetectorQueries(nn.Module):
    """Content and anchors of the queries, shared by all images."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.randn(config.queries, config.width))
        self.anchors = nn.Parameter(torch.randn(config.queries, 4))


class DabDeformableDetr(nn.Module):
    """Boxes with classes from an image."""

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        """
        Args:
            config: sizes; `queries` counts this detector's queries, and its text and relation parts are not used.
            num_classes: K.
        """
        super().__init__()
        if config.anchors != "boxes":
            raise ValueError("this detector has anchors of four numbers: give a configuration with `boxes` anchors")
        self.config = replace(config, fusion="late")
        self.num_classes = num_classes
        self.backbone = build_backbone(config.backbone)
        self.pyramid = FeaturePyramid(config)
        self.encoder = Encoder(self.config)
        self.queries = DetectorQueries(config)
        self.decoder = BoxDecoder(config)
        heads = [nn.Linear(config.width, num_classes) for _ in self.decoder.layers]
        for head in heads:
            nn.init.constant_(head.bias, -math.log(99.0))
        self.classes = nn.ModuleList(heads)

    def forward(self, images: Tensor, mask: Tensor) -> DetectorOutput:
        """Return class logits and boxes of images (B, 3, H, W), normalised and zero-padded; mask (B, H, W) bool, True = padding."""
        pyramid = self.pyramid(self.backbone(images), mask)
        memory = self.encoder.encode_image(pyramid)
        batch = len(images)
        anchors = self.queries.anchors.sigmoid().expand(batch, -1, -1)
        features, boxes = self.decoder(self.queries.content.expand(batch, -1, -1), anchors, memory)
        logits = torch.stack([head(x) for head, x in zip(self.classes, features, strict=True)])
        return DetectorOutput(logits, boxes)


@dataclass(frozen=True)
class DetectorLossConfig:
    """Weights of Deformable-DETR, the same for matching and losses."""

    classes: float = 2.0
    l1: float = 5.0
    giou: float = 2.0
    focal_alpha: float = 0.25


class DetectorCriterion(nn.Module):
    """Hungarian matching and sigmoid focal, L1 and GIoU losses, summed over all layers."""

    def __init__(self, config: DetectorLossConfig | None = None) -> None:
        super().__init__()
        self.config = config or DetectorLossConfig()

    def forward(
        self, output: DetectorOutput, targets: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total to minimise, and the unweighted terms of the last layer by name. As in Deformable DETR.

        Args:
            targets: per image (labels (n,) int64, boxes (n, 4) centre and size, fractions).
        """
        config = self.config
        labels = torch.cat([label for label, _ in targets])
        boxes = torch.cat([box for _, box in targets])
        matches = self.match(output, targets)
        target = matches.target
        count = max(len(labels), 1)
        found = matches.take(output.boxes)
        l1 = (found - boxes[target]).abs().sum((1, 2)) / count
        giou = (1 - generalized_iou(found, boxes[target])).sum(1) / count
        wanted = torch.zeros_like(output.logits)
        wanted[matches.layer, matches.image, matches.pair, labels[target]] = 1.0
        classes = sigmoid_focal(output.logits, wanted, config.focal_alpha).flatten(1).sum(1) / count
        total = (config.classes * classes + config.l1 * l1 + config.giou * giou).sum()
        return total, {"class": classes[-1], "l1": l1[-1], "giou": giou[-1]}

    @torch.no_grad()
    def match(self, output: DetectorOutput, targets: Sequence[tuple[Tensor, Tensor]]) -> Matches:
        """Return the assignment of queries to the concatenated targets."""
        costs = [
            self._cost(output.logits[:, image], output.boxes[:, image], labels, boxes)
            for image, (labels, boxes) in enumerate(targets)
        ]
        return assign(costs, output.logits)

    def _cost(self, logits: Tensor, found: Tensor, labels: Tensor, boxes: Tensor) -> Tensor:
        """(D, Q, K), (D, Q, 4), (n,), (n, 4) -> (D, Q, n)."""
        config = self.config
        p = logits.sigmoid()[..., labels]
        positive = config.focal_alpha * (1 - p) ** 2 * -(p + 1e-8).log()
        negative = (1 - config.focal_alpha) * p**2 * -(1 - p + 1e-8).log()
        l1 = (found[..., None, :] - boxes).abs().sum(-1)
        giou = generalized_iou(found[..., None, :], boxes)
        return config.classes * (positive - negative) + config.l1 * l1 - config.giou * giou


def sigmoid_focal(logits: Tensor, targets: Tensor, alpha: float) -> Tensor:
    """RetinaNet's focal loss (gamma 2), element by element."""
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = logits.sigmoid()
    miss = p * (1 - targets) + (1 - p) * targets
    return (alpha * targets + (1 - alpha) * (1 - targets)) * entropy * miss**2


@dataclass(frozen=True)
class Detections:
    """Boxes of one image: boxes (n, 4) x0, y0, x1, y1 in pixels, labels (n,) int64, scores (n,), best first."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor


@torch.no_grad()
def detections(output: DetectorOutput, original_sizes: Tensor, limit: int = 100) -> list[Detections]:
    """Return the `limit` best (box, class) combinations of each image; sizes (B, 2) height and width in pixels."""
    scores = output.logits[-1].sigmoid()
    boxes = to_pixels(output.boxes[-1], original_sizes.to(scores.device))
    classes = scores.shape[-1]
    results = []
    for image in range(len(scores)):
        best, index = scores[image].flatten().topk(min(limit, scores[image].numel()))
        results.append(Detections(boxes[image, index // classes], index % classes, best))
    return results
