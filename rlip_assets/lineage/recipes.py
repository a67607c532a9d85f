"""A training setting as data.

A `Recipe` is everything that decides the outcome of a training besides its input tables. Named recipes are files (`recipe_files.py`); a
profile names one and may change fields of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from rlip_assets.storage.errors import ParameterError

_PARTS = ("augmentation", "published", "model_changes")
Kind = Literal["tagger", "pretrain", "finetune", "zero_shot"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Sides = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Split = Literal["uc_rf", "uc_nf", "uo", "uv", "uc0", "uc1", "uc2", "uc3", "uc4"]
Combinations = Annotated[tuple[tuple[str, str], ...], Field(min_length=1)]


class PublishedTraining(_Data):
    """Quirks of the published training, each off unless a recipe switches it on; the numbers are rows of docs/quirks.md."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text_mask: bool = False
    """Quirk 4: a text whose label vector has a component sum that is not positive is no key of the text layers."""
    first_queries: bool = False
    """Quirk 13: a network with fewer queries than its checkpoint keeps the first ones, which mixes subjects, objects and pairs."""
    bicycle_subjects: bool = False
    """Quirk 14: every subject of HICO-DET and V-COCO carries label 1, a bicycle, instead of 0, a person."""
    pseudo_gradient: bool = False
    """Quirk 16: gradient of the relational pseudo labels (RPL) flows into the text encoder, which so moves its own targets."""
    part_counts: bool = False
    """Quirk 18: each part of a batch has its own label list and divides its losses by its own counts, and the parts are averaged."""
    tagger_noise: bool = False
    """Quirk 19: the tagger's wrong labels come from the first batch-size many, and its leak guard acts in full batches alone."""
    unchanged_sides: bool = False
    """Quirk 33: a mirrored image keeps "left" and "right" in its texts."""
    file_order: bool = False
    """Quirk 38: what exceeds the network is cut in file order before augmentation, and pairs that still exceed it are all matched."""

    @classmethod
    def whole(cls) -> PublishedTraining:
        """Return the switches with all quirks on."""
        return cls(**dict.fromkeys(cls.model_fields, True))


class Augmentation(_Data):
    """Image sizes and augmentations, in pixels. Defaults: published."""

    flip: float = Field(0.5, ge=0, le=1)
    jitter: float = Field(0.4, ge=0, lt=1)
    short_sides: Sides = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    longest: int = Field(1333, gt=0)
    crop: float = Field(0.5, ge=0, le=1)
    crop_short_sides: Sides = (400, 500, 600)
    crop_smallest: int = Field(384, gt=0)
    crop_largest: int = Field(600, gt=0)
    test_short_side: int = Field(800, gt=0)


