"""Tokenizers of the hub's form and size, made from class names and filled up: byte-level BPE of RoBERTa, WordPiece of BLIP."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROBERTA_TOKENS = 50265
BERT_TOKENS = 30522
BERT_SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}


def write_roberta_tokenizer(folder: Path, texts: Iterable[str]) -> None:
    """Write `vocab.json`, `merges.txt`, `dict.txt`, `tokenizer.json` and its settings, as in the folder of roberta-base."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=5000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator(sorted(set(texts)), trainer=trainer)
    model = json.loads(learned.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    for number in range(len(vocabulary), ROBERTA_TOKENS - 1):
        vocabulary[f"madeupword{number:05d}"] = number
    vocabulary["<mask>"] = ROBERTA_TOKENS - 1
    merges = [tuple(merge) for merge in model["merges"]]
    whole = Tokenizer(models.BPE(vocabulary, merges))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    whole.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    whole.add_special_tokens([*special, "<mask>"])
    whole.save(str(folder / "tokenizer.json"))
    _json(folder / "tokenizer_config.json", {"model_max_length": 512})
    _json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(merge) + "\n" for merge in merges))
    (folder / "dict.txt").write_text("".join(f"{number} 1\n" for number in range(len(vocabulary) - len(special) - 1)))


def write_bert_tokenizer(folder: Path, words: Iterable[str]) -> None:
    """Write `vocab.txt`, `tokenizer.json` and its settings, as in the folder of a BLIP captioner; unused places are `[unusedN]`."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    entries = dict.fromkeys([*letters, *(f"##{letter}" for letter in letters), *sorted(set(words))])
    vocabulary, waiting = dict(BERT_SPECIAL), iter(entries)
    for number in range(BERT_TOKENS):
        if number not in BERT_SPECIAL.values():
            token = next(waiting, None) if number > max(BERT_SPECIAL.values()) else None
            vocabulary[token or f"[unused{number}]"] = number
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    tokenizer.add_special_tokens(list(BERT_SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in ordered))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), BERT_SPECIAL, strict=True))
    _json(folder / "special_tokens_map.json", names)
    settings = {"do_lower_case": True, "model_max_length": 512, "tokenizer_class": "BertTokenizer", **names}
    _json(folder / "tokenizer_config.json", settings)


def _json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
