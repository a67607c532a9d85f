"""The recorded cases of `tests/golden/model`, computed by this package: a network from a case's description, and all that it records.

Needs no more than the network does; `check_golden_model.py` is the command that compares.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import rlip_model.losses as losses_module
from rlip_model.checkpoints.official_layout import layout_of, load_official, official_state_dict
from rlip_model.config import SWIN_LARGE, SWIN_TINY, Gate, ModelConfig, RelationQuery, TextConfig
from rlip_model.losses import LossConfig, RelationCriterion
from rlip_model.matching import Targets
from rlip_model.model import ModelOutput, Rlip, build_model
from rlip_model.postprocess import PairPredictions, hoi_predictions, sgg_predictions
from rlip_model.tagger import collate_pairs
from rlip_model.text import sign_text_mask

Arrays = dict[str, np.ndarray]

TERMS = {
    "obj_ce": "class",
    "verb_ce": "relation",
    "sub_bbox": "sub_l1",
    "obj_bbox": "obj_l1",
    "sub_giou": "sub_giou",
    "obj_giou": "obj_giou",
}
"""Published loss names to ours."""

GATES: dict[str | None, Gate] = {"VXAc": "vxac", "GLIP": "glip", "XGating": "none", None: "vxac"}
RELATION_QUERIES: dict[str, RelationQuery] = {"vanilla": "learned", "vanilla_MBF": "mbf_learned", "MBF": "mbf"}
PRESETS = {"ParSeDA": "parseda_r50", "ParSeD": "parsed_r50", "ParSe": "rlipv1_parse_r50"}
SIZES = {"resnet50": None, "swin_tiny": SWIN_TINY, "swin_large": SWIN_LARGE}


def load_module(file: Path) -> ModuleType:
    """A Python file of the golden folder as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"golden_{file.stem}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def config_of(meta: Mapping[str, Any]) -> ModelConfig:
    """The configuration that a case describes, without dropout."""
    config = ModelConfig.preset(PRESETS[meta["anchors"]])
    backbone = SIZES[meta["backbone"]]
    text = meta["text_encoder"]
    return replace(
        config,
        backbone=backbone or config.backbone,
        text=TextConfig(
            vocabulary=text["vocab"],
            width=text["hidden"],
            layers=text["layers"],
            heads=text["heads"],
            feed_forward=text["intermediate"],
            positions=text["max_positions"],
            pad_id=text["pad_id"],
            layer_norm_eps=text["layer_norm_eps"],
        ),
        fusion="joint" if config.is_dense else "alif" if meta["fusion_gate"] else "late",
        gate=GATES[meta["fusion_gate"]],
        relation_query="learned" if config.is_dense else RELATION_QUERIES[meta["relation_query"]],
        tagger=meta["tagger"],
        queries=meta["num_queries"],
        feed_forward=meta["dim_feedforward"],
        encoder_layers=meta["encoder_layers"],
        decoder_layers=meta["decoder_layers"],
    ).without_dropout()


@contextmanager
def no_initialisation() -> Iterator[None]:
    """Skip the random numbers of a network that is filled at once; in full size they take seconds."""
    import transformers.initialization  # noqa: F401 - keeps for good the functions that it finds when it is first imported

    names = ("xavier_uniform_", "kaiming_uniform_", "kaiming_normal_", "uniform_", "normal_", "trunc_normal_")
    saved = {name: getattr(nn.init, name) for name in names}
    saved_randn, saved_embedding = torch.randn, nn.Embedding.reset_parameters
    for name in names:
        setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor.data.zero_())
    torch.randn = torch.zeros  # type: ignore[assignment]
    nn.Embedding.reset_parameters = lambda self: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.randn = saved_randn
        nn.Embedding.reset_parameters = saved_embedding  # type: ignore[method-assign]
        for name, function in saved.items():
            setattr(nn.init, name, function)


def build_filled(config: ModelConfig, rule: ModuleType, seed: int) -> Rlip:
    """A network with the rule's weights."""
    with no_initialisation():
        model = build_model(config)
    own = model.state_dict()
    layout = layout_of(model)
    shapes = {key: value.shape for key, value in official_state_dict(model, own).items() if key in layout.entries}
    state = {key: torch.from_numpy(rule.value(key, shape, seed)) for key, shape in shapes.items()}
    report = load_official(model, state)
    assert not report.missing, report.missing
    assert not report.unexpected, report.unexpected
    return model


