"""Everything that changes a forward pass, and nothing else: one frozen configuration for every variant, with named presets.

Training choices (loss weights, label sampling, noise, schedules) live elsewhere; a checkpoint carries its configuration,
so no flag has to match a weight file by luck.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

Gate = Literal["vxac", "glip", "none"]
Fusion = Literal["alif", "late", "none"]
Anchors = Literal["boxes", "points"]
RelationQuery = Literal["learned", "mbf", "mbf_learned"]


@dataclass(frozen=True)
class BackboneConfig:
    """A ResNet or a Swin that gives feature maps of strides 8, 16 and 32."""

    kind: Literal["resnet", "swin"]
    stem: int
    """Channels after the stem (ResNet) or the patch embedding (Swin)."""
    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    """Output channels of the four stages (strides 4, 8, 16, 32)."""
    block: Literal["basic", "bottleneck"] = "bottleneck"
    norm: Literal["frozen", "batch"] = "frozen"
    """ResNet only: batch normalisation with fixed statistics (published), or live (to train a detector from scratch)."""
    fixed: bool = True
    """Parameters that the published training leaves alone (ResNet stem and first stage, Swin norms and biases) stay fixed."""
    heads: tuple[int, int, int, int] = (0, 0, 0, 0)
    window: int = 7
    drop_path: float = 0.0

    @property
    def channels(self) -> tuple[int, int, int]:
        """Channels of the maps of strides 8, 16, 32."""
        return self.widths[1:]


@dataclass(frozen=True)
class TextConfig:
    """The RoBERTa text encoder; the language layers of ALIF have the same shape."""

    vocabulary: int = 50265
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 3072
    positions: int = 514
    pad_id: int = 1
    layer_norm_eps: float = 1e-5
    dropout: float = 0.1
    """Hidden and attention dropout of text encoder and language layers, and the dropout of the resizer."""


@dataclass(frozen=True)
class ModelConfig:
    """RLIPv2-ParSeDA, RLIPv2-ParSeD, R-Tagger and their late-fusion forms."""

    backbone: BackboneConfig
    text: TextConfig
    anchors: Anchors
    """`boxes`: DAB anchors of four numbers (ParSeDA); `points`: learned reference points (ParSeD)."""
    fusion: Fusion = "alif"
    """`alif`: in the encoder; `late`: after the decoders (RLIPv1); `none`: labels meet the image in the logits alone."""
    gate: Gate = "vxac"
    """ALIF's residual gate: one scalar per side (`vxac`), one vector per side (`glip`), or 1 (`none`)."""
    relation_query: RelationQuery = "mbf_learned"
    """Content of relation queries: learned vectors, a fusion of the pair's entity features (MBF), or their sum."""
    tagger: bool = False
    """Queries come from given pairs of labelled boxes (R-Tagger)."""
    queries: int = 200
    """Subject and object queries together: twice the number of pairs."""
    width: int = 256
    heads: int = 8
    levels: int = 4
    encoder_points: int = 4
    decoder_points: int = 4
    feed_forward: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 3
    """Layers of the entity decoder and, again, of the relation decoder."""
    fusion_interval: int = 2
    """Encoder layers from one fusion to the next. Published networks have as many fusions as decoder layers; otherwise the last decoder
    layer reads the labels after the last fusion, the one before those before it, and the first fusion serves all that are left."""
    fusion_width: int = 2048
    fusion_heads: int = 8
    late_feed_forward: int = 1024
    relation_branches: int = 16
    """Branches of the multi-branch fusion (MBF)."""
    dropout: float = 0.0
    """Deformable encoder and decoder layers and the late fusion layers."""
    fusion_dropout: float = 0.1
    """Attention probabilities of ALIF's bi-attention."""

    def __post_init__(self) -> None:
        if self.queries < 2 or self.queries % 2:
            raise ValueError(f"queries must be even (subjects and objects), got {self.queries}")
        for name in ("width", "fusion_width"):
            heads = self.fusion_heads if name == "fusion_width" else self.heads
            if getattr(self, name) % heads:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of its {heads} heads")
        if self.width % 8 or self.width % self.relation_branches:
            raise ValueError(f"width {self.width} must be a multiple of 8 and of the {self.relation_branches} branches")
        if self.fusion_interval < 1:
            raise ValueError(
                f"fusion_interval counts encoder layers from one fusion to the next, got {self.fusion_interval}"
            )
        if self.tagger and self.anchors != "points":
            raise ValueError("the tagger takes its queries from given boxes and works with `points` anchors only")
        if self.tagger and self.fusion != "alif":
            raise ValueError("the tagger needs ALIF: its queries carry label features of the vision encoder")
        for name, kind in (("anchors", Anchors), ("fusion", Fusion), ("gate", Gate), ("relation_query", RelationQuery)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")

    @property
    def pairs(self) -> int:
        """P: query i and query P + i are subject and object of pair i."""
        return self.queries // 2

    @property
    def fusions(self) -> int:
        """Fusions in the encoder: before layers 0, interval, 2 x interval, ..."""
        return -(-self.encoder_layers // self.fusion_interval) if self.fusion == "alif" else 0

    @property
    def uses_mbf(self) -> bool:
        return self.relation_query != "learned"

    def without_dropout(self) -> ModelConfig:
        """Return the same network with every dropout and drop-path rate 0."""
        return replace(
            self,
            backbone=replace(self.backbone, drop_path=0.0),
            text=replace(self.text, dropout=0.0),
            dropout=0.0,
            fusion_dropout=0.0,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Inverse of `to_dict`. Raises ValueError when a field is unknown or missing."""
        given = dict(values)
        for name, part in (("backbone", BackboneConfig), ("text", TextConfig)):
            given[name] = _build(part, given.get(name, {}), f"{name}.")
        result = _build(cls, given, "")
        assert isinstance(result, ModelConfig)
        return result

    @classmethod
    def preset(cls, name: str) -> ModelConfig:
        """Return a named configuration; see `PRESETS` for the names."""
        try:
            return PRESETS[name]
        except KeyError:
            raise ValueError(f"unknown preset {name!r}; known: {', '.join(sorted(PRESETS))}") from None


def _build(kind: type, values: Mapping[str, Any], prefix: str) -> Any:
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown configuration field(s): {', '.join(prefix + name for name in unknown)}")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except TypeError as error:
        raise ValueError(f"incomplete configuration {prefix or 'of the model'}: {error}") from error


RESNET50 = BackboneConfig(kind="resnet", stem=64, depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048))
SWIN_TINY = BackboneConfig(
    kind="swin", stem=96, depths=(2, 2, 6, 2), widths=(96, 192, 384, 768), heads=(3, 6, 12, 24), drop_path=0.2
)
SWIN_LARGE = BackboneConfig(
    kind="swin", stem=192, depths=(2, 2, 18, 2), widths=(192, 384, 768, 1536), heads=(6, 12, 24, 48), drop_path=0.5
)
MICRO_RESNET = BackboneConfig(kind="resnet", stem=24, depths=(1, 1, 1, 1), widths=(32, 64, 128, 192), block="basic")

ROBERTA_BASE = TextConfig()
MICRO_TEXT = TextConfig(vocabulary=1024, width=128, layers=2, heads=4, feed_forward=256, positions=66, dropout=0.0)

_SWINS = {"swin_tiny": SWIN_TINY, "swin_large": SWIN_LARGE}


def _presets() -> dict[str, ModelConfig]:
    parseda = ModelConfig(backbone=RESNET50, text=ROBERTA_BASE, anchors="boxes")
    parsed = ModelConfig(backbone=RESNET50, text=ROBERTA_BASE, anchors="points", feed_forward=1024, dropout=0.1)
    micro = ModelConfig(
        backbone=MICRO_RESNET,
        text=MICRO_TEXT,
        anchors="boxes",
        queries=32,
        width=64,
        heads=4,
        encoder_layers=4,
        decoder_layers=2,
        encoder_points=2,
        decoder_points=2,
        feed_forward=128,
        fusion_width=128,
        fusion_heads=4,
        late_feed_forward=128,
        fusion_dropout=0.0,
    )
    micro_detector = replace(micro, backbone=replace(MICRO_RESNET, norm="batch", fixed=False), fusion="late")
    micro_tagger = replace(micro, anchors="points", tagger=True, queries=48)
    named = {
        "parseda_r50": parseda,
        "parseda_late_r50": replace(parseda, fusion="late", late_feed_forward=2048),
        "parsed_r50": parsed,
        "tagger_r50": replace(parsed, gate="glip", relation_query="learned", tagger=True),
        "rlipv1_parsed_r50": replace(parsed, fusion="late", relation_query="learned"),
        "micro_parseda": micro,
        "micro_parseda_late": replace(micro, fusion="late"),
        "micro_tagger": micro_tagger,
        "micro_detector": micro_detector,
    }
    for name, backbone in _SWINS.items():
        named[f"parseda_{name}"] = replace(parseda, backbone=backbone)
        named[f"parsed_{name}"] = replace(parsed, backbone=backbone, feed_forward=2048)
        named[f"tagger_{name}"] = replace(parsed, backbone=backbone, feed_forward=2048, tagger=True, dropout=0.0)
    return named


PRESETS: dict[str, ModelConfig] = _presets()
