"""The exponential moving average of a network's weights: steadier than the last step's, at the price of one copy of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Moves a copy of the weights towards the network's after every step.

    While few steps are done the average follows faster, `min(decay, (1 + n) / (10 + n))` after n steps, so that the weights of the
    start do not linger.

    Args:
        model: the network, in the state to start from.
        decay: share of the average that a step leaves; 0.999 averages over about a thousand steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, steps: int) -> None:
        """Take in the weights after `steps` steps."""
        share = 1 - min(self.decay, (1 + steps) / (10 + steps))
        own, others = list(self.weights.values()), [p.detach() for p in model.parameters()]
        torch._foreach_lerp_(own, others, share)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from a kept average."""
        for name, value in self.weights.items():
            value.copy_(weights[name])

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the network's weights and the average; a second call undoes it."""
        for name, parameter in model.named_parameters():
            own = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(own)

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """Give the network the average as its weights."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.weights[name])
