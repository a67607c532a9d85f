"""Weights between a fine-tuned network and its start, their share chosen on held-out training images.

A zero-shot split hides its unseen classes from these images too, so that seen classes alone decide; no test image does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from rlip_assets.datasets.scenes import bucket_folders
from rlip_assets.datasets.sources.classes import read_classes
from rlip_assets.datasets.sources.roots import raw_root
from rlip_assets.evaluation.headlines import HEADLINE
from rlip_assets.lineage.layout import classes_file, scene_folder
from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.profiles import PARAMS_FILE
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.files import write_json
from rlip_assets.training.benchmark_evaluation import BenchmarkEvaluation, has_triplets
from rlip_assets.training.few_shot import read_image_list
from rlip_assets.training.loop import Evaluate
from rlip_assets.training.processes import choose_device
from rlip_assets.training.training_images import ImageSource, held_out_images, training_splits
from rlip_assets.training.unseen import Unseen
from rlip_model import LabelTokenizer, Rlip, load_checkpoint
from rlip_model.checkpoints.merging import Parent, check_parents, merged_tensors, save_merged

MERGE_FILE = "merge.json"
"""File of a checkpoint with the shares that were tried and their figures."""


@dataclass(frozen=True)
class MergeChoice:
    """The chosen share of the fine-tuned weights.

    Attributes:
        tried: a row per share with `alpha` and its figures on held-out images; without figures where a single share was given.
    """

    alpha: float
    tried: tuple[dict[str, float], ...]

    def as_json(self) -> dict[str, Any]:
        """Return the content of `merge.json`."""
        return {"alpha": self.alpha, "tried": list(self.tried)}


def merge_with_start(
    model: Rlip,
    tokenizer: LabelTokenizer,
    start: Mapping[str, Tensor],
    alphas: Sequence[float],
    evaluate: Evaluate | None,
) -> MergeChoice:
    """Give a fine-tuned network the weights between its own and those of its start that are best on held-out images.

    Of equals the larger share counts. Afterwards the network holds the chosen weights.

    Args:
        start: state of the network before fine-tuning.
        alphas: shares of the fine-tuned weights; a single one is taken without evaluation.
        evaluate: returns the figures of a network, `headline` among them.
    """
    finetuned = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    evaluate = evaluate if len(alphas) > 1 else None
    tried = []
    for alpha in alphas:
        model.load_state_dict(merged_tensors(finetuned, start, alpha))
        tried.append({"alpha": alpha, **(evaluate(model, tokenizer) if evaluate else {})})
    best = max(tried, key=lambda row: (row[HEADLINE] if evaluate else 0.0, row["alpha"]))["alpha"]
    model.load_state_dict(merged_tensors(finetuned, start, best))
    return MergeChoice(best, tuple(tried))


def merge_folders(
    finetuned: Path,
    start: Path,
    alphas: Sequence[float],
    output: Path,
    evaluate: Evaluate | None = None,
    device: str = "cpu",
) -> MergeChoice:
    """Write the checkpoint between two checkpoint folders and return its share; see `merge_with_start`.

    Args:
        evaluate: needed for more than one share.

    Raises:
        CheckpointError: as `save_merged`.
    """
    one, two = Parent.read(finetuned), Parent.read(start)
    check_parents(one, two)
    choice = MergeChoice(alphas[0], ())
    if evaluate and len(alphas) > 1:
        networks = load_checkpoint(finetuned, choose_device(device)), load_checkpoint(start)
        model, tokenizer = networks[0].model, networks[0].tokenizer
        choice = merge_with_start(model, tokenizer, networks[1].model.state_dict(), alphas, evaluate)
    save_merged(output, one, two, choice.alpha)
    if choice.tried:
        write_json(output / MERGE_FILE, choice.as_json())
    return choice


def held_out_evaluation(checkpoint: Path, root: Path, work: Path) -> BenchmarkEvaluation:
    """Return the evaluation of networks on the images that a fine-tuning held out, in the profile at `root`.

    Args:
        checkpoint: the fine-tuned one, whose recipe names benchmark, share held out and zero-shot split.
        work: folder for predictions.

    Raises:
        InputError: the checkpoint does not say how it was fine-tuned, or its training held no image with a seen triplet out.
    """
    metadata = Parent.read(checkpoint).metadata
    try:
        recipe = Recipe.model_validate(metadata.get("recipe"))
    except ValidationError:
        recipe = None
    if recipe is None or recipe.benchmark is None:
        raise InputError(
            f"{checkpoint} has no recipe of a fine-tuning in its metadata, by which images were held out; give one --alpha"
        )
    if not recipe.holdout:
        raise InputError(
            f"{checkpoint} was trained on all its images, so that none is left to choose by; give one --alpha, or train with holdout"
        )
    params, benchmark = load_params(root / PARAMS_FILE), recipe.benchmark
    classes = root / classes_file(benchmark)
    tables = tuple(bucket_folders(root / scene_folder(benchmark)))
    source = ImageSource(
        benchmark, tables, raw_root(params.sources, benchmark, root), splits=training_splits(recipe, benchmark)
    )
    listed = read_image_list(root / recipe.image_list) if recipe.image_list else []
    unseen = Unseen.of(recipe, read_classes(classes))
    scenes = list(held_out_images(recipe, [source], unseen, root / "work/scene_cache", listed))
    if not has_triplets(scenes):
        raise InputError(
            f"{root / scene_folder(benchmark)} has no image with a seen triplet that {checkpoint} held out; give one --alpha"
        )
    return BenchmarkEvaluation(classes, scenes, source.image_root, recipe.augmentation, work, zero_shot=False)