class Recorder:
    """Keeps the outputs of chosen modules during a forward pass."""

    def __init__(self, model: Rlip) -> None:
        self.seen: dict[str, list[Any]] = {}
        watched: dict[str, nn.Module] = {"backbone": model.backbone, "pyramid": model.pyramid, "encoder": model.encoder}
        watched |= {"resizer": model.resizer, "entities": model.entity_decoder, "relations": model.relation_decoder}
        watched |= {f"layer{i}": layer for i, layer in enumerate(model.encoder.layers)}
        for name in ("fusion", "text_layer") if model.config.fusions else ():
            watched |= {f"{name}{j}": layer for j, layer in enumerate(getattr(model.encoder, f"{name}s"))}
        if model.late_fusion is not None:
            watched |= {"late_obj": model.late_fusion.entities, "late_verb": model.late_fusion.relations}
        self.handles = [module.register_forward_hook(self._keep(name)) for name, module in watched.items()]

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self.seen.setdefault(name, []).append(output)

        return hook

    def __getitem__(self, name: str) -> Any:
        return self.seen[name][0]

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


def intermediates(record: Recorder, model: Rlip) -> dict[str, Tensor]:
    """The named intermediates of README section 4, and of README_parse.md section 2."""
    result: dict[str, Tensor] = {}
    for level, value in enumerate(record["backbone"]):
        result[f"backbone{level}_corner"] = value[:, :8, :5, :5]
        result[f"backbone{level}_mean_std"] = _mean_std(value)
    pyramid, first, dense = record["pyramid"], 0, model.config.is_dense
    for level, (height, width) in enumerate(pyramid.shapes, start=2 if dense else 0):
        rows = slice(first, first + height * width)
        first += height * width
        result[f"level_mask{level}"] = pyramid.padding[:, rows].unflatten(1, (height, width))
        embedding = model.pyramid.level_embedding
        position = pyramid.position[:, rows] - (0 if embedding is None else embedding[level])
        result[f"pos{level}_every16"] = position.unflatten(1, (height, width)).permute(0, 3, 1, 2)[:, ::16, ::2, ::2]
        source = pyramid.tokens[:, rows].unflatten(1, (height, width)).permute(0, 3, 1, 2)
        result[f"src{level}_corner"] = source[:, ::16, :5, :5]
    for j in range(model.config.fusions):
        visual, labels = record[f"fusion{j}"]
        result[f"fused_visual{j}"] = visual
        result[f"fused_language{j}_first64"] = labels[..., :64]
        text = record[f"text_layer{j}"]
        result[f"language{j}_first64"] = text[..., :64]
        result[f"language{j}_rms"] = text.square().mean(-1).sqrt()
    resized = torch.stack(record.seen["resizer"])
    result["resized_text"] = resized.transpose(1, 2) if len(resized) > 1 else resized.view(resized.shape[-2:])
    every = 3 if dense else 37
    for i in range(len(model.encoder.layers)):
        result[f"encoder_layer{i}_every{every}"] = record[f"layer{i}"][:, ::every]
    memory, stages = record["encoder"]
    tokens = memory.tokens
    result["encoder_every13"] = tokens[:, ::13]
    result["encoder_mean_std"] = _mean_std(tokens)
    entities, relations = record["entities"], record["relations"]
    result["entity_decoder_every8"] = entities.features[..., ::8]
    result["entity_decoder_refs"] = torch.stack([entities.sub_boxes, entities.obj_boxes], 1)
    result["relation_decoder_every8"] = relations.features[..., ::8]
    result["relation_decoder_refs"] = torch.stack([relations.sub_references, relations.obj_references], 1)
    if dense:
        stages = torch.stack(stages[-model.config.decoder_layers :])
        result["head_text_every4"] = stages.transpose(1, 2)[..., ::4]
        sub, obj = entities.features[-1].chunk(2, dim=1)
        result["relation_query_every8"] = (sub + obj)[..., ::8]
    for name in ("obj", "verb") if model.late_fusion is not None else ():
        joint = torch.cat(record[f"late_{name}"], dim=2)
        result[f"late_{name}fusion_every8"] = joint.transpose(1, 2)[..., ::8]
    return result


