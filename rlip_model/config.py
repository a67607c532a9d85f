"""Everything that changes a forward pass, and nothing else: one frozen configuration for every variant, with named presets.

Training choices (loss weights, label sampling, noise, schedules) live elsewhere; a checkpoint carries its configuration,
so no flag has to match a weight file by luck.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from rlip_model.errors import CheckpointError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Gate = Literal["vxac", "glip", "none"]
Fusion = Literal["alif", "late", "joint", "none"]
Anchors = Literal["boxes", "points", "none"]
RelationQuery = Literal["learned", "mbf", "mbf_learned"]
LabelTexts = Literal["cleaned", "published"]


class Within:
    """Bounds of a number (`ge`, `gt`, `le`, `lt`) for pydantic, which reads files; a network that is built in Python needs none of it."""

    def __init__(self, **bounds: float) -> None:
        self.bounds = bounds

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Return the schema of the number's type with the bounds."""
        return {**handler(source), **self.bounds}


# Bounds far beyond every known network: numbers from a stranger's file must not decide how much is built.
Size = Annotated[int, Within(ge=1, le=1 << 20)]
Count = Annotated[int, Within(ge=1, le=256)]
Rate = Annotated[float, Within(ge=0, lt=1)]
_AT_THE_DOOR = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


@dataclass(frozen=True)
class BackboneConfig:
    """A ResNet or a Swin that gives feature maps of strides 8, 16 and 32."""

    kind: Literal["resnet", "swin"]
    stem: Size
    """Channels after the stem (ResNet) or the patch embedding (Swin)."""
    depths: tuple[Count, Count, Count, Count]
    widths: tuple[Size, Size, Size, Size]
    """Output channels of the four stages (strides 4, 8, 16, 32)."""
    block: Literal["basic", "bottleneck"] = "bottleneck"
    norm: Literal["frozen", "batch"] = "frozen"
    """ResNet only: batch normalisation with fixed statistics (published), or live (to train a detector from scratch)."""
    fixed: bool = True
    """Parameters that the published training leaves alone (ResNet stem and first stage, Swin norms and biases) stay fixed."""
    heads: tuple[Size, Size, Size, Size] | tuple[Literal[0], Literal[0], Literal[0], Literal[0]] = (0, 0, 0, 0)
    window: Annotated[int, Within(ge=1, le=32)] = 7
    drop_path: Rate = 0.0
    __pydantic_config__: ClassVar[dict[str, Any]] = _AT_THE_DOOR

    def __post_init__(self) -> None:
        if self.kind == "swin":
            if self.widths != tuple(self.stem << stage for stage in range(4)):
                raise ValueError(f"widths {self.widths} of a Swin must double from its stem {self.stem}")
            if any(heads < 1 or width % heads for width, heads in zip(self.widths, self.heads, strict=True)):
                raise ValueError(f"widths {self.widths} are not multiples of the heads {self.heads}")
        elif self.block == "bottleneck" and any(width % 4 for width in self.widths):
            raise ValueError(f"widths {self.widths} of bottleneck blocks must be multiples of 4")

    @property
    def channels(self) -> tuple[int, int, int]:
        """Channels of the maps of strides 8, 16, 32."""
        return self.widths[1:]


