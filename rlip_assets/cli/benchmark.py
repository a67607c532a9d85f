"""`rlip predict-benchmark` and `rlip reproduce`: a checkpoint on the images of a benchmark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlip_assets.cli.options import Device, Profile
from rlip_assets.lineage.profiles import DEFAULT_PROFILE, profile_root

if TYPE_CHECKING:
    from rlip_assets.lineage.context import StageLog

Checkpoint = Annotated[Path, typer.Argument(help="Checkpoint folder, or an official .pth file.")]
Benchmark = Annotated[str, typer.Option(help="hico_det, v_coco or open_images.")]
Root = Annotated[
    Path | None, typer.Option(help="Folder of the benchmark in its official layout; by default the profile's.")
]
Split = Annotated[str, typer.Option(help="Which images.")]
Tokenizer = Annotated[str, typer.Option(help="Of a .pth file: hub name or folder of its text encoder's tokenizer.")]
Gate = Annotated[str | None, typer.Option(help="Of a .pth file that leaves it undecided: vxac, glip or none.")]
LabelTexts = Annotated[
    str | None, typer.Option(help="Of a .pth file that does not say it: published (Open Images) or cleaned.")
]


def predict_benchmark(
    checkpoint: Checkpoint,
    benchmark: Benchmark,
    output: Annotated[Path, typer.Option(help="Folder for BENCHMARK.parquet and the annotations `scenes`.")],
    root: Root = None,
    split: Split = "test",
    zero_shot: Annotated[
        bool | None,
        typer.Option(
            "--zero-shot/--fine-tuned",
            help="Judged as not trained on the benchmark, or as trained; by default what it says.",
        ),
    ] = None,
    tokenizer: Tokenizer = "roberta-base",
    gate: Gate = None,
    label_texts: LabelTexts = None,
    device: Device = "cpu",
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Predict the images of a benchmark with any checkpoint, for `rlip evaluate`. A killed run goes on where it was."""
    from rlip_assets.inference.benchmark import open_predictor, predict_raw_split
    from rlip_assets.storage.outputs import output_folder

    root = _root(root, benchmark, profile)
    with output_folder(output, "predict-benchmark", [checkpoint, root]) as target, _log() as log:
        work = _work(profile, checkpoint, benchmark, split, zero_shot, tokenizer, gate, label_texts, device, str(root))
        folder = _imported(checkpoint, work, tokenizer, gate, label_texts, log)
        predictor = open_predictor(folder, benchmark, device, zero_shot=zero_shot)
        predict_raw_split(predictor, root, split, target, work, log)
    shutil.rmtree(work)
    options = " --zero-shot" * predictor.zero_shot + (
        f" --unseen {predictor.unseen}" if isinstance(predictor.unseen, str) else ""
    )
    split_option = "" if split == "test" else f" --split {split}"
    print(f"wrote {output}; judge it with `rlip evaluate {benchmark} --predictions {output / benchmark}.parquet "
          f"--annotations {output / 'scenes'}{split_option}{options}`")  # fmt: skip


def reproduce(
    checkpoint: Checkpoint,
    benchmark: Benchmark,
    root: Root = None,
    output: Annotated[Path, typer.Option(help="Folder for predictions, annotations, figures and the page.")] = Path(
        "reproduction"
    ),
    setting: Annotated[
        str | None,
        typer.Option(
            help="Published setting, such as hico_det_zero_shot or hico_det_uc_rf; by default what the file says."
        ),
    ] = None,
    tokenizer: Tokenizer = "roberta-base",
    gate: Gate = None,
    label_texts: LabelTexts = None,
    device: Device = "cpu",
    profile: Profile = DEFAULT_PROFILE,
) -> None:
    """Put a checkpoint beside its published row: predict a benchmark's test split and judge it. A killed run goes on where it was."""
    from rlip_assets.inference.benchmark import open_predictor, predict_raw_split
    from rlip_assets.report.reproduction import judge_reproduction, setting_of, setting_options
    from rlip_assets.storage.outputs import output_folder

    root = _root(root, benchmark, profile)
    zero_shot, unseen = setting_options(setting, benchmark) if setting else (None, None)
    with output_folder(output, "reproduce", [checkpoint, root]) as target, _log() as log:
        work = _work(profile, checkpoint, benchmark, setting, tokenizer, gate, label_texts, device, str(root))
        folder = _imported(checkpoint, work, tokenizer, gate, label_texts, log)
        predictor = open_predictor(folder, benchmark, device, zero_shot=zero_shot, unseen=unseen)
        setting = setting or setting_of(predictor)
        predict_raw_split(predictor, root, "test", target, work, log)
        found = judge_reproduction(predictor, setting, target, root, "test")
    shutil.rmtree(work)
    _print(found, predictor.checkpoint.config)
    print(f"wrote {output}")


