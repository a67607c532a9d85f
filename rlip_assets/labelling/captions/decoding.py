"""Nucleus sampling of many captions per image, with the image encoded once.

Published: N independent passes through image encoder and decoder for N captions. Here the image is encoded once, the decoder reads
the prompt once per image (which also computes the cross-attention keys and values of the image tokens), its cache is repeated for the
N captions, and only the new tokens are decoded N times. The distribution is the same.

Shape legend: B images, N captions per image, R = B N rows, V vocabulary, S tokens so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

if TYPE_CHECKING:
    from transformers import BlipForConditionalGeneration


@dataclass(frozen=True)
class Nucleus:
    """Settings of nucleus sampling; lengths in tokens, prompt included."""

    top_p: float = 0.9
    top_k: int | None = 50
    """Most likely tokens among which `top_p` chooses; None takes all."""
    min_tokens: int = 5
    max_tokens: int = 20
    repetition_penalty: float = 1.1


@torch.inference_mode()
def sample_captions(
    model: BlipForConditionalGeneration, pixels: Tensor, prompt: Sequence[int], uniform: Tensor, settings: Nucleus
) -> Tensor:
    """Sample captions.

    Args:
        pixels: (B, 3, H, W).
        prompt: token ids, the start token first.
        uniform: (B, N, T) numbers in [0, 1), T at least `max_tokens` minus the prompt; one decides one token.
    Returns:
        (B, N, S) token ids, prompt included, filled with the padding token after the end token.
    """
    batch, captions, _ = uniform.shape
    text: Any = model.config.text_config
    chances = uniform.to(pixels.device).flatten(0, 1)
    image = model.vision_model(pixels).last_hidden_state
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    start = torch.tensor(list(prompt), device=pixels.device).expand(batch, -1)
    logits = model.text_decoder(
        input_ids=start, encoder_hidden_states=image, past_key_values=cache, use_cache=True
    ).logits[:, -1]
    cache.batch_repeat_interleave(captions)
    logits, tokens = (value.repeat_interleave(captions, dim=0) for value in (logits, start))
    rows = image[:, :1].repeat_interleave(captions, dim=0)  # only its presence matters: keys and values are cached
    ended = torch.zeros(len(tokens), dtype=torch.bool, device=pixels.device)
    for step in range(settings.max_tokens - len(prompt)):
        logits = penalise(logits.float(), tokens, settings.repetition_penalty)
        if tokens.shape[1] < settings.min_tokens:
            logits[:, text.sep_token_id] = -torch.inf
        chosen = choose(logits, chances[:, step], settings.top_p, settings.top_k).masked_fill(ended, text.pad_token_id)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        ended |= chosen == text.sep_token_id
        if ended.all() or step + 1 == settings.max_tokens - len(prompt):
            break
        out = model.text_decoder(
            input_ids=chosen[:, None], encoder_hidden_states=rows, past_key_values=cache, use_cache=True
        )
        logits = out.logits[:, -1]
    return tokens.view(batch, captions, -1)


@torch.inference_mode()
def beam_captions(
    model: BlipForConditionalGeneration,
    pixels: Tensor,
    prompt: Sequence[int],
    beams: int,
    min_tokens: int,
    max_tokens: int,
) -> Tensor:
    """Return one caption per image by beam search, as published: (B, 1, S) token ids, prompt included."""
    text: Any = model.config.text_config
    start: Any = torch.tensor([*prompt, text.sep_token_id], device=pixels.device).repeat(len(pixels), 1)
    found: Tensor = model.generate(
        pixels, input_ids=start, num_beams=beams, do_sample=False, min_length=min_tokens, max_length=max_tokens
    )
    return found[:, None]


def penalise(logits: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Logits (R, V) with those of tokens that a row (R, S) already has divided by `penalty`, or multiplied where negative (CTRL)."""
    if penalty == 1.0:
        return logits.clone()
    seen = logits.gather(1, tokens)
    return logits.scatter(1, tokens, torch.where(seen < 0, seen * penalty, seen / penalty))


def choose(logits: Tensor, chances: Tensor, top_p: float, top_k: int | None = None) -> Tensor:
    """Draw one token per row from the smallest set of most likely tokens whose probability exceeds `top_p`.

    With `top_k`, that many most likely tokens alone share the probability, as in the published sampler.

    Args:
        logits: (R, V). chances: (R,) in [0, 1): position in the cumulative distribution over that set, most likely first.
    Returns:
        (R,) token ids.
    """
    probabilities, order = logits.double().softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        probabilities = probabilities[:, :top_k] / probabilities[:, :top_k].sum(dim=-1, keepdim=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    kept = probabilities.masked_fill(before > top_p, 0.0)
    kept[:, 0] = probabilities[:, 0]
    cumulative = kept.cumsum(dim=-1)
    target = chances.to(cumulative)[:, None] * cumulative[:, -1:]
    rank = (cumulative <= target).sum(dim=-1, keepdim=True).clamp(max=kept.shape[1] - 1)
    return order.gather(1, rank).squeeze(1)
