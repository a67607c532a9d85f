"""Parameters of the pseudo-label stages: detections, captions, parsing, candidates, tagging."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class CaptionParams(BaseModel):
    """Captioning of images. Decoding as published but for `top_k` and `max_tokens`: micro captions of two clauses exceed 20 tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    """Folder or hub name of a captioner: BLIP, or any image-text-to-text model of transformers (BLIP-2, Florence-2, LLaVA, Qwen2.5-VL);
    null takes the captioner that the stage is given as input."""
    mode: Literal["nucleus", "beam"] = "nucleus"
    captions_per_image: int = Field(default=10, ge=1, le=100)
    """Nucleus samples per image; a beam search gives one caption."""
    prompt: str = "a picture of "
    """Start of every caption of BLIP, removed from the result; the instruction of other models, in their chat template if they have one."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1, exclude_if=lambda value: value is None)
    """Most likely tokens among which `top_p` chooses (published: 50, the default of transformers); null takes all."""
    beams: int = Field(default=3, ge=1)
    min_tokens: int = Field(default=5, ge=0)
    max_tokens: int = Field(default=28, ge=1)
    """Length bounds in tokens (published: 5 and 20): of BLIP with the prompt, of other models without it."""
    repetition_penalty: float = Field(default=1.1, gt=0)
    """Of nucleus sampling; beam search uses 1.0 as published."""
    batch_size: int = Field(default=16, ge=1)
    """Images decoded together; part of the result, because float sums differ between batch sizes."""
    rows_per_shard: int = Field(default=500, ge=1)
    seed: int = 0
    quarantine_limit: float = Field(default=0.01, ge=0, le=1)
    """Largest share of unreadable images that does not fail the stage."""

    @model_validator(mode="after")
    def _lengths(self) -> "CaptionParams":
        if self.min_tokens > self.max_tokens:
            raise ValueError("min_tokens exceeds max_tokens")
        return self


class ParsingParams(BaseModel):
    """Parsing of captions into text triplets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parser: Literal["rules", "spacy", "json"] = "rules"
    """`rules` is built in; `spacy` needs the extra of that name and an installed English model; `json` reads triplets from the answers of
    an instructed captioner. There is no fallback."""
    spacy_model: str = "en_core_web_sm"
    rows_per_shard: int = Field(default=2000, ge=1)


class CandidateParams(BaseModel):
    """Matching of text triplets to boxes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relation_text: Literal["lemma", "surface"] = "lemma"
    """`lemma`: "sit on"; `surface`: "sitting on" as captioned (published)."""
    synonyms: tuple[str, ...] = ("coco", "objects365")
    """Synonym tables of `rlip_assets/labelling/synonyms`, or paths of tables of the same form; the earlier one wins."""
    min_votes: int = Field(default=1, ge=1)
    """Captions of the image that must say a triplet."""
    overlap_filter: bool = False
    """Keep only pairs whose boxes overlap (off as published)."""
    rows_per_shard: int = Field(default=2000, ge=1)


class DetectionParams(BaseModel):
    """Boxes of a benchmark's training images that receive own labels (`own_labels` of a recipe); no profile has them by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    """Folder or hub name of an object detection model of transformers (DETR, RT-DETR, ...); null takes the detector that the stage is given
    as input (`external.detector`)."""
    min_score: float = Field(default=0.4, ge=0, le=1)
    """Boxes of a lower score are left out."""
    batch_size: int = Field(default=16, ge=1)
    rows_per_shard: int = Field(default=500, ge=1)
    quarantine_limit: float = Field(default=0.01, ge=0, le=1)


class DecontaminationParams(BaseModel):
    """Images of real datasets that occur in the test split of a benchmark. Those of the micro world are drawn apart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exclude: bool = True
    """Exclude such images: they receive no pseudo labels and, with human triplets, are not trained on. The published training
    used them all."""
    min_likeness: float = Field(default=0.96, gt=0, le=1)
    """Two pictures are the same when their likeness is at least this: 1 for copies, above 0.97 for copies that are cut by up to 5 % at each
    edge (`python perf/likeness.py`)."""
    rows_per_shard: int = Field(default=2000, ge=1)