def _mean_std(value: Tensor) -> Tensor:
    return torch.stack([value.double().mean(), value.double().std(unbiased=False)])


def predictions(output: ModelOutput, prefix: str) -> dict[str, Tensor]:
    """Published names of the outputs: the last layer bare, the others as aux."""
    names = {
        "pred_sub_logits": output.sub_logits,
        "pred_obj_logits": output.obj_logits,
        "pred_verb_logits": output.relation_logits,
        "pred_sub_boxes": output.sub_boxes,
        "pred_obj_boxes": output.obj_boxes,
    }
    layers = len(output.sub_logits)
    where = {layer: f"aux{layer}/" if layer < layers - 1 else "" for layer in range(layers)}
    return {f"{prefix}/{where[layer]}{name}": value[layer] for name, value in names.items() for layer in where}


def post_processed(name: str, images: list[PairPredictions]) -> dict[str, Tensor]:
    result = {}
    for index, pairs in enumerate(images):
        count = len(pairs)
        parts = {
            "labels": torch.cat([pairs.sub_labels, pairs.obj_labels]),
            "boxes": torch.cat([pairs.sub_boxes, pairs.obj_boxes]),
            "verb_scores": pairs.scores,
            "sub_ids": torch.arange(count),
            "obj_ids": torch.arange(count) + count,
        }
        result.update({f"{name}/{index}/{key}": value for key, value in parts.items()})
    return result


def evaluation(model: Rlip, golden: Mapping[str, Tensor], meta: Mapping[str, Any]) -> dict[str, Tensor]:
    """Forward pass, intermediates and post-processing."""
    model.eval()
    images, batch = golden["image"], len(golden["image"])
    pairs = None
    if meta["tagger"]:
        names = ("sub_boxes", "obj_boxes", "sub_labels", "obj_labels")
        given = [tuple(golden[f"eval/pairs{b}/{name}"] for name in names) for b in range(batch)]
        pairs = collate_pairs(given, model.config.pairs).to(images.device)  # type: ignore[arg-type]
    record = Recorder(model)
    with torch.no_grad():
        pooled = model.pool_text(golden["eval/input_ids"], golden["eval/attention_mask"])
        output = model(images, golden["mask"], model.label_vectors(pooled), len(meta["eval_objects"]), pairs=pairs)
        middle = intermediates(record, model) | {"text_pooled": pooled}
    record.close()
    result = predictions(output, "eval") | {f"eval/mid/{name}": value for name, value in middle.items()}
    if not meta["tagger"]:
        sizes = golden["orig_sizes"]
        result |= post_processed("post_hoi", hoi_predictions(output, sizes))
        result |= post_processed("post_hoi_person_filter", hoi_predictions(output, sizes, persons_only=True))
        result |= post_processed("post_sgg", sgg_predictions(output, sizes))
    return result


@contextmanager
def kept_similarities() -> Iterator[list[Any]]:
    """Yield a list that receives the similarities of RPL, which keep their gradients."""
    compute, kept = losses_module.pseudo_relations, []

    def keep(*arguments: Any) -> Tensor:
        kept.append(compute(*arguments))
        kept[-1].retain_grad()
        return kept[-1]

    losses_module.pseudo_relations = keep  # type: ignore[assignment]
    try:
        yield kept
    finally:
        losses_module.pseudo_relations = compute


