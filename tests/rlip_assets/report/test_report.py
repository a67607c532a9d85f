"""The report shows what its inputs say, and nothing in their place."""

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlip_assets.lineage.params import load_params
from rlip_assets.lineage.params.training import TrainingParams
from rlip_assets.lineage.profiles import PARAMS_FILE, profile_root
from rlip_assets.report.artifacts import read_history, read_json, read_rows
from rlip_assets.report.class_facts import class_facts, classes_csv
from rlip_assets.report.facts import gather
from rlip_assets.report.markdown import tables_markdown, to_markdown
from rlip_assets.report.page import NOTICE, Picture, Section, render, render_page
from rlip_assets.report.plots import scaling_plot
from rlip_assets.report.repeats import Comparison, compare
from rlip_assets.report.runs import HICO, fusion_runs
from rlip_assets.report.sections import class_table, sections_of
from rlip_assets.report.verbs import verb_sources
from rlip_assets.storage.errors import InputError

METRICS = {
    "pretrain-vg": {f"{HICO}/full": 0.1},
    "pretrain-vg_coco_o365": {f"{HICO}/full": 0.1234, f"{HICO}/rare": 0.05, f"{HICO}/non_rare": 0.2},
    "finetune-hico_uc_rf": {f"{HICO}/full": 0.5, f"{HICO}/unseen": None, f"{HICO}/seen": 0.625},
    "finetune-v_coco": {"v_coco/official/role_ap_s1_24": 0.71},
}
INTERVALS = {"pretrain-vg_coco_o365": {f"{HICO}/full": [0.1, 0.15625], f"{HICO}/max_recall": [0.5, 0.75]}}
QUALITY = {
    "expected_calibration_error": 0.031,
    "expected_calibration_error_uncalibrated": 0.117,
    "calibration": {"curve": [{"from": 0.8, "labels": 12, "confidence": 0.875, "right": 0.75}]},
    "losses": {"coco": {"found": 5, "not_sure": 2, "not_matched": 0, "not_parsed": 1, "not_captioned": 0}},
    "precision": 0.81,
    "recall": 0.62,
    "operating_threshold": 0.3,
    "curve": [],
    "by_dataset": {"coco": {"labels": 7, "true_relations": 9, "precision": 0.5, "recall": None}},
    "by_relation": {
        "chase": {"labels": 4, "true_relations": 0, "precision": 0.25, "recall": None},
        "ride": {"labels": 3, "true_relations": 9, "precision": 1.0, "recall": 0.125},
    },
}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for run, metrics in METRICS.items():
        (tmp_path / "benchmarks" / run).mkdir(parents=True)
        (tmp_path / "benchmarks" / run / "metrics.json").write_text(json.dumps(metrics))
        (tmp_path / "benchmarks" / run / "intervals.json").write_text(json.dumps(INTERVALS.get(run, {})))
        (tmp_path / "benchmarks" / run / "errors.json").write_text(
            json.dumps({"shares": {"right": 0.25, "verb": 0.75}})
        )
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "label_quality.json").write_text(json.dumps(QUALITY))
    return tmp_path / "benchmarks", tmp_path / "quality"


def facts_of(folders: tuple[Path, Path]) -> dict:
    return gather(*folders) | {"profile": "micro", "micro_world": True, "verb_sources": []}


def test_figures_stand_in_the_tables(folders: tuple[Path, Path]) -> None:
    text = to_markdown(facts_of(folders), sections_of(facts_of(folders)))
    assert "| HICO-DET zero-shot (NF) | pretrain/vg_coco_o365 | 12.34 (10.0 to 15.6) | 5.00 | 20.00 |" in text
    assert "| HICO-DET UC-RF | pretrain/vg_coco_o365 | 50.00 | – | 62.50 |" in text
    assert "| V-COCO | pretrain/vg_coco_o365 | 71.00 | – | – |" in text
    assert "| HICO-DET zero-shot (NF) | 25.00 | 75.00 |" in text
    assert "Published figures on the real datasets" in text
    ours = "| this run (pretrain-vg_coco_o365) | 5.00 | 20.00 | 12.34 | this report |"
    assert text.index("HICO-DET without fine-tuning (NF) (hico_det/rlipv2/nms)") < text.index(ours)
    assert text.index(ours) < text.index("RLIPv2-ParSeDA R50")
    assert "this run (finetune-hico_full)" not in text  # that run was not made
    assert "| VG + COCO |" not in text  # that run was not made
    assert NOTICE in text


