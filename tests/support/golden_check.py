"""Runs the evaluators on a folder of reference cases and compares every figure with the recorded one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlip_assets.evaluation.alignment import AlignmentEvaluator
from rlip_assets.evaluation.core.protocols import HICO_RLIPV2, NMS, PLAIN
from rlip_assets.evaluation.core.results import ClassTable, ProtocolResult
from rlip_assets.evaluation.hico_det.evaluator import HicoDetEvaluator
from rlip_assets.evaluation.open_images.triplet import OpenImagesTripletEvaluator
from rlip_assets.evaluation.v_coco.actions import actions_of_names
from rlip_assets.evaluation.v_coco.official import evaluate_official
from rlip_assets.evaluation.v_coco.training_metric import VcocoTrainingEvaluator
from rlip_assets.storage.errors import InputError
from tests.support.golden_cases import PairCase, load_arrays, load_official_case, load_pair_case

TOLERANCE = 1e-12
SINGLE_TOLERANCE = 2.5e-7
"""Alignment and uniformity were recorded by float32 arithmetic: figures of order 1 hold to two of its last places."""

HICO_FIGURES = {"mAP": "full", "mAP rare": "rare", "mAP non-rare": "non_rare", "mean max recall": "max_recall"}
VCOCO_FIGURES = {"mAP_all": "map_all", "mAP_thesis": "map_thesis"}
OFFICIAL_FIGURES = {
    "mean_agent": "agent_ap",
    "mean_role_s1": "role_ap_s1_25",
    "mean_role_s2": "role_ap_s2_25",
    "mean_role_s1_no_point": "role_ap_s1_24",
    "mean_role_s2_no_point": "role_ap_s2_24",
}
OFFICIAL_TABLES = {"agent_ap": "agent", "role_ap_scenario_1": "role_s1", "role_ap_scenario_2": "role_s2"}


@dataclass(frozen=True)
class Comparison:
    """One recorded run of a case beside ours.

    Attributes:
        case, run: name of the case, and what of it.
        figures: number of figures compared.
        difference: the largest absolute difference.
        tolerance: what it may be.
    """

    case: str
    run: str
    figures: int
    difference: float
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Within the tolerance; a figure that is NaN on one side only is not."""
        return self.difference <= self.tolerance


def check_folder(folder: Path) -> Iterator[Comparison]:
    """Compare every case of a folder.

    Raises:
        InputError: the folder holds no case, or a case lacks its recorded figures.
    """
    cases = sorted(Path(folder).glob("*.npz"))
    if not cases:
        raise InputError(f"{folder} holds no reference case (*.npz); give the folder with the cases of the evaluators")
    for path in cases:
        recorded = path.with_name(f"{path.stem}.expected.json")
        if not recorded.exists():
            raise InputError(f"{recorded} is missing; fetch the reference cases again")
        yield from check_case(path, json.loads(recorded.read_text()))


def check_case(path: Path, recorded: Any) -> Iterator[Comparison]:
    """Compare one case with its recorded figures."""
    arrays = load_arrays(path)
    if "det_score" in arrays:
        yield _official(path, recorded["stable"])
    elif "class_0" in arrays:
        yield _alignment(path, recorded)
    else:
        for run in recorded:
            if run["stable"] and "metrics" in run:
                case = load_pair_case(path)
                if run.get("crashing_images_dropped"):
                    case = case.without(case.crashing)
                yield from _pairs(path.stem, case, run)