def training_step(model: Rlip, golden: Mapping[str, Tensor], meta: Mapping[str, Any]) -> dict[str, Tensor]:
    """Forward pass with the published text mask, matches, losses and gradients."""
    model.train()
    batch, num_objects = len(golden["image"]), len(meta["train_objects"])
    targets = [
        Targets(
            *(
                golden[f"train/target{b}/{name}"]
                for name in ("sub_labels", "obj_labels", "verb_labels", "sub_boxes", "obj_boxes")
            )
        )
        for b in range(batch)
    ]
    pairs = None
    if meta["tagger"]:
        given = [(t.sub_boxes, t.obj_boxes, t.sub_labels, t.obj_labels) for t in targets]
        pairs = collate_pairs(given, model.config.pairs).to(golden["image"].device)
    pooled = model.pool_text(golden["train/input_ids"], golden["train/attention_mask"])
    text_mask, vectors = sign_text_mask(pooled), model.label_vectors(pooled)
    output = model(golden["image"], golden["mask"], vectors, num_objects, text_mask=text_mask, pairs=pairs)
    weights, matcher = meta["no_objects_weight"], meta["matcher"]
    config = LossConfig(
        classes=matcher["classes"],
        relations=matcher["relations"],
        l1=matcher["l1"],
        giou=matcher["giou"],
        no_objects_weight=weights,
        relational_quality=meta["rql"],
        pseudo_relations=meta["rpl"],
        subject_class=meta["subject_class"],
        assignment="slots" if meta["tagger"] else "hungarian",
    )
    with kept_similarities() as similarities:
        losses = RelationCriterion(config)(output, targets, vectors, num_objects)
    losses.total.backward()
    result = predictions(output, "train")
    result |= {"train/text_pooled": pooled, "train/text_pooled_sum": pooled.sum(-1), "train/text_mask": text_mask}
    for similarity in similarities:
        result |= {"train/pseudo_relation_similarity": similarity, "train/pseudo_relation_gradient": similarity.grad}
    if not meta["tagger"]:
        result |= _match_arrays(losses.matches, targets)
    result["train/loss_values"] = torch.stack([losses.terms[_term(name)] for name in meta["loss_names"]]).double()
    result["train/loss_weights"] = torch.tensor([_weight(config, _term(name)) for name in meta["loss_names"]]).double()
    result["train/loss_total"] = losses.total.double()
    return result | _gradients(model, golden, meta)


def _term(name: str) -> str:
    base = name.removeprefix("loss_")
    head, _, layer = base.rpartition("_")
    return f"{TERMS[head]}_{layer}" if layer.isdigit() else TERMS[base]


def _weight(config: LossConfig, term: str) -> float:
    return {"class": config.classes, "relation": config.relations}.get(
        term.split("_")[0], config.l1 if "_l1" in term else config.giou
    )


def _match_arrays(matches: Any, targets: list[Targets]) -> dict[str, Tensor]:
    result, first = {}, 0
    for image, target in enumerate(targets):
        for layer in range(len(matches.layer)):
            mine = matches.image[layer] == image
            rows = torch.stack([matches.pair[layer][mine], matches.target[layer][mine] - first])
            result[f"train/match{layer}/{image}"] = rows
        first += len(target)
    return result


def _gradients(model: Rlip, golden: Mapping[str, Tensor], meta: Mapping[str, Any]) -> dict[str, Tensor]:
    own = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    official = official_state_dict(model, own)
    grads = [official[name].flatten() for name in meta["grad_names"]]
    positions = golden["train/grad_max_position"]
    return {
        "train/grad_norms": torch.stack([grad.norm() for grad in grads]).double(),
        "train/grad_first8": torch.stack([nn.functional.pad(g[:8], (0, 8 - len(g[:8]))) for g in grads]),
        "train/grad_max_value": torch.stack([g[int(at)] for g, at in zip(grads, positions, strict=True)]),
        "train/grad_norm_all_params": torch.stack([g.norm() for g in own.values()]).double().norm(),
    }


class GoldenCase:
    """A golden file on a device, with the network that it describes."""

    def __init__(self, file: Path, rule: ModuleType, device: torch.device | str = "cpu") -> None:
        arrays = np.load(file, allow_pickle=False)
        self.meta = json.loads(str(arrays["meta"]))
        names = [name for name in arrays.files if arrays[name].dtype.kind in "fiub" and name != "keys_crc32"]
        self.golden = {name: torch.from_numpy(arrays[name]).to(device) for name in names}
        self.model = build_filled(config_of(self.meta), rule, self.meta["seed"]).to(device)

    def evaluation(self) -> Arrays:
        """The evaluation part of what the file records, by the same names."""
        return _arrays(evaluation(self.model, self.golden, self.meta))

    def everything(self) -> Arrays:
        """All that the file records, by the same names."""
        return self.evaluation() | _arrays(training_step(self.model, self.golden, self.meta))


def _arrays(values: Mapping[str, Tensor]) -> Arrays:
    plain = {name: value.detach().cpu() for name, value in values.items()}
    return {name: (value.float() if value.dtype == torch.bfloat16 else value).numpy() for name, value in plain.items()}


def recompute(file: Path, rule: ModuleType) -> Arrays:
    """Everything a golden file records, computed by this package, by the same names."""
    return GoldenCase(file, rule).everything()
