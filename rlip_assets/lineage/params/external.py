"""Weights that trainings start from."""

from pydantic import BaseModel, ConfigDict


class ExternalParams(BaseModel):
    """Folders of pretrained parts; null takes the small shipped ones, which know the micro world only (`captions.model` names a captioner).

    Paths are absolute or start at the profile's folder. After a change run `rlip dvc-yaml`: the folders are inputs of the stages.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: str | None = None
    """A box detector as `rlip import-detector` writes it."""
    text_encoder: str | None = None
    """A RoBERTa model as `transformers` saves it, with `tokenizer.json`."""
