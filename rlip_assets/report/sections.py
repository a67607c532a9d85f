"""The report's sections, made once from the facts; Markdown and HTML show the same ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlip_assets.evaluation.errors_by_cause import CAUSES
from rlip_assets.labelling.lost_relations import OUTCOMES
from rlip_assets.report.page import Picture, Section, Table

RELATIONS_SHOWN = 30
INTERVALS = (
    "In parentheses: 95 % bootstrap interval over test images (200 draws), which says how far a figure depends on them, not on the seed "
    "of training."
)


def percent(value: float | None) -> str:
    """A fraction as a percentage with two digits, or a dash."""
    return "–" if value is None else f"{100 * value:.2f}"


def figures_table(first: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of figures in percent, with their spread over seeds, or of one seed their bootstrap interval over test images.

    Args:
        first: title of the first column, and key of its text in each row.
        rows: with `figures` and `spread` by column; the columns are the union of the rows' names, in order of appearance. The
            `start` of a training and its `steps` have a column where rows have them.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    plain = [name for name in ("start", "steps") if any(name in row for row in rows)]
    cells = [
        [
            row[first],
            *(str(row.get(name, "–")) for name in plain),
            *(_cell(row["figures"].get(c), row["spread"].get(c), row.get("intervals", {}).get(c)) for c in columns),
        ]
        for row in rows
    ]
    return Table([first, *plain, *columns], cells)


def _cell(mean: float | None, spread: float | None, interval: Sequence[float] | None) -> str:
    if spread is not None:
        return f"{percent(mean)} ± {100 * spread:.2f}"
    return percent(mean) + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else "")


def sections_of(facts: Mapping[str, Any], pictures: Sequence[Picture] = ()) -> list[Section]:
    """All sections; `pictures` are the example images of the last one."""
    hico = [row for row in facts["results"] if row["protocol"].startswith("hico_det")]
    rare = [row for row in hico if "Rare" in row["figures"]]
    unseen = [row for row in hico if "Unseen" in row["figures"]]
    others = [row for row in facts["results"] if row not in hico]
    sections = [
        Section(
            "HICO-DET, mAP",
            "Protocol hico_det/rlipv2 with pair suppression. Every other protocol is in benchmark.json. " + INTERVALS,
            [figures_table("setting", rare), figures_table("setting", unseen)],
        ),
        *(
            Section(
                row["setting"],
                f"Protocol {row['protocol']}.",
                [figures_table("setting", [row])],
            )
            for row in others
        ),
        Section(
            "More data: zero-shot mAP by pre-training mix",
            "Each mix trains for as many epochs, as published, so that a larger mix trains for more steps. Verb groups say how Visual "
            f"Genome names a benchmark verb: by the same text, by a synonym only, or not at all.{_unnamed_verbs(facts)}",
            [
                figures_table("data", facts["scaling"]),
                *_verbs(facts),
            ],
            ["plots/scaling.png", "plots/learning.png"],
        ),
        *_fusion(facts["fusion"]),
        Section(
            "What the seeds show",
            "Paired differences of mAP in points. A claim counts as shown when the mean difference over at least three seeds is above "
            "twice its standard error.",
            [comparisons_table(facts["comparisons"])],
        ),
        *_pseudo_labels(facts["label_quality"], drawn=facts.get("micro_world", False)),
        Section(
            "Where errors come from",
            "Of each test image the best R triplets, R being the number of its annotated relations, by what is wrong with them.",
            [figures_table("setting", facts["errors"])],
        ),
        *(_classes(row) for row in facts["results"] if "classes" in row),
        *([Section("Relations found in test images", pictures=pictures)] if pictures else []),
        Section(
            "Published figures on the real datasets",
            "For orientation, each with the protocol that compares with it on the real dataset. None of them was re-run here. "
            "The first row of a table is this run.",
            [_published(setting) for setting in facts["published"] if setting["rows"]],
        ),
    ]
    return list(filter(None, map(_filled, sections)))


def _filled(section: Section) -> Section | None:
    """Return a section without empty tables; None where it had tables and all of them are empty."""
    tables = [table for table in section.tables if table.rows]
    return replace(section, tables=tables) if tables or not section.tables or section.pictures else None


def _fusion(rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Return the section that compares fusions, where the profile has more than one."""
    if len(rows) < 2:
        return []
    return [
        Section(
            "ALIF beside late fusion",
            "Zero-shot mAP on the same data, after as many steps or as many seconds. One seed shows no significance.",
            [figures_table("fusion", rows)],
            ["plots/fusion.png"],
        )
    ]


