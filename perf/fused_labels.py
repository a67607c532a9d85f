"""What ALIF's fusions of trained networks carry from image to labels and back, by taking it away.

    python -m perf.fused_labels CHECKPOINT ... [--root .] [--images 300] [--json out.json]

ROOT is a profile with HICO-DET. Its training images, which pre-training does not see, are predicted zero-shot four times; printed is mAP:
as trained; with the label features of another image; with those of no image (their mean over a batch); and with image tokens that read
no labels. A figure that falls says that the network uses what was taken away. Beside them: the gates, and the share of the image in the
label features (squared distance from their mean over a batch, as a share of that from their mean over batch and labels).
"""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from perf.command import JsonFile, run_command, write_figures
from rlip_assets.datasets.scenes import bucket_folders, read_scenes
from rlip_assets.datasets.sources.roots import raw_root
from rlip_assets.evaluation.headlines import HEADLINE
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.recipes import Augmentation
from rlip_assets.training.benchmark_evaluation import BenchmarkEvaluation, evenly
from rlip_model import Rlip, load_checkpoint
from rlip_model.checkpoints.folder import Checkpoint

BENCHMARK = "hico_det"
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "labels of another image": lambda labels: labels.roll(1, 0),
    "labels of no image": lambda labels: labels.mean(0, keepdim=True).expand_as(labels),
}


@contextmanager
def changed_labels(model: Rlip, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change the fused labels (B, T, W) that leave the encoder."""
    hook = model.encoder.register_forward_hook(
        lambda encoder, given, result: (result[0], [change(labels) for labels in result[1]])
    )
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def unread_labels(model: Rlip) -> Iterator[None]:
    """Leave image tokens as the fusions' norm makes them; labels still read the image."""
    fusions: Any = model.encoder.fusions
    with ExitStack() as stack:
        for fusion in fusions:
            hook = fusion.register_forward_hook(lambda fusion, given, result: (fusion.norm_visual(given[0]), result[1]))
            stack.callback(hook.remove)
        yield


@contextmanager
def shares_of_the_image(model: Rlip, shares: list[float]) -> Iterator[None]:
    """Collect the share of the image in the last fusion's labels, batch by batch."""

    def collect(encoder: Any, given: Any, result: tuple[Any, list[Tensor]]) -> None:
        labels = result[1][-1]
        own = (labels - labels.mean(0)).square().sum()
        shares.append(float(own / (labels - labels.mean((0, 1))).square().sum()))

    hook = model.encoder.register_forward_hook(collect)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def measure(model: Rlip, evaluate: Callable[[], float]) -> dict[str, Any]:
    """Return all figures of a network whose mAP `evaluate` returns; without fusions mAP alone."""
    if not model.config.fusions:
        return {"as trained": evaluate()}
    shares: list[float] = []
    with shares_of_the_image(model, shares):
        figures: dict[str, Any] = {"as trained": evaluate()}
    for name, change in CHANGES.items():
        with changed_labels(model, change):
            figures[name] = evaluate()
    with unread_labels(model):
        figures["tokens that read no labels"] = evaluate()
    figures["share of the image in labels"] = sum(shares) / len(shares)
    for side in ("visual", "label"):
        gates = [value.flatten()[0] for name, value in model.named_parameters() if name.endswith(f"gate_{side}")]
        figures[f"gates of {side}"] = [round(float(gate), 3) for gate in gates]
    return figures


def compare(root: Path, folders: Sequence[Path], images: int) -> dict[str, dict[str, Any]]:
    """Return the figures of each checkpoint by its folder's name."""
    scenes = [
        scene
        for folder in bucket_folders(root / "data/scenes" / BENCHMARK)
        for scene in read_scenes(folder)
        if scene.split == "train" and len(scene.relation)
    ]
    stored = json_format.loads((folders[0] / "metadata.json").read_text())["recipe"]
    figures = {}
    with TemporaryDirectory() as work:
        evaluation = BenchmarkEvaluation(
            root / "data/manifests" / BENCHMARK / "classes.json",
            evenly(scenes, images),
            raw_root(load_params(root / "params.yaml").sources, BENCHMARK, root),
            Augmentation.model_validate(stored["augmentation"]),
            Path(work),
            zero_shot=True,
        )
        for folder in folders:
            opened = load_checkpoint(folder)

            def mean_precision(opened: Checkpoint = opened) -> float:
                return evaluation(opened.model, opened.tokenizer)[HEADLINE]

            figures[folder.name] = measure(opened.model, mean_precision)
    return figures


def main(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoint folders of pre-trained networks.")],
    root: Path = Path("."),
    images: int = 300,
    json: JsonFile = None,
) -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    report = compare(root.resolve(), checkpoints, images)
    for run, figures in report.items():
        print(run)
        for name, value in figures.items():
            print(f"  {name:30}{value:.4f}" if isinstance(value, float) else f"  {name:30}{value}")
    write_figures(json, report)


if __name__ == "__main__":
    run_command(main)
