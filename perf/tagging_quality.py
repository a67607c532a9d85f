"""Both ways of tagging on the truth that was kept aside: groups of the union (default) and published groups.

    python -m perf.tagging_quality [--root .] [--dataset coco] [--images 400] [--device auto] [--json out.json]

ROOT is a profile whose lineage has run up to `candidates` and `r_tagger`. The same images are tagged both ways with the profile's
parameters; published groups encode an image again for each group of pairs and score every text of a group for every pair, whatever its
classes. Printed for each way: precision, recall and F1 at its own operating threshold (chosen on one half of the images, reported on the
other) and at the threshold of the default; then how scores of the labels that both give differ, and what published groups label beyond
the candidates.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perf.command import JsonFile, run_command, write_figures
from rlip_assets.datasets.scenes import Scene, read_scenes
from rlip_assets.datasets.sources.bucket_images import BucketImages
from rlip_assets.datasets.sources.classes import read_classes
from rlip_assets.datasets.sources.roots import raw_root
from rlip_assets.labelling.label_tables import CandidateRow, read_rows
from rlip_assets.labelling.quality import Judged, at_threshold, operating_threshold, reliability_of
from rlip_assets.labelling.tagging.filters import Labels
from rlip_assets.labelling.tagging.stage import filtered, labelled, open_tagger, tag_scenes
from rlip_assets.labelling.true_relations import TrueRelation, read_true_relations
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.params.labels import TaggingParams
from rlip_assets.lineage.shards import shard_of

WAYS = ("union", "published")
Item = tuple[Scene, CandidateRow]


def read_items(root: Path, dataset: str, limit: int) -> list[Item]:
    """Scenes with their candidates, the first `limit` of those that have some, bucket by bucket."""

    def found() -> Iterator[Item]:
        for folder in sorted((root / "data/candidates" / dataset).glob("bucket-*")):
            scenes = {scene.image_id: scene for scene in read_scenes(root / "data/scenes" / dataset / folder.name)}
            for row in read_rows(folder, CandidateRow):
                if row.relation:
                    yield scenes[row.image_id], row

    return [item for item, _ in zip(found(), range(limit), strict=False)]


def judge(
    items: Sequence[Item], labels: dict[str, Labels], truth: dict[str, list[TrueRelation]], params: TaggingParams
) -> tuple[Judged, Judged]:
    """The half that chooses a threshold and the half that is reported."""
    halves = Judged(), Judged()
    for scene, _ in items:
        if scene.image_id in labels:
            kept = labelled(scene, filtered(labels[scene.image_id], scene, params))
            halves[shard_of(scene.image_id, 2)].add(kept, truth.get(scene.image_id, []))
    return halves


def score_shift(labels: dict[str, dict[str, Labels]]) -> dict[str, float | int]:
    """Union minus published, over labels that both give; and how many only one of them gives."""
    tables = {way: dict(_by_label(found)) for way, found in labels.items()}
    both = tables["union"].keys() & tables["published"].keys()
    shift = np.array([tables["union"][key] - tables["published"][key] for key in both] or [0.0])
    return {
        "labels_of_both": len(both),
        "labels_of_union_alone": len(tables["union"]) - len(both),
        "labels_of_published_alone": len(tables["published"]) - len(both),
        "mean_shift": float(shift.mean()),
        "mean_absolute_shift": float(np.abs(shift).mean()),
        **{f"shift_at_{q}_percent": float(np.percentile(shift, q)) for q in (5, 50, 95)},
    }


def _by_label(found: dict[str, Labels]) -> Iterator[tuple[tuple[str, int, int, str], float]]:
    for image_id, labels in found.items():
        rows = zip(labels.subject.tolist(), labels.object.tolist(), labels.relation, strict=True)
        for row, score in zip(rows, labels.confidence.tolist(), strict=True):
            yield (image_id, *row), score


def compare(root: Path, dataset: str, images: int, device: str) -> dict[str, Any]:
    """Everything that is printed."""
    profile = load_params(root / "params.yaml")
    items = read_items(root, dataset, images)
    truth = read_true_relations(root / "data/truth" / f"{dataset}.parquet")
    labels: dict[str, dict[str, Labels]] = {}
    report: dict[str, Any] = {"dataset": dataset, "images": len(items)}
    judged = {}
    for way in WAYS:
        params = profile.tagging.model_copy(update={"groups": way})
        objects = read_classes(root / "data/manifests" / dataset / "classes.json").objects
        tagger, sizes = open_tagger(root / "data/models/r_tagger", objects, params, device)
        began = time.process_time()
        found, _ = tag_scenes(tagger, sizes, items, BucketImages(raw_root(profile.sources, dataset, root), {}))
        seconds = time.process_time() - began
        labels[way] = dict(found)
        judged[way] = judge(items, labels[way], truth, params)
        threshold = operating_threshold(judged[way][0], profile.tagging.operating_precision)
        report[way] = {
            "threshold": threshold,
            **at_threshold(judged[way][1], threshold),
            "expected_calibration_error": reliability_of(judged[way][1])["expected_calibration_error"],
            "images_per_processor_second": len(items) / seconds,
        }
    common = report["union"]["threshold"]
    report["published"]["at_threshold_of_union"] = at_threshold(judged["published"][1], common)
    report["shift"] = score_shift(labels)
    return report


def main(
    root: Path = Path("."), dataset: str = "coco", images: int = 400, device: str = "auto", json: JsonFile = None
) -> None:
    """Print the figures."""
    report = compare(root.resolve(), dataset, images, device)
    for name, value in report.items():
        if not isinstance(value, dict):
            print(f"{name:32}{value}")
            continue
        print(name)
        for key, figure in value.items():
            print(f"  {key:30}{figure:.4f}" if isinstance(figure, float) else f"  {key:30}{figure}")
    write_figures(json, report)


if __name__ == "__main__":
    run_command(main)
