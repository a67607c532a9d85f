"""Weights of another size are refused when a profile is read, by file, tensor and shapes; what fits is compared once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from rlip_assets.cli.stages import dvc_yaml
from rlip_assets.doctor import weights
from rlip_assets.doctor.fitting import FITTING_FILE, refuse_profile_misfits
from rlip_assets.storage import file_state
from rlip_assets.storage.errors import ParameterError
from tests.rlip_assets.doctor.conftest import WEIGHTS

CUT = "transformer.encoder.layers.0.linear1.weight"


@pytest.fixture
def detector(profile: Any) -> Path:
    """A copy of the shipped detector, named for one of the pre-trainings."""
    folder: Path = shutil.copytree(WEIGHTS / "detector", profile.root / "detector")
    profile.write({"training": {"pretrain": {"vg_coco_o365": {"recipe": "micro_vg", "detector": "detector"}}}})
    return folder


def cut(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[CUT] = tensors[CUT][:-1].clone()
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.usefixtures("detector")
def test_what_fits_is_compared_once_until_a_file_changes(profile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    real = weights.compare

    def counted(given: Any, *rest: Any) -> Iterator[Any]:
        compared.append(given.subject)
        return real(given, *rest)

    monkeypatch.setattr(weights, "compare", counted)
    monkeypatch.setattr(file_state, "is_settled", lambda stamp: True)  # as seconds after the copy
    for _ in range(2):
        refuse_profile_misfits(profile.root)
    assert compared == ["detector detector"]  # the shipped weights of shipped networks are not looked at
    os.utime(profile.root / "detector/model.safetensors", (1, 1))
    refuse_profile_misfits(profile.root)
    assert len(compared) == 2
    (profile.root / FITTING_FILE).write_text("[")
    refuse_profile_misfits(profile.root)
    assert len(compared) == 3


def test_a_misfit_names_key_file_tensor_and_shapes(
    profile: Any, detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_profile_misfits(profile.root)
    cut(detector)
    monkeypatch.setattr("rlip_assets.lineage.profiles.profile_root", lambda name: profile.root)
    monkeypatch.setattr("rlip_assets.cli.stages.profile_root", lambda name: profile.root)
    sentence = (
        rf"training.pretrain.vg_coco_o365.detector: {detector}/model.safetensors does not fit micro_parseda: .*linear1.weight has "
        r"shape \(\d+, \d+\), this network needs \(\d+, \d+\); name a DAB-Deformable-DETR with a feed-forward of"
    )
    for _ in range(2):  # a misfit is not remembered
        with pytest.raises(ParameterError, match=sentence):
            dvc_yaml("small")


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("detector", r"external.detector: .*x.pth is a file, .*run `rlip import-detector .*x.pth FOLDER`"),
        ("r_tagger", r"external.r_tagger: .*x.pth is a file, .*run `rlip import-checkpoint .*x.pth FOLDER`"),
        ("text_encoder", r"external.text_encoder: .*/x.pth has pytorch_model.bin and no model.safetensors; fetch that"),
    ],
)
def test_files_that_were_not_converted_are_told_with_the_command(profile: Any, key: str, sentence: str) -> None:
    place = profile.root / "x.pth"
    if key == "text_encoder":
        place.mkdir()
        place = place / "pytorch_model.bin"
    place.write_bytes(b"PK")
    profile.write({"external": {key: "x.pth"}})
    with pytest.raises(ParameterError, match=sentence):
        refuse_profile_misfits(profile.root)


def test_an_r_tagger_of_another_kind_and_what_is_not_there_yet(profile: Any) -> None:
    profile.write({"external": {"r_tagger": "later"}})
    refuse_profile_misfits(profile.root)  # left to the stage that reads it
    shutil.copytree(WEIGHTS / "detector", profile.root / "later")
    with pytest.raises(ParameterError, match=r"external.r_tagger: .*later"):
        refuse_profile_misfits(profile.root)
