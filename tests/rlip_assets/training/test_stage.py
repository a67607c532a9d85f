"""The three training stages on drawn images: checkpoints that load, predictions that evaluators can read, figures that repeat."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from rlip_assets.datasets.scenes import read_scenes, write_scenes
from rlip_assets.datasets.sources.classes import read_classes
from rlip_assets.evaluation.formats.predictions import read_predictions
from rlip_assets.inference.relation_detector import RelationDetector
from rlip_assets.lineage.params import Params
from rlip_assets.storage.errors import DataError, InputError, ParameterError
from rlip_assets.storage.files import write_json
from rlip_assets.training.batches import Batch
from rlip_assets.training.benchmark_predictions import BenchmarkSplit, predict_split
from rlip_assets.training.loop import Trainer
from rlip_assets.training.merging import held_out_evaluation, merge_folders
from rlip_assets.training.processes import Processes
from rlip_assets.training.stage import finetune_stage, pretrain_stage, r_tagger_stage
from rlip_assets.training.training_images import is_held_out
from rlip_assets.training.transforms import keep_triplets
from rlip_assets.training.unseen import triplet_texts
from rlip_model import load_checkpoint
from tests.support.training_project import CHANGES, CLASSES, POLICIES, TRAINING, MemoryLog, Project
from tests.support.training_toys import OBJECTS, RELATIONS

HOIS = [[RELATIONS[verb], OBJECTS[thing]] for verb, thing in CLASSES["hois"]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    from rlip_model import train_label_tokenizer

    tokenizer = train_label_tokenizer([*OBJECTS, *RELATIONS, "no objects"], 300, max_length=16)
    made = Project(tmp_path_factory.mktemp("project"), tokenizer)
    made.figures = pretrain_stage(made.context("pretrain", "vg_coco", MemoryLog()))  # type: ignore[attr-defined]
    return made


def test_pretraining_writes_a_checkpoint_and_zero_shot_predictions(project: Project) -> None:
    figures = project.figures  # type: ignore[attr-defined]
    assert figures["steps"] == 2
    assert figures["predicted_images"] == 2
    assert figures["held_out_loss"] > 0
    out = project.root / "out/pretrain-vg_coco"
    checkpoint = load_checkpoint(out / "checkpoint")
    assert checkpoint.metadata["recipe"]["sources"] == {"visual_genome": 1.0, "coco": 1.0}
    rows = [json.loads(line) for line in (out / "checkpoint/history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    start = json.loads((out / "checkpoint/start.json").read_text())
    assert start["sources"] == {"detector": "detector", "text_encoder": "text"}
    assert start["filled"] > len(checkpoint.model.text_encoder.state_dict())
    assert any("VLFuse" in name for name in start["fresh"])
    assert not any(name.startswith(("backbone.", "transformer.text_encoder.")) for name in start["fresh"])
    assert any(name.startswith("class_embed.") for name in start["unused"])
    reader = read_predictions(out / "predictions/hico_det.parquet")
    batch = next(iter(reader))
    assert reader.verbs == RELATIONS
    assert set(batch.image_ids) == {"i4", "i9"}
    assert set(batch.sub_labels.tolist()) <= {0}
    assert len(list((out / "predictions").glob("*.png"))) == 2
    assert all(len(image.sub_labels) <= checkpoint.config.pairs for image in batch.images())


def test_the_same_stage_writes_the_same_bytes(project: Project) -> None:
    figures = pretrain_stage(project.context("pretrain", "vg_coco", name="again"))
    assert figures == project.figures  # type: ignore[attr-defined]
    first, second = (project.root / name / "pretrain-vg_coco" for name in ("out", "again"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)


def test_r_tagger_stage_registers_a_tagger(project: Project) -> None:
    log = MemoryLog()
    context = project.context("r_tagger", None, log)
    figures = r_tagger_stage(context)
    assert log.models == [context.outputs["checkpoint"].name]
    assert log.steps == [1, 2, 2]
    assert load_checkpoint(context.outputs["checkpoint"]).config.tagger
    assert figures["held_out_relation"] > 0


def test_images_of_visual_genome_that_occur_in_a_test_split_are_left_out_and_counted(project: Project) -> None:
    listed = project.root / "data/decontamination/visual_genome"
    for bucket, image_id in enumerate(("i1", "i2")):
        write_json(listed / f"bucket-{bucket}/test_images.json", [{"image_id": image_id}])
    plain = project.context("r_tagger", None, name="all")
    context = project.context("r_tagger", None, name="fewer")
    context = replace(context, inputs={**context.inputs, "decontamination/visual_genome": listed})
    before, after = r_tagger_stage(plain), r_tagger_stage(context)
    assert "excluded_images" not in before
    assert after["excluded_images"] == 2
    assert after["training_images"] == before["training_images"] - 2


@pytest.mark.parametrize("partition", ["hico_full", "hico_uc_rf"])
def test_finetuning_predicts_every_pair_with_every_score(project: Project, partition: str) -> None:
    context = project.context("finetune", partition, MemoryLog())
    figures = finetune_stage(context)
    assert figures["predicted_images"] == 2
    batch = next(iter(read_predictions(context.outputs["predictions"] / "hico_det.parquet")))
    pairs = load_checkpoint(context.outputs["checkpoint"]).config.pairs
    assert batch.scores.shape == (2 * pairs, len(RELATIONS))


def merging(**changes: object) -> dict[str, object]:
    """The fine-tuning that merges, with further changes of its recipe."""
    choice = TRAINING["finetune"]["hico_own"]
    return {"finetune": {"hico_own": {**choice, "changes": {**choice["changes"], **changes}}}}


def test_shards_of_another_batch_are_not_taken_up(project: Project, tmp_path: Path) -> None:
    """Images of a batch are padded to each other, which shows in the scores."""
    checkpoint = load_checkpoint(project.root / "out/pretrain-vg_coco/checkpoint")
    scenes = list(read_scenes(project.root / "data/scenes/hico_det/bucket-0"))[:2]
    split = BenchmarkSplit(read_classes(project.root / "hico_det.json"), scenes, project.root / "data/raw/hico_det")
    sizes = project.params.training.finetune["hico_full"].resolve().augmentation
    files = []
    for work, batch in (("one", 1), ("one", 2), ("two", 2)):
        files.append(tmp_path / f"{work}-{batch}.parquet")
        predict_split(
            files[-1], (checkpoint.model, checkpoint.tokenizer), split, sizes, tmp_path / work, {}, batch=batch
        )
    alone, again, fresh = (file.read_bytes() for file in files)
    assert alone != again == fresh


def test_own_labels_and_a_merge_with_the_start_go_through_the_stage(project: Project) -> None:
    """A share is chosen on all held-out images, more than an evaluation on the way takes."""
    training = TRAINING | merging(holdout=0.6) | {"checkpoints": {"evaluate_images": 1}}
    context = project.context("finetune", "hico_own", MemoryLog())
    figures = finetune_stage(replace(context, params=Params.model_validate({"training": training})))
    assert figures["own_labels"]["images"] == 12
    assert figures["own_labels"]["used"] > 0
    checkpoint = context.outputs["checkpoint"]
    merge = json.loads((checkpoint / "merge.json").read_text())
    assert [row["alpha"] for row in merge["tried"]] == [0.0, 0.5, 1.0]
    best = max(merge["tried"], key=lambda row: (row["headline"], row["alpha"]))
    assert merge["alpha"] == figures["merge_alpha"] == best["alpha"]
    judged = {
        name for batch in read_predictions(context.work / "evaluation/hico_det.parquet") for name in batch.image_ids
    }
    assert len(judged) == figures["held_out_images"] > 1


@pytest.mark.parametrize(
    ("changes", "lacking"),
    [
        ({"holdout": 0.0004}, "there are none"),
        ({"unseen": HOIS, "unseen_images": "keep"}, r"none of \d+ has a seen triplet"),
    ],
)
def test_shares_without_images_to_choose_by_are_refused_before_training(
    project: Project, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], lacking: str
) -> None:
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("trained"))
    params = Params.model_validate({"training": TRAINING | merging(**changes)})
    context = replace(project.context("finetune", "hico_own", name="refused"), params=params)
    with pytest.raises(ParameterError, match=f"held-out images, of which {lacking}; raise holdout"):
        finetune_stage(context)


def test_shares_are_chosen_on_images_that_the_fine_tuning_held_out(project: Project, tmp_path: Path) -> None:
    (tmp_path / "data/manifests/hico_det").mkdir(parents=True)
    shutil.copyfile(project.root / "hico_det.json", tmp_path / "data/manifests/hico_det/classes.json")
    for folder in ("scenes", "raw"):
        (tmp_path / "data" / folder).symlink_to(project.root / "data" / folder)
    (tmp_path / "params.yaml").write_text("profile: micro\n")
    finetune_stage(project.context("finetune", "hico_uc_rf", name="merged"))
    tuned = project.root / "merged/finetune-hico_uc_rf/checkpoint"
    start = project.root / "out/pretrain-vg_coco/checkpoint"
    evaluation = held_out_evaluation(tuned, tmp_path, tmp_path / "predictions")
    assert {scene.image_id for scene in evaluation.scenes} <= {f"i{number}" for number in range(14) if number % 5 != 4}
    assert all(is_held_out(scene.image_id, 0.3) for scene in evaluation.scenes)
    hidden = {(RELATIONS[0], OBJECTS[2])}
    assert not any(hidden & set(triplet_texts(scene)) for scene in evaluation.scenes)
    network, scene = load_checkpoint(tuned), evaluation.scenes[0]
    empty = replace(evaluation, scenes=[keep_triplets(scene, scene.subject < 0)])
    with pytest.raises(
        DataError, match=r"1 evaluated images of hico_det have no triplet that counts .*\(holdout, evaluate_images\)"
    ):
        empty(network.model, network.tokenizer)
    choice = merge_folders(tuned, start, [0.25, 1.0], tmp_path / "merged", evaluation)
    assert choice.alpha in (0.25, 1.0)
    assert json.loads((tmp_path / "merged/merge.json").read_text())["alpha"] == choice.alpha
    assert load_checkpoint(tmp_path / "merged").metadata["merged"]["alpha"] == choice.alpha
    with pytest.raises(InputError, match="has no recipe of a fine-tuning"):
        held_out_evaluation(start, tmp_path, tmp_path / "predictions")
    metadata = json.loads((tuned / "metadata.json").read_text())
    write_json(tuned / "metadata.json", metadata | {"recipe": metadata["recipe"] | {"holdout": 0.0004}})
    with pytest.raises(InputError, match=r"has no image with a seen triplet that .* held out"):
        held_out_evaluation(tuned, tmp_path, tmp_path / "predictions")


def test_removed_texts_of_unseen_objects_are_met_in_the_test_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: set[str] = set()
    targets = 0
    step = Trainer._backward

    def watched(trainer: Trainer, number: int, batches: list[Batch]) -> dict[str, float]:
        nonlocal targets
        trained.update(text for batch in batches for text in batch.labels.texts)
        targets += sum(len(target) for batch in batches for target in batch.targets)
        return step(trainer, number, batches)

    monkeypatch.setattr(Trainer, "_backward", watched)
    context = project.context("finetune", "hico_uo")
    finetune_stage(context)
    gone = {OBJECTS[3], RELATIONS[2]}
    assert trained == {*OBJECTS, *RELATIONS, "no objects"} - gone
    assert targets
    scenes = list(read_scenes(project.root / "data/scenes/hico_det/bucket-0"))
    assert gone <= {text for scene in scenes if scene.split == "train" for text in (*scene.labels, *scene.relation)}
    reader = read_predictions(context.outputs["predictions"] / "hico_det.parquet")
    assert (reader.objects, reader.verbs) == (OBJECTS, RELATIONS)


def test_a_zero_shot_split_of_no_benchmark_is_refused(project: Project) -> None:
    context = project.context("pretrain", "vg_coco", name="split")
    choice = {"recipe": "micro_vg_coco", "changes": CHANGES | {"unseen": "uo"}}
    params = Params.model_validate({"training": TRAINING | {"pretrain": {"vg_coco": choice}}})
    with pytest.raises(ParameterError, match="unseen: uo needs the classes of a benchmark"):
        pretrain_stage(replace(context, params=params))


@pytest.mark.parametrize(
    ("stage", "partition", "sources"),
    [("pretrain", "vg_coco", {"visual_genome": 1, "v_coco": 1}), ("finetune", "hico_full", {"visual_genome": 1})],
)
def test_sources_that_a_stage_has_no_tables_of_are_refused(
    stage: str, partition: str, sources: dict[str, float]
) -> None:
    """Those of another dataset are no substitute; the parameters are refused before anything runs."""
    choice = TRAINING[stage][partition]
    choice = {**choice, "changes": {**choice["changes"], "sources": sources}}
    with pytest.raises(ValidationError, match=rf"{stage} has no relations of {list(sources)[-1]} to train on"):
        Params.model_validate({"training": TRAINING | {stage: {partition: choice}}})


def test_checkpoints_find_relations_in_photos_without_further_settings(project: Project) -> None:
    photo = Image.new("RGB", (90, 70), "white")
    for stage, partition in ((pretrain_stage, "vg_coco"), (finetune_stage, "hico_full")):
        context = project.context(stage.__name__.removesuffix("_stage"), partition)
        stage(context)
        detector = RelationDetector.from_pretrained(context.outputs["checkpoint"])
        assert detector.name.endswith(partition)
        triplets = detector([photo], threshold=0.0, limit=3)[0]
        assert len(triplets) == 3
        assert {triplet.relation for triplet in triplets} <= set(detector.relations)
        if partition == "hico_full":
            assert detector.relations == RELATIONS
            assert {triplet.subject for triplet in triplets} == {"person"}


def test_parse_trains_fine_tunes_and_answers(project: Project) -> None:
    """RLIPv1-ParSe goes through the same stages: backbone of the detector, half its pairs in fine-tuning, relations in a photo."""
    training = {
        "pretrain": {"parse": {"recipe": "micro_parse_vg", "changes": CHANGES}},
        "finetune": {
            "parse_full": {
                "recipe": "micro_hico_full",
                "start": "pretrain/parse",
                "changes": CHANGES | {"label_budget": 0, "model": "micro_parse", "model_changes": {"queries": 16}},
            }
        },
    }
    params = Params.model_validate({"training": TRAINING | training})
    pretraining = replace(project.context("pretrain", "parse"), params=params)
    assert pretrain_stage(pretraining)["held_out_loss"] > 0
    checkpoint = pretraining.outputs["checkpoint"]
    start = json.loads((checkpoint / "start.json").read_text())
    assert any(name.startswith("transformer.encoder.") for name in start["fresh"])
    assert not any(name.startswith("backbone.") for name in start["fresh"])
    finetuning = replace(project.context("finetune", "parse_full"), params=params)
    finetuning = replace(finetuning, inputs={**finetuning.inputs, "checkpoint": checkpoint})
    assert finetune_stage(finetuning)["predicted_images"] == 2
    detector = RelationDetector.from_pretrained(finetuning.outputs["checkpoint"])
    assert (detector.checkpoint.config.fusion, detector.checkpoint.config.pairs) == ("joint", 8)
    assert "RLIPv1-ParSe" in (finetuning.outputs["checkpoint"] / "README.md").read_text()
    triplets = detector([Image.new("RGB", (90, 70), "white")], threshold=0.0, limit=3)[0]
    assert {triplet.relation for triplet in triplets} <= set(RELATIONS)
    assert len(triplets) == 3


def test_v_coco_trains_missing_objects_and_predicts_them_as_none(project: Project) -> None:
    context = project.context("finetune", "v_coco")
    finetune_stage(context)
    reader = read_predictions(context.outputs["predictions"] / "v_coco.parquet")
    assert reader.objects == OBJECTS
    assert max(int(batch.obj_labels.max()) for batch in reader) <= len(OBJECTS)


def test_test_images_in_training_are_counted(project: Project) -> None:
    """An image of another dataset is another image, whatever its id."""
    context = project.context("finetune", "v_coco", name="clean")
    assert finetune_stage(context)["test_images_in_training"] == 0
    assert project.figures["test_images_in_training"] == 0  # type: ignore[attr-defined]
    tables = project.root / "data/scenes/leaky"
    for number, (folder, split) in enumerate((("v_coco", None), ("v_coco", "test"), ("hico_det", "test"))):
        scenes = list(read_scenes(project.root / "data/scenes" / folder / "bucket-0"))
        write_scenes(tables / f"bucket-{number}", [replace(scenes[number], split=split)] if split else scenes)
    leaky = project.context("finetune", "v_coco", name="leaky")
    assert finetune_stage(replace(leaky, inputs={**leaky.inputs, "scenes": tables}))["test_images_in_training"] == 1


def test_more_processes_than_images_in_a_batch_are_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlip_assets.training.run.join_processes", lambda _: Processes(0, 5))
    with pytest.raises(
        ParameterError, match=r"5 processes .* cannot share a batch of 4 images; lower training\.processes"
    ):
        finetune_stage(project.context("finetune", "hico_full", name="shared"))


def test_training_judges_itself_on_images_that_are_no_test_images(project: Project) -> None:
    """And the result can be the best network instead of the last."""
    policy = {"evaluate_every": 0.1, "result": "best", "keep_every": 0.1}  # less than a step is a step
    tests = {f"i{number}" for number in range(14) if number % 5 == 4}
    judged = Project.__new__(Project)
    judged.root, judged.params = (
        project.root,
        Params.model_validate({"training": TRAINING | dict.fromkeys(POLICIES, policy)}),
    )
    for stage, partition in ((finetune_stage, "hico_full"), (pretrain_stage, "vg_coco"), (r_tagger_stage, None)):
        context = judged.context(stage.__name__.removesuffix("_stage"), partition, name="judged")
        figures = stage(context)
        folder = context.outputs["checkpoint"]
        rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        metric = "evaluated_held_out_f1" if partition is None else "evaluated_headline"
        assert [metric in row for row in rows] == [True, True]
        assert figures["best_step"] == max(rows, key=lambda row: row[metric])["step"]
        best = load_checkpoint(folder / "kept/best").model.state_dict()
        result = load_checkpoint(folder).model.state_dict()
        assert all(torch.equal(best[name], result[name]) for name in best)
        assert sorted(path.name for path in (folder / "kept").iterdir()) == ["best", "step-000001", "step-000002"]
        if partition is not None:
            reader = read_predictions(context.work / "evaluation/hico_det.parquet")
            evaluated = {name for batch in reader for name in batch.image_ids}
            assert len(evaluated) == (figures["held_out_images"] if partition == "hico_full" else 14 - len(tests))
            assert not evaluated & tests


def test_wrong_partition_network_and_folders_are_refused(project: Project) -> None:
    with pytest.raises(ParameterError, match="no recipe for 'hico_2'"):
        finetune_stage(project.context("finetune", "hico_2"))
    context = project.context("finetune", "hico_full", name="refused")
    tagger = project.root / "out/r_tagger-None/checkpoint"
    with pytest.raises(ParameterError, match=r"holds a network with anchors = points.*micro_parseda has boxes"):
        finetune_stage(replace(context, inputs={**context.inputs, "checkpoint": tagger}))
    with pytest.raises(InputError, match="does not exist"):
        finetune_stage(replace(context, inputs={**context.inputs, "scenes": project.root / "nowhere"}))


def test_killed_finetuning_ends_with_the_bytes_of_an_undisturbed_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while predicting: training is not repeated, and what is written is the same."""
    finetune_stage(project.context("finetune", "hico_full", name="whole"))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    context = project.context("finetune", "hico_full", name="killed")
    with monkeypatch.context() as patched:
        patched.setattr("rlip_assets.training.benchmark_predictions.write_predictions", killed)
        with pytest.raises(KeyboardInterrupt):
            finetune_stage(context)
    log = MemoryLog()
    finetune_stage(project.context("finetune", "hico_full", log, name="killed"))
    assert log.steps == [2]  # the held-out losses alone: no step was run again
    names = ("checkpoint/model.safetensors", "checkpoint/history.jsonl", "predictions/hico_det.parquet")
    for name in names:
        files = [project.root / run / "finetune-hico_full" / name for run in ("whole", "killed")]
        assert files[0].read_bytes() == files[1].read_bytes()
