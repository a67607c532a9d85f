"""The network: RLIPv2-ParSeDA, RLIPv2-ParSeD and R-Tagger, with ALIF or late fusion (RLIPv2, figure 2), and RLIPv1-ParSe.

Shape legend: B batch, Q entity queries, P = Q / 2 pairs, T texts, No object labels ("no objects" last), Nv relation
labels (T = No + Nv), C model width, W text width (in RLIPv1 label vectors have width C), D decoder layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlip_model.alif import Encoder
from rlip_model.checkpoints.hub import PretrainedNetwork
from rlip_model.config import ModelConfig
from rlip_model.decoder import EntityDecoder, EntityStates, MultiBranchFusion, RelationDecoder
from rlip_model.kernels.blocks import image_batches
from rlip_model.kernels.packed_text import pooled_labels
from rlip_model.late_fusion import LateFusion
from rlip_model.layers import Memory
from rlip_model.queries import AnchorQueries, PointQueries, PositionQueries, QueryStart
from rlip_model.rlipv1_parse import DenseEncoder, DenseEntityDecoder, DenseRelationDecoder
from rlip_model.tagger import TaggerPairs, TaggerQueries
from rlip_model.text import TextResizer, build_text_encoder
from rlip_model.vision.backbone import build_backbone
from rlip_model.vision.pyramid import FeaturePyramid

PRIOR_LOGIT = -math.log(99.0)
"""Constant added to every logit: a sigmoid starts at 0.01."""


@dataclass(frozen=True)
class ModelOutput:
    """Predictions of all decoder layers; the last one, [-1], is the result.

    sub_logits, obj_logits: (D, B, P, No), softmax, the last class is background. relation_logits: (D, B, P, Nv),
    sigmoid. sub_boxes, obj_boxes: (D, B, P, 4) centre and size, fractions of the unpadded image.
    """

    sub_logits: Tensor
    obj_logits: Tensor
    relation_logits: Tensor
    sub_boxes: Tensor
    obj_boxes: Tensor


@dataclass(frozen=True)
class Encoded:
    """Images and labels after the encoder, from which any number of sets of pairs can be decoded.

    memory: image tokens (with joint fusion, and the labels'); labels: (D, B or 1, T, C) label features; text_mask: as given to the encoder.
    """

    memory: Memory
    labels: Tensor
    text_mask: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence[Encoded]) -> Encoded:
        """Return the encodings of several batches of one size as those of one batch."""
        if len(parts) == 1:
            return parts[0]
        tensors = [part.memory.tensors for part in parts]
        whole = {name: torch.cat([each[name] for each in tensors]) for name in tensors[0]}
        memory = replace(parts[0].memory, **whole)  # type: ignore[arg-type]
        return cls(memory, torch.cat([part.labels for part in parts], dim=1), parts[0].text_mask)

    def select(self, rows: Tensor) -> Encoded:
        """Return the encodings of the images `rows` (R,), int64, in that order; an image may appear several times."""
        own = {name: value[rows] for name, value in self.memory.tensors.items()}
        chosen = replace(self.memory, **own)  # type: ignore[arg-type]
        labels = self.labels if self.labels.shape[1] == 1 else self.labels[:, rows]
        return replace(self, memory=chosen, labels=labels)


class SimilarityHeads(nn.Module):
    """Logits as products of query features and projected label features, by layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width)
        self.entity_bias = nn.Parameter(torch.zeros(width))
        self.relation_bias = nn.Parameter(torch.zeros(width))

    def label_vectors(self, labels: Tensor) -> Tensor:
        """Return label features (D, B or 1, T, C) normalised to length 1/2 and projected."""
        result: Tensor = self.projection(F.normalize(labels, dim=-1) / 2)
        return result

    def entity_logits(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return logits (D, B, Q, No) of features (D, B, Q, C) and labels (D, B or 1, No, C)."""
        return (features + self.entity_bias) @ labels.transpose(-1, -2) + PRIOR_LOGIT

    def relation_logits(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return logits (D, B, P, Nv) of features (D, B, P, C) and labels (D, B or 1, Nv, C)."""
        return (features + self.relation_bias) @ labels.transpose(-1, -2) + PRIOR_LOGIT


class Rlip(PretrainedNetwork):
    """Image and label texts in, pairs with subject, object and relation scores out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        self.pyramid = FeaturePyramid(config)
        self.text_encoder = build_text_encoder(config.text)
        self.encoder = DenseEncoder(config) if config.is_dense else Encoder(config)
        self.resizer = TextResizer(config.text.width, config.width, config.text.dropout)
        self.queries = _build_queries(config)
        self.entity_decoder = DenseEntityDecoder(config) if config.is_dense else EntityDecoder(config)
        self.relation_seed = MultiBranchFusion(config.width, config.relation_branches) if config.uses_mbf else None
        self.relation_decoder = DenseRelationDecoder(config) if config.is_dense else RelationDecoder(config)
        for name, parameter in self.relation_decoder.named_parameters():
            if name.startswith(("sub_boxes", "obj_boxes")):
                parameter.requires_grad_(False)
        self.late_fusion = LateFusion(config) if config.fusion == "late" else None
        self.heads = SimilarityHeads(config.width)

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return one vector per label, (T, W), of tokens (T, N), to be kept across images and compared by RPL."""
        return self.label_vectors(self.pool_text(input_ids, attention_mask))

    def pool_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the text encoder's pooler output, (T, W), of tokens (T, N)."""
        return pooled_labels(self.text_encoder, input_ids, attention_mask)

    def label_vectors(self, pooled: Tensor) -> Tensor:
        """Return the label vectors of pooler outputs (T, W): the same, or in RLIPv1 resized to the network's width (T, C)."""
        return self.resizer(pooled) if self.config.is_rlipv1 else pooled

    def forward(
        self,
        images: Tensor,
        mask: Tensor,
        pooled: Tensor,
        num_objects: int,
        text_mask: Tensor | None = None,
        pairs: TaggerPairs | None = None,
    ) -> ModelOutput:
        """Return scored pairs: backbone, ALIF encoder, entity decoder, relation decoder, similarity with the labels.

        Args:
            images: (B, 3, H, W), normalised, padded with zeros at the right and the bottom.
            mask: (B, H, W) bool, True = padding.
            pooled: (T, W) label vectors of `encode_text`: objects, "no objects", relations.
            num_objects: No, "no objects" included.
            text_mask: (T,) bool, True = the label is no key of the text layers (with joint fusion, of encoder and decoders); None
                (default) masks nothing.
            pairs: the tagger's queries; None for the detectors.
        Raises:
            ValueError: no relation label, or `pairs` given to a detector or not given to a tagger.
        """
        if not 2 <= num_objects < len(pooled):
            raise ValueError(
                f"{len(pooled)} labels of which {num_objects} are objects: give at least one object, "
                'the row of "no objects" after it, and at least one relation'
            )
        return self.decode(self.encode(images, mask, pooled, text_mask), num_objects, pairs)

    def encode(self, images: Tensor, mask: Tensor, pooled: Tensor, text_mask: Tensor | None = None) -> Encoded:
        """Return memory (B, S, C) and label features (D, B, T, C) of the encoder; arguments as in `forward`."""
        return Encoded.joined([self._encode(*batch, pooled, text_mask) for batch in image_batches(images, mask)])

    def _encode(self, images: Tensor, mask: Tensor, pooled: Tensor, text_mask: Tensor | None) -> Encoded:
        pyramid = self.pyramid(self.backbone(images), mask)
        memory, fused = self.encoder(pyramid, pooled, text_mask)
        texts = self._by_decoder_layer(fused) or [pooled[None]]
        labels = torch.stack(texts if self.config.is_rlipv1 else [self.resizer(text) for text in texts])
        return Encoded(memory, labels, text_mask)

    def _by_decoder_layer(self, fused: list[Tensor]) -> list[Tensor]:
        """Return the labels that each decoder layer reads, the last ones for the last; see `ModelConfig.fusion_interval`."""
        ahead = len(fused) - self.config.decoder_layers
        return [fused[max(0, layer + ahead)] for layer in range(self.config.decoder_layers)] if fused else []

    def decode(self, encoded: Encoded, num_objects: int, pairs: TaggerPairs | None = None) -> ModelOutput:
        """Return the predictions of decoders and heads; other arguments as in `forward`."""
        memory, labels, text_mask = encoded.memory, encoded.labels, encoded.text_mask
        start = self._start(len(memory.tokens), labels[-1], pairs)
        entities = self.entity_decoder(
            start.content,
            start.position,
            start.sub_reference,
            start.obj_reference,
            memory,
            unused=start.unused,
            blocked=start.blocked,
        )
        content, position = self._relation_start(start, entities)
        relations: Tensor = self.relation_decoder(
            content,
            position,
            entities.sub_boxes[-1].detach(),
            entities.obj_boxes[-1].detach(),
            memory,
            unused=None if start.unused is None else start.unused[:, : self.config.pairs],
        ).features
        if self.late_fusion is None:
            return self._predict(entities, relations, labels[:, :, :num_objects], labels[:, :, num_objects:])
        return self._fuse_late(entities, relations, labels[0, 0], num_objects, text_mask)

    def _start(self, batch: int, labels: Tensor, pairs: TaggerPairs | None) -> QueryStart:
        if self.config.tagger and pairs is None:
            raise ValueError("this network is a tagger: give the pairs to tag")
        if not self.config.tagger and pairs is not None:
            raise ValueError("this network is a detector and finds pairs itself: it takes no `pairs`")
        start: QueryStart = self.queries(batch) if pairs is None else self.queries(pairs, labels)
        return start

    def _relation_start(self, start: QueryStart, entities: EntityStates) -> tuple[Tensor, Tensor | None]:
        """Return content and position of the relation queries, (B, P, C) each; the position is None with box anchors."""
        sub, obj = entities.features[-1].chunk(2, dim=1)
        content = start.relation_content.expand(len(sub), -1, -1)
        if self.relation_seed is not None:
            seed = self.relation_seed(sub, obj)
            content = seed if self.config.relation_query == "mbf" else seed + content
        if self.config.anchors == "boxes":
            return content, None
        if start.relation_position is not None:
            return content, start.relation_position.expand(len(sub), -1, -1)
        return content, sub + obj

    def _predict(self, entities: EntityStates, relations: Tensor, objects: Tensor, verbs: Tensor) -> ModelOutput:
        logits = self.heads.entity_logits(entities.features, self.heads.label_vectors(objects))
        sub_logits, obj_logits = logits.chunk(2, dim=2)
        relation_logits = self.heads.relation_logits(relations, self.heads.label_vectors(verbs))
        return ModelOutput(sub_logits, obj_logits, relation_logits, entities.sub_boxes, entities.obj_boxes)

    def _fuse_late(
        self, entities: EntityStates, relations: Tensor, labels: Tensor, num_objects: int, text_mask: Tensor | None
    ) -> ModelOutput:
        """Return predictions of the joint layers over last-layer queries and labels (T, C), which stand for decoder layers.

        Boxes of stage d come from the fused features and the references that decoder layer d started from.
        """
        decoder = self.entity_decoder
        assert self.late_fusion is not None
        assert isinstance(decoder, EntityDecoder)
        object_mask, verb_mask = (
            (None, None) if text_mask is None else (text_mask[:num_objects], text_mask[num_objects:])
        )
        features, objects = self.late_fusion.entities(entities.features[-1], labels[:num_objects], object_mask)
        relations, verbs = self.late_fusion.relations(relations[-1], labels[num_objects:], verb_mask)
        sub, obj = features.chunk(2, dim=2)
        boxes: tuple[list[Tensor], list[Tensor]] = ([], [])
        for stage, starts in enumerate(entities.starts):
            boxes[0].append(decoder.sub_boxes[stage].refine(sub[stage], starts[0]))  # type: ignore[operator]
            boxes[1].append(decoder.obj_boxes[stage].refine(obj[stage], starts[1]))  # type: ignore[operator]
        fused = EntityStates(features, torch.stack(boxes[0]), torch.stack(boxes[1]), entities.starts)
        return self._predict(fused, relations, objects, verbs)


def _build_queries(config: ModelConfig) -> nn.Module:
    if config.tagger:
        return TaggerQueries(config)
    kinds = {"boxes": AnchorQueries, "points": PointQueries, "none": PositionQueries}
    return kinds[config.anchors](config)


def build_model(config: ModelConfig) -> Rlip:
    """Return a network with fresh weights."""
    return Rlip(config)
