"""Any image-text-to-text model of transformers (BLIP-2, Florence-2, LLaVA, Qwen2.5-VL, ...): a photo and an instruction in, texts out.

Models with a chat template are asked in one turn of a chat; others read the instruction as it stands (for Florence-2 a task such as
"<DETAILED_CAPTION>"). Processors that also read videos need torchvision for that part alone, so they are opened without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils.logging import disable_progress_bar

from rlip_assets.storage.errors import InputError
from rlip_assets.storage.images import BadImageError

_TOKENS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
)
"""Settings of a generation_config.json that are about the model's tokens; all others choose a way to decode."""


def model_type(source: str | Path) -> str:
    """Return the `model_type` of a folder's or hub name's configuration, such as "blip" or "qwen2_5_vl".

    Raises:
        InputError: no configuration that transformers knows.
    """
    with refusing(source, "image-text-to-text model"):
        return str(AutoConfig.from_pretrained(source).model_type)


class ImageTextModel:
    """A model with its processor, which decodes as it is told, whatever its generation_config.json prefers.

    Attributes:
        device: where it computes.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval(), processor
        self.device: torch.device = model.device

    @classmethod
    def open(cls, source: str | Path, device: str | torch.device = "cpu") -> ImageTextModel:
        """Open a folder that `save_pretrained` wrote, or a hub name; in float32 on a CPU, else in the type of its weights.

        Raises:
            InputError: no such model there, or weights are missing.
        """
        with refusing(source, "image-text-to-text model"):
            dtype = torch.float32 if torch.device(device).type == "cpu" else "auto"
            loaded: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, output_loading_info=True)
            model, info = loaded
            if lacking := info["missing_keys"]:
                raise ValueError(f"it has no {min(lacking)}")
            _forget_decoding(model)
            return cls(model.to(device), open_processor(source))

    @torch.inference_mode()
    def write(self, photo: Image.Image, instruction: str, **decoding: Any) -> list[str]:
        """Return the texts that the model writes about an RGB photo, without the instruction.

        Args:
            decoding: arguments of `generate`, such as `num_return_sequences`; the others have the defaults of transformers.

        Raises:
            BadImageError: the model cannot prepare the photo. InputError: it cannot read the instruction.
        """
        inputs = self._inputs(photo, instruction)
        tokens: Tensor = self.model.generate(**inputs, **decoding)
        asked = inputs["input_ids"]
        if torch.equal(
            tokens[:, : asked.shape[1]], asked.expand(len(tokens), -1)
        ):  # decoders repeat what they were asked
            tokens = tokens[:, asked.shape[1] :]
        texts = self.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    @torch.inference_mode()
    def first_token(self, photo: Image.Image, instruction: str) -> Tensor:
        """Return (V,) the probabilities of the answer's first token; a token that starts every text (BART's <s>) is none of the answer.

        Raises:
            BadImageError, InputError: as `write`.
        """
        inputs = self._inputs(photo, instruction)
        settings = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True}
        found = self.model.generate(**inputs, max_new_tokens=1, min_new_tokens=1, **settings)
        if int(found.sequences[0, -1]) == self.processor.tokenizer.bos_token_id:
            found = self.model.generate(**inputs, max_new_tokens=2, min_new_tokens=2, **settings)
        probabilities: Tensor = found.logits[-1][0].float().softmax(-1).cpu()
        return probabilities

    def tokens_of(self, *words: str) -> list[int]:
        """Return the first tokens of some words, at the start of a text and after a space; unknown and blank ones are left out."""
        tokenizer = self.processor.tokenizer
        found = [
            tokenizer(text, add_special_tokens=False)["input_ids"] for word in words for text in (word, f" {word}")
        ]
        return sorted({ids[0] for ids in found if tokenizer.decode(ids[:1]).strip()} - {tokenizer.unk_token_id})

    def _inputs(self, photo: Image.Image, instruction: str) -> Any:
        if getattr(self.processor, "chat_template", None):
            turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": instruction}]}
            instruction = self.processor.apply_chat_template([turn], add_generation_prompt=True)
        try:
            inputs = self.processor(images=[photo], text=[instruction], return_tensors="pt").to(self.device)
        except (ValueError, IndexError, TypeError) as error:
            raise self._refusal(photo, instruction, error) from None
        pixels = inputs.get("pixel_values")
        if pixels is not None:
            inputs["pixel_values"] = pixels.to(self.model.dtype)
        return inputs

    def _refusal(self, photo: Image.Image, instruction: str, error: Exception) -> InputError | BadImageError:
        """Return what is wrong where the processor raised `error`: the photo, if it alone is refused too, or the instruction."""
        reason = str(error).split("\n")[0]
        try:
            self.processor.image_processor(images=[photo])
        except (ValueError, IndexError, TypeError):
            return BadImageError(Path("photo"), f"the model cannot prepare it ({reason})")
        token = getattr(self.processor, "image_token", None)
        template = "" if getattr(self.processor, "chat_template", None) else ", which has no chat template,"
        remedy = f"; put its chat_template.jinja into its folder, or write {token} into the instruction"
        return InputError(
            f"the model{template} cannot read the instruction {instruction!r} ({reason}){remedy if template else ''}"
        )


def _forget_decoding(model: Any) -> None:
    """Keep of the settings for `generate` that came with a model and its parts those of its tokens.

    `generate` takes whatever it is not told from them: Qwen2.5-VL asks for a temperature near zero, Florence-2 for three beams.
    """
    for module in model.modules():
        if (given := getattr(module, "generation_config", None)) is not None:
            module.generation_config = GenerationConfig(**{name: getattr(given, name) for name in _TOKENS})


def open_processor(source: str | Path) -> Any:
    """Open the processor of a folder or hub name, without its part for videos where torchvision is missing."""
    try:
        return AutoProcessor.from_pretrained(source)
    except ImportError:
        whole = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(source))]
        tokenizer = AutoTokenizer.from_pretrained(source)
        parts = {"image_processor": AutoImageProcessor.from_pretrained(source), "video_processor": None}
        return _of_images(whole)(**parts, tokenizer=tokenizer, chat_template=tokenizer.chat_template)


def _of_images(whole: Any) -> Any:
    """Return a class of processors that accepts that there is nothing for videos."""

    class OfImages(whole):  # type: ignore[misc]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)

    return OfImages


@contextmanager
def refusing(source: str | Path, kind: str) -> Iterator[None]:
    """Turn whatever transformers, tokenizers and safetensors raise while they open `source` into one sentence; no bar is drawn.

    Raises:
        InputError: the source is no such `kind` of model.
    """
    disable_progress_bar()
    try:
        yield
    except BaseException as error:  # they raise whatever they trip over, a panic of Rust included
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"{source} is no {kind} ({reason}); give a folder or hub name of one") from None