def _print(found: object, config: object) -> None:
    from rlip_assets.evaluation.published import published_figures
    from rlip_assets.report.reproduction import Reproduction, network_name
    from rlip_model import ModelConfig

    assert isinstance(found, Reproduction)
    assert isinstance(config, ModelConfig)
    table = published_figures()
    setting, row = table.settings[found.setting], found.row
    print(f"{setting.title}, {found.images} images, {setting.protocol}, percent")
    print(f"  {'figure':22}{'this run':>12}{'published':>12}{'difference':>12}")
    for each in found.figures:
        ours, published = (f"{value:.2f}" if value is not None else "-" for value in (each.ours, each.published))
        difference = "-" if each.difference is None else f"{each.difference:+.2f}"
        print(f"  {each.figure:22}{ours:>12}{published:>12}{difference:>12}")
    if row is None:
        print(f"There is no published row of {' '.join(network_name(config))} in this setting.")
    else:
        print(f"published: {row.method} {row.backbone}, {row.note} ({table.sources[row.source].title})")


def _root(root: Path | None, benchmark: str, profile: str) -> Path:
    """Return the given root of a benchmark, or that of the profile."""
    from rlip_assets.datasets.sources.roots import raw_root
    from rlip_assets.lineage.datasets import BENCHMARKS
    from rlip_assets.lineage.params import load_params
    from rlip_assets.storage.errors import ParameterError

    if benchmark not in BENCHMARKS:
        raise ParameterError(f"There is no benchmark {benchmark!r}: --benchmark is {', '.join(BENCHMARKS)}")
    base = profile_root(profile)
    return root or raw_root(load_params(base / "params.yaml").sources, benchmark, base)


def _work(profile: str, checkpoint: Path, *settings: object) -> Path:
    """Return the folder of finished work of a command, by everything that it follows from."""
    from rlip_assets.lineage.stage_run import WORK_FOLDER
    from rlip_assets.storage.files import digest_json, sha256_file, sha256_folder

    content = sha256_folder(checkpoint) if checkpoint.is_dir() else sha256_file(checkpoint)
    return profile_root(profile) / WORK_FOLDER / "predict-benchmark" / digest_json([content, *settings])[:16]


def _imported(
    checkpoint: Path, work: Path, tokenizer: str, gate: str | None, label_texts: str | None, log: StageLog
) -> Path:
    """Return a checkpoint folder: the given one, or that of an official file, which is converted once."""
    from rlip_assets.cli.models import convert_checkpoint

    if checkpoint.is_dir():
        return checkpoint
    folder = work / "checkpoint"
    if not folder.is_dir():
        recognised = convert_checkpoint(checkpoint, folder, tokenizer, gate, label_texts)
        log.info(
            f"{checkpoint} is a network of {len(recognised.evidence)} recognised settings; `rlip import-checkpoint` prints them"
        )
    return folder


@contextmanager
def _log() -> Iterator[StageLog]:
    """Open a log on the terminal, with a bar while a phase lasts."""
    from rlip_assets.lineage.log import open_terminal_log

    log = open_terminal_log()
    try:
        yield log
    finally:
        log.close()
