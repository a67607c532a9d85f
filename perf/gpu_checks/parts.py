"""Share of time by part of the network: hooks that put events around modules."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from perf.gpu_checks.device import Device
from rlip_model import Rlip
from rlip_model.fusion import BiFusion
from rlip_model.language_layers import LanguageLayer
from rlip_model.layers import DeformableAttention

Mark = Any
"""An event of a CUDA device, or a reading of the clock."""


class PartTimes:
    """Adds up the device's time in parts of a network. Parts whose names begin with "- " lie within the part above them.

    Of modules of one name within one another only the outermost counts.
    """

    def __init__(self, model: Rlip, device: Device) -> None:
        self.device = device
        self.spans: dict[str, list[tuple[Mark, Mark]]] = {}
        self._open: dict[str, list[Mark]] = {}
        parts: list[tuple[str, nn.Module]] = [
            ("backbone", model.backbone),
            ("projections and positions", model.pyramid),
            ("encoder", model.encoder),
        ]
        kinds = {
            "- deformable attention": DeformableAttention,
            "- fusion": BiFusion,
            "- language layers": LanguageLayer,
        }
        for name, kind in kinds.items():
            for module in model.encoder.modules():
                if isinstance(module, kind):
                    parts.append((name, module))
                    # The encoder layer calls this one by itself.
                    parts += [(name, module.values)] if isinstance(module, DeformableAttention) else []
        parts += [("entity decoder", model.entity_decoder), ("relation decoder", model.relation_decoder)]
        self._handles = [handle for name, module in parts for handle in self._watch(name, module)]

    def _watch(self, name: str, module: nn.Module) -> list[Any]:
        opened, spans = self._open.setdefault(name, []), self.spans.setdefault(name, [])

        def before(*_: object) -> None:
            opened.append(self._mark())

        def after(*_: object) -> None:
            start = opened.pop()
            if not opened:
                spans.append((start, self._mark()))

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    def _mark(self) -> Mark:
        if not self.device.is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part since the start, and remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self.device.synchronise()
        if self.device.is_cuda:
            return {name: sum(a.elapsed_time(b) for a, b in spans) / 1e3 for name, spans in self.spans.items()}
        return {name: sum(b - a for a, b in spans) for name, spans in self.spans.items()}
