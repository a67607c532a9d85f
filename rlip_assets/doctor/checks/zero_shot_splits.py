"""Zero-shot splits of fine-tunings, named or listed: their benchmark has each interaction."""

from __future__ import annotations

from collections.abc import Iterator

from rlip_assets.datasets.sources.classes import own_classes, preset_classes
from rlip_assets.doctor.examination import Examination
from rlip_assets.doctor.finding import Finding, fault
from rlip_assets.storage.errors import RlipError
from rlip_assets.training.unseen import Unseen


def check(case: Examination) -> Iterator[Finding]:
    """Compare each with the classes of its benchmark, where its root is on this machine."""
    if case.params is None:
        return
    present = case.present()
    for name, choice in case.params.training.finetune.items():
        key, recipe = f"training.finetune.{name}", choice.resolve()
        benchmark = recipe.benchmark
        if not recipe.unseen or benchmark not in present or not case.read.usable(key):
            continue
        try:
            Unseen.of(recipe, own_classes(case.folder(benchmark), benchmark) or preset_classes(benchmark))
        except RlipError as error:
            yield fault(key, error)