def _pseudo_labels(quality: Mapping[str, Any] | None, *, drawn: bool) -> list[Section]:
    """Return the section of the pseudo labels, where they were judged; `drawn`: by the truth of the micro world."""
    if quality is None:
        return []
    losses = quality.get("losses", {})
    return [
        Section(
            "Pseudo labels against the truth kept aside"
            if drawn and "human" not in quality
            else "Pseudo labels against human triplets",
            "The threshold was chosen on one half of the images and the figures are those of the other half."
            + _human_caution(quality.get("human")),
            [
                _label_quality(quality),
                _by_dataset(quality),
                _by_relation(quality),
            ],
            ["plots/pseudo_labels.png"],
        ),
        *_lost_relations(losses),
        Section(
            "Reliability of the confidences",
            "The share of right labels among those of a confidence, in 15 bins of equal width. The expected calibration error is the mean "
            "distance of the two, weighted by labels. " + _calibrated(quality),
            [reliability_table(quality["calibration"]["curve"])],
            ["plots/reliability.png"],
        ),
    ]


def _lost_relations(losses: Mapping[str, Mapping[str, int]]) -> list[Section]:
    """Return the section of the steps at which true relations are lost, where they are known."""
    if not losses:
        return []
    counted = {dataset: [counts[name.replace(" ", "_")] for name in OUTCOMES] for dataset, counts in losses.items()}
    rows = [
        [dataset, str(sum(counts)), *(percent(count / max(1, sum(counts))) for count in counts)]
        for dataset, counts in counted.items()
    ]
    return [
        Section(
            "Where true relations are lost",
            "Relations that happen (not those of place), in percent, by what became of them: found by a label above the operating "
            "threshold, or lost at the first step that has nothing of it. Not captioned: no caption says so; not parsed: a caption does "
            "and no triplet; not matched: a triplet does and the pair of boxes is no candidate; not sure: the candidate's confidence is "
            "below the threshold.",
            [Table(["dataset", "true relations", *OUTCOMES], rows)],
            ["plots/lost_relations.png"],
        )
    ]


def _calibrated(quality: Mapping[str, Any]) -> str:
    error, before = (quality.get(f"expected_calibration_error{end}") for end in ("", "_uncalibrated"))
    if before is None:
        return f"It is {_plain(error)}; the scores are not calibrated." if error is not None else ""
    return f"It is {_plain(error)} after calibration and {_plain(before)} without." if error is not None else ""


def reliability_table(curve: Sequence[Mapping[str, float]]) -> Table:
    """Bins of confidence with their labels, mean confidence and share of right labels."""
    rows = [
        [f"from {bin_['from']:.3f}", str(bin_["labels"]), percent(bin_["confidence"]), percent(bin_["right"])]
        for bin_ in curve
    ]
    return Table(["confidence", "labels", "mean", "right"], rows)


def _classes(row: Mapping[str, Any]) -> Section:
    """The best and worst classes of one setting, its curves and causes, and test images of the worst classes."""
    classes = row["classes"]
    return Section(
        f"Class by class: {row['setting']}",
        f"The best and the worst annotated classes by AP, and of each verb the triplets looked at by what is wrong with them. "
        f"All classes: {classes['table']}. The pictures show test images of the worst classes with the five best triplets.",
        [class_table([*classes["best"], *classes["worst"]]), causes_by_verb(classes["causes"])],
        classes["plots"],
        [Picture(file, caption) for file, caption in classes["examples"].items()],
    )


def class_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of `class_rows`, with their counts."""
    cells = [
        [row["class"], str(row["positives"]), str(row["detections"]), percent(row["recall"]), percent(row["ap"])]
        for row in rows
    ]
    return Table(["class", "annotated", "detections", "recall", "AP"], cells)


def causes_by_verb(causes: Mapping[str, Mapping[str, int]]) -> Table:
    """Counts of the causes of errors, of the verbs that were looked at."""
    rows = [[verb, *(str(counts.get(cause, 0)) for cause in CAUSES)] for verb, counts in causes.items() if counts]
    return Table(["verb", *CAUSES], rows)


def comparisons_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Claims with their paired difference (points), its standard error, and the verdict."""
    cells = [
        [
            row["claim"],
            f"{100 * row['difference']:+.2f}",
            percent(row["standard_error"]),
            str(row["seeds"]),
            row["verdict"],
        ]
        for row in rows
    ]
    return Table(["claim", "difference", "standard error", "seeds", "verdict"], cells)


