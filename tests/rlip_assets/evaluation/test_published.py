"""The table of published figures is whole: every row has a source and a setting, and its figures agree with each other."""

import pytest

from rlip_assets.evaluation.core.protocols import DESCRIPTIONS
from rlip_assets.evaluation.published import published_figures

FIGURES = {
    "hico_det": {"full", "rare", "non_rare", "unseen", "seen"},
    "v_coco": {"role_ap_s1_24", "role_ap_s2_24"},
    "open_images": {"recall_50", "wmap_rel", "wmap_phr", "score_wtd"},
}


def test_every_row_has_setting_source_and_figures_of_its_protocol() -> None:
    table = published_figures()
    for row in table.rows:
        protocol = table.settings[row.setting].protocol
        assert row.source in table.sources
        assert row.figures
        assert set(row.figures) <= FIGURES[protocol.split("/")[0]], row
        assert all(1 < value < 100 for value in row.figures.values()), row
        assert protocol.removesuffix("/nms") in DESCRIPTIONS
    assert {row.setting for row in table.rows} == set(table.settings)
    assert {row.source for row in table.rows} == set(table.sources)
    keys = [(row.setting, row.method, row.backbone, row.note) for row in table.rows]
    assert len(set(keys)) == len(keys)


def test_figures_of_a_row_agree_or_the_note_says_so() -> None:
    """Full is the mean over 138 rare and 462 other classes, or over the unseen (120, 100 or 84) and seen ones; score_wtd is its formula."""
    checked = 0
    for row in published_figures().rows:
        f = row.figures
        if {"full", "rare", "non_rare"} <= set(f):
            expected = (138 * f["rare"] + 462 * f["non_rare"]) / 600
        elif {"full", "unseen", "seen"} <= set(f):
            share = {"hico_det_uo": 100, "hico_det_uv": 84}.get(row.setting, 120)
            expected = (share * f["unseen"] + (600 - share) * f["seen"]) / 600
        elif {"recall_50", "wmap_rel", "score_wtd"} <= set(f):
            f = {**f, "full": f["score_wtd"]}
            expected = 0.2 * f["recall_50"] + 0.4 * f["wmap_rel"] + 0.4 * f["wmap_phr"]
        else:
            continue
        checked += 1
        agrees = abs(f["full"] - expected) <= 0.02
        assert agrees != (f"although its parts give {expected:.2f}" in row.note), (row, expected)
    assert checked > 60


@pytest.mark.parametrize(
    ("setting", "figure", "method", "value"),
    [
        ("hico_det_full", "full", "PViC+", 46.49),
        ("hico_det_zero_shot", "full", "RLIPv2-ParSeDA", 23.29),
        ("hico_det_uc_nf", "unseen", "DA-HOI", 43.12),
        ("hico_det_uv", "unseen", "DA-HOI", 36.89),
        ("hico_det_few_shot_other", "full", "HOICLIP", 30.88),
        ("open_images_predicate", "score_wtd", "BGNN", 42.47),
        ("v_coco", "role_ap_s1_24", "RLIPv2-ParSeDA", 72.1),
        ("open_images", "score_wtd", "RLIPv2-ParSeDA", 57.34),
    ],
)
def test_the_best_published_rows(setting: str, figure: str, method: str, value: float) -> None:
    best = published_figures().of(setting, figure)[0]
    assert (best.method, best.figures[figure]) == (method, value)


def test_a_method_whose_protocol_is_unproven_says_so() -> None:
    """DA-HOI's evaluator leaves out the classes of no interaction, and no weights are released to judge otherwise."""
    rows = [row for row in published_figures().rows if row.method == "DA-HOI" and row.source == "da_hoi"]
    assert len(rows) == 5
    assert all("protocol unproven" in row.note for row in rows)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(KeyError, match="no setting 'hico'"):
        published_figures().of("hico", "full")
