"""Released files: recognised from keys and shapes, opened safely, refused when they do not fit."""

import argparse
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlip_model import ModelConfig, build_model, initialise_from_detector, load_checkpoint, train_label_tokenizer
from rlip_model.checkpoints.importing import DETR_SIGNS, import_checkpoint, import_detector, read_released
from rlip_model.checkpoints.official_layout import official_state_dict
from rlip_model.checkpoints.recognise import recognise
from rlip_model.checkpoints.transfer import DETR_SIGN, initialise_from_detector_state
from rlip_model.config import LabelTexts
from rlip_model.dab_deformable_detr import DabDeformableDetr
from tests.support.facts import CHECKPOINT_KEYS

RECORDED = Path(__file__).parents[2] / "golden" / "model"


def micro(preset: str = "micro_parseda") -> ModelConfig:
    config = ModelConfig.preset(preset)
    return replace(config, text=replace(config.text, heads=2))  # released text encoders have heads of width 64


def args(**values: object) -> argparse.Namespace:
    return argparse.Namespace(**({"nheads": 4, "gating_mechanism": "VXAc", "dataset_file": "hico"} | values))


def _tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    train_label_tokenizer(["person", "ride", "horse"], 300).save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return str(_tokenizer(tmp_path))


@pytest.fixture
def released(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    file = tmp_path / "official.pth"
    torch.save({"model": official_state_dict(build_model(micro())), "epoch": 19, "args": args()}, file)
    return file


@pytest.mark.parametrize(
    ("table", "preset", "queries"),
    [
        ("parseda_r50", "parseda_r50", 200),
        ("parsed_r50", "parsed_r50", 200),
        ("tagger", "tagger_r50", 200),
        ("parse_r50", "rlipv1_parse_r50", 200),
        ("parseda_swinT", "parseda_swin_tiny", 128),
        ("parseda_swinL", "parseda_swin_large", 128),
    ],
)
def test_every_released_layout_is_recognised(table: str, preset: str, queries: int) -> None:
    file = CHECKPOINT_KEYS / f"{table}.tsv"
    rows = [line.split("\t") for line in file.read_text().splitlines()[1:]]
    state = {
        row[0]: torch.empty([int(n) for n in row[1].strip("[]").split(",") if n.strip()], device="meta") for row in rows
    }
    expected = replace(ModelConfig.preset(preset), queries=queries)
    assert recognise(state, gate=expected.gate).config == expected


@pytest.mark.parametrize(
    ("case", "preset", "queries"),
    [
        ("parseda_hico", "parseda_r50", 128),
        ("parseda_swinT", "parseda_swin_tiny", 128),
        ("parsed_hico", "parsed_r50", 200),
        ("tagger", "tagger_r50", 200),
        ("parsed_v1", "rlipv1_parsed_r50", 200),
        ("parse_hico", "rlipv1_parse_r50", 128),
    ],
)
def test_every_recorded_network_is_recognised(case: str, preset: str, queries: int) -> None:
    """Late fusion included, which no key list has; the recorded text encoders are smaller."""
    arrays = np.load(RECORDED / f"{case}.npz", allow_pickle=False)
    state = {key: torch.empty(shape, device="meta") for key, shape in json.loads(str(arrays["keys"]))}
    expected = ModelConfig.preset(preset)
    found = recognise(state, gate=expected.gate).config
    text = replace(expected.text, layers=2, vocabulary=2000)
    assert found == replace(expected, queries=queries, text=text)


@pytest.mark.parametrize("preset", ["micro_parseda", "micro_parseda_late", "micro_tagger", "micro_parse"])
def test_every_field_has_its_evidence(preset: str) -> None:
    config = replace(micro(preset), gate="none")
    with torch.device("meta"):
        state = official_state_dict(build_model(config))
    found = recognise(state, vars(args(gating_mechanism="XGating", dropout=0.0)))
    assert set(found.evidence) == {field.name for field in fields(ModelConfig)}
    assert all(len(why) > 8 for why in found.evidence.values())
    fused = config.fusion == "alif"
    shapes_only = {} if fused else {"gate": "vxac"}
    published = {"fusion_dropout": 0.1, "text": replace(config.text, dropout=0.1)}
    unused = {} if fused else {"fusion_width": 2048}
    unused |= {} if config.fusion == "late" else {"late_feed_forward": 1024}
    unused |= {"encoder_points": 4, "decoder_points": 4, "relation_branches": 16} if config.is_dense else {}
    assert found.config == replace(config, **shapes_only, **published, **unused)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stored", "given", "form"),
    [
        ({"dataset_file": "oi_sgg"}, None, "published"),
        ({"dataset_file": "oi_sgg"}, "cleaned", "cleaned"),
        ({"dataset_file": "hico"}, None, "cleaned"),
        ({"dataset_file": ["oi_sgg"]}, None, "cleaned"),
        ({}, None, "cleaned"),
        ({}, "published", "published"),
    ],
)
def test_the_form_of_label_texts_is_read_from_the_command_line(
    tmp_path: Path, tokenizer: str, stored: dict[str, object], given: LabelTexts | None, form: str
) -> None:
    arguments = argparse.Namespace(nheads=4, gating_mechanism="VXAc", **stored)
    file = tmp_path / "oi.pth"
    torch.save({"model": official_state_dict(build_model(micro())), "args": arguments}, file)
    found = import_checkpoint(file, tmp_path / "checkpoint", tokenizer, label_texts=given)
    assert found.config.label_texts == load_checkpoint(tmp_path / "checkpoint").config.label_texts == form
    assert found.evidence["label_texts"].startswith(f"{form}: ")


