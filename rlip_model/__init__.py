"""The network: configuration, forward pass, matching, losses, inference and checkpoints.

Names are imported on first use: reading a configuration imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlip_model.checkpoints.detector import load_detector as load_detector
    from rlip_model.checkpoints.detector import save_detector as save_detector
    from rlip_model.checkpoints.folder import Checkpoint as Checkpoint
    from rlip_model.checkpoints.folder import load_checkpoint as load_checkpoint
    from rlip_model.checkpoints.folder import save_checkpoint as save_checkpoint
    from rlip_model.checkpoints.transfer import initialise_from_detector as initialise_from_detector
    from rlip_model.checkpoints.transfer import initialise_text_encoder as initialise_text_encoder
    from rlip_model.checkpoints.transfer import with_fewer_queries as with_fewer_queries
    from rlip_model.config import ModelConfig as ModelConfig
    from rlip_model.dab_deformable_detr import DabDeformableDetr as DabDeformableDetr
    from rlip_model.dab_deformable_detr import DetectorCriterion as DetectorCriterion
    from rlip_model.kernels.gradient_checkpointing import enable_gradient_checkpointing as enable_gradient_checkpointing
    from rlip_model.losses import LossConfig as LossConfig
    from rlip_model.losses import Losses as Losses
    from rlip_model.losses import RelationCriterion as RelationCriterion
    from rlip_model.matching import Targets as Targets
    from rlip_model.model import ModelOutput as ModelOutput
    from rlip_model.model import Rlip as Rlip
    from rlip_model.model import build_model as build_model
    from rlip_model.tagger import PairNoise as PairNoise
    from rlip_model.tagger import TaggerPairs as TaggerPairs
    from rlip_model.tagger import collate_pairs as collate_pairs
    from rlip_model.tagger import perturb_pairs as perturb_pairs
    from rlip_model.text import NO_OBJECTS as NO_OBJECTS
    from rlip_model.text import LabelTokenizer as LabelTokenizer
    from rlip_model.text import sign_text_mask as sign_text_mask
    from rlip_model.text import train_label_tokenizer as train_label_tokenizer

_HOME = {
    "Checkpoint": "checkpoints.folder",
    "load_checkpoint": "checkpoints.folder",
    "save_checkpoint": "checkpoints.folder",
    "ModelConfig": "config",
    "DabDeformableDetr": "dab_deformable_detr",
    "DetectorCriterion": "dab_deformable_detr",
    "load_detector": "checkpoints.detector",
    "save_detector": "checkpoints.detector",
    "initialise_from_detector": "checkpoints.transfer",
    "initialise_text_encoder": "checkpoints.transfer",
    "with_fewer_queries": "checkpoints.transfer",
    "LossConfig": "losses",
    "Losses": "losses",
    "RelationCriterion": "losses",
    "Targets": "matching",
    "enable_gradient_checkpointing": "kernels.gradient_checkpointing",
    "ModelOutput": "model",
    "Rlip": "model",
    "build_model": "model",
    "PairNoise": "tagger",
    "TaggerPairs": "tagger",
    "collate_pairs": "tagger",
    "perturb_pairs": "tagger",
    "NO_OBJECTS": "text",
    "LabelTokenizer": "text",
    "sign_text_mask": "text",
    "train_label_tokenizer": "text",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
