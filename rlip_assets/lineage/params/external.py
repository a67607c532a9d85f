"""Weights and labels that a profile takes from elsewhere."""

from pydantic import BaseModel, ConfigDict


class ExternalParams(BaseModel):
    """Folders of weights and labels made elsewhere; each is an input of the stages that use it, with its digest.

    Paths are absolute or start at the profile's folder. After a change run `rlip dvc-yaml`. For weights, null takes the small shipped ones,
    which know the micro world only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: str | None = None
    """A box detector as `rlip import-detector` writes it; a network may name another one (`training.r_tagger.detector`,
    `training.pretrain.NAME.detector`)."""
    text_encoder: str | None = None
    """A RoBERTa model as `transformers` saves it, with `tokenizer.json`."""
    captioner: str | None = None
    """A BLIP captioner as `transformers` saves it."""
    r_tagger: str | None = None
    """A checkpoint of an R-Tagger, which then is not trained here; null trains it."""
    labels: dict[str, str] = {}
    """Dataset -> pseudo labels as `rlip labels import` writes them; that dataset is then not captioned, matched and tagged here."""
