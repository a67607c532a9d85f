"""The recorded behaviour of the published networks: outputs, intermediates, matches, losses, gradients, post-processing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from perf import check_golden_model
from perf.golden_model import config_of, load_module, recompute
from rlip_model import build_model
from rlip_model.checkpoints.official_layout import official_state_dict

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "golden" / "model"
CASES = sorted(file.stem for file in FOLDER.glob("*.npz"))
# Merging the images' label lists into `train/target*` belongs to the training data, not to the network.
NOT_OURS = ("train/target",)


rule = load_module(FOLDER / "weights_rule.py")
check = load_module(FOLDER / "check.py")


def test_all_cases_are_here() -> None:
    assert len(CASES) == 9


@pytest.mark.parametrize("case", CASES)
def test_case_agrees(case: str) -> None:
    report = check.check(FOLDER / f"{case}.npz", recompute(FOLDER / f"{case}.npz", rule))
    assert report.ok, str(report)
    assert not [name for name in report.missing if not name.startswith(NOT_OURS)]
    assert len(report.rows) > (65 if case == "parse_hico" else 80)  # without subject classes


@pytest.mark.parametrize("case", CASES)
def test_weights_are_what_was_recorded(case: str) -> None:
    """The first and the last tensors of the rule, by checksum: another numpy stream would explain every failure above."""
    arrays = np.load(FOLDER / f"{case}.npz", allow_pickle=False)
    seed = json.loads(str(arrays["meta"]))["seed"]
    rows = list(zip(json.loads(str(arrays["keys"])), arrays["keys_crc32"], strict=True))
    for (key, shape), crc in rows[:20] + rows[-20:]:
        assert rule.crc_of_values(rule.value(key, shape, seed)) == crc, key


def test_keys_are_the_recorded_ones() -> None:
    """Every official floating-point key of every recorded network has its place here, and no other."""
    import torch

    for case in CASES:
        arrays = np.load(FOLDER / f"{case}.npz", allow_pickle=False)
        config = config_of(json.loads(str(arrays["meta"])))
        with torch.device("meta"):
            mine = official_state_dict(build_model(config))
        want = {key: tuple(shape) for key, shape in json.loads(str(arrays["keys"]))}
        have = {key: tuple(value.shape) for key, value in mine.items() if value.is_floating_point()}
        assert have == want, case


def test_command_prints_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = dict(np.load(FOLDER / "tagger.npz", allow_pickle=False))
    monkeypatch.setattr(check_golden_model, "recompute", lambda file, rule: recorded)
    assert check_golden_model.check_cases(FOLDER, ["tagger"]) == 0
    recorded["train/pred_verb_logits"] = recorded["train/pred_verb_logits"] + 1e-2
    assert check_golden_model.check_cases(FOLDER, ["tagger"]) == 1
    printed = capsys.readouterr().out
    assert "train/pred_verb_logits" in printed
    assert "failed: tagger" in printed
