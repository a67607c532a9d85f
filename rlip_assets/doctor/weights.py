"""Folders of weights against the networks that start from them; headers alone are read, and in a thorough look the digests too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from rlip_assets.doctor.finding import Finding, failed, warning
from rlip_assets.doctor.foreign_inputs import ForeignInput
from rlip_assets.lineage.params import Params
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.training.start import model_config
from rlip_model import LabelTokenizer, build_model
from rlip_model.checkpoints.files import CONFIG, CONTENT, WEIGHTS, member, read_json, read_tensors, tensor_shapes
from rlip_model.checkpoints.hub import model_config as stored_config
from rlip_model.checkpoints.hub import read_config, refuse_misfit
from rlip_model.checkpoints.transfer import initialise_from_detector_state
from rlip_model.config import ModelConfig
from rlip_model.model import Rlip

_POOLER = "pooler.dense.weight"
_PICKLED = "pytorch_model.bin"
_CONVERTERS = dict.fromkeys(("checkpoint", "r_tagger"), "rlip import-checkpoint") | {"detector": "rlip import-detector"}


def _network(recipe: Recipe) -> Rlip:
    """The network of a recipe without memory for it."""
    with torch.device("meta"):
        return build_model(model_config(recipe))


def refuse_damaged(folder: Path) -> None:
    """Read the tensors of a weight file that carries their digest.

    Raises:
        CheckpointError: they are not those that were written.
    """
    from safetensors import safe_open

    file = folder / WEIGHTS
    if not file.is_file():
        return
    tensor_shapes(file)  # a file that is cut off is refused here
    with safe_open(str(file), framework="pt") as content:
        written = (content.metadata() or {}).get(CONTENT)
    if written:
        read_tensors(file)


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    return tensor_shapes(member(folder, WEIGHTS))


def compare(given: ForeignInput, place: Path, params: Params) -> Iterator[Finding]:
    """Compare the weights at `place` with every network that reads them; look at them alone where no recipe does."""
    if place.is_file() and given.role in _CONVERTERS:
        command = f"{_CONVERTERS[given.role]} {place} FOLDER"
        yield failed(
            given.subject, f"{place} is a file, not a folder of weights", f"run `{command}`, and name that folder"
        )
        return
    if given.role == "text_encoder" and (place / _PICKLED).exists() and not (place / WEIGHTS).exists():
        remedy = "fetch that too, or run AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers"
        yield failed(given.subject, f"{place} has {_PICKLED} and no {WEIGHTS}", remedy)
        return
    recipes = given.recipes(params)
    if given.role in BY_RECIPE and recipes:
        for recipe in recipes:
            yield from BY_RECIPE[given.role](given.subject, place, recipe)
    elif given.role in ALONE:
        yield from ALONE[given.role](given.subject, place)


def detector(subject: str, folder: Path, recipe: Recipe) -> Iterator[Finding]:
    """Compare a box detector with the network of a recipe."""
    shapes = _shapes(folder)
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
    try:
        report = initialise_from_detector_state(_network(recipe), state)
    except ValueError as error:
        remedy = f"name {_detector_of(recipe)}, which `rlip import-detector` has converted, or another recipe"
        yield failed(subject, f"{folder / WEIGHTS} does not fit {recipe.model}: {error}", remedy)
        return
    if not any(name.startswith("backbone") for name in report.filled):
        yield failed(
            subject, f"fills no backbone of {recipe.model}", "name a detector that `rlip import-detector` wrote"
        )
    elif not any("encoder.layers." in name for name in report.filled):
        yield warning(
            subject,
            f"gives {recipe.model} its backbone alone: the attention of one is dense, of the other deformable",
            "take DETR for RLIPv1-ParSe, (DAB-)Deformable-DETR for the other networks",
        )


def text_encoder(subject: str, folder: Path, recipe: Recipe) -> Iterator[Finding]:
    """Compare a RoBERTa and its tokenizer with the text side of a recipe's network."""
    shapes = {name.removeprefix("roberta."): shape for name, shape in _shapes(folder).items()}
    if _POOLER not in shapes:
        yield warning(
            subject,
            "has no pooler, whose outputs are the label vectors: training starts from a fresh one",
            "nothing where it is trained; otherwise take a RoBERTa that was saved with its pooler",
        )
    tokenizer = LabelTokenizer.from_pretrained(folder)
    network = _network(recipe)
    own = {name: tuple(value.shape) for name, value in network.text_encoder.state_dict().items()}
    wrong = [name for name in own if not name.startswith("pooler.") and shapes.get(name) != own[name]]
    wrong += [name for name in own if name.startswith("pooler.") and shapes.get(name, own[name]) != own[name]]
    if wrong:
        have = shapes.get(wrong[0], "nothing")
        yield failed(
            subject,
            f"{folder / WEIGHTS} does not fit {recipe.model}: {wrong[0]} is {have}, {own[wrong[0]]} is needed",
            "name a RoBERTa of the recipe's size",
        )
    if tokenizer.vocabulary > network.config.text.vocabulary:
        yield failed(
            subject,
            f"its tokenizer has {tokenizer.vocabulary} tokens, the network {network.config.text.vocabulary}",
            "restore the tokenizer.json that belongs to the weights",
        )


