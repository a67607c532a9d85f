"""Released `.pth` files become checkpoint folders: what they are is read from their tensors, not from flags that must match.

The file is opened with PyTorch's restricted unpickler; besides tensors only `argparse.Namespace`, in which the published code
stored its command line, is let through.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlip_model.checkpoints.files import (
    METADATA,
    WEIGHTS,
    first_line,
    refuse_unusable,
    save_weights,
    whole_folder,
    write_json,
)
from rlip_model.checkpoints.folder import save_checkpoint
from rlip_model.checkpoints.official_layout import load_official
from rlip_model.checkpoints.recognise import Recognised, recognise
from rlip_model.checkpoints.transfer import DETR_SIGN
from rlip_model.config import Gate, LabelTexts
from rlip_model.errors import CheckpointError
from rlip_model.model import build_model
from rlip_model.text import LabelTokenizer

PUBLISHED_IMAGE_SIZE = (800, 1333)
PERSON_ONLY_DATASETS = ("hico", "vcoco")
"""Fine-tuning on these gave every subject one fixed, wrong label, so subject scores of such weights mean nothing."""

UNSEEN = {"UC-RF": "uc_rf", "UC-NF": "uc_nf", "UO": "uo"}
"""Zero-shot settings on the published command lines (`--zero_shot_setting`)."""
FEW_SHOT = (1, 10)
"""Shares of the training images on the published command lines (`--few_shot_transfer`), in percent."""

DETECTOR_SIGNS = {
    "transformer.level_embed": "several feature levels",
    "transformer.encoder.layers.0.self_attn.sampling_offsets.weight": "deformable attention",
    "transformer.decoder.layers.0.cross_attn.sampling_offsets.weight": "one decoder",
    "bbox_embed.1.layers.2.weight": "a box head per layer, as iterative refinement has",
}
"""Keys that every deformable detector has which a relation network can start from."""

DETR_SIGNS = {
    "transformer.encoder.layers.0.self_attn.in_proj_weight": "dense attention",
    "bbox_embed.layers.2.weight": "one box head",
    "query_embed.weight": "a table of queries",
}
"""Keys of DETR, from which RLIPv1-ParSe starts."""

DETECTOR_ALIAS = re.compile(r"^transformer\.decoder\.(bbox|class)_embed\.")
"""Heads that the published detectors store a second time."""

STATE_KEYS = ("model", "state_dict", "model_state_dict")
WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class ReleasedFile:
    """A released file's tensors and the command line it was trained with (empty where it was not stored)."""

    state: dict[str, Tensor]
    arguments: dict[str, Any]


def read_released(file: Path) -> ReleasedFile:
    """Open a `.pth` file without executing anything in it. Prefixes of wrapped networks are stripped from its keys.

    Raises:
        CheckpointError: missing, truncated, it asks for objects other than tensors and its command line, it holds no weights, or one of
            them is not finite.
    """
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist: give the path of a released .pth file")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = (
            f"asks to load {blocked[1]}, which could run code" if blocked else "is no PyTorch weight file or is damaged"
        )
        raise CheckpointError(f"{file} {what}; it was not opened: download the file again from its publisher") from None
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise CheckpointError(f"{file} is truncated or damaged ({first_line(error)}): download it again") from None
    content = content if isinstance(content, dict) else {}
    state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), dict)), content)
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{file} holds no weights: a released checkpoint is a dictionary with a `model` entry of tensors"
        )
    for key, value in tensors.items():
        if (
            value.layout != torch.strided
            or value.device.type != "cpu"
            or value.is_quantized
            or value.numel() * value.element_size() > value.untyped_storage().nbytes()
        ):
            raise CheckpointError(
                f"{file}: {key} claims {tuple(value.shape)} numbers but holds fewer; it was not opened further"
            )
    refuse_unusable(file, tensors)
    arguments = content.get("args")
    return ReleasedFile(_unwrapped(tensors), vars(arguments) if isinstance(arguments, argparse.Namespace) else {})


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the prefixes that `DataParallel`, DDP and `torch.compile` put before all of them."""
    for prefix in WRAPPERS:
        if all(key.startswith(prefix) for key in tensors):
            return _unwrapped({key.removeprefix(prefix): value for key, value in tensors.items()})
    return tensors


def import_checkpoint(
    file: Path,
    folder: Path,
    tokenizer: str = "roberta-base",
    gate: Gate | None = None,
    label_texts: LabelTexts | None = None,
) -> Recognised:
    """Convert a released `.pth` file to a checkpoint folder. Nothing is written unless everything fits.

    Args:
        tokenizer: name or folder of the RoBERTa tokenizer that the text encoder was trained with.
        gate: needed only for files that leave the fusion gate undecided.
        label_texts: needed only for files without their command line that were fine-tuned on Open Images.

    Raises:
        CheckpointError: the file cannot be read or does not fit a variant, or the tokenizer cannot be had.
    """
    labels = LabelTokenizer.from_pretrained(tokenizer)
    released = read_released(file)
    try:
        recognised = recognise(released.state, released.arguments, gate, label_texts)
        with torch.device("meta"):  # first without memory: the file's sizes may be a stranger's
            report = load_official(build_model(recognised.config), released.state)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: {first_line(error)}") from None
    if report.missing or report.unexpected:
        parts = [
            f"{len(names)} {what}: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
            for what, names in (("missing", report.missing), ("unexpected", report.unexpected))
            if names
        ]
        raise CheckpointError(
            f"{file} does not fit the variant its keys point to ({'; '.join(parts)}); nothing was written"
        )
    model = build_model(recognised.config)
    load_official(model, released.state)
    save_checkpoint(folder, model, labels, _metadata(file, released, recognised))
    return recognised


def import_detector(file: Path, folder: Path) -> int:
    """Convert a `.pth` file of (DAB-)Deformable-DETR or DETR to a folder that `initialise_from_detector` opens.

    Returns:
        the number of tensors written.

    Raises:
        CheckpointError: the file cannot be read, or it is no such detector; nothing is written then.
    """
    state = read_released(file).state
    for key, what in (DETR_SIGNS if DETR_SIGN in state else DETECTOR_SIGNS).items():
        if key not in state:
            raise CheckpointError(
                f"{file} has no {key} ({what}): give a checkpoint of Deformable-DETR, DAB-Deformable-DETR or DETR"
            )
    own = {key: value for key, value in state.items() if not DETECTOR_ALIAS.match(key)}
    with whole_folder(folder) as target:
        save_weights(target / WEIGHTS, own)
        write_json(target / METADATA, {"name": file.stem, "source": file.name})
    return len(own)


def _metadata(file: Path, released: ReleasedFile, recognised: Recognised) -> dict[str, Any]:
    dataset = str(released.arguments.get("dataset_file", ""))
    unseen, few_shot = (released.arguments.get(name) for name in ("zero_shot_setting", "few_shot_transfer"))
    person_only = dataset in PERSON_ONLY_DATASETS and not released.arguments.get(
        "use_correct_subject_category_hico", False
    )
    return {
        "name": file.stem,
        "source": file.name,
        "trained_on": dataset,
        "image_size": list(PUBLISHED_IMAGE_SIZE),
        "subject_scores": not person_only,
        **({"unseen": UNSEEN[unseen]} if isinstance(unseen, str) and unseen in UNSEEN else {}),
        **({"percent_of_images": few_shot} if isinstance(few_shot, int) and few_shot in FEW_SHOT else {}),
        "evidence": recognised.evidence,
    }
