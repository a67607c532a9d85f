"""From an official file to its published row: import, prediction, evaluation, figure beside figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlip_assets.cli.application import app
from rlip_assets.datasets.scenes import read_scenes
from rlip_assets.evaluation.formats.predictions import read_predictions
from rlip_assets.inference.benchmark import Predictor, open_predictor
from rlip_assets.report.reproduction import network_name, published_row, setting_of, setting_options, settings_of
from rlip_assets.storage.errors import InputError, ParameterError
from rlip_assets.training import benchmark_predictions
from rlip_model import Checkpoint, ModelConfig, build_model
from rlip_model.checkpoints.importing import import_checkpoint
from tests.support.benchmark_roots import WRITERS, draw_benchmark, released_config, write_released
from tests.support.command_lines import run

TESTS = 20
"""Images of a test split: a batch of 16 and the rest."""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roots")
    for benchmark in WRITERS:
        draw_benchmark(benchmark, folder / benchmark, TESTS)
    return folder


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Released networks see images of 800 pixels; these of 64."""
    monkeypatch.setattr("rlip_model.checkpoints.importing.PUBLISHED_IMAGE_SIZE", (64, 96))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of finished work, of a profile of its own."""
    (tmp_path / "profile").mkdir()
    monkeypatch.setattr("rlip_assets.cli.benchmark.profile_root", lambda name: tmp_path / "profile")
    return tmp_path / "profile/work/predict-benchmark"


def words(command: str, file: Path, roots: Path, benchmark: str, output: Path) -> list[str | Path]:
    options: list[str | Path] = ["--benchmark", benchmark, "--root", roots / benchmark, "--output", output]
    return [command, file, *options, "--tokenizer", file.parent / "tokenizer"]


@pytest.mark.parametrize(
    ("benchmark", "arguments", "setting", "persons_only"),
    [
        ("hico_det", {"dataset_file": "vg_coco2017_o365"}, "hico_det_zero_shot", True),
        ("hico_det", {"dataset_file": "hico", "zero_shot_setting": "UC-RF"}, "hico_det_uc_rf", False),
        ("hico_det", {"dataset_file": "hico", "few_shot_transfer": 10}, "hico_det_few_shot_10", False),
        ("v_coco", {"dataset_file": "vcoco"}, "v_coco", False),
        ("open_images", {"dataset_file": "oi_sgg"}, "open_images", False),
    ],
)
def test_a_released_file_goes_to_its_published_setting(
    benchmark: str,
    arguments: dict[str, Any],
    setting: str,
    persons_only: bool,
    roots: Path,
    work: Path,
    tmp_path: Path,
) -> None:
    write_released(tmp_path / "official.pth", **arguments)
    output = tmp_path / "out"
    assert run(words("reproduce", tmp_path / "official.pth", roots, benchmark, output)) is None
    record = json.loads((output / "reproduction.json").read_text())
    assert (record["setting"], record["persons_only"], record["images"]) == (setting, persons_only, TESTS)
    assert record["label_texts"] == ("published" if benchmark == "open_images" else "cleaned")
    metrics = json.loads((output / "metrics.json").read_text())
    for each in record["figures"]:
        value = metrics[f"{record['protocol']}/{each['figure']}"]
        assert each["ours"] == (None if value is None else pytest.approx(100 * value))
    assert {each["figure"] for each in record["figures"]} >= {
        "hico_det_uc_rf": {"unseen", "seen", "full"},
        "v_coco": {"role_ap_s1_24"},
        "open_images": {"score_wtd"},
    }.get(setting, {"full", "rare", "non_rare"})
    reader = read_predictions(output / f"{benchmark}.parquet")
    assert len(reader) == TESTS
    assert reader.metadata["zero_shot"] is persons_only
    assert {scene.image_id for scene in read_scenes(output / "scenes")} == {
        name for batch in reader for name in batch.image_ids
    }
    page = (output / "evaluation.html").read_text()
    assert f"official on the test split of {benchmark}" in page
    assert str(tmp_path) not in page
    assert not any(work.iterdir())


def test_a_killed_reproduction_goes_on_where_it_was(
    roots: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the import nor a finished shard is made again, and the result is that of an undisturbed run."""
    monkeypatch.setattr(benchmark_predictions, "SHARD_IMAGES", 16)
    write_released(tmp_path / "official.pth", dataset_file="vg")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(words("predict-benchmark", tmp_path / "official.pth", roots, "hico_det", whole)) is None
    write = benchmark_predictions.write_predictions
    imported: list[object] = []
    sizes: list[int] = []

    def dying(*arguments: Any) -> int:
        if sizes:
            raise OSError(28, "No space left on device", "disk")
        sizes.append(write(*arguments))
        return sizes[-1]

    again = words("predict-benchmark", tmp_path / "official.pth", roots, "hico_det", killed)
    with monkeypatch.context() as patched:
        patched.setattr(benchmark_predictions, "write_predictions", dying)
        assert "make room" in (run(again) or "")
    assert not killed.exists()
    monkeypatch.setattr("rlip_assets.cli.models.convert_checkpoint", imported.append)
    monkeypatch.setattr(benchmark_predictions, "write_predictions", lambda *a: sizes.append(write(*a)) or sizes[-1])
    assert run(again) is None
    assert sizes == [16, 4]
    assert imported == []
    names = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()}
    assert names == {path.relative_to(killed) for path in killed.rglob("*") if path.is_file()}
    assert all((whole / name).read_bytes() == (killed / name).read_bytes() for name in names)


