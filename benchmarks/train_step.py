"""Time of a training step, beside the plain formulation (grid sampling, matching computed again for the quality terms).

    python benchmarks/train_step.py [--threads 2] [--repeats 3] [--batch 2] [--small]

A step is texts, forward, losses, backward and clipping, without the optimiser, which is the same in all forms. The forms differ in
one change each, so that the share of every change shows; they take turns in one process and the best of the repeats
counts. Losses must agree to 1e-4 and gradients to 1e-3 of the largest. The bar: 1.25 times the steps of the plain form.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests/rlip_model")]

import torch  # noqa: E402
from network_cases import make_targets, shake  # noqa: E402
from plain_attention import plain_attention  # noqa: E402
from torch import Tensor  # noqa: E402

from rlip_model import LossConfig, ModelConfig, RelationCriterion, build_model  # noqa: E402
from rlip_model.matching import match_hungarian  # noqa: E402

BAR = 1.25
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3
FORMS = {"plain": (True, True), "own attention": (False, True), "matches kept (own form)": (False, False)}
"""Name -> (grid sampling, matching again for every layer's quality terms); each form has one change more than the one before."""


class Case:
    """A network in training mode, without dropout, and one batch."""

    def __init__(self, batch: int, small: bool) -> None:
        torch.manual_seed(0)
        config = ModelConfig.preset("micro_parseda" if small else "parseda_r50")
        self.model = build_model(replace(config, queries=200).without_dropout()).train()
        # Fresh weights sample exactly at cell centres, where bilinear interpolation has a kink and rounding picks the side. The backbone
        # stays fresh: its fixed statistics fit no other weights, and its activations would grow beyond all numbers.
        for name, part in self.model.named_children():
            if name != "backbone":
                shake(part)
        self.criterion = RelationCriterion(LossConfig(pseudo_relations=True))
        height, width, texts, self.num_objects = (96, 128, 40, 26) if small else (480, 640, 500, 334)
        self.ids = torch.randint(5, config.text.vocabulary, (texts, 6))
        self.ids[:, 0], self.ids[:, -1] = 0, 2
        self.images = torch.randn(batch, 3, height, width)
        self.mask = torch.zeros(batch, height, width, dtype=torch.bool)
        self.targets = [
            make_targets(5 + 20 * index, self.num_objects, texts - self.num_objects) for index in range(batch)
        ]

    def step(self, grid: bool, match_again: bool) -> tuple[float, dict[str, Tensor]]:
        """One step of a form; returns the loss and the gradients."""
        self.model.zero_grad(set_to_none=True)
        with plain_attention() if grid else nullcontext():
            pooled = self.model.encode_text(self.ids, torch.ones_like(self.ids))
            output = self.model(self.images, self.mask, pooled, self.num_objects)
            losses = self.criterion(output, self.targets, pooled, self.num_objects)
            if match_again:
                match_hungarian(output, self.targets, self.criterion.cost)
            losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        return losses.total.item(), {
            name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None
        }


def differences(case: Case) -> tuple[float, float]:
    """Difference of the losses, and the largest of gradients relative to the largest gradient."""
    plain_loss, plain = case.step(*FORMS["plain"])
    loss, own = case.step(False, False)
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    gradient = max(float((own[name] - plain[name]).abs().max()) for name in plain) / largest
    return abs(loss - plain_loss) / abs(plain_loss), gradient


def measure(case: Case, repeats: int) -> dict[str, tuple[float, float]]:
    """Best clock and processor seconds of each form."""
    best = dict.fromkeys(FORMS, (float("inf"), float("inf")))
    for _ in range(repeats):
        for name, form in FORMS.items():
            clock, processor = time.perf_counter(), time.process_time()
            case.step(*form)
            taken = time.perf_counter() - clock, time.process_time() - processor
            best[name] = min(best[name][0], taken[0]), min(best[name][1], taken[1])
    return best


def report(best: dict[str, tuple[float, float]]) -> None:
    """A row a form: its time, its throughput against the plain form, and what its change contributed."""
    print(f"{'form':28} {'clock s':>8} {'cpu s':>8} {'times':>7} {'cpu times':>10} {'change':>8}")
    plain = previous = best["plain"]
    for name, (clock, processor) in best.items():
        change = 1 - clock / previous[0]
        print(
            f"{name:28} {clock:8.2f} {processor:8.2f} {plain[0] / clock:7.2f} {plain[1] / processor:10.2f} {-change:8.0%}"
        )
        previous = (clock, processor)
    print(f"the bar is {BAR} times the steps of the plain form")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="a toy size that only shows that the program works")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(f"{platform.machine()}, torch {torch.__version__}, {options.threads} threads, load {os.getloadavg()[0]:.1f}")
    case = Case(options.batch, options.small)
    loss, gradient = differences(case)
    print(f"relative difference of losses {loss:.1e}, of gradients {gradient:.1e}\n")
    report(measure(case, options.repeats))
    sys.exit(0 if loss <= LOSS_TOLERANCE and gradient <= GRADIENT_TOLERANCE else 1)


if __name__ == "__main__":
    main()
