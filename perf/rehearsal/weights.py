"""Stand-ins of the external weights: random numbers in the files and shapes of the hub, of the DETR family and of the released checkpoints.

Only BLIP says something: its decoder's position embeddings lead to a few sentences such as "a man riding a horse", without which no
caption would have a triplet.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    RobertaConfig,
    RobertaForMaskedLM,
)
from transformers.utils.logging import disable_progress_bar

from perf.rehearsal.vocabularies import write_bert_tokenizer, write_roberta_tokenizer
from rlip_assets.datasets.sources.classes import official_table
from rlip_assets.micro_world.world import COCO_CATEGORIES
from rlip_model import ModelConfig, build_model
from rlip_model.checkpoints.official_layout import official_state_dict
from rlip_model.dab_deformable_detr import DabDeformableDetr

disable_progress_bar()
DETECTOR_QUERIES, DETECTOR_CLASSES = 300, 91
PROMPT_END = 3
"""Position of the last token of "a picture of" behind the start token."""
SUBJECTS, VERBS = ("person", "man", "woman"), ("riding", "holding", "carrying", "walking")
OBJECTS = tuple(name for name in COCO_CATEGORIES if name.isalpha() and name != "person")
SENTENCE: tuple[tuple[str, ...], ...] = (("a",), SUBJECTS, VERBS, ("a",), OBJECTS, ("[SEP]",))


def write_roberta(folder: Path) -> None:
    """Write a text encoder as the hub has roberta-base: a language model with its head and without the pooler."""
    folder.mkdir(parents=True)
    config = RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1
    )
    torch.manual_seed(0)
    RobertaForMaskedLM(config).save_pretrained(folder)
    texts = [str(row["name"]) for row in official_table("objects365")["objects"]]
    write_roberta_tokenizer(folder, [*texts, *(f" {text}" for text in texts)])


def write_blip(folder: Path) -> None:
    """Write a captioner as the hub has blip-image-captioning-base."""
    folder.mkdir(parents=True)
    words = {word for slot in SENTENCE for word in slot if word.isalpha()} | {"picture", "of"}
    write_bert_tokenizer(folder, words)
    vocabulary = (folder / "vocab.txt").read_text().splitlines()
    config = BlipConfig(
        text_config={
            "vocab_size": 30524,
            "bos_token_id": 30522,
            "eos_token_id": 2,
            "sep_token_id": 102,
            "num_attention_heads": 12,
        },
        vision_config={"image_size": 384},
    )
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(config)
    _teach(model, [[vocabulary.index(word) for word in slot] for slot in SENTENCE])
    model.save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 384, "width": 384}).save_pretrained(folder)


@torch.no_grad()
def _teach(model: BlipForConditionalGeneration, sentence: list[list[int]]) -> None:
    """Let the decoder say one of the words of slot i at the i-th place behind the prompt."""
    text = model.text_decoder
    words, places = (
        text.bert.embeddings.word_embeddings.weight,
        text.bert.embeddings.position_embeddings.weight,
    )
    words.normal_(0, 0.1)
    places.normal_()
    for name, weight in text.bert.named_parameters():
        if name.endswith("output.dense.weight"):  # what layers add stays small, so that a place is known at the end
            weight.mul_(0.1)
    dense = text.cls.predictions.transform.dense
    dense.weight.zero_()
    for index, slot in enumerate(sentence):
        wanted, place = words[slot].sum(0), places[PROMPT_END + index]
        dense.weight += torch.outer(wanted / wanted.norm(), place / place.norm())


def write_detectors(folder: Path) -> tuple[Path, Path]:
    """Write the start of the R-Tagger (Deformable-DETR) and that of ParSeDA (DAB-Deformable-DETR), both with box refinement."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = replace(ModelConfig.preset("parseda_r50"), queries=DETECTOR_QUERIES)
    torch.manual_seed(0)
    dab = official_state_dict(DabDeformableDetr(sizes, DETECTOR_CLASSES))
    plain = official_state_dict(DabDeformableDetr(replace(sizes, feed_forward=1024), DETECTOR_CLASSES))
    only_dab = (
        "tgt_embed.",
        "refpoint_embed.",
        "transformer.decoder.ref_point_head.",
        "transformer.decoder.query_scale.",
    )
    plain = {key: value for key, value in plain.items() if not key.startswith(only_dab)}
    plain |= {
        "query_embed.weight": torch.randn(DETECTOR_QUERIES, 2 * sizes.width),
        "transformer.reference_points.weight": torch.randn(2, sizes.width) * 0.02,
        "transformer.reference_points.bias": torch.zeros(2),
    }
    files = folder / "r50_deformable_detr_plus_iterative_bbox_refinement.pth", folder / "dab_deformable_detr_r50.pth"
    for file, state in zip(files, (plain, dab), strict=True):
        torch.save({"model": state, "epoch": 49, "args": argparse.Namespace(with_box_refine=True)}, file)
    return files


def write_released(file: Path, preset: str, arguments: Mapping[str, object]) -> None:
    """Write a released checkpoint of a network, with the command line it was trained with."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = official_state_dict(build_model(ModelConfig.preset(preset)))
    torch.save({"model": state, "epoch": 0, "args": argparse.Namespace(**arguments)}, file)
