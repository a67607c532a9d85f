"""The starts of the queries: learned anchors (ParSeDA), reference points (ParSeD) or positions (ParSe). The tagger's are in `tagger.py`.

Shape legend: B batch, Q entity queries, P = Q / 2 pairs, C model width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlip_model.config import ModelConfig


@dataclass(frozen=True)
class QueryStart:
    """Start of one batch's queries.

    content: (B, Q, C) entity content. position: (B, Q, C), or None where it follows from the anchors.
    sub_reference, obj_reference: (B, P, 2 or 4) fractions, or (B, P, 0). relation_content: (P, C), the learned part.
    relation_position: (P, C), or None where it follows from anchors or entity features.
    unused: (B, Q) bool, True = empty slot; blocked: (B, Q, Q) bool, True = must not read (tagger only).
    """

    content: Tensor
    position: Tensor | None
    sub_reference: Tensor
    obj_reference: Tensor
    relation_content: Tensor
    relation_position: Tensor | None
    unused: Tensor | None = None
    blocked: Tensor | None = None


def sum_of_roles(table: Tensor) -> Tensor:
    """Return row i plus row P + i: (Q, C) -> (P, C)."""
    sub, obj = table.chunk(2, dim=0)
    return sub + obj


class AnchorQueries(nn.Module):
    """Queries of ParSeDA: content tables and four-number anchors, shared by all images (DAB-DETR)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.randn(config.queries, config.width))
        self.relation_content = nn.Parameter(torch.randn(config.queries, config.width))
        self.anchors = nn.Parameter(torch.randn(config.queries, 4))

    def forward(self, batch: int) -> QueryStart:
        """Return content (B, Q, C) and anchors (B, P, 4) for `batch` images."""
        sub, obj = self.anchors.sigmoid().expand(batch, -1, -1).chunk(2, dim=1)
        return QueryStart(
            content=self.content.expand(batch, -1, -1),
            position=None,
            sub_reference=sub,
            obj_reference=obj,
            relation_content=sum_of_roles(self.relation_content),
            relation_position=None,
        )


class ReferencePoints(nn.Module):
    """Learned start points of subjects and objects, read from their position codes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.sub = nn.Linear(config.width, 2)
        self.obj = nn.Linear(config.width, 2)
        for layer in (self.sub, self.obj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return points of subjects and objects, (B, P, 2) fractions each, from position codes (B, Q, C)."""
        sub, obj = position.chunk(2, dim=1)
        # bf16 autocast must not round places: the sigmoid is taken in the precision of the weights.
        exact = self.sub.weight.dtype
        return self.sub(sub).to(exact).sigmoid(), self.obj(obj).to(exact).sigmoid()


def relation_position_table(config: ModelConfig) -> nn.Parameter | None:
    """Return the learned relation positions of ParSeD with MBF; without it, the sum of the pair's entity features serves."""
    return nn.Parameter(torch.randn(config.pairs, config.width)) if config.uses_mbf else None


class PointQueries(nn.Module):
    """Queries of ParSeD: one table of [position | entity content | relation content] (Deformable DETR)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(config.queries, 3 * config.width))
        self.points = ReferencePoints(config)
        self.relation_position = relation_position_table(config)

    def forward(self, batch: int) -> QueryStart:
        """Return content and position (B, Q, C) and points (B, P, 2) for `batch` images."""
        position, content, relation = self.table.chunk(3, dim=-1)
        position = position.expand(batch, -1, -1)
        sub, obj = self.points(position)
        return QueryStart(
            content=content.expand(batch, -1, -1),
            position=position,
            sub_reference=sub,
            obj_reference=obj,
            relation_content=sum_of_roles(relation),
            relation_position=self.relation_position,
        )


class PositionQueries(nn.Module):
    """Queries of ParSe: a table of positions; all contents are zero, and there are no references (DETR)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(config.queries, config.width))

    def forward(self, batch: int) -> QueryStart:
        """Return position and zero content (B, Q, C) for `batch` images."""
        position = self.position.expand(batch, -1, -1)
        content = torch.zeros_like(position)
        nowhere, _ = position[..., :0].chunk(2, dim=1)
        return QueryStart(
            content=content,
            position=position,
            sub_reference=nowhere,
            obj_reference=nowhere,
            relation_content=content[0, : len(self.position) // 2],
            relation_position=None,
        )