def test_fusions_are_compared_where_a_profile_has_more_than_one(folders: tuple[Path, Path]) -> None:
    assert "ALIF beside late fusion" not in [section.title for section in sections_of(facts_of(folders))]
    late = folders[0] / "pretrain-late_vg_coco_o365"
    late.mkdir()
    (late / "metrics.json").write_text(json.dumps({f"{HICO}/full": 0.0625}))
    (late / "intervals.json").write_text("{}")
    text = to_markdown(facts_of(folders), sections_of(facts_of(folders)))
    assert "| late fusion, equal steps | 6.25 |" in text.replace(" – |", "")
    assert "| ALIF beats late fusion, equal steps | +6.09 |" in text


def test_a_late_fusion_of_another_name_stands_beside_alif_on_the_same_data() -> None:
    training = load_params(profile_root("paper_r50") / PARAMS_FILE).training
    made = [f"pretrain-{name}" for name in training.pretrain]
    assert fusion_runs(training, made) == [
        ("ALIF, vg_coco", "pretrain-vg_coco"),
        ("late fusion, late_vg_coco", "pretrain-late_vg_coco"),
    ]
    assert fusion_runs(training, []) == []


def test_what_is_empty_is_not_shown(folders: tuple[Path, Path]) -> None:
    """No table without rows, no section of such tables, and no row for a verb that no source names."""
    facts = facts_of(folders) | {"comparisons": [], "fusion": []}
    counts = [{"exact": 2, "synonym": 0}, {"exact": 0, "synonym": 0}]
    facts["verb_sources"] = [
        {"verb": verb, "sources": {"Visual Genome": count}} for verb, count in zip(("ride", "sip"), counts, strict=True)
    ]
    sections = sections_of(facts)
    assert all(table.rows for section in sections for table in section.tables)
    text = to_markdown(facts, sections)
    assert "What the seeds show" not in text
    assert "Verbs of no source (1): sip." in text
    assert "| sip |" not in text


def test_pseudo_labels_are_shown_by_dataset_and_relation_and_by_whom_they_were_judged(
    folders: tuple[Path, Path],
) -> None:
    text = to_markdown(facts_of(folders), sections_of(facts_of(folders)))
    assert "| coco | 7 | 9 | 50.00 | – |" in text
    assert text.index("| ride | 3 | 9 | 100.00 | 12.50 |") < text.index("| chase | 4 | 0 | 25.00 | – |")
    assert "Visual Genome: " not in text
    assert "| found | not sure | not matched | not parsed | not captioned |" in text  # whatever order the file has
    assert "| coco | 8 | 62.50 | 25.00 | 0.00 | 12.50 | 0.00 |" in text
    assert "| from 0.800 | 12 | 87.50 | 75.00 |" in text
    assert "It is 0.031 after calibration and 0.117 without." in text
    human = {"images": 40, "human_triplets": 240, "carried_over": 120, "labels_not_judged": 5, "images_trained_on": 0}
    for trained_on in (0, 40):
        quality = QUALITY | {"human": human | {"images_trained_on": trained_on}}
        (folders[1] / "label_quality.json").write_text(json.dumps(quality))
        text = to_markdown(facts_of(folders), sections_of(facts_of(folders)))
        assert "240 in 40 images, of which 120 were carried over to the boxes of COCO. 5 labels" in text
        assert ("was trained on the triplets of 40 of these images" in text) == bool(trained_on)