def _published(setting: Mapping[str, Any]) -> Table:
    return published_table(setting["setting"], setting["protocol"], setting["rows"], setting["ours"], setting["run"])


def published_table(
    title: str, protocol: str, rows: Sequence[Mapping[str, Any]], ours: Mapping[str, float | None], name: str
) -> Table:
    """Published rows of one setting (percent) below the figures of a run (fractions), if that has any."""
    columns = list(dict.fromkeys(column for row in rows for column in row["figures"]))
    cells = [
        [
            ", ".join(filter(None, (row["method"], row["note"]))),
            *(f"{row['figures'][column]:.2f}" if column in row["figures"] else "–" for column in columns),
            row["source"],
        ]
        for row in rows
    ]
    if any(value is not None for value in ours.values()):
        cells.insert(0, [f"this run ({name})", *(percent(ours.get(column)) for column in columns), "this report"])
    return Table([f"{title} ({protocol})", *columns, "source"], cells)


def _verbs(facts: Mapping[str, Any]) -> list[Table]:
    """Return how each source names each benchmark verb."""
    verbs = facts["verb_sources"]
    if not verbs:
        return []
    sources = list(dict.fromkeys(source for row in verbs for source in row["sources"]))
    rows = [[row["verb"], *(_counts(row["sources"][source]) for source in sources)] for row in verbs if _is_named(row)]
    return [Table(["verb: occurrences as exact text / as synonym", *sources], rows)]


def _unnamed_verbs(facts: Mapping[str, Any]) -> str:
    """Return a sentence about the verbs that no source names, which have no row."""
    unnamed = [row["verb"] for row in facts["verb_sources"] if not _is_named(row)]
    return f" Verbs of no source ({len(unnamed)}): {', '.join(unnamed)}." if unnamed else ""


def _is_named(row: Mapping[str, Any]) -> bool:
    return any(count for counts in row["sources"].values() for count in counts.values())


def _counts(counts: Mapping[str, int]) -> str:
    return f"{counts['exact']} / {counts['synonym']}" if any(counts.values()) else "not at all"


def _label_quality(quality: Mapping[str, Any]) -> Table:
    rows = [
        [name.replace("_", " "), _plain(value)]
        for name, value in quality.items()
        if isinstance(value, int | float | str)
    ]
    return Table(["figure", "value"], rows)


def _human_caution(counts: Mapping[str, int] | None) -> str:
    """Return a caution about figures that follow from human triplets."""
    if not counts:
        return ""
    counts = Counter(counts)
    trained_on = counts["images_trained_on"]
    caution = f" The R-Tagger was trained on the triplets of {trained_on} of these images." if trained_on else ""
    return (
        f" The truth of COCO are human triplets of Visual Genome: {counts['human_triplets']} in {counts['images']} images, of which "
        f"{counts['carried_over']} were carried over to the boxes of COCO. {counts['labels_not_judged']} labels of pairs without "
        f"an annotated relation were not judged; a wrong label is one that was not annotated.{caution}"
    )


def _by_dataset(quality: Mapping[str, Any]) -> Table:
    return _judged("dataset", quality.get("by_dataset", {}))


def _by_relation(quality: Mapping[str, Any]) -> Table:
    """The relations that are true most often."""
    rows = quality.get("by_relation", {})
    frequent = sorted(rows, key=lambda name: (-rows[name]["true_relations"], -rows[name]["labels"], name))
    return _judged("relation", {name: rows[name] for name in frequent[:RELATIONS_SHOWN]})


def _judged(first: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    cells = [
        [name, str(row["labels"]), str(row["true_relations"]), percent(row["precision"]), percent(row["recall"])]
        for name, row in rows.items()
    ]
    return Table([first, "labels", "true relations", "precision", "recall"], cells)


def _plain(value: float | str) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