@pytest.mark.parametrize("stored", ["8", None, [8], True, 0, -8, float("nan")])
def test_a_strange_command_line_is_refused_by_name(stored: object) -> None:
    with torch.device("meta"):
        state = official_state_dict(build_model(micro()))
    with pytest.raises(ValueError, match=r"args\.nheads"):
        recognise(state, {"nheads": stored, "gating_mechanism": "VXAc"})
    # What is no known name counts as not stored.
    assert recognise(state, {"nheads": 4, "gating_mechanism": [stored], "verb_query_tgt_type": {}}, "glip").config


def test_fused_levels_are_those_of_the_command_line() -> None:
    with torch.device("meta"):
        state = official_state_dict(build_model(micro()))
    for stored, levels in ((True, 1), (False, 4), (None, 1)):
        arguments = {"nheads": 4} | ({} if stored is None else {"fusion_last_vis": stored})
        assert recognise(state, arguments, "glip").config.fusion_levels == levels


def test_all_that_the_published_training_stores_is_let_through(tmp_path: Path) -> None:
    """Optimiser, learning rate schedule and epoch lie beside the weights."""
    layer = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 15)
    content = {
        "model": layer.state_dict(),
        "optimizer": optimiser.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "epoch": 19,
        "args": args(dataset_config=None, lr=1e-4, masks=False, names=["a"]),
    }
    torch.save(content, tmp_path / "whole.pth")
    found = read_released(tmp_path / "whole.pth")
    assert set(found.state) == {"weight", "bias"}
    assert found.arguments["lr"] == 1e-4


def test_a_file_that_promises_more_numbers_than_it_holds_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"huge": torch.zeros(1).expand(10**6, 10**6)}}, tmp_path / "bomb.pth")
    with pytest.raises(ValueError, match="huge claims"):
        read_released(tmp_path / "bomb.pth")


def test_a_detector_is_imported_and_starts_a_network(tmp_path: Path) -> None:
    torch.manual_seed(2)
    detector = DabDeformableDetr(replace(ModelConfig.preset("micro_detector"), queries=10), 4)
    state = official_state_dict(detector)
    aliases = {f"transformer.decoder.{key}": value for key, value in state.items() if key.startswith("bbox_embed.")}
    torch.save({"model": state | aliases, "args": args()}, tmp_path / "dab.pth")
    import_detector(tmp_path / "dab.pth", tmp_path / "detector")
    models = [build_model(ModelConfig.preset("micro_parseda")) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    initialise_from_detector(models[0], tmp_path / "detector")
    initialise_from_detector_state(models[1], state)
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name]), name
    with pytest.raises(ValueError, match="import-detector"):
        import_checkpoint(tmp_path / "dab.pth", tmp_path / "model", str(_tokenizer(tmp_path)))


