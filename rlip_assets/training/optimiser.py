"""AdamW in three groups (backbone, text encoder, the rest), the step schedule of the published training, and an average of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from rlip_assets.lineage.recipes import Recipe

GROUPS = ("main", "backbone", "text")
DROP = 0.1
"""Factor on all learning rates after the drop."""


def group_of(parameter_name: str) -> str:
    """Return the group of a parameter by its name; ALIF and the text layers inside the vision encoder belong to "main" (published)."""
    if parameter_name.startswith("backbone."):
        return "backbone"
    return "text" if parameter_name.startswith("text_encoder.") else "main"


def build_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW over all trainable parameters, with weight decay on everything (published); one kernel updates them all.

    Parameters of a group whose rate is 0 stay as they are and get no gradient, which spares its backward pass.
    """
    rates = recipe.learning_rates()
    members: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    for name, parameter in model.named_parameters():
        if rates[group_of(name)] == 0:
            parameter.requires_grad_(False)
        elif parameter.requires_grad:
            members[group_of(name)].append(parameter)
    groups = [
        {"params": members[name], "name": name, "lr": rates[name], "initial_lr": rates[name]}
        for name in GROUPS
        if members[name]
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, weight_decay=recipe.weight_decay, fused=True)


def build_schedule(optimiser: torch.optim.Optimizer, recipe: Recipe, total_steps: int, done: int = 0) -> LambdaLR:
    """Return the schedule of `total_steps` steps of which `done` are finished; the optimiser gets the rates of the next step."""
    return LambdaLR(optimiser, partial(rate_factor, recipe, total_steps), last_epoch=done - 1)


def rate_factor(recipe: Recipe, total_steps: int, step: int) -> float:
    """Return the factor on all learning rates in step `step` (from 0): a linear warm-up, then 1, then a tenth."""
    factor = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    return factor * DROP if step >= round(recipe.drop_at * total_steps) else factor


def weight_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of a network's weights, which starts as a copy of them.

    A decay of 0.999 averages over about a thousand steps. While few steps are done the average follows faster, so that the weights of the
    start do not linger: step n leaves min(decay, (1 + n) / (10 + n)) of it.
    """

    def follow(averages: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
        torch._foreach_lerp_(list(averages), list(weights), 1 - min(decay, (1 + int(steps)) / (10 + int(steps))))

    average = AveragedModel(model, multi_avg_fn=follow)
    resume_average(average, 0)
    return average


def resume_average(average: AveragedModel, steps: int) -> None:
    """Tell the average how many steps its weights have followed."""
    average.n_averaged.fill_(steps + 1)  # at 0, PyTorch would copy the weights instead of following them
