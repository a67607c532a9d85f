"""What the published training did beside the method it describes. The released weights absorbed it; a new training need not."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class PublishedTraining(BaseModel):
    """Quirks of the published training, each off unless a recipe asks for it; the numbers are the rows of docs/quirks.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

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

    @classmethod
    def whole(cls) -> PublishedTraining:
        """All quirks on."""
        return cls(**dict.fromkeys(cls.model_fields, True))