def test_predictions_of_a_command_are_what_evaluate_reads(roots: Path, work: Path, tmp_path: Path) -> None:
    """A checkpoint folder of a training, over another split, judged as the last line of the command says."""
    from typer.testing import CliRunner

    write_released(tmp_path / "official.pth", dataset_file="vcoco")
    import_checkpoint(tmp_path / "official.pth", tmp_path / "folder", str(tmp_path / "tokenizer"))
    options = words("predict-benchmark", tmp_path / "folder", roots, "v_coco", tmp_path / "out")[:-2]
    shown = CliRunner().invoke(app, [*map(str, options), "--split", "train"]).stdout
    command: list[str | Path] = [*shown.split("`")[1].split()]
    assert command[:2] == ["rlip", "evaluate"]
    assert run(command[1:]) is None
    assert len(read_predictions(tmp_path / "out/v_coco.parquet")) == 4


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ({}, [], "does not say what it was trained on"),
        ({"dataset_file": "vg"}, ["--setting", "hico_det_best"], "There is no setting 'hico_det_best' of hico_det"),
        ({"dataset_file": "vg", "preset": "micro_tagger"}, [], "is an R-Tagger: it needs boxes"),
        ({"dataset_file": "vg"}, ["--root", "nowhere"], "nowhere is no folder: give the root of hico_det"),
        ({"dataset_file": "vg"}, ["--benchmark", "hico"], "There is no benchmark 'hico'"),
        ({"dataset_file": "vg"}, ["--label-texts", "raw"], "There are no label texts 'raw'"),
        ({"dataset_file": "vg"}, ["--device", "gpu"], "Device 'gpu' cannot be used here"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    arguments: dict[str, Any], options: list[str], sentence: str, roots: Path, work: Path, tmp_path: Path
) -> None:
    write_released(tmp_path / "official.pth", **arguments)
    said = run([*words("reproduce", tmp_path / "official.pth", roots, "hico_det", tmp_path / "out"), *options])
    assert sentence in (said or "")
    assert "\n" not in (said or "")
    assert not (tmp_path / "out").exists()