class Recipe(_Data):
    """One training setting; of the kind `zero_shot`, how a benchmark is predicted without training (`predictions` in `params.yaml`)."""

    kind: Kind
    model: str
    """Preset of `rlip_model.ModelConfig`."""
    model_changes: dict[str, Any] = {}
    """Fields of the preset that differ, `backbone.drop_path` for a field of a part."""

    fusion_start: Literal["published", "identity"] = "published"
    """Start of ALIF's fusions and language layers. `published`: gates at 1 / levels and random weights, which make the labels alike;
    `identity`: gates closed and language layers without effect. A network that comes from a checkpoint keeps its own."""

    sources: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Dataset -> how often an epoch sees each of its images; 1 for all is the published concatenation."""
    trainval: tuple[str, ...] = ()
    """Sources whose images of the split `val` are trained on too: Objects365 as published, not COCO."""
    benchmark: str | None = None
    """Dataset whose full vocabulary is used instead of label lists made from the batch."""
    relation_threshold: float = Field(0.0, ge=0, le=1)
    """Pseudo labels of lower confidence are left out; human labels stay."""
    confidence_weight: bool = False
    """Weigh a pseudo label's positive target by its confidence instead of taking it for certain (published)."""
    label_budget: int = Field(0, ge=0)
    """Texts in the list of a step: the names in the batch filled up with negatives; 0 for a fixed vocabulary."""
    synonym_guard: bool = False
    """Draw no negatives that are inflections of a text in the batch."""
    share_inflections: bool = False
    """A relation is a positive under every inflection of its text in the step's list, "rides" for "riding"; published: under its own text
    alone, so that the texts of different images contradict each other."""
    images_without_triplets: Literal["dropped", "kept"] = "dropped"
    """Training images without a triplet: `kept` trains on them as background alone, as published everywhere but in mixed pre-training."""
    share: float = Field(1.0, gt=0, le=1)
    """Share of the training images (few-shot)."""
    image_list: str | None = None
    """File with the images to train on instead of a share, relative to the profile's root: a released few-shot split in HOIA json, or
    one file name per line. An image that is listed twice is seen twice as often, as published."""
    own_labels: Literal["hico_det"] | None = None
    """Benchmark whose training images receive pseudo labels of their own, besides the human ones: images outside a few-shot share, pairs
    without a human label, and unseen combinations, which captions may name. Their boxes come from a detector; no annotation that the
    setting hides is read. `relation_threshold` and `confidence_weight` hold for them."""
    own_images: float = Field(1.0, gt=0)
    """How often an epoch sees each image that has own labels alone; the others are seen as often as `sources` says."""
    unseen: Split | Combinations | None = None
    """Zero-shot split whose triplets are removed from training: by name (unseen combinations rare first, non-rare first or by five random
    choices; unseen objects; unseen verbs), or your own list of [relation, object]."""
    unseen_images: Literal["keep", "drop_empty"] = "keep"
    """Training images whose triplets are all unseen: `keep` trains on them as background alone, as published; `drop_empty` leaves out every
    image without a seen triplet, whatever `images_without_triplets` says."""
    unseen_pairs: Literal["keep", "drop"] = "keep"
    """Pairs with seen and unseen relations: `keep` trains their seen relations, as published; `drop` removes the pair."""
    unseen_cells: Literal["negative", "ignore"] = "negative"
    """Unseen (object, relation) cells of the relation loss: `negative` trains them as wrong everywhere, as published; `ignore` leaves them
    out, by the object of a matched pair and by the likeliest object of an unmatched query."""
    unseen_texts: Literal["kept", "removed"] = "kept"
    """Texts that no seen combination has, such as those of unseen objects: `removed` leaves them out of training's label list, so that the
    network meets them only in the test; `kept` trains them as negatives, as published."""
    holdout: float = Field(0.0, ge=0, lt=1)
    """Share of the training images held out for validation."""

    batch_per_process: int = Field(gt=0)
    processes: int = Field(1, gt=0)
    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    drop_at: float = Field(0.75, gt=0, le=1)
    """Share of the training after which the learning rates fall to a tenth."""
    warmup: int = Field(0, ge=0)
    """Steps over which the learning rates rise from 0."""
    lr: float = Field(1e-4, gt=0)
    lr_backbone: float = Field(1e-5, ge=0)
    """Learning rate of the backbone; 0 leaves it as it is, without a backward pass through it. So does 0 for the text encoder."""
    lr_text: float = Field(1e-5, ge=0)
    lr_batch: int = Field(32, gt=0)
    """Total batch at which the learning rates hold; others scale them by the square root."""
    weight_decay: float = Field(1e-4, ge=0)
    clip: float = Field(0.1, gt=0)
    accumulate: int = Field(1, gt=0)
    """Parts into which a process cuts its batch to save memory."""
    average: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of the weights, which the checkpoint then holds; null keeps the last step's weights (published)."""

    merge: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    """Shares of the fine-tuned weights, the rest being those of the start: the share that is best on held-out images makes the result
    (`rlip merge`); none keeps the fine-tuned weights (published)."""

    quality: bool = True
    """Relational quality labels (RQL)."""
    pseudo: bool = False
    """Relational pseudo labels from text similarity (RPL)."""
    subject_class: bool = True

    pairs_per_image: int = Field(100, gt=0)
    """R-Tagger: positives filled up with random pairs."""
    box_noise: float = Field(0.4, ge=0)
    label_noise: float = Field(0.2, ge=0, le=1)

    augmentation: Augmentation = Augmentation()
    published: PublishedTraining = PublishedTraining()
    """Quirks of the published training that this one shares."""

    @model_validator(mode="after")
    def _whole(self) -> Recipe:
        if self.kind in ("tagger", "pretrain", "finetune"):
            if (self.epochs is None) == (self.steps is None):
                raise ValueError("give a length as either epochs or steps")
            if not self.sources:
                raise ValueError("give at least one source")
            if self.benchmark is None and not self.label_budget:
                raise ValueError("give a label_budget, or a benchmark whose vocabulary is used")
        if unknown := [name for name in self.trainval if name not in self.sources]:
            raise ValueError(
                f"trainval names {unknown[0]}, which is no source of the recipe; remove it from one or add it to the other"
            )
        for field in ("unseen_images", "unseen_pairs", "unseen_cells", "unseen_texts"):
            if getattr(self, field) != type(self).model_fields[field].default and self.unseen is None:
                raise ValueError(f"{field}: {getattr(self, field)} needs a zero-shot split in unseen")
        if self.own_labels and (self.kind != "finetune" or self.benchmark != self.own_labels):
            raise ValueError(f"own_labels: {self.own_labels} needs a fine-tuning on that benchmark; leave it out")
        if self.own_images != 1 and not self.own_labels:
            raise ValueError("own_images needs own_labels")
        if self.merge and self.kind != "finetune":
            raise ValueError("merge needs a start with the same network, which fine-tuning alone has; leave it out")
        if len(self.merge) > 1 and not self.holdout:
            raise ValueError("merge chooses among several shares on held-out images; set holdout, or give one share")
        if self.image_list and self.share < 1:
            raise ValueError("give either a share or an image_list")
        if self.pseudo and not self.quality:
            raise ValueError("pseudo (RPL) needs quality (RQL)")
        if self.confidence_weight and not self.quality:
            raise ValueError(
                "confidence_weight needs quality (RQL), whose loss knows soft targets; set quality: true or leave it out"
            )
        return self

    @property
    def total_batch(self) -> int:
        """Images per optimiser step, all processes together."""
        return self.batch_per_process * self.processes

    def total_steps(self, images: float) -> int:
        """Return the optimiser steps of the whole training on an epoch of `images` images."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, math.floor(images / self.total_batch)) * math.ceil(self.epochs)

    def learning_rates(self) -> dict[str, float]:
        """Return the base rates of the three parameter groups at this recipe's total batch."""
        scale = math.sqrt(self.total_batch / self.lr_batch)
        return {"main": self.lr * scale, "backbone": self.lr_backbone * scale, "text": self.lr_text * scale}

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Return this recipe with some fields replaced; `augmentation`, `published` and `model_changes` are merged.

        Raises:
            ParameterError: an unknown field or a wrong value.
        """
        try:
            return Recipe.model_validate(merged(self.model_dump(exclude_unset=True), changes))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
            raise ParameterError(
                f"changed recipe: {problems}; `rlip recipes show` lists the fields of a recipe"
            ) from None


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with `changes` on top: nested parts field by field, and a new length in place of the old one."""
    result = dict(values)
    for key, value in changes.items():
        old = result.get(key)
        if key in _PARTS and isinstance(value, Mapping) and isinstance(old, Mapping):
            value = {**old, **value}
        result[key] = value
    for key, other in (("steps", "epochs"), ("epochs", "steps")):
        if key in changes and other not in changes:
            result.pop(other, None)
    return result


def differences(first: Recipe, second: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two recipes differ, with both values."""
    one, two = first.model_dump(), second.model_dump()
    return {key: (one[key], two[key]) for key in one if one[key] != two[key]}
