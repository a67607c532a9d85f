"""Where the raw datasets lie and how they are read."""

from pydantic import BaseModel, ConfigDict, Field


class SourceParams(BaseModel):
    """One raw dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str
    """Folder of the raw dataset in its official layout, relative to the profile's root, or an s3:// prefix."""
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


class SourcesParams(BaseModel):
    """The six raw datasets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    visual_genome: VisualGenomeParams = VisualGenomeParams(root="data/raw/visual_genome")
    coco: SourceParams = SourceParams(root="data/raw/coco", buckets=2)
    objects365: SourceParams = SourceParams(root="data/raw/objects365", buckets=2)
    open_images: SourceParams = SourceParams(root="data/raw/open_images")
    hico_det: SourceParams = SourceParams(root="data/raw/hico_det")
    v_coco: SourceParams = SourceParams(root="data/raw/v_coco")
