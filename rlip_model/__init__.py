"""The networks of RLIPv2 and RLIPv1: configuration, forward pass, matching, losses and checkpoints.

From the paper to the code (quirks are rows of `docs/quirks.md`):

| paper | file | test | quirk |
|---|---|---|---|
| ALIF | rlip_model/alif.py | tests/rlip_model/test_golden_model.py | 1, 20 |
| gated fusion | rlip_model/fusion.py | tests/rlip_model/test_plain_variants.py | 1, 2, 3 |
| sparsified language layers | rlip_model/language_layers.py | tests/rlip_model/test_language_layers.py | 4, 5 |
| parallel entity decoder | rlip_model/decoder.py (`EntityDecoder`) | tests/rlip_model/test_model.py | 9, 10 |
| sequential relation decoder | rlip_model/decoder.py (`RelationDecoder`) | tests/rlip_model/test_model.py | 6, 8 |
| RLIPv1-ParSe | rlip_model/rlipv1_parse.py | tests/rlip_model/test_golden_model.py | 48, 49 |
| R-Tagger | rlip_model/tagger.py | tests/rlip_model/test_tagger.py | 19, 21, 35 |
| caption parsing | rlip_assets/labelling/caption_parsing/parser.py | tests/rlip_assets/labelling/test_caption_parser.py | - |
| relation candidates | rlip_assets/labelling/candidates.py | tests/rlip_assets/labelling/test_candidates.py | 20 |
| losses, RQL and RPL | rlip_model/losses.py | tests/rlip_model/test_losses.py | 15, 16, 17, 18 |
| recipes | rlip_assets/training/recipes | tests/rlip_assets/training/test_recipes.py | 13, 14, 25 |
| evaluators | rlip_assets/evaluation | tests/rlip_assets/evaluation/test_evaluators_against_oracle.py | - |

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
    from rlip_model.errors import CheckpointError as CheckpointError
    from rlip_model.kernels.gradient_checkpointing import enable_gradient_checkpointing as enable_gradient_checkpointing
    from rlip_model.losses import LossConfig as LossConfig
    from rlip_model.losses import LossCounts as LossCounts
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
    "CheckpointError": "errors",
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
    "LossCounts": "losses",
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
