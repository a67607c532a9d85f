"""Golden cases on a folder of another seed, other sizes and other numbers of texts than the recorded ones.

The reference networks are not at hand, so the plain formulation takes their place, which knows no code of the package. That the
rule's weights are loaded as they should is what the recorded cases show.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tests.support.plain_network as plain
from perf import golden_model as golden
from perf.check_golden_model import check_cases
from rlip_model.checkpoints.official_layout import official_state_dict
from tests.rlip_model.test_golden_model import FOLDER, rule
from tests.support.network_cases import make_targets

OBJECTS, RELATIONS = 4, 3
META: dict[str, Any] = {
    "seed": 9,
    "anchors": "ParSeDA",
    "backbone": "resnet50",
    "fusion_gate": "GLIP",
    "relation_query": "vanilla_MBF",
    "tagger": False,
    "num_queries": 14,
    "dim_feedforward": 96,
    "encoder_layers": 4,
    "decoder_layers": 2,
    "text_encoder": {
        "vocab": 90,
        "hidden": 64,
        "layers": 1,
        "heads": 4,
        "intermediate": 128,
        "max_positions": 20,
        "pad_id": 1,
        "layer_norm_eps": 1e-5,
    },
    "rql": True,
    "rpl": True,
    "subject_class": True,
    "no_objects_weight": 0.1,
    "matcher": {"classes": 1.0, "relations": 1.0, "l1": 2.5, "giou": 1.0},
    "loss_names": ["loss_obj_ce", "loss_verb_ce_0"],
    "grad_names": ["projection_text.weight"],
    "eval_objects": ["x"] * (OBJECTS + 1),
    "train_objects": ["x"] * OBJECTS,
}


def inputs() -> dict[str, Tensor]:
    """Three images of different sizes, and texts of different lengths."""
    torch.manual_seed(5)
    mask = torch.ones(3, 96, 160, dtype=torch.bool)
    for index, (height, width) in enumerate([(96, 130), (70, 160), (50, 64)]):
        mask[index, :height, :width] = False
    result = {"image": torch.randn(3, 3, 96, 160).masked_fill(mask[:, None], 0.0), "mask": mask}
    result["orig_sizes"] = torch.tensor([[480, 650], [140, 320], [500, 640]])
    for part, texts in (("eval", OBJECTS + 1 + RELATIONS), ("train", OBJECTS + RELATIONS)):
        ids = torch.randint(5, 90, (texts, 6))
        lengths = torch.arange(texts)[:, None] % 3 + 4
        result[f"{part}/attention_mask"] = (torch.arange(6) < lengths).long()
        result[f"{part}/input_ids"] = torch.where(torch.arange(6) < lengths, ids, 1)
    for index, count in enumerate((2, 0, 3)):
        targets = make_targets(count, OBJECTS, RELATIONS)
        for name in ("sub_labels", "obj_labels", "sub_boxes", "obj_boxes"):
            result[f"train/target{index}/{name}"] = getattr(targets, name)
        result[f"train/target{index}/verb_labels"] = targets.relations
    return result | {"train/grad_max_position": torch.tensor([0])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, given = golden.config_of(META), inputs()
    model = golden.build_filled(config, rule, META["seed"]).eval()
    state = official_state_dict(model)
    arrays: dict[str, Any] = {name: value.numpy() for name, value in given.items()}
    for part, objects in (("eval", OBJECTS + 1), ("train", OBJECTS)):
        with torch.no_grad():
            pooled = model.encode_text(given[f"{part}/input_ids"], given[f"{part}/attention_mask"])
            ignored = pooled.sum(-1) <= 0 if part == "train" else None
            output = plain.forward(state, config, given["image"], given["mask"], pooled, objects, ignored)
        assert ignored is None or 0 < int(ignored.sum()) < len(ignored)
        for layer, where in ((0, "aux0/"), (1, "")):
            for name, value in output.items():
                arrays[f"{part}/{where}pred_{name.replace('relation', 'verb')}"] = value[layer].numpy()
    result = tmp_path_factory.mktemp("golden")
    for name in ("weights_rule.py", "check.py"):
        shutil.copy(FOLDER / name, result)
    np.savez(result / "other.npz", meta=json.dumps(META), **arrays)
    return result


def run(monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    return check_cases(folder)


def test_another_folder_agrees(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(monkeypatch, folder)
    printed = capsys.readouterr().out
    assert code == 0, printed
    # Five outputs of two decoder layers, in evaluation and training.
    assert sum(line.startswith(("eval/", "train/")) and line.endswith("  ok") for line in printed.splitlines()) >= 20


def test_weights_of_another_seed_are_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    arrays = dict(np.load(folder / "other.npz"))
    np.savez(tmp_path / "copy" / "other.npz", **(arrays | {"meta": np.array(json.dumps(META | {"seed": 10}))}))
    assert run(monkeypatch, tmp_path / "copy") == 1
    assert "failed: other" in capsys.readouterr().out