def test_steps_have_a_column_where_they_are_known(folders: tuple[Path, Path]) -> None:
    facts = facts_of(folders)
    facts["scaling"][0]["steps"] = 500
    text = to_markdown(facts, sections_of(facts))
    assert "| data | steps | Full | Rare | Non-rare |" in text
    assert "| VG | 500 | 10.00 | – | – |" in text
    assert "| VG + COCO + Objects365 | – | 12.34 (10.0 to 15.6) |" in text


def test_page_shows_the_same_and_escapes(folders: tuple[Path, Path]) -> None:
    facts = facts_of(folders) | {"profile": "<b>"}
    page = render_page(facts, sections_of(facts, [Picture("a.png", "<script>")]))
    assert "12.34" in page
    assert "&lt;b&gt;" in page
    assert "<script>" not in page


def test_missing_or_damaged_metrics_are_named(folders: tuple[Path, Path]) -> None:
    file = folders[0] / "pretrain-vg" / "metrics.json"
    file.write_text("{")
    with pytest.raises(InputError, match="pretrain-vg"):
        gather(*folders)
    file.unlink()
    with pytest.raises(InputError, match=r"metrics\.json is missing"):
        gather(*folders)


def test_classes_stand_one_by_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run = folders[0] / "finetune-v_coco"
    rows = [
        {"protocol": "v_coco/official", "task": task, "class": f"{task} {i}"}
        | {"positives": i, "detections": 9, "right": 1, "recall": 1.0, "ap": i / 20}
        for task in ("role_s1", "agent") for i in range(13)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), run / "per_class.parquet")
    (run / "errors.json").write_text(json.dumps({"shares": {}, "by_verb": {"hold": {"right": 3}, "cut": {}}}))
    (run / "worst.json").write_text(json.dumps({"worst_1.png": "a caption"}))
    for name in ("precision_recall.png", "errors_by_cause.png", "worst_1.png"):
        (run / name).write_bytes(name.encode())
    found = class_facts(run, "v_coco", tmp_path / "reports")
    assert [row["class"] for row in found["best"]] == [f"role_s1 {i}" for i in (12, 11, 10, 9, 8)]
    assert [row["class"] for row in found["worst"]] == [f"role_s1 {i}" for i in (5, 4, 3, 2, 1)]  # 0 is not annotated
    assert len((tmp_path / "reports" / found["table"]).read_text().splitlines()) == 14
    for name in (*found["plots"], *found["examples"]):
        assert (tmp_path / "reports" / name).read_bytes() == Path(name).name.encode()
    facts = facts_of(folders)
    facts["results"][-1]["classes"] = found
    text = to_markdown(facts, sections_of(facts))
    assert "| role_s1 12 | 12 | 9 | 100.00 | 60.00 |" in text
    assert "| hold | 3 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "a caption" in text


def test_damaged_tables_and_histories_are_named(tmp_path: Path) -> None:
    for read in (read_json, read_history, read_rows):
        (tmp_path / "file").write_bytes(b"\xff\xfe{")
        with pytest.raises(InputError, match="file is damaged"):
            read(tmp_path / "file")
        with pytest.raises(InputError, match="nowhere is missing"):
            read(tmp_path / "nowhere")


HOSTILE = st.text(st.sampled_from("=+-@|`*[]<>&$\\\n\r\t,\"'# ab"), min_size=1, max_size=12)


@given(HOSTILE)
def test_class_names_are_text_in_every_form_of_the_report(name: str) -> None:
    """A spreadsheet runs none, a Markdown table keeps its shape, a page has no tag of theirs."""
    row = {"class": name, "positives": 1, "detections": 2, "right": 1, "recall": 0.5, "ap": 0.25}
    (cells,) = list(csv.reader(io.StringIO(classes_csv([row]), newline="")))[1:]
    assert len(cells) == 6
    assert not cells[0].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cells[0].removeprefix("'").split() == name.removeprefix("'").split()
    section = Section(name, tables=[class_table([row])], pictures=[Picture("a.png", name)])
    lines = tables_markdown([section]).splitlines()
    assert len(lines) == 5
    assert [len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines[2:]] == [7, 7, 7]
    assert "<" not in "".join(lines)
    page = render("t", "l", [section])
    assert (
        re.findall(r"<(?!/?(?:html|meta|title|style|h1|h2|p|table|tr|th|td|figure|img|figcaption)\b|!doctype)", page)
        == []
    )


