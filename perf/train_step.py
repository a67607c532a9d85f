"""Time of a training step, beside the plain formulation: what a port of the published code does.

    python -m perf.train_step [--threads 2] [--repeats 3] [--batch 2] [--small]

A step is texts, forward, losses, backward and clipping, without the optimiser, which is the same in all forms. The plain form encodes
the texts once, padded to the longest, samples by `grid_sample`, normalises in the backbone by an operation of its own, holds the
differences of all label vectors, and matches again for the quality terms; see `plain_forms`. Every form has one change more than
the one before, so that the share of each shows; they take turns in one process and the best of the repeats counts. Losses must
agree to 1e-4 and gradients to 1e-3 of the largest. The bar: 1.25 times the steps of the plain form.

Label texts are as long as names of Objects365 and verbs of HICO-DET, V-COCO and Open Images, a word a token; RoBERTa's vocabulary
splits some of the words.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from perf.command import run_command
from perf.plain_forms import PLAIN, plain
from rlip_model import LossConfig, ModelConfig, RelationCriterion, build_model
from rlip_model.matching import match_hungarian
from tests.support.network_cases import make_targets, shake

ROOT = Path(__file__).resolve().parents[1]

BAR = 1.25
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3
MATCHING = "matching"
CHANGES = {
    "own attention": "attention",
    "matches kept": MATCHING,
    "texts without padding": "texts",
    "normalisation in convolutions": "backbone",
    "distances of labels": "distances",
}
"""Row of the table -> the part that is no longer plain from there on."""


def forms() -> dict[str, frozenset[str]]:
    """Name -> the parts that are plain; each form has one change more than the one before."""
    found = {"plain": frozenset(PLAIN) | {MATCHING}}
    for name, part in CHANGES.items():
        found[name] = [*found.values()][-1] - {part}
    return found


def token_counts() -> list[int]:
    """Tokens of label texts with the two marks, a word a token: 333 objects and "no objects", then 166 relations."""
    tables = ROOT / "rlip_assets/datasets/sources/class_tables"
    read = {
        name: json.loads((tables / f"{name}.json").read_text())
        for name in ("objects365", "hico_det", "v_coco", "open_images")
    }
    objects = [*[entry["text"] for entry in read["objects365"]["objects"]][:333], "no objects"]
    relations = [entry["text"] for name in ("hico_det", "v_coco") for entry in read[name]["verbs"]]
    relations += [name.replace("_", " ") for name in read["open_images"]["relations"]]
    return [len(text.split()) + 2 for text in objects + relations[:166]]


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
        lengths = torch.tensor(token_counts()[-texts:])
        place = torch.arange(int(lengths.max()))
        self.present = (place < lengths[:, None]).long()
        ids = torch.randint(5, config.text.vocabulary, self.present.shape)
        ids[:, 0], ids[place == lengths[:, None] - 1] = 0, 2
        self.ids = ids.masked_fill(self.present == 0, config.text.pad_id)
        self.images = torch.randn(batch, 3, height, width)
        self.mask = torch.zeros(batch, height, width, dtype=torch.bool)
        self.targets = [
            make_targets(5 + 20 * index, self.num_objects, texts - self.num_objects) for index in range(batch)
        ]

    def step(self, plain_parts: Collection[str]) -> tuple[float, dict[str, Tensor]]:
        """One step of a form; returns the loss and the gradients."""
        self.model.zero_grad(set_to_none=True)
        with plain([part for part in plain_parts if part != MATCHING]):
            pooled = self.model.encode_text(self.ids, self.present)
            output = self.model(self.images, self.mask, pooled, self.num_objects)
            losses = self.criterion(output, self.targets, pooled, self.num_objects)
            if MATCHING in plain_parts:
                match_hungarian(output, self.targets, self.criterion.cost)
            losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        return losses.total.item(), {
            name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None
        }


def differences(case: Case) -> tuple[float, float]:
    """Difference of the losses, and the largest of gradients relative to the largest gradient."""
    plain_loss, want = case.step(forms()["plain"])
    loss, own = case.step(())
    largest = max(float(gradient.abs().max()) for gradient in want.values())
    gradient = max(float((own[name] - want[name]).abs().max()) for name in want) / largest
    return abs(loss - plain_loss) / abs(plain_loss), gradient


def measure(case: Case, repeats: int) -> dict[str, tuple[float, float]]:
    """Best clock and processor seconds of each form."""
    best = dict.fromkeys(forms(), (float("inf"), float("inf")))
    for _ in range(repeats):
        for name, form in forms().items():
            clock, processor = time.perf_counter(), time.process_time()
            case.step(form)
            taken = time.perf_counter() - clock, time.process_time() - processor
            best[name] = min(best[name][0], taken[0]), min(best[name][1], taken[1])
    return best


def report(best: dict[str, tuple[float, float]]) -> None:
    """A row a form: its time, its throughput against the plain form, and what its change took off or put on the form before."""
    titles = ("clock s", "cpu s", "times", "cpu times", "change", "cpu change")
    print(f"{'form':30}" + "".join(f"{title:>11}" for title in titles))
    plain = previous = best["plain"]
    for name, (clock, processor) in best.items():
        ratios = plain[0] / clock, plain[1] / processor
        changes = clock / previous[0] - 1, processor / previous[1] - 1
        numbers = [f"{value:.2f}" for value in (clock, processor, *ratios)] + [f"{value:+.0%}" for value in changes]
        print(f"{name:30}" + "".join(f"{number:>11}" for number in numbers))
        previous = clock, processor
    print(f"the bar is {BAR} times the steps of the plain form")


def main(
    threads: int = 2,
    repeats: int = 3,
    batch: int = 2,
    small: Annotated[bool, typer.Option("--small", help="A toy size that only shows that the program works.")] = False,
) -> None:
    """Print the figures."""
    torch.set_num_threads(threads)
    print(f"{platform.machine()}, torch {torch.__version__}, {threads} threads, load {os.getloadavg()[0]:.1f}")
    case = Case(batch, small)
    loss, gradient = differences(case)
    print(f"relative difference of losses {loss:.1e}, of gradients {gradient:.1e}\n")
    report(measure(case, repeats))
    sys.exit(0 if loss <= LOSS_TOLERANCE and gradient <= GRADIENT_TOLERANCE else 1)


if __name__ == "__main__":
    run_command(main)
