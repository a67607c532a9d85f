"""Raw datasets: their roots, buckets and readers."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlip_assets.lineage.datasets import BENCHMARKS, DATASETS, DETECTION_DATASETS

WORLD_FOLDER = "data/raw"
"""Folder of a profile in which the micro world draws its datasets."""


class SourceParams(BaseModel):
    """One raw dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str
    """Folder of the raw dataset in its official layout, relative to the profile's root, or an s3:// prefix. The micro world is drawn into
    its own folders `data/raw/DATASET` alone; any other root is a real dataset, which nothing here writes to. A root that begins with
    `/path/to/` is a placeholder: nobody has set it yet."""
    buckets: int = Field(1, ge=1, le=4096)
    """Number of buckets of image ids: the unit of versioning and of partitions. Fixed for the life of a dataset."""
    quarantine_limit: float = Field(0.01, ge=0, le=1)
    """Largest fraction of unusable images in a bucket; more fail the stage."""


class VisualGenomeParams(SourceParams):
    """Visual Genome with the thresholds of its cleaning steps."""

    duplicate_iou: float = Field(0.7, gt=0, le=1)
    """Step 3: two relations of equal texts are one when both box pairs overlap at least this much."""
    max_relations: int = Field(100, ge=1)
    """Step 4: relations kept per image."""
    min_object_frequency: int = Field(0, ge=0)
    """Step 9: relations whose subject or object name occurs less often in the dataset are dropped; 0 keeps all."""
    min_relation_frequency: int = Field(0, ge=0)
    """Step 9: relations whose text occurs less often in the dataset are dropped; 0 keeps all."""


class OwnSplit(BaseModel):
    """One split of a dataset in COCO form; paths relative to its root."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    annotations: str
    """Json file with `images`, `annotations` and `categories`."""
    images: str = ""
    """Folder that the file names in it are relative to; by default the root."""


class OwnSourceParams(SourceParams):
    """A user-defined detection dataset: boxes without relations, to be labelled."""

    form: Literal["coco", "open_images_boxes"] = "coco"
    """`coco`: a COCO-style json a split; `open_images_boxes`: the official box files of Open Images v6."""
    splits: dict[Literal["train", "val", "test"], OwnSplit] = {}
    """Files of each split in COCO form. Only images of "train" and "val" are of use for training."""

    @model_validator(mode="after")
    def _splits_of_the_form(self) -> OwnSourceParams:
        if (self.form == "coco") != bool(self.splits):
            raise ValueError("form coco needs splits, for example {train: {annotations: boxes.json, images: photos}}; "
                             "open_images_boxes takes none")  # fmt: skip
        return self


class SourcesParams(BaseModel):
    """The six datasets of the method, and user-defined detection datasets.

    `null` leaves a dataset out. A file that names a real root and says nothing of another dataset leaves that out too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    visual_genome: VisualGenomeParams | None = VisualGenomeParams(root="data/raw/visual_genome")
    coco: SourceParams | None = SourceParams(root="data/raw/coco", buckets=2)
    objects365: SourceParams | None = SourceParams(root="data/raw/objects365", buckets=2)
    open_images: SourceParams | None = SourceParams(root="data/raw/open_images")
    hico_det: SourceParams | None = SourceParams(root="data/raw/hico_det")
    v_coco: SourceParams | None = SourceParams(root="data/raw/v_coco")
    own: dict[str, OwnSourceParams] = {}
    """Name -> detection dataset that receives pseudo labels like COCO and Objects365."""

    @model_validator(mode="after")
    def _names(self) -> SourcesParams:
        for name in self.own:
            if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in SourcesParams.model_fields:
                raise ValueError(
                    f"own.{name}: name it with lower-case letters, digits and _, and unlike the six datasets"
                )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All datasets of the profile: those of the six that it has, then the user-defined ones."""
        return (*(name for name in DATASETS if getattr(self, name) is not None), *self.own)

    @property
    def detection(self) -> tuple[str, ...]:
        """Datasets with boxes but no relations, which receive pseudo labels."""
        return tuple(name for name in self.names if name in DETECTION_DATASETS or name in self.own)

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """Benchmarks that the profile has."""
        return tuple(name for name in BENCHMARKS if name in self.names)

    @property
    def known_truth(self) -> tuple[str, ...]:
        """Datasets with pseudo labels whose true relations the micro world keeps aside."""
        return tuple(filter(self.is_drawn, DETECTION_DATASETS))

    def of(self, dataset: str) -> SourceParams:
        """Return the parameters of one of `names` (KeyError for another)."""
        if dataset in self.own:
            return self.own[dataset]
        if dataset not in self.names:
            raise KeyError(dataset)
        found: SourceParams = getattr(self, dataset)
        return found

    def key(self, dataset: str) -> str:
        """Return the key of a dataset's parameters in `params.yaml`."""
        return f"sources.own.{dataset}" if dataset in self.own else f"sources.{dataset}"

    def is_drawn(self, dataset: str) -> bool:
        """Return whether the micro world stands in for a dataset: its root is the folder that the micro world draws into."""
        source = getattr(self, dataset) if dataset in DATASETS else None
        return source is not None and source.root == f"{WORLD_FOLDER}/{dataset}"


def without_world_beside_real_data(sources: Any) -> Any:
    """Return the `sources` of a file with null for the datasets that it does not name, where it names a real one."""
    if not isinstance(sources, dict):
        return sources
    given = {name: sources[name] for name in DATASETS if isinstance(sources.get(name), dict)}
    real = any(source.get("root") != f"{WORLD_FOLDER}/{name}" for name, source in given.items())
    return {**dict.fromkeys(DATASETS), **sources} if real else sources
