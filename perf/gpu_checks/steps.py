"""A training step as the training loop makes it: texts once, network under autocast, losses in float32, two backward passes, AdamW."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from perf.gpu_checks.cases import Sizes, build, make_batch, make_targets, preset, shake
from perf.gpu_checks.device import Device
from rlip_model import LossConfig, ModelConfig, ModelOutput, RelationCriterion, Targets, losses, matching

CLIP = 0.1


class TrainingStep:
    """A network with its optimiser and one batch, which it is trained on again and again."""

    def __init__(self, config: ModelConfig, sizes: Sizes, device: Device, batch: int, rate: float = 1e-5) -> None:
        self.device, self.sizes, self.config = device, sizes, config
        self.model = build(config, device).train()
        shake(self.model)
        self.criterion = RelationCriterion(LossConfig(pseudo_relations=True))
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=1e-4, fused=True)
        self.give(batch)

    def give(self, batch: int) -> None:
        """Train on another number of images from now on."""
        sizes, objects = self.sizes, self.sizes.training_objects
        self.size = batch
        self.batch = make_batch(self.config, sizes, self.device, batch, objects, sizes.training_texts)
        self.targets: Sequence[Targets] = make_targets(
            sizes, self.device, batch, objects, sizes.training_texts - objects
        )

    def forget(self, device: Device) -> None:
        """Free gradients and whatever an interrupted step has left."""
        self.optimiser.zero_grad(set_to_none=True)
        device.free()

    def __call__(self, precision: str) -> float:
        """Make one step; returns the loss."""
        batch = self.batch
        self.optimiser.zero_grad(set_to_none=True)
        with self.device.precision(precision):
            pooled = self.model.encode_text(batch.ids, batch.present)
            vectors = pooled.detach().requires_grad_()
            output = self.model(batch.images, batch.mask, vectors, batch.num_objects)
        with self.device.precision("tf32" if precision == "tf32" else "fp32"):
            exact = ModelOutput(**{name: value.float() for name, value in vars(output).items()})
            given = (self.targets, vectors.float(), batch.num_objects)
            counts = self.criterion.counts(self.targets, self.config.pairs, *given[1:])
            total, _ = self.criterion(exact, *given).divided(counts.divisors())
            total.backward()
            pooled.backward(vectors.grad)
            nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
            self.optimiser.step()
        return float(total.detach())


def published_step(sizes: Sizes, device: Device, batch: int) -> TrainingStep:
    """Return a step of pre-training with RQL and RPL, dropout as published."""
    return TrainingStep(preset(sizes.training_preset), sizes, device, batch)


def tiny_step(sizes: Sizes, device: Device, rate: float) -> TrainingStep:
    """Return a small network without dropout on two images, to be learnt by heart."""
    config = replace(preset("micro_parseda"), queries=16).without_dropout()
    small = replace(sizes, image=(64, 96), training_objects=5, training_texts=9, triplets=3)
    return TrainingStep(config, small, device, 2, rate)


@contextmanager
def matching_clock(device: Device) -> Iterator[dict[str, float]]:
    """Within it the seconds of matching add up: `matching` in all, `host` without the device's part, the costs.

    The device is waited for before and after, so a step takes a little longer in all.
    """
    seconds = {"matching": 0.0, "host": 0.0}
    match, costs = matching.match_hungarian, matching.pair_costs

    def timed_costs(*arguments: Any) -> Any:
        started = _now(device)
        result = costs(*arguments)
        seconds["host"] -= _now(device) - started
        return result

    def timed_match(*arguments: Any) -> Any:
        started = _now(device)
        result = match(*arguments)
        taken = _now(device) - started
        seconds["matching"] += taken
        seconds["host"] += taken
        return result

    with patch.object(losses, "match_hungarian", timed_match), patch.object(matching, "pair_costs", timed_costs):
        yield seconds


def _now(device: Device) -> float:
    device.synchronise()
    return time.perf_counter()