@dataclass(frozen=True)
class TextConfig:
    """The RoBERTa text encoder; the language layers of ALIF have the same shape."""

    vocabulary: Size = 50265
    width: Size = 768
    layers: Count = 12
    heads: Size = 12
    feed_forward: Size = 3072
    positions: Size = 514
    pad_id: Annotated[int, Within(ge=0)] = 1
    layer_norm_eps: Annotated[float, Within(gt=0, lt=1)] = 1e-5
    dropout: Rate = 0.1
    """Hidden and attention dropout of text encoder and language layers, and the dropout of the resizer."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _AT_THE_DOOR

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} of the text encoder is not a multiple of its {self.heads} heads")
        if self.pad_id >= self.vocabulary or self.longest < 1:
            raise ValueError(
                f"pad_id {self.pad_id} leaves no room in {self.vocabulary} tokens or {self.positions} positions"
            )

    @property
    def longest(self) -> int:
        """Tokens of the longest text: RoBERTa numbers positions from `pad_id` + 1."""
        return self.positions - self.pad_id - 1


@dataclass(frozen=True)
class ModelConfig:
    """RLIPv2-ParSeDA, RLIPv2-ParSeD, R-Tagger, their late-fusion forms, and RLIPv1-ParSe."""

    backbone: BackboneConfig
    text: TextConfig
    anchors: Anchors
    """`boxes`: DAB anchors of four numbers (ParSeDA); `points`: learned reference points (ParSeD); `none`: dense attention to one map of
    stride 32 and absolute boxes (ParSe)."""
    fusion: Fusion = "alif"
    """`alif`: in the encoder; `late`: after the decoders (RLIPv1-ParSeD); `joint`: one sequence of image tokens and labels in the encoder
    (RLIPv1-ParSe); `none`: labels meet the image in the logits alone."""
    gate: Gate = "vxac"
    """ALIF's residual gate: one scalar per side (`vxac`), one vector per side (`glip`), or 1 (`none`)."""
    relation_query: RelationQuery = "mbf_learned"
    """Content of relation queries: learned vectors, a fusion of the pair's entity features (MBF), or their sum."""
    tagger: bool = False
    """Queries come from given pairs of labelled boxes (R-Tagger)."""
    queries: Size = 200
    """Subject and object queries together: twice the number of pairs."""
    width: Size = 256
    heads: Size = 8
    levels: Annotated[int, Within(ge=1, le=16)] = 4
    encoder_points: Count = 4
    decoder_points: Count = 4
    feed_forward: Size = 2048
    encoder_layers: Count = 6
    decoder_layers: Count = 3
    """Layers of the entity decoder and, again, of the relation decoder."""
    fusion_interval: Count = 2
    """Encoder layers from one fusion to the next. Published networks have as many fusions as decoder layers; otherwise the last decoder
    layer reads the labels after the last fusion, the one before those before it, and the first fusion serves all that are left."""
    fusion_levels: Count = 1
    """Pyramid levels that take part in ALIF's fusions, counted from the coarsest; published networks fuse that alone."""
    fusion_width: Size = 2048
    fusion_heads: Size = 8
    late_feed_forward: Size = 1024
    relation_branches: Size = 16
    """Branches of the multi-branch fusion (MBF)."""
    dropout: Rate = 0.0
    """Deformable encoder and decoder layers and the late fusion layers."""
    fusion_dropout: Rate = 0.1
    """Attention probabilities of ALIF's bi-attention."""
    label_texts: LabelTexts = "cleaned"
    """Form in which the network learnt class names that are published with capitals or underscores, as those of Open Images are:
    `cleaned` ("sea turtle", "inside of") or as `published` ("Sea turtle", "inside_of"). The text encoder's tokens are cased."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _AT_THE_DOOR

    def __post_init__(self) -> None:
        if self.queries < 2 or self.queries % 2:
            raise ValueError(f"queries must be even (subjects and objects), got {self.queries}")
        for name in ("width", "fusion_width"):
            heads = self.fusion_heads if name == "fusion_width" else self.heads
            if getattr(self, name) % heads:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of its {heads} heads")
        if self.width % 8 or self.width % self.relation_branches:
            raise ValueError(f"width {self.width} must be a multiple of 8 and of the {self.relation_branches} branches")
        if self.width % self.norm_groups:
            raise ValueError(
                f"width {self.width} is not a multiple of the {self.norm_groups} groups of the pyramid's normalisation"
            )
        if self.fusion_interval < 1:
            raise ValueError(
                f"fusion_interval counts encoder layers from one fusion to the next, got {self.fusion_interval}"
            )
        if self.fusion_levels > self.levels:
            raise ValueError(f"fusion_levels {self.fusion_levels} is more than the {self.levels} levels of the pyramid")
        if self.is_dense != (self.fusion == "joint"):
            raise ValueError("anchors `none` and fusion `joint` (RLIPv1-ParSe) go together: give both or neither")
        if self.is_dense and (self.levels, self.relation_query) != (1, "learned"):
            raise ValueError("anchors `none` (RLIPv1-ParSe) needs levels 1 and relation_query `learned`")
        if self.is_dense and self.decoder_layers > self.encoder_layers:
            raise ValueError(
                "fusion `joint` gives each decoder layer the labels of an encoder layer: it needs as many of these"
            )
        if self.tagger and self.anchors != "points":
            raise ValueError("the tagger takes its queries from given boxes and works with `points` anchors only")
        if self.tagger and self.fusion != "alif":
            raise ValueError("the tagger needs ALIF: its queries carry label features of the vision encoder")
        for name, kind in (
            ("anchors", Anchors),
            ("fusion", Fusion),
            ("gate", Gate),
            ("relation_query", RelationQuery),
            ("label_texts", LabelTexts),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")

    @property
    def pairs(self) -> int:
        """P: query i and query P + i are subject and object of pair i."""
        return self.queries // 2

    @property
    def norm_groups(self) -> int:
        """Groups of the pyramid's group normalisation."""
        return min(32, self.width // 4)

    @property
    def fusions(self) -> int:
        """Fusions in the encoder: before layers 0, interval, 2 x interval, ..."""
        return -(-self.encoder_layers // self.fusion_interval) if self.fusion == "alif" else 0

    @property
    def uses_mbf(self) -> bool:
        return self.relation_query != "learned"

    @property
    def is_dense(self) -> bool:
        """True for RLIPv1-ParSe: dense attention instead of deformable."""
        return self.anchors == "none"

    @property
    def is_rlipv1(self) -> bool:
        """True for RLIPv1-ParSe and RLIPv1-ParSeD, whose label vectors have the network's width from the start (RPL compares these)."""
        return self.is_dense or (self.fusion == "late" and self.anchors == "points")

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
        """Return the configuration of JSON values, the inverse of `to_dict`.

        Raises:
            CheckpointError: an unknown or missing field, or a value of another type or beyond its bounds; the sentence names the fields.
        """
        from pydantic import ValidationError

        try:
            return _adapter().validate_json(json.dumps(values))
        except ValidationError as error:
            parts = [
                ": ".join(filter(None, [".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")]))
                for each in error.errors(include_url=False)
            ]
            raise CheckpointError(f"not a configuration of this network ({'; '.join(parts[:4])})") from None

    @classmethod
    def preset(cls, name: str) -> ModelConfig:
        """Return a named configuration; see `PRESETS` for the names."""
        try:
            return PRESETS[name]
        except KeyError:
            raise ValueError(f"unknown preset {name!r}; known: {', '.join(sorted(PRESETS))}") from None


@cache
def _adapter() -> TypeAdapter[ModelConfig]:
    from pydantic import TypeAdapter

    return TypeAdapter(ModelConfig)


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
    parse: dict[str, Any] = {"anchors": "none", "fusion": "joint", "levels": 1, "relation_query": "learned"}
    micro_detector = replace(micro, backbone=replace(MICRO_RESNET, norm="batch", fixed=False), fusion="late")
    micro_tagger = replace(micro, anchors="points", tagger=True, queries=48)
    named = {
        "parseda_r50": parseda,
        "parseda_late_r50": replace(parseda, fusion="late", late_feed_forward=2048),
        "parsed_r50": parsed,
        "tagger_r50": replace(parsed, gate="glip", relation_query="learned", tagger=True),
        "rlipv1_parsed_r50": replace(parsed, fusion="late", relation_query="learned"),
        "rlipv1_parse_r50": replace(parsed, **parse, feed_forward=2048),
        "micro_parseda": micro,
        "micro_parseda_late": replace(micro, fusion="late"),
        "micro_parse": replace(micro, **parse),
        "micro_tagger": micro_tagger,
        "micro_detector": micro_detector,
    }
    for name, backbone in _SWINS.items():
        named[f"parseda_{name}"] = replace(parseda, backbone=backbone)
        named[f"parsed_{name}"] = replace(parsed, backbone=backbone, feed_forward=2048)
        named[f"tagger_{name}"] = replace(parsed, backbone=backbone, feed_forward=2048, tagger=True, dropout=0.0)
    return named


PRESETS: dict[str, ModelConfig] = _presets()
