"""Captions made from the truth: the stage writes them without a captioner, and they say what is true and no more."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from rlip_assets.datasets.language.lemmas import relation_lemma
from rlip_assets.datasets.scenes import make_scene
from rlip_assets.labelling.caption_parsing.parser import parse_caption
from rlip_assets.labelling.label_tables import CaptionRow, read_rows
from rlip_assets.labelling.true_relations import TrueRelation, write_true_relations
from rlip_assets.micro_world.shots import shots
from rlip_assets.micro_world.simulated_captions import sentence, simulated_caption_stage
from rlip_assets.micro_world.truth import true_relations
from rlip_assets.micro_world.vocabularies import category_text
from rlip_assets.micro_world.wording import accepted
from rlip_assets.storage.errors import InputError
from rlip_assets.storage.quarantine import read_quarantine
from tests.support.label_factory import Log, context, draw_bucket, make_params, write_bucket, write_raw_manifest

CAPTIONS = {"rows_per_shard": 2, "batch_size": 2, "quarantine_limit": 0.3}


@pytest.fixture
def bucket(tmp_path: Path) -> dict[str, Path]:
    """Five images of a person, a dog and a bench, the first one unreadable; two have true relations."""
    drawn = draw_bucket(tmp_path / "raw", 5, bad=(0,))
    scenes, manifest = write_bucket(tmp_path, drawn), write_raw_manifest(tmp_path, tmp_path / "raw", drawn)
    truth = [TrueRelation("1", 0, 1, "hold", accepted("hold"), [], False)]
    truth += [TrueRelation("3", 1, 2, "sit on", accepted("sit on"), [], False)]
    truth += [TrueRelation("3", 0, 2, "next to", accepted("next to"), [], True)]
    write_true_relations(tmp_path / "truth/coco.parquet", truth)
    inputs = {"raw": tmp_path / "raw", "scenes": scenes, "manifest": manifest}
    return {**inputs, "captioner": tmp_path / "none", "truth": tmp_path / "truth"}


def captions(bucket: dict[str, Path], base: Path, seed: int = 0, **sizes: float) -> dict[str, list[str]]:
    params = make_params(bucket["raw"], captions=CAPTIONS | {"seed": seed} | sizes, oracle={"captions": True})
    ctx = context(base, "captions", params, bucket, "captions", Log())
    assert simulated_caption_stage(ctx)["quarantined"] == 1
    assert [row.image_id for row in read_quarantine(ctx.outputs["captions"])] == ["0"]
    return {row.image_id: row.captions for row in read_rows(ctx.outputs["captions"], CaptionRow)}


def test_the_stage_asks_no_captioner_and_counts_unreadable_images(bucket: dict[str, Path], tmp_path: Path) -> None:
    found = captions(bucket, tmp_path / "a")
    assert {image_id: len(texts) for image_id, texts in found.items()} == {"1": 1, "2": 0, "3": 2, "4": 0}
    (triplet,) = parse_caption(found["1"][0])
    assert (triplet.subject, triplet.object) == ("person", "dog")
    assert triplet.relation in {relation_lemma(form) for form in accepted("hold")}
    assert found == captions(bucket, tmp_path / "b", rows_per_shard=9, batch_size=4)


def test_another_truth_is_other_work(bucket: dict[str, Path], tmp_path: Path) -> None:
    """The work folder of a killed run is found again; what it holds must not outlive the truth that it was made from."""
    params = make_params(bucket["raw"], captions=CAPTIONS, oracle={"captions": True})
    ctx = context(tmp_path / "a", "captions", params, bucket, "captions", Log())
    assert simulated_caption_stage(ctx)["captions"] == 3
    write_true_relations(bucket["truth"] / "coco.parquet", [])
    assert simulated_caption_stage(ctx)["captions"] == 0


def test_without_a_truth_the_oracle_is_refused(bucket: dict[str, Path], tmp_path: Path) -> None:
    (bucket["truth"] / "coco.parquet").unlink()
    with pytest.raises(InputError, match="which only the micro world has; set it to false"):
        captions(bucket, tmp_path / "a")


@pytest.mark.parametrize("vocabulary", ["coco", "objects365"])
def test_sentences_are_read_back_as_the_relation_they_were_made_from(vocabulary: str) -> None:
    right, wrong = 0, []
    for number, shot in enumerate(shots(vocabulary, "train", 60, 4)):
        names = [category_text(thing.category, thing.sprite, vocabulary) for thing in shot.picture.things]
        boxed = [index for index, name in enumerate(names) if name is not None]
        labels = [name for name in names if name is not None]
        boxes = [(i, 0, i + 1, 1) for i in range(len(labels))]
        scene = make_scene(str(number), vocabulary, "train", "f", 99, 9, boxes, labels)
        for relation in true_relations(str(number), shot.picture, boxed):
            text = sentence(scene, relation, Random(number))
            forms = {relation_lemma(form) for form in relation.accepted}
            subject, target = scene.labels[relation.subject], scene.labels[relation.object]
            found = parse_caption(text)
            same = [t for t in found if relation_lemma(t.relation) in forms]
            if (
                len(found) == 1
                and same
                and subject.split()[-1] in same[0].subject
                and target.split()[-1] in same[0].object
            ):
                right += 1
            else:
                wrong.append((text, found))
    assert right > 100
    assert len(wrong) <= 0.01 * right, wrong