def _detector_of(recipe: Recipe) -> str:
    """Return the kind of detector that a recipe's network starts from."""
    config = model_config(recipe)
    if config.is_dense:
        return "a DETR"
    kind = "DAB-Deformable-DETR" if config.anchors == "boxes" else "Deformable-DETR"
    return f"a {kind} with a feed-forward of {config.feed_forward}"


def _stored(folder: Path) -> ModelConfig:
    """Return the configuration of a checkpoint folder that is whole.

    Raises:
        CheckpointError: something is missing, damaged, or does not fit together.
    """
    config = stored_config(folder, read_config(folder))
    refuse_misfit(member(folder, WEIGHTS), config, lambda config: Rlip(config).state_dict())
    LabelTokenizer.from_pretrained(folder)
    return config


def checkpoint(subject: str, folder: Path, recipe: Recipe) -> Iterator[Finding]:
    """Compare a checkpoint with the network of the recipe that starts from it."""
    given = _stored(folder)
    wanted = model_config(recipe)
    own, stored = wanted.without_dropout().to_dict(), given.without_dropout().to_dict()
    different = [name for name in own if own[name] != stored[name] and name != "label_texts"]
    if different and not (different == ["queries"] and wanted.queries < given.queries):
        name = different[0]
        yield failed(
            subject,
            f"its {name} is {stored[name]}, that of {recipe.model} is {own[name]}",
            "start from a checkpoint of this network or choose another recipe",
        )


def tagger(subject: str, folder: Path) -> Iterator[Finding]:
    """Look at an imported R-Tagger."""
    if not _stored(folder).tagger:
        yield failed(subject, "is no R-Tagger", "name the checkpoint of an R-Tagger")


def captioner(subject: str, folder: Path) -> Iterator[Finding]:
    """Look at the files of a captioner; of BLIP at shapes, tokenizer, and the size of its images."""
    remedy = "fetch the captioner again"
    config = read_json(member(folder, CONFIG))
    if config.get("model_type") != "blip":
        yield from image_text(subject, folder)
        return
    shapes = _shapes(folder)
    words = next((shape for name, shape in shapes.items() if name.endswith("word_embeddings.weight")), None)
    side = config.get("vision_config", {}).get("image_size", 384)
    if words is None or not any(name.startswith("vision_model.") for name in shapes):
        yield failed(subject, f"{WEIGHTS} has no text decoder or no vision encoder", remedy)
        return
    yield from _tokens(subject, folder, words[0])
    prepared: Any = read_json(member(folder, "preprocessor_config.json")).get("size", {})
    if prepared and side not in (prepared.get("height"), prepared.get("shortest_edge")):
        yield failed(subject, f"{prepared} pixels are prepared, {side} encoded", remedy)


def image_text(subject: str, folder: Path) -> Iterator[Finding]:
    """Look at an image-text-to-text model of transformers, whose weights may be in several files."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    kind = read_json(member(folder, CONFIG)).get("model_type")
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        yield failed(subject, f"is of the kind {kind!r}, no image-text-to-text model", "name a captioner")
        return
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        yield failed(subject, "has no *.safetensors", "fetch its weights")
    for file in files:
        tensor_shapes(member(folder, file.name))
    yield from _tokens(subject, folder, 1 << 30)


def _tokens(subject: str, folder: Path, words: int) -> Iterator[Finding]:
    from transformers import AutoTokenizer

    try:
        tokens = len(AutoTokenizer.from_pretrained(folder))
    except Exception as error:  # whatever the library trips over
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        yield failed(subject, f"its tokenizer cannot be opened ({reason})", "fetch the tokenizer's files again")
        return
    if tokens > words:
        yield failed(subject, f"its tokenizer has {tokens} tokens, its decoder {words}", "fetch the tokenizer again")


def whole(subject: str, folder: Path) -> Iterator[Finding]:
    """Look at a checkpoint of any network."""
    _stored(folder)
    yield from ()


BY_RECIPE: dict[str, Callable[[str, Path, Recipe], Iterator[Finding]]] = {
    "detector": detector,
    "text_encoder": text_encoder,
    "checkpoint": checkpoint,
}
"""Role of an input -> what compares it with a recipe's network."""
ALONE: dict[str, Callable[[str, Path], Iterator[Finding]]] = {
    "r_tagger": tagger,
    "captioner": captioner,
    "checkpoint": whole,
    "tagging_model": image_text,
}
"""Role of an input -> what looks at it alone."""