class DriftParams(BaseModel):
    """Changes of a bucket's labels beyond which the asset check `drift` warns. No stage depends on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    yields: float = Field(default=0.25, ge=0)
    """Relative change of the number of labels per image."""
    confidence: float = Field(default=0.15, ge=0, le=1)
    """Total variation distance between the confidences, by tenths."""
    relations: float = Field(default=0.15, ge=0, le=1)
    """Total variation distance between the relation texts."""


QUESTION = (
    "Look at the {subject} in the red box and the {object} in the blue box. "
    "Is this true: {subject} {relation} {object}? Answer yes or no."
)


class TaggingParams(BaseModel):
    """Confidences of candidates, and the choice of those that become pseudo labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["r_tagger", "image_text"] = Field("r_tagger", exclude_if=lambda value: value == "r_tagger")
    """The relation source: the R-Tagger, or an image-text-to-text model of transformers, one question per candidate."""
    model: str | None = Field(None, exclude_if=lambda value: value is None)
    """Hub name of that model, or its folder: an input of the stage where it begins with / or ./"""
    question: str = Field(QUESTION, exclude_if=lambda value: value == QUESTION)
    """Asked of that model, whose probability of "yes" against "no" is the confidence."""
    groups: Literal["union", "published"] = "union"
    """`union`: an image is encoded once with all its candidate texts, and a pair is scored for its own candidates only;
    `published`: the image is encoded again for each group of pairs and every text of the group is scored for every pair."""
    wording: Literal["relation", "surface", "best"] = "best"
    """The text that the tagger scores: the label's normal form, the wording of the captions, or both, the higher score counting.
    `published` groups always ask about the label's text."""
    batch_size: int = Field(default=16, ge=1)
    """Images (or groups) in one forward pass. Published groups: 16 with ResNet-50, 8 with Swin-T, 4 with Swin-L."""
    max_texts: int = Field(default=64, ge=1)
    """Relation texts in one forward pass with several images; an image alone may have more."""
    calibration: Literal["none", "temperature", "isotonic"] = Field("none", exclude_if=lambda value: value == "none")
    """Map from the R-Tagger's scores to the share of right labels, fitted on human triplets that it was not trained on (`holdout` of its
    recipe). It changes no ranking. Stored confidences, and thresholds that speak of them, are then shares."""
    store_threshold: float = Field(default=0.05, ge=0, le=1)
    """Labels of less confidence are not stored."""
    top_k: int | None = Field(default=None, ge=1)
    """Most confident relations kept for an ordered pair; null keeps all."""
    overlap_filter: bool = False
    """Keep only labels between overlapping boxes."""
    exclude: tuple[str, ...] = ()
    """Files with image ids (one per line) that receive no labels: images of benchmark test splits."""
    rows_per_shard: int = Field(default=500, ge=1)
    quarantine_limit: float = Field(default=0.01, ge=0, le=1)
    operating_precision: float = Field(default=0.8, ge=0, le=1)
    """Label quality: the operating threshold is the one of best F1 among those that reach this precision."""

    @model_validator(mode="after")
    def _source(self) -> "TaggingParams":
        if (self.source == "image_text") != (self.model is not None):
            raise ValueError(
                "model is the folder or hub name of source image_text, which needs one; the R-Tagger is named elsewhere"
            )
        try:
            asked = {self.question.format(subject="a", relation=text, object="b") for text in ("c", "d")}
        except (AttributeError, LookupError, ValueError) as error:
            raise ValueError(f"question may name {{subject}}, {{relation}} and {{object}} only ({error})") from None
        if len(asked) < 2:
            raise ValueError("question must name {relation}")
        return self