def test_detr_is_imported_and_a_part_of_it_refused(tmp_path: Path) -> None:
    state = {key: torch.ones(2) for key in (DETR_SIGN, *DETR_SIGNS)}
    torch.save({"model": state}, tmp_path / "detr.pth")
    assert import_detector(tmp_path / "detr.pth", tmp_path / "detr") == 4
    torch.save({"model": {DETR_SIGN: torch.ones(2)}}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"no transformer\.encoder\.layers\.0\.self_attn\.in_proj_weight .* or DETR"):
        import_detector(tmp_path / "part.pth", tmp_path / "part")


@pytest.mark.parametrize("missing", ["transformer.level_embed", "bbox_embed.1.layers.2.weight"])
def test_no_detector_is_refused_by_what_it_lacks(missing: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        detector = DabDeformableDetr(replace(ModelConfig.preset("micro_detector"), queries=10), 4)
    state = {key: torch.zeros(1) for key in official_state_dict(detector) if key != missing}
    torch.save({"model": state}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=f"has no {missing}"):
        import_detector(tmp_path / "other.pth", tmp_path / "detector")
    assert not (tmp_path / "detector").exists()


def test_import_gives_the_same_outputs(released: Path, tokenizer: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    original = build_model(micro()).eval()
    import_checkpoint(released, tmp_path / "model", tokenizer)
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.metadata["subject_scores"] is False
    assert "gating_mechanism" in loaded.metadata["evidence"]["gate"]
    image, mask = torch.randn(1, 3, 96, 128), torch.zeros(1, 96, 128, dtype=torch.bool)
    tokens = loaded.tokenizer(["person", "horse", "no objects", "ride"])
    with torch.no_grad():
        outputs = [m(image, mask, m.encode_text(*tokens), 3) for m in (original, loaded.model)]
    assert torch.equal(outputs[0].relation_logits, outputs[1].relation_logits)
    assert torch.equal(outputs[0].sub_boxes, outputs[1].sub_boxes)


def gamma(first: float, rest: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.tensor([first]), rest])


def test_gate_without_a_stored_command_line() -> None:
    state = official_state_dict(build_model(micro()))
    keys = [key for key in state if key.endswith(("gamma_v", "gamma_l"))]
    with pytest.raises(ValueError, match="--gate"):
        recognise(state, {"nheads": 4})
    assert recognise(state, {"nheads": 4}, gate="none").config.gate == "none"
    for key in keys:
        state[key] = gamma(0.3, torch.full((len(state[key]) - 1,), 0.25))
    assert recognise(state, {"nheads": 4}).config.gate == "vxac"
    for key in keys:
        state[key] = torch.randn(len(state[key]))
    assert recognise(state, {"nheads": 4}).config.gate == "glip"


def test_a_file_that_does_not_fit_is_refused_by_name(released: Path, tokenizer: str, tmp_path: Path) -> None:
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(released, weights_only=True)
    del content["model"]["projection_text.weight"]
    content["model"]["stranger"] = torch.zeros(1)
    torch.save(content, released)
    with pytest.raises(ValueError, match=r"projection_text\.weight.*stranger"):
        import_checkpoint(released, tmp_path / "model", tokenizer)
    assert not (tmp_path / "model").exists()


def test_without_a_tokenizer_nothing_is_written(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="tokenizer"):
        import_checkpoint(released, tmp_path / "model", str(tmp_path / "no-tokenizer-here"))
    assert not (tmp_path / "model").exists()


class Hostile:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"model": {"a": torch.zeros(1)}, "args": Hostile(f"touch {trace}")}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="could run code"):
        read_released(tmp_path / "bad.pth")
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 10, 5000])
def test_truncated_files_are_refused(released: Path, kept: int) -> None:
    released.write_bytes(released.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"official\.pth"):
        read_released(released)


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="no weights"):
        read_released(tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="does not exist"):
        read_released(tmp_path / "absent.pth")
