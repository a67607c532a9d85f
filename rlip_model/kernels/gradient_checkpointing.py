"""Gradient checkpointing: less memory, and each layer computed a second time while gradients are taken."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from rlip_model.model import Rlip
from rlip_model.vision.backbone import SwinBody


def enable_gradient_checkpointing(model: Rlip) -> None:
    """Keep, from now on, only the inputs of the backbone's stages and of the encoder's layers, where nearly all memory goes.

    Gradients stay bit for bit the same, dropout included.
    """
    stages: Any = model.backbone.stages
    swin = isinstance(model.backbone, SwinBody)
    blocks: list[nn.Module] = [block for stage in stages for block in stage.blocks] if swin else [*stages]
    for layer in (*blocks, *model.encoder.layers):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
