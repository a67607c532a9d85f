"""AdamW in three groups (backbone, text encoder, the rest) and the step schedule of the published training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from rlip_assets.lineage.recipes import Recipe

GROUPS = ("main", "backbone", "text")
DROP = 0.1
"""Factor on all learning rates after the drop."""


def group_of(parameter_name: str) -> str:
    """The group of a parameter, by its name; ALIF and the text layers inside the vision encoder belong to "main" (published)."""
    if parameter_name.startswith("backbone."):
        return "backbone"
    return "text" if parameter_name.startswith("text_encoder.") else "main"


def build_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over all trainable parameters, weight decay on everything (published); one kernel updates them all."""
    members: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[group_of(name)].append(parameter)
    groups = [{"params": members[name], "name": name} for name in GROUPS if members[name]]
    decay = recipe.weight_decay
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay, fused=True)


def learning_rates(recipe: Recipe, step: int, total_steps: int) -> dict[str, float]:
    """Rates of the groups in step `step` (from 0): linear warm-up, then constant, then a tenth."""
    factor = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    if step >= round(recipe.drop_at * total_steps):
        factor *= DROP
    return {name: rate * factor for name, rate in recipe.learning_rates().items()}


def set_learning_rates(optimiser: torch.optim.Optimizer, rates: Mapping[str, float]) -> None:
    """Give every group its rate."""
    for group in optimiser.param_groups:
        group["lr"] = rates[group["name"]]
