"""Tiny image-text-to-text models with random weights, one per family, in folders as `save_pretrained` writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

WORDS = [
    "a",
    "person",
    "riding",
    "horse",
    "dog",
    "on",
    "the",
    "picture",
    "of",
    "yes",
    "no",
    "Yes",
    "No",
    "describe",
    "is",
    "this",
    "true",
    "in",
    "red",
    "blue",
    "box",
    "and",
    "what",
    "does",
    "image",
]
TEXT = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": 32, "patch_size": 16}


def _tokenizer(special: Sequence[str], **options: Any) -> Any:
    names = ["<pad>", "<s>", "</s>", "<unk>", *special, *WORDS]
    core = Tokenizer(WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(special),
        **options,
    )


def _chat(image: str) -> str:
    """A chat template without roles."""
    return (
        "{% for turn in messages %}{% for part in turn['content'] %}"
        f"{{% if part['type'] == 'image' %}}{image} {{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
        "{% endfor %}{% endfor %}"
    )


def _llava(folder: Path) -> None:
    tokenizer = _tokenizer(["<image>"])
    text = TEXT | {"model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32}
    config = LlavaConfig(
        vision_config=VISION | {"model_type": "clip_vision_model"},
        text_config=text | {"num_key_value_heads": 2},
        image_token_index=4,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_chat("<image>"),
    ).save_pretrained(folder)


def _blip2(folder: Path) -> None:
    tokenizer = _tokenizer(["<image>"])
    text = TEXT | {"model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 16, "word_embed_proj_dim": 16}
    config = Blip2Config(
        vision_config=VISION,
        qformer_config=VISION | {"encoder_hidden_size": 16, "vocab_size": len(tokenizer)},
        text_config=text | {"ffn_dim": 32, "max_position_embeddings": 128},
        num_query_tokens=4,
        image_token_index=4,
    )
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    images = BlipImageProcessorPil(size={"height": 32, "width": 32})
    Blip2Processor(images, tokenizer, num_query_tokens=4).save_pretrained(folder)


def _florence2(folder: Path) -> None:
    tokenizer = _tokenizer(["<image>"], extra_special_tokens={"image_token": "<image>"})
    text = {"model_type": "bart", "vocab_size": len(tokenizer), "d_model": 16, "max_position_embeddings": 128}
    sides = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in _BART.items()}
    vision = {"embed_dim": [8] * 4, "num_heads": [2] * 4, "num_groups": [2] * 4, "depths": [1] * 4}
    config = Florence2Config(
        text_config=text
        | sides
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2},
        vision_config=vision | {"projection_dim": 16, "window_size": 4},
        image_token_id=4,
    )
    Florence2ForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    vars(images)["image_seq_length"] = 5
    Florence2Processor(images, tokenizer).save_pretrained(folder)


_BART = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}


def _qwen(folder: Path) -> None:
    """Without the part for videos, which needs torchvision to be made."""
    tokenizer = _tokenizer(["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"])
    text = TEXT | {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_key_value_heads": 2}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope},
        vision_config=vision | {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]},
        image_token_id=4,
        video_token_id=5,
        vision_start_token_id=6,
        vision_end_token_id=7,
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.chat_template = _chat("<|vision_start|> <|image_pad|> <|vision_end|>")
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=112 * 112).save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "llava": _llava,
    "blip-2": _blip2,
    "florence2": _florence2,
    "qwen2_5_vl": _qwen,
}


def image_text_folder(base: Path, family: str) -> Path:
    """Return the folder of a family's model under `base`, made once."""
    folder = base / family
    if not folder.exists():
        torch.manual_seed(0)
        folder.mkdir()
        FAMILIES[family](folder)
    return folder
