"""A dense auxiliary loss on the encoded image tokens: the detector learns from every cell, not from its few matched queries alone.

Queries that are matched one to one give a sparse signal, and a detector trained from scratch needs long for it. Here every token also
predicts classes and a box, and each true box teaches several tokens (one-to-many assignment, as in Co-DETR, arXiv 2211.12860, on the
proposals of two-stage Deformable DETR, arXiv 2010.04159 appendix A.4). The head serves training only; it is not part of the weights.

Shape legend: B batch, S tokens of all levels, C width, K classes, n boxes of one image, M assigned tokens of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType

import torch
from torch import Tensor, nn

from rlip_model.boxes import generalized_iou
from rlip_model.dab_deformable_detr import DabDeformableDetr, DetectorLossConfig, sigmoid_focal
from rlip_model.layers import BoxHead
from rlip_model.vision.pyramid import Pyramid

CELLS_PER_BOX = 6
"""Tokens that one true box teaches."""

PROPOSAL_SIZE = 0.08
"""Side of the box that a token of the finest level starts from, as a fraction of the image; twice that a level further."""


class DenseHead(nn.Module):
    """Classes and a box from each encoded token."""

    def __init__(self, width: int, num_classes: int, config: DetectorLossConfig | None = None) -> None:
        super().__init__()
        self.config = config or DetectorLossConfig()
        self.classes = nn.Linear(width, num_classes)
        nn.init.constant_(self.classes.bias, -math.log(99.0))
        self.boxes = BoxHead(width)

    def forward(self, tokens: Tensor, pyramid: Pyramid, targets: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The weighted loss, a scalar.

        Args:
            tokens: (B, S, C) encoded tokens of `pyramid`.
            targets: per image (labels (n,) int64, boxes (n, 4) centre and size, fractions of the unpadded image).
        """
        config = self.config
        proposals = token_boxes(pyramid)
        logits, boxes = self.classes(tokens), self.boxes.refine(tokens, proposals)
        image, token, label, true = self._assign(logits, boxes, proposals, pyramid.padding, targets)
        count = max(len(label), 1)
        found = boxes[image, token]
        l1 = (found - true).abs().sum() / count
        giou = (1 - generalized_iou(found, true)).sum() / count
        wanted = torch.zeros_like(logits)
        wanted[image, token, label] = 1.0
        focal = (
            sigmoid_focal(logits, wanted, config.focal_alpha).masked_fill(pyramid.padding[..., None], 0.0).sum() / count
        )
        loss: Tensor = config.classes * focal + config.l1 * l1 + config.giou * giou
        return loss

    @torch.no_grad()
    def _assign(
        self,
        logits: Tensor,
        boxes: Tensor,
        proposals: Tensor,
        padding: Tensor,
        targets: Sequence[tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The cheapest tokens whose centre lies inside a true box; a token that several boxes want goes to the cheapest.

        Returns:
            image, token and label (M,), and the true boxes (M, 4).
        """
        config = self.config
        parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for image, (labels, true) in enumerate(targets):
            if not len(labels):
                continue
            surprise = -nn.functional.logsigmoid(logits[image][:, labels])
            l1 = (boxes[image][:, None] - true).abs().sum(-1)
            cost = (
                config.classes * surprise + config.l1 * l1 - config.giou * generalized_iou(boxes[image][:, None], true)
            )
            away = (proposals[image][:, None, :2] - true[:, :2]).abs()
            outside = (away > true[:, 2:] / 2).any(-1) | padding[image][:, None]
            # A box too small to hold a cell's centre still teaches the cells nearest to it.
            cost = cost + 100.0 * outside * (1 + away.sum(-1))
            wanted = torch.zeros_like(cost, dtype=torch.bool)
            wanted.scatter_(0, cost.topk(min(CELLS_PER_BOX, len(cost)), dim=0, largest=False).indices, True)
            first = wanted & (~outside | (cost <= cost.amin(0)))
            token = first.any(1).nonzero()[:, 0]
            owner = cost.masked_fill(~first, torch.inf)[token].argmin(1)
            parts.append((torch.full_like(token, image), token, labels[owner], true[owner]))
        if not parts:
            none = torch.zeros(0, dtype=torch.int64, device=logits.device)
            return none, none, none, boxes.new_zeros(0, 4)
        images, tokens, classes, targets = zip(*parts, strict=True)
        return torch.cat(images), torch.cat(tokens), torch.cat(classes), torch.cat(targets)


def token_boxes(pyramid: Pyramid) -> Tensor:
    """(B, S, 4): a square around the centre of each token's cell, fractions of the unpadded image, coarser levels larger."""
    ratios = pyramid.valid_ratios
    boxes = []
    for level, (height, width) in enumerate(pyramid.shapes):
        x = (torch.arange(width, device=ratios.device) + 0.5) / (ratios[:, level, 0, None] * width)
        y = (torch.arange(height, device=ratios.device) + 0.5) / (ratios[:, level, 1, None] * height)
        grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1)
        centres = grid.flatten(1, 2)
        boxes.append(torch.cat([centres, torch.full_like(centres, PROPOSAL_SIZE * 2**level)], dim=-1))
    return torch.cat(boxes, dim=1)


class TokenTap:
    """Keeps the pyramid and the encoded tokens of a detector's last forward pass; a context manager."""

    pyramid: Pyramid
    tokens: Tensor

    def __init__(self, model: DabDeformableDetr) -> None:
        self._model = model

    def __enter__(self) -> TokenTap:
        self._hooks = [
            self._model.pyramid.register_forward_hook(self._keep_pyramid),
            self._model.encoder.layers[-1].register_forward_hook(self._keep_tokens),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep_pyramid(self, module: nn.Module, inputs: object, output: Pyramid) -> None:
        self.pyramid = output

    def _keep_tokens(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.tokens = output
