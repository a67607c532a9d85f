"""A released checkpoint beside its published row: which setting and which row it is, and figure beside figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlip_assets.evaluation.core.results import ProtocolResult
from rlip_assets.evaluation.evaluate_files import Request, evaluate_files
from rlip_assets.evaluation.published import Published, published_figures
from rlip_assets.inference.benchmark import Predictor
from rlip_assets.report.evaluation_page import write_evaluation
from rlip_assets.storage.errors import ParameterError
from rlip_assets.storage.files import write_json
from rlip_model import ModelConfig

RECORD = "reproduction.json"
UNSEEN = ("uc_rf", "uc_nf", "uo", "uv")
SWINS = {96: "Swin-T", 192: "Swin-L"}


@dataclass(frozen=True)
class Comparison:
    """One figure of a run and of a published row, both in percent; None where it is not known."""

    figure: str
    ours: float | None
    published: float | None

    @property
    def difference(self) -> float | None:
        """Ours minus the published figure, in points."""
        return None if self.ours is None or self.published is None else self.ours - self.published


@dataclass(frozen=True)
class Reproduction:
    """A run beside a published row.

    Attributes:
        setting: key of `PublishedFigures.settings`.
        row: the published row of this network; None where there is none.
        images: that were judged.
    """

    setting: str
    row: Published | None
    figures: tuple[Comparison, ...]
    images: int


def settings_of(benchmark: str) -> list[str]:
    """Return the published settings of a benchmark that compare by its headline protocol."""
    return [key for key in published_figures().settings if key.startswith(benchmark) and not key.endswith("_other")]


def setting_options(setting: str, benchmark: str) -> tuple[bool, str | None]:
    """Return whether a setting is judged zero-shot, and the zero-shot split of its training.

    Raises:
        ParameterError: no published setting of this benchmark.
    """
    if setting not in settings_of(benchmark):
        raise ParameterError(
            f"There is no setting {setting!r} of {benchmark}: compare it with another by --setting "
            f"({', '.join(settings_of(benchmark))}), or judge it alone by `rlip predict-benchmark` and `rlip evaluate`"
        )
    return setting.endswith("_zero_shot"), next((name for name in UNSEEN if setting.endswith(name)), None)


def setting_of(predictor: Predictor) -> str:
    """Return the published setting to which a checkpoint belongs by its metadata.

    Raises:
        ParameterError: nothing was published for its setting.
    """
    metadata, benchmark = predictor.checkpoint.metadata, predictor.benchmark
    share = (metadata.get("recipe") or {}).get("share", 1.0)
    percent = metadata.get("percent_of_images") or round(100 * share)
    unseen = predictor.unseen if predictor.unseen is None or isinstance(predictor.unseen, str) else "own"
    part = "zero_shot" if predictor.zero_shot else unseen or f"few_shot_{percent}"
    setting = f"{benchmark}_{part}" if part != "few_shot_100" else benchmark
    if setting == "hico_det":
        setting = "hico_det_full"
    setting_options(setting, benchmark)
    return setting


def network_name(config: ModelConfig) -> tuple[str, str]:
    """Return method and backbone of a network as published tables call them."""
    family = "RLIP" if config.is_rlipv1 else "RLIPv2"
    kind = {"boxes": "ParSeDA", "points": "ParSeD", "none": "ParSe"}[config.anchors]
    if config.fusion == "late" and not config.is_rlipv1:
        kind += " with late fusion"
    backbone = "R50" if config.backbone.depths == (3, 4, 6, 3) else f"ResNet {config.backbone.depths}"
    if config.backbone.kind == "swin":
        backbone = SWINS.get(config.backbone.stem, f"Swin {config.backbone.stem}")
    return f"{family}-{kind}", backbone


def published_row(setting: str, config: ModelConfig) -> Published | None:
    """Return the first published row of a setting that is of this network."""
    method, backbone = network_name(config)
    rows = (row for row in published_figures().rows if row.setting == setting)
    return next((row for row in rows if (row.method, row.backbone) == (method, backbone)), None)


def judge_reproduction(predictor: Predictor, setting: str, folder: Path, root: Path, split: str) -> Reproduction:
    """Judge the predictions of `predict_raw_split` in `folder`, and write the report and `reproduction.json` beside them.

    Args:
        root: of the test images, to draw the worst classes.
    """
    benchmark, tables = predictor.benchmark, folder / "scenes"
    request = Request(
        benchmark,
        folder / f"{benchmark}.parquet",
        tables,
        tables / "classes.json",
        split,
        zero_shot=predictor.zero_shot,
        unseen=predictor.unseen,
    )
    found = evaluate_files(request, causes=True)
    write_evaluation(folder, request, found, root, f"{predictor.name} on the {split} split of {benchmark}")
    row = published_row(setting, predictor.checkpoint.config)
    result = Reproduction(setting, row, _compared(setting, row, found.results), found.counts["images"])
    write_json(folder / RECORD, _record(result, predictor))
    return result


def _compared(setting: str, row: Published | None, results: Sequence[ProtocolResult]) -> tuple[Comparison, ...]:
    protocol = published_figures().settings[setting].protocol
    ours: Mapping[str, float] = next((each.figures for each in results if each.name == protocol), {})
    names = (
        row.figures
        if row
        else {name: None for each in published_figures().of_setting(setting) for name in each["figures"]}
    )
    return tuple(Comparison(name, _percent(ours.get(name)), row.figures[name] if row else None) for name in names)


def _percent(value: float | None) -> float | None:
    return None if value is None or value != value else 100 * float(value)


def _record(result: Reproduction, predictor: Predictor) -> dict[str, Any]:
    table = published_figures()
    return {
        "checkpoint": predictor.name,
        "benchmark": predictor.benchmark,
        "setting": result.setting,
        "protocol": table.settings[result.setting].protocol,
        "zero_shot": predictor.zero_shot,
        "persons_only": predictor.persons_only,
        "label_texts": predictor.checkpoint.config.label_texts,
        "images": result.images,
        "published": asdict(result.row) if result.row else None,
        "figures": [asdict(each) | {"difference": each.difference} for each in result.figures],
    }