def test_a_dollar_in_a_class_name_is_no_formula(tmp_path: Path) -> None:
    scaling_plot([{"data": "$\\nonsense{$", "figures": {"$a$b$": 0.5}}], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_verbs_are_counted_by_text_and_by_synonym() -> None:
    rows = verb_sources(
        ["ride", "fly"], {"ride": ["ride", "riding", "rides"]}, {"VG": Counter(ride=2, riding=3, walk=9)}
    )
    assert rows[0]["sources"]["VG"] == {"exact": 2, "synonym": 3}
    assert rows[1]["sources"]["VG"] == {"exact": 0, "synonym": 0}


def test_seeds_give_mean_spread_and_verdict(folders: tuple[Path, Path]) -> None:
    for run, values in {"pretrain-vg": (0.10, 0.12, 0.11), "pretrain-vg_coco_o365": (0.20, 0.21, 0.22)}.items():
        for number, value in enumerate(values):
            folder = folders[0] / (f"{run}-seed{number}" if number else run)
            folder.mkdir(exist_ok=True)
            (folder / "metrics.json").write_text(json.dumps({f"{HICO}/full": value}))
            (folder / "intervals.json").write_text(json.dumps({f"{HICO}/full": [0.0, 1.0]}))
    facts = facts_of(folders)
    (row,) = [row for row in facts["comparisons"] if row["lower"] == "pretrain-vg"]
    assert (row["seeds"], row["verdict"]) == (3, "shown")
    assert row["difference"] == pytest.approx(0.1)
    assert "21.00 ± 1.00" in to_markdown(facts, sections_of(facts))


@pytest.mark.parametrize(
    ("higher", "verdict"), [((0.2, 0.2), "too few seeds"), ((0.3, 0.0, 0.1), "not shown"), ((0.2, 0.2, 0.2), "shown")]
)
def test_a_difference_is_shown_above_twice_its_standard_error(higher: tuple[float, ...], verdict: str) -> None:
    runs = {"a": higher, "b": (0.1,) * len(higher)}
    metrics = {
        f"{run}-seed{i}" if i else run: {"m": value} for run, values in runs.items() for i, value in enumerate(values)
    }
    assert compare(metrics, [Comparison("a above b", "a", "b", "m")])[0]["verdict"] == verdict


def test_a_profile_with_other_starts_and_without_labels_is_reported_as_what_it_is(folders: tuple[Path, Path]) -> None:
    """No line says more than the profile has: another start by its name, other trainings by theirs, nothing of labels."""
    finetune = {
        "hico_uc_rf": {"recipe": "micro_hico_uc_rf", "start": "/official/r50"},
        "v_coco": {"recipe": "micro_v_coco"},
        "mine": {"recipe": "micro_v_coco", "start": "finetune/v_coco"},
    }
    training = TrainingParams.model_validate(
        {"pretrain": {"vg": {"recipe": "micro_vg"}}, "start": "pretrain/vg", "finetune": finetune}
    )
    (folders[0] / "finetune-v_coco").rename(folders[0] / "finetune-mine")
    facts = gather(folders[0], None, training=training) | {"profile": "p", "micro_world": False, "verb_sources": []}
    text = to_markdown(facts, sections_of(facts))
    assert "| HICO-DET zero-shot (NF) | pretrain/vg | 10.00 |" in text
    assert "| HICO-DET UC-RF | /official/r50 | 50.00 |" in text
    assert "| V-COCO, mine | finetune/v_coco | 71.00 |" in text
    assert "vg_coco_o365" not in text
    assert "Pseudo labels against" not in text
    assert NOTICE not in text
