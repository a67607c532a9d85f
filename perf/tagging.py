"""Tagging speed: one encoding of an image for all of its candidates, against an encoding for each group of pairs as published.

    python -m perf.tagging [--size r50|micro] [--groups 8] [--images 1] [--short-side 800] [--rounds 1] [--json out.json]

The R-Tagger has random weights; `r50` has the published sizes (ResNet-50, 100 pair slots). Each image has `groups` times as many
candidates as there are slots, every pair with one relation, so that the published grouping needs `groups` encodings. Both ways ask
about the same texts, whose vectors are made beforehand. Bar: at least 4 times faster at 8 groups and ResNet-50 size.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import torch
import typer

from perf.command import JsonFile, run_command, write_figures
from rlip_assets.datasets.scenes import make_scene, scene_hash
from rlip_assets.labelling.label_tables import CandidateRow
from rlip_assets.labelling.tagging.candidate_tagger import CandidateTagger, TaggingImage
from rlip_assets.lineage.params.labels import TaggingParams
from rlip_model import Checkpoint, ModelConfig, build_model, train_label_tokenizer

BAR = 4.0
PRESETS = {"r50": "tagger_r50", "micro": "micro_tagger"}
OBJECTS = ["person", "dog", "bench", "horse", "ball"]
RELATIONS = [f"{verb} {place}" for verb in ("sit", "stand", "ride", "hold", "look") for place in ("on", "at", "near")]


def build(size: str) -> Checkpoint:
    """A tagger with random weights; its text encoder is small, for texts are encoded outside the timing."""
    torch.manual_seed(0)
    tokenizer = train_label_tokenizer([*OBJECTS, *RELATIONS], 300)
    preset = ModelConfig.preset(PRESETS[size])
    text = replace(preset.text, vocabulary=tokenizer.vocabulary, layers=1, positions=66)
    config = replace(preset, text=text).without_dropout()
    return Checkpoint(build_model(config).eval(), tokenizer, config, {})


def make_image(number: int, entries: int, short_side: int) -> TaggingImage:
    """Random pixels and boxes, and `entries` candidates of different ordered pairs with relations in turn."""
    boxes_needed = 2
    while boxes_needed * (boxes_needed - 1) < entries:
        boxes_needed += 1
    generator = torch.Generator().manual_seed(number)
    height, width = short_side, short_side * 4 // 3
    low = torch.rand(boxes_needed, 2, generator=generator) * 0.7
    boxes = (torch.cat([low, low + 0.25], 1) * torch.tensor([width, height] * 2)).tolist()
    labels = [OBJECTS[i % len(OBJECTS)] for i in range(boxes_needed)]
    scene = make_scene(str(number), "benchmark", "train", f"{number}.jpg", width, height, boxes, labels)
    pairs = [(i, j) for i in range(boxes_needed) for j in range(boxes_needed) if i != j][:entries]
    subjects, targets = (list(role) for role in zip(*pairs, strict=True))
    relations = [RELATIONS[i % len(RELATIONS)] for i in range(entries)]
    row = CandidateRow(str(number), scene_hash(scene), subjects, targets, relations, relations, [1] * entries)
    return TaggingImage(scene, row, torch.randn(3, height, width, generator=generator))


def measure(size: str, groups: int, images: int, short_side: int, rounds: int) -> dict[str, float | int | str]:
    """Return images per second of both ways and the ratio, with the best of `rounds` for each; the ways take turns."""
    checkpoint = build(size)
    samples = [make_image(i, groups * checkpoint.config.pairs, short_side) for i in range(images)]
    seconds = {"union": float("inf"), "published": float("inf")}
    encodings = dict.fromkeys(seconds, 0)
    for _ in range(rounds):
        for way in seconds:
            params = TaggingParams.model_validate({"groups": way, "wording": "relation", "batch_size": 1})
            tagger = CandidateTagger(checkpoint, OBJECTS, params)
            tagger.vectors(RELATIONS)
            encodings[way] = 0
            taken = _seconds(tagger, samples, partial(_count, encodings, way))
            seconds[way] = min(seconds[way], taken)
    return {
        "size": size,
        "pair_slots": checkpoint.config.pairs,
        "groups": groups,
        "images": images,
        "short_side": short_side,
        "encodings_union": encodings["union"],
        "encodings_published": encodings["published"],
        "images_per_second_union": images / seconds["union"],
        "images_per_second_published": images / seconds["published"],
        "ratio": seconds["published"] / seconds["union"],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s), cpu",
    }


def _seconds(tagger: CandidateTagger, samples: Sequence[TaggingImage], encoded: Callable[[], None]) -> float:
    """Processor time of tagging image after image; `encoded` is called at each pass of the backbone."""
    handle = tagger.model.backbone.register_forward_pre_hook(lambda *arguments: encoded())
    started = time.process_time()
    for sample in samples:
        tagger.tag([sample])
    handle.remove()
    return time.process_time() - started


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] += 1


def main(
    size: Annotated[Literal["r50", "micro"], typer.Option()] = "r50",
    groups: int = 8,
    images: int = 1,
    short_side: int = 800,
    rounds: int = 1,
    threads: int = 1,
    json: JsonFile = None,
) -> None:
    """Print the figures."""
    torch.set_num_threads(threads)
    figures = measure(size, groups, images, short_side, rounds)
    for name, value in figures.items():
        print(f"{name:30}{value:.3f}" if isinstance(value, float) else f"{name:30}{value}")
    if size == "r50" and groups == 8:
        print(f"{'bar':30}{BAR:g} ({'met' if float(figures['ratio']) >= BAR else 'missed'})")
    write_figures(json, figures)


if __name__ == "__main__":
    run_command(main)