def test_what_stands_at_the_output_is_kept(roots: Path, work: Path, tmp_path: Path) -> None:
    write_released(tmp_path / "official.pth", dataset_file="vg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    for command in ("reproduce", "predict-benchmark"):
        said = run(words(command, tmp_path / "official.pth", roots, "hico_det", tmp_path / "out"))
        assert f"holds notes.txt, which `rlip {command}` did not write" in (said or "")
    assert not work.exists()
    inside = run(words("reproduce", tmp_path / "official.pth", roots, "hico_det", roots / "hico_det/out"))
    assert "lies in" in (inside or "")


def test_images_that_cannot_be_used_are_counted_and_too_many_refused(work: Path, tmp_path: Path) -> None:
    draw_benchmark("hico_det", tmp_path / "hico_det", 3)
    next((tmp_path / "hico_det/images/test2015").iterdir()).write_bytes(b"no image")
    write_released(tmp_path / "official.pth", dataset_file="vg")
    said = run(words("reproduce", tmp_path / "official.pth", tmp_path, "hico_det", tmp_path / "out"))
    assert "1 of 3 images are unusable, more than the allowed 1.0%" in (said or "")


def predictor(benchmark: str, zero_shot: bool, unseen: str | None = None, **metadata: Any) -> Predictor:
    config = released_config()
    tokenizer: Any = None
    return Predictor(Checkpoint(build_model(config), tokenizer, config, metadata), "n", benchmark, zero_shot, unseen)


def test_settings_follow_from_what_a_checkpoint_says() -> None:
    assert setting_of(predictor("hico_det", False)) == "hico_det_full"
    assert setting_of(predictor("hico_det", False, recipe={"share": 0.01})) == "hico_det_few_shot_1"
    assert setting_of(predictor("hico_det", False, "uc_nf")) == "hico_det_uc_nf"
    with pytest.raises(ParameterError, match="no setting 'v_coco_zero_shot' of v_coco"):
        setting_of(predictor("v_coco", True))
    for benchmark in WRITERS:
        for setting in settings_of(benchmark):
            zero_shot, unseen = setting_options(setting, benchmark)
            assert zero_shot == ("zero_shot" in setting)
            assert unseen is None or setting == f"{benchmark}_{unseen}"


def test_the_person_rule_needs_a_network_that_learnt_subjects() -> None:
    assert predictor("hico_det", True).persons_only
    assert not predictor("hico_det", False).persons_only
    assert not predictor("open_images", True).persons_only
    assert not predictor("v_coco", True, subject_scores=False).persons_only


@pytest.mark.parametrize(
    ("preset", "setting", "name", "figure"),
    [
        ("parseda_r50", "hico_det_zero_shot", ("RLIPv2-ParSeDA", "R50"), 17.79),
        ("parseda_swin_tiny", "hico_det_full", ("RLIPv2-ParSeDA", "Swin-T"), 38.60),
        ("parseda_swin_large", "hico_det_uc_nf", ("RLIPv2-ParSeDA", "Swin-L"), 36.94),
        ("rlipv1_parsed_r50", "hico_det_zero_shot", ("RLIP-ParSeD", "R50"), 13.92),
        ("rlipv1_parse_r50", "hico_det_uc_rf", ("RLIP-ParSe", "R50"), 30.52),
        ("parseda_late_r50", "hico_det_full", ("RLIPv2-ParSeDA with late fusion", "R50"), None),
        ("parsed_r50", "hico_det_full", ("RLIPv2-ParSeD", "R50"), None),
        ("micro_parseda", "hico_det_full", ("RLIPv2-ParSeDA", "ResNet (1, 1, 1, 1)"), None),
    ],
)
def test_a_network_finds_its_published_row(
    preset: str, setting: str, name: tuple[str, str], figure: float | None
) -> None:
    config = ModelConfig.preset(preset)
    assert network_name(config) == name
    row = published_row(setting, config)
    assert (row and row.figures["full"]) == figure


def test_a_checkpoint_says_itself_whether_it_was_trained_on_a_benchmark(tmp_path: Path) -> None:
    write_released(tmp_path / "official.pth")
    import_checkpoint(tmp_path / "official.pth", tmp_path / "folder", str(tmp_path / "tokenizer"))
    said = tmp_path / "folder/metadata.json"
    for metadata, zero_shot, unseen in (
        ({"trained_on": "vg_coco2017_hico"}, False, None),
        ({"trained_on": "vg_coco2017"}, True, None),
        ({"trained_on": "hico", "unseen": "uc_nf"}, False, "uc_nf"),
        ({"recipe": {"sources": {"hico_det": 1.0}, "unseen": "uc_rf"}}, False, "uc_rf"),
        ({"recipe": {"sources": {"visual_genome": 1.0}}}, True, None),
    ):
        said.write_text(json.dumps(metadata))
        found = open_predictor(tmp_path / "folder", "hico_det", "cpu")
        assert (found.zero_shot, found.unseen) == (zero_shot, unseen)
    assert not open_predictor(tmp_path / "folder", "hico_det", "cpu", zero_shot=False).zero_shot
    said.write_text(json.dumps({"trained_on": "photos"}))
    with pytest.raises(InputError, match="does not say what it was trained on"):
        open_predictor(tmp_path / "folder", "hico_det", "cpu")