def _pairs(name: str, case: PairCase, run: dict[str, Any]) -> Iterator[Comparison]:
    variant = NMS if run["nms"] else PLAIN
    if case.vocabulary.dataset == "hico_det":
        result = _hico(case, variant)
        figures, tables = HICO_FIGURES, {"classes": ""}
    elif case.vocabulary.dataset == "v_coco":
        left_out = actions_of_names(case.vocabulary.verbs).left_out_verbs
        evaluator = VcocoTrainingEvaluator(case.truth, case.vocabulary, left_out)
        evaluator.update(case.batch)
        (result,) = evaluator.compute()
        table = result.tables[""]
        by_verb = {f"AP_{names[0]}": ap for names, ap in zip(table.names, table.ap, strict=True)}
        result = ProtocolResult(result.protocol, "", {**result.figures, **by_verb}, result.tables)
        figures, tables = VCOCO_FIGURES | {verb: verb for verb in by_verb}, {"classes": ""}
    else:
        triplets = OpenImagesTripletEvaluator(case.truth, case.vocabulary, variants=(variant,), compat=True)
        triplets.update(case.batch)
        (result,) = triplets.compute()
        figures = {"score_wtd (wmAP)": "score_wtd", "score_wtd (mAP)": "score_map"}
        tables = {}
        for k in (100, 50):
            for task, ours, classes in (("RelD", "rel", "classes_rel"), ("PhrD", "phr", "classes_phr")):
                names = {"mAP": "map", "wmAP": "wmap", "max recall": "recall", "mean max recall": "mean_recall"}
                figures |= {f"{long}@{k} ({task})": f"{short}_{ours}_{k}" for long, short in names.items()}
                tables[f"{classes}@{k}"] = f"{ours}_{k}"
    differences = [abs(result.figures[figures[key]] - value) for key, value in run["metrics"].items()]
    for recorded, ours in tables.items():
        differences += _class_differences(case, result.tables[ours], run[recorded])
    yield Comparison(name, variant, len(differences), float(np.max(differences)))


def _hico(case: PairCase, variant: str) -> ProtocolResult:
    keys = case.train_triplets[:, 1] * len(case.vocabulary.verbs) + case.train_triplets[:, 2]
    rare = (case.train_counts > 0) & (case.train_counts < 10)
    groups = {"rare": keys[rare], "non_rare": keys[case.train_counts >= 10]}
    evaluator = HicoDetEvaluator(
        case.truth, case.vocabulary, only=(HICO_RLIPV2,), variants=(variant,), class_groups=groups
    )
    evaluator.update(case.batch)
    return evaluator.compute()[0]


def _class_differences(case: PairCase, table: ClassTable, recorded: list[dict[str, Any]]) -> list[float]:
    """Differences of counts and AP, class by class; infinite when the classes are not the same."""
    num_verbs, labels = len(case.vocabulary.verbs), len(case.vocabulary.objects)
    place = {int(key): i for i, key in enumerate(table.keys)}
    differences = [0.0 if len(place) == len(recorded) else float("inf")]
    for row in recorded:
        key = row["key"]
        if case.vocabulary.dataset == "hico_det":
            key = key[1] * num_verbs + key[2]
        elif case.vocabulary.dataset == "open_images":
            key = (key[0] * (labels + 1) + key[1]) * num_verbs + key[2]
        if key not in place:
            return [float("inf")]
        i = place[key]
        ours = (table.ranks.positives[i], table.ranks.detections[i], table.ranks.right[i], table.ap[i])
        differences += [abs(float(mine) - row[name]) for mine, name in zip(ours, ("gts", "n", "tp", "ap"), strict=True)]
    return differences


def _official(path: Path, recorded: dict[str, Any]) -> Comparison:
    (result,) = evaluate_official(*load_official_case(path))
    differences = [abs(result.figures[ours] - recorded[key]) for key, ours in OFFICIAL_FIGURES.items()]
    for key, name in OFFICIAL_TABLES.items():
        table = result.tables[name]
        ours = {"-".join(names): ap for names, ap in zip(table.names, table.ap, strict=True)}
        differences += [abs(ours.get(each, float("nan")) - value) for each, value in recorded[key].items()]
    return Comparison(path.stem, "official", len(differences), float(np.max(differences)))


def _alignment(path: Path, recorded: dict[str, float]) -> Comparison:
    arrays = load_arrays(path)
    evaluator = AlignmentEvaluator(len(arrays))
    for verb in range(len(arrays)):
        features = arrays[f"class_{verb}"]
        evaluator.update(features, np.full(len(features), verb))
    differences = []
    for power in (1, 2):
        ours = evaluator.compute(t=float(power), alpha=float(power))
        differences.append(abs(ours["uniformity"] - recorded[f"uniformity_t{power}"]))
        differences.append(abs(ours["alignment"] - recorded[f"alignment_a{power}"]))
    return Comparison(path.stem, "float32", len(differences), float(np.max(differences)), SINGLE_TOLERANCE)
