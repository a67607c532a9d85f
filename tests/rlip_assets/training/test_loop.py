"""The loop: resumes bit for bit, and gives the same losses and gradients however a step is cut, unless parts keep their own counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import InputError
from rlip_assets.training.batches import Batch, Part, StepBatches
from rlip_assets.training.label_lists import BatchVocabulary, NameSampler
from rlip_assets.training.loop import Evaluate, NotFiniteError, Settings, Trainer
from rlip_assets.training.memory import StepTooLargeError, remedy_named
from rlip_assets.training.optimiser import weight_average
from rlip_assets.training.processes import Processes
from rlip_assets.training.resume import HISTORY, History, Resume
from rlip_assets.training.retained import RetainedCheckpoints, best_step
from rlip_assets.training.training_images import ImageSource, training_images
from rlip_assets.training.validation import best_threshold, validate
from rlip_model import LabelTokenizer, LossCounts, Rlip, enable_gradient_checkpointing, load_checkpoint
from rlip_model.losses import TERM_NAMES

CPU = torch.device("cpu")
MakeTrainer = Callable[..., Trainer]


ONE_SIZE = {"crop": 0.0, "short_sides": (48,)}


class Kill(BaseException):
    """Stands for the process being killed."""


class KillingLog(NullLog):
    """Dies when a step is reported."""

    def __init__(self, step: int) -> None:
        self.step = step

    def progress(self, done: int, total: int, unit: str) -> None:
        if done == self.step:
            raise Kill


@pytest.fixture
def trainer_of(
    drawn: Callable[..., ImageSource],
    small_recipe: Recipe,
    tokenizer: LabelTokenizer,
    network: Callable[..., Rlip],
    tmp_path: Path,
) -> MakeTrainer:
    source = drawn(number=16, size=(72, 64))  # images of 0 to 3 triplets

    def make(
        recipe: Recipe = small_recipe,
        resume: Path | None = None,
        log: NullLog | None = None,
        every: int = 3,
        precision: str = "fp32",
        evaluate: Evaluate | None = None,
        retained: RetainedCheckpoints | None = None,
        evaluate_every: int | None = None,
        **options: object,
    ) -> Trainer:
        model = network(**options)
        images, _ = training_images(recipe, [source], frozenset(), tmp_path / "cache", 3)
        vocabulary = BatchVocabulary(
            NameSampler(images.object_counts()), NameSampler(images.relation_counts()), recipe.label_budget
        )
        parts = [
            StepBatches(images, vocabulary, recipe, model.config.pairs, 3, part=Part(index, recipe.accumulate))
            for index in range(recipe.accumulate)
        ]
        return Trainer(
            model,
            tokenizer,
            recipe,
            parts,
            Settings(CPU, precision, checkpoint_every=every, evaluate_every=evaluate_every),
            Processes(),
            3,
            log or NullLog(),
            Resume(resume, "d") if resume else None,
            evaluate,
            retained,
        )

    return make


@pytest.mark.parametrize(
    "killed_at", [pytest.param(1, marks=pytest.mark.deep), 4, pytest.param(6, marks=pytest.mark.deep)]
)
def test_a_killed_run_goes_on_bit_for_bit(trainer_of: MakeTrainer, tmp_path: Path, killed_at: int) -> None:
    undisturbed = trainer_of(resume=tmp_path / "a")
    expected = undisturbed.run()
    with pytest.raises(Kill):
        trainer_of(resume=tmp_path / "b", log=KillingLog(killed_at)).run()
    resumed = trainer_of(resume=tmp_path / "b")
    assert resumed.run().rows == expected.rows
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert (tmp_path / "a" / HISTORY).read_bytes() == (tmp_path / "b" / HISTORY).read_bytes()


def test_a_step_that_does_not_fit_ends_with_a_sentence(
    trainer_of: MakeTrainer, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(small_recipe.changed({"accumulate": 2}))
    encode = trainer.model.encode

    def encode_if_it_fits(*arguments: object) -> object:
        torch.empty(2**50, dtype=torch.uint8)  # what no machine has
        return encode(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.model, "encode", encode_if_it_fits)
    with pytest.raises(StepTooLargeError) as caught:
        trainer.run()
    assert "\n" not in str(caught.value)
    assert "precision: bf16, or raise accumulate in the changes of the recipe, or use a larger device" in str(
        caught.value
    )


def test_advice_leaves_out_what_is_in_use() -> None:
    with (
        pytest.raises(StepTooLargeError, match=r"1 image at a time in bf16; use a larger device$"),
        remedy_named(1, precision="bf16", gradient_checkpointing=True),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(RuntimeError, match="shapes"), remedy_named(1, precision="bf16", gradient_checkpointing=True):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_the_average_of_weights_survives_a_kill(trainer_of: MakeTrainer, small_recipe: Recipe, tmp_path: Path) -> None:
    recipe = small_recipe.changed({"average": 0.9})
    averaged, last = trainer_of(recipe, tmp_path / "a"), trainer_of()
    assert averaged.run().rows == last.run().rows  # training itself is not touched
    with pytest.raises(Kill):
        trainer_of(recipe, tmp_path / "b", KillingLog(4)).run()
    resumed = trainer_of(recipe, tmp_path / "b")
    resumed.run()
    for name, value in averaged.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    moved = [name for name, p in last.model.named_parameters() if not torch.equal(p, averaged.model.state_dict()[name])]
    assert moved


def test_the_average_is_the_exponential_one() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    average, expected = weight_average(model, 0.5), model.weight.detach().double()
    for steps in range(1, 8):
        with torch.no_grad():
            model.weight += torch.randn(1, 2)
        average.update_parameters(model)
        decay = min(0.5, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * model.weight.detach().double()
    assert torch.allclose(next(average.module.parameters()).double(), expected, atol=1e-6)


def test_history_holds_every_term_and_rate_and_training_learns(trainer_of: MakeTrainer, small_recipe: Recipe) -> None:
    history = trainer_of(small_recipe.changed({"steps": 25, "lr": 4e-3})).run()
    assert [row["step"] for row in history.rows] == list(range(1, 26))
    assert {
        "loss",
        "class",
        "class_0",
        "relation_0",
        "sub_l1",
        "obj_giou_0",
        "gradient_norm",
        "lr_main",
        "lr_text",
    } <= set(history.rows[0])
    assert json.loads(history.text().splitlines()[0]) == history.rows[0]
    first, last = (sum(row["loss"] for row in rows) for rows in (history.rows[:5], history.rows[-5:]))
    assert last < 0.9 * first


def gradients(trainer: Trainer, step: int) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    trainer.model.train()
    values = trainer._backward(step, [part[step] for part in trainer.parts])
    return values, {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("step", "parts"), [(0, 2), (1, 4), (2, 2)])
@pytest.mark.parametrize("pseudo", [True, False])
def test_accumulated_parts_give_the_whole_steps_gradient(
    trainer_of: MakeTrainer, small_recipe: Recipe, step: int, parts: int, pseudo: bool
) -> None:
    """Images of one size and 0 to 3 triplets: the parts have unequal counts."""
    recipe = small_recipe.changed({"pseudo": pseudo, "augmentation": ONE_SIZE})
    values, whole = gradients(trainer_of(recipe, dropout=False), step)
    cut = trainer_of(recipe.changed({"accumulate": parts}), dropout=False)
    counts = [sum(map(len, part[step].targets)) for part in cut.parts]
    assert len(set(counts)) > 1
    summed, accumulated = gradients(cut, step)
    assert summed == pytest.approx(values, rel=2e-4, abs=1e-5)
    for name, gradient in whole.items():
        assert torch.allclose(accumulated[name], gradient, rtol=2e-3, atol=2e-5 * float(gradient.abs().max() + 1)), name


def term_counts(trainer: Trainer, batch: Batch) -> LossCounts:
    with torch.no_grad():
        vectors = trainer._encode(batch.labels)
    return trainer.criterion.counts(batch.targets, trainer.model.config.pairs, vectors, batch.labels.num_objects)


def test_published_normalisation_averages_parts_where_global_divides_once(
    trainer_of: MakeTrainer, small_recipe: Recipe
) -> None:
    """The difference explained: from the same parts, ours is the mean weighted by counts and the published one the plain mean.

    Subject boxes alone are published with a count over all processes, so they do not differ.
    """
    recipe = small_recipe.changed({"augmentation": ONE_SIZE})
    trainer = trainer_of(recipe.changed({"accumulate": 2}), dropout=False)
    batches = [part[1] for part in trainer.parts]
    alone = [trainer_of(recipe, dropout=False)._backward(1, [batch]) for batch in batches]
    counts = [term_counts(trainer, batch) for batch in batches]
    assert counts[0].values[1] != counts[1].values[1]
    by_global = trainer._backward(1, batches)
    trainer.recipe = trainer.recipe.changed({"published": {"part_counts": True}})
    by_published = trainer._backward(1, batches)
    whole, own = (counts[0] + counts[1]).divisors().tolist(), [part.divisors().tolist() for part in counts]
    for row, name in enumerate(TERM_NAMES):
        weighted = sum(value[name] * part[row][0] for value, part in zip(alone, own, strict=True)) / whole[row][0]
        plain = sum(value[name] for value in alone) / 2
        assert by_global[name] == pytest.approx(weighted, rel=1e-4, abs=1e-6)
        assert by_published[name] == pytest.approx(weighted if name.startswith("sub_") else plain, rel=1e-4, abs=1e-6)
    assert by_published["relation"] != pytest.approx(by_global["relation"], rel=1e-3)


def test_more_pairs_than_the_network_has_are_all_matched_as_published(
    trainer_of: MakeTrainer, small_recipe: Recipe
) -> None:
    """Losses stay finite, and a part counts the triplets that were matched."""
    quirks = {"file_order": True, "part_counts": True}
    recipe = small_recipe.changed({"steps": 2, "images_without_triplets": "kept", "published": quirks})
    trainer = trainer_of(recipe, queries=2)
    assert max(len(target) for step in range(2) for target in trainer.parts[0][step].targets) > 1
    assert trainer.run().rows[-1]["loss"] > 0
    assert trainer.counters.cut_pairs > 0


def test_published_parts_have_label_lists_of_their_own(trainer_of: MakeTrainer, small_recipe: Recipe) -> None:
    """As processes of the published code have; each part is judged with the list that its targets count in."""
    recipe = small_recipe.changed({"published": {"part_counts": True}, "label_budget": 6, "augmentation": ONE_SIZE})
    trainer = trainer_of(recipe.changed({"accumulate": 2}), dropout=False)
    step = next(s for s in range(6) if len({part[s].labels for part in trainer.parts}) == 2)
    batches = [part[step] for part in trainer.parts]
    alone = [trainer_of(recipe, dropout=False)._backward(step, [batch]) for batch in batches]
    together = trainer._backward(step, batches)
    for name in ("class", "relation", "obj_l1"):
        assert together[name] == pytest.approx(sum(value[name] for value in alone) / 2, rel=1e-4, abs=1e-6)


def test_published_text_mask_acts_in_training_alone(
    trainer_of: MakeTrainer, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is given the signs of the step's own label vectors; by default nothing is masked."""
    masked = small_recipe.changed({"published": {"text_mask": True}})
    seen: list[torch.Tensor | None] = []
    losses = []

    def keep_mask(module: torch.nn.Module, given: tuple[object, ...], named: dict[str, object]) -> None:
        seen.append(next((value for value in [*given, *named.values()] if is_mask(value)), None))  # type: ignore[arg-type]

    for recipe in (small_recipe, masked):
        trainer = trainer_of(recipe, dropout=False)
        encode = trainer._encode
        # Around their mean, some vectors have a positive sum and some a negative one.
        monkeypatch.setattr(trainer, "_encode", lambda labels, e=encode: e(labels) - e(labels).mean(0))
        trainer.model.encoder.register_forward_pre_hook(keep_mask, with_kwargs=True)
        batch = trainer.parts[0][0]
        losses.append(trainer._backward(0, [batch])["relation"])
    signs = trainer._encode(batch.labels).sum(-1) <= 0
    assert 0 < int(signs.sum()) < len(signs)
    assert seen[0] is None
    assert seen[1] is not None
    assert torch.equal(seen[1], signs)
    assert losses[0] != losses[1]
    trainer.model.eval()
    validate(trainer.model, trainer.tokenizer, masked, trainer.parts[0], CPU)
    assert len(seen) > 2
    assert all(mask is None for mask in seen[2:])


def is_mask(value: object) -> bool:
    """Of texts: one bool each; padding masks have the batch before it."""
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.dim() == 1


def test_published_gradient_of_pseudo_labels_reaches_the_text_encoder(
    trainer_of: MakeTrainer, small_recipe: Recipe
) -> None:
    gradients, losses = [], []
    for flows in (False, True):
        trainer = trainer_of(small_recipe.changed({"published": {"pseudo_gradient": flows}}), dropout=False)
        losses.append(trainer._backward(0, [trainer.parts[0][0]])["loss"])
        gradients.append([p.grad for p in trainer.model.text_encoder.parameters() if p.grad is not None])
    assert losses[0] == losses[1]
    assert any(not torch.equal(cut, whole) for cut, whole in zip(*gradients, strict=True))


@pytest.mark.parametrize("dropout", [True, False])
def test_recomputed_activations_change_no_bit(trainer_of: MakeTrainer, dropout: bool) -> None:
    plain, recomputed = trainer_of(dropout=dropout), trainer_of(dropout=dropout)
    enable_gradient_checkpointing(recomputed.model)
    for trainer in (plain, recomputed):
        trainer._step(0, [part[0] for part in trainer.parts])
    for (name, one), two in zip(plain.model.named_parameters(), recomputed.model.parameters(), strict=True):
        assert torch.equal(one, two), name


def test_recomputing_keeps_fewer_activations(trainer_of: MakeTrainer) -> None:
    def kept(trainer: Trainer) -> int:
        """Elements that the graph of a forward pass holds."""
        batch = trainer.parts[0][0]
        sizes: dict[int, int] = {}

        def pack(value: torch.Tensor) -> torch.Tensor:
            sizes[value.untyped_storage().data_ptr()] = value.untyped_storage().size()
            return value

        trainer.model.train()
        vectors = trainer._encode(batch.labels).detach()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            trainer.model(batch.images, batch.mask, vectors, batch.labels.num_objects)
        return sum(sizes.values())

    plain, recomputed = trainer_of(), trainer_of()
    enable_gradient_checkpointing(recomputed.model)
    assert kept(recomputed) < 0.6 * kept(plain)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_stays_near_and_resumes(trainer_of: MakeTrainer, tmp_path: Path, precision: str) -> None:
    full = trainer_of().run()
    undisturbed = trainer_of(resume=tmp_path / "a", precision=precision).run()
    assert [row["loss"] for row in undisturbed.rows] == pytest.approx([row["loss"] for row in full.rows], rel=0.1)
    with pytest.raises(Kill):
        trainer_of(resume=tmp_path / "b", precision=precision, log=KillingLog(4)).run()
    assert trainer_of(resume=tmp_path / "b", precision=precision).run().rows == undisturbed.rows


def test_a_step_whose_fp16_gradients_overflow_is_left_out_at_a_smaller_scale(trainer_of: MakeTrainer) -> None:
    trainer = trainer_of(precision="fp16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    row = trainer._step(0, [part[0] for part in trainer.parts])
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    assert row["loss_scale"] == 2.0**39
    assert row["gradient_norm"] == 0.0
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    trainer.optimiser.param_groups[0]["params"][0].register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NotFiniteError, match="gradient norm"):
        trainer._step(1, [part[1] for part in trainer.parts])


def test_evaluations_stand_in_the_history_and_the_best_checkpoint_is_kept(
    trainer_of: MakeTrainer, small_recipe: Recipe, tmp_path: Path
) -> None:
    """A killed training keeps what an undisturbed one keeps; evaluating changes no step."""

    def evaluate(model: Rlip, tokenizer: LabelTokenizer) -> dict[str, float]:
        assert not model.training
        return {"headline": float(model.heads.projection.weight.detach().sum())}

    def trained(folder: Path, log: NullLog | None = None) -> History:
        retained = RetainedCheckpoints(folder / "kept", "evaluated_headline", 4, {"name": "t"})
        return trainer_of(resume=folder, log=log, evaluate=evaluate, retained=retained, evaluate_every=2).run()

    plain, history = trainer_of().run(), trained(tmp_path / "a")
    judged = [row["step"] for row in history.rows if "evaluated_headline" in row]
    assert judged == [2, 4, 6]
    stripped = [{k: v for k, v in row.items() if not k.startswith("evaluated_")} for row in history.rows]
    assert stripped == plain.rows
    best = best_step(history.rows, "evaluated_headline")
    kept = load_checkpoint(tmp_path / "a/kept/best")
    assert kept.metadata["figures"]["step"] == best
    assert {path.name for path in (tmp_path / "a/kept").iterdir()} == {"best", "step-000004"}
    with pytest.raises(Kill):
        trained(tmp_path / "b", KillingLog(5))
    assert trained(tmp_path / "b").rows == history.rows
    for file in ("best/model.safetensors", "best/metadata.json", "step-000004/model.safetensors"):
        assert (tmp_path / "a/kept" / file).read_bytes() == (tmp_path / "b/kept" / file).read_bytes()


def test_the_best_step_is_the_first_of_equals() -> None:
    rows: list[dict[str, float]] = [{"step": 1}, {"step": 2, "m": 0.5}, {"step": 3, "m": 0.7}, {"step": 4, "m": 0.7}]
    assert best_step(rows, "m") == 3
    assert best_step(rows[:1], "m") is None


def test_a_step_without_any_triplet_still_trains_the_background(trainer_of: MakeTrainer) -> None:
    trainer = trainer_of()
    batch = trainer.parts[0][0]
    batch.targets = [
        type(target)(**{name: value[:0] for name, value in vars(target).items()}) for target in batch.targets
    ]
    trainer.model.train()
    values = trainer._backward(0, [batch])
    assert values["sub_l1"] == values["obj_giou"] == 0
    assert values["class"] > 0
    assert values["relation"] > 0


def test_not_finite_loss_stops_with_the_images_and_keeps_the_batch(trainer_of: MakeTrainer, tmp_path: Path) -> None:
    trainer = trainer_of(resume=tmp_path / "r")
    batch = trainer.parts[0][0]
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with torch.no_grad():
        trainer.model.heads.projection.weight[0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match=f"step 1: the predictions are not finite.*{batch.image_ids[0]}"):
        trainer.run()
    kept = tmp_path / "r" / "not_finite_step_1_process_0"
    assert json.loads((kept / "batch.json").read_text())["image_ids"] == [list(batch.image_ids)]
    assert torch.equal(load_file(kept / "batch.safetensors")["0/images"], batch.images)
    unchanged = trainer.model.state_dict()
    assert all(torch.equal(before[name], unchanged[name]) for name in before if name != "heads.projection.weight")


def test_state_of_another_training_or_a_damaged_one_is_refused(trainer_of: MakeTrainer, tmp_path: Path) -> None:
    trainer = trainer_of(resume=tmp_path / "r")
    trainer.resume.save(2, trainer.model, trainer.optimiser, History([]))  # type: ignore[union-attr]
    with pytest.raises(InputError, match="other settings"):
        Resume(tmp_path / "r", "other").load(trainer.model, trainer.optimiser)
    file = tmp_path / "r" / "state.safetensors"
    whole = file.read_bytes()
    flipped = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    for content in (whole[:-100], flipped):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"damaged.*remove"):
            trainer.run()


@pytest.mark.parametrize(
    "content", [None, b"", b'{"step": 1}\n', b'{"step": 1}\n{"step": 3}\n', b"[]\n5\n", b"{\n{", b"\xff\n"]
)
def test_a_damaged_history_is_refused(trainer_of: MakeTrainer, tmp_path: Path, content: bytes | None) -> None:
    trainer = trainer_of(resume=tmp_path)
    rows: list[dict[str, float]] = [
        {"step": 1},
        {"step": 2},
        {"step": 3},
    ]  # the third: killed before its state was written
    trainer.resume.save(2, trainer.model, trainer.optimiser, History(rows))  # type: ignore[union-attr]
    assert trainer.resume.load(trainer.model, trainer.optimiser) == (2, History(rows[:2]))  # type: ignore[union-attr]
    (tmp_path / HISTORY).unlink()
    if content is not None:
        (tmp_path / HISTORY).write_bytes(content)
    with pytest.raises(InputError, match=r"history\.jsonl is damaged .*remove"):
        trainer.run()


def test_a_full_disk_keeps_the_last_whole_state(
    trainer_of: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(resume=tmp_path / "r")
    trainer.run()
    before = (tmp_path / "r" / "state.safetensors").read_bytes()

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlip_assets.storage.files._sync", no_space)
    with pytest.raises(InputError, match=r"cannot be written.*No space left.*make room"):
        trainer.resume.save(9, trainer.model, trainer.optimiser, History([]))  # type: ignore[union-attr]
    assert (tmp_path / "r" / "state.safetensors").read_bytes() == before
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"state.safetensors", HISTORY}


def test_tagger_trains_on_given_pairs(trainer_of: MakeTrainer, small_recipe: Recipe) -> None:
    recipe = small_recipe.changed(
        {"kind": "tagger", "pseudo": False, "quality": False, "steps": 3, "pairs_per_image": 6}
    )
    trainer = trainer_of(recipe, name="micro_tagger")
    history = trainer.run()
    assert len(history.rows) == 3
    figures = validate(trainer.model, trainer.tokenizer, recipe, trainer.parts[0], CPU)
    assert set(figures) == {
        f"held_out_{name}"
        for name in (
            "loss",
            "class",
            "relation",
            "sub_l1",
            "sub_giou",
            "obj_l1",
            "obj_giou",
            "threshold",
            "f1",
            "precision",
            "recall",
        )
    }


def test_threshold_of_highest_f1() -> None:
    scores = np.array([0.9, 0.7, 0.62, 0.4, 0.3, 0.1], np.float32)
    right = np.array([True, True, True, False, True, False])
    found = best_threshold([(scores[:2], right[:2]), (scores[2:], right[2:])])
    assert found["held_out_threshold"] == 0.15  # 4 of 5 chosen are right and all 4 right ones are found
    assert found["held_out_precision"] == pytest.approx(4 / 5)
    assert found["held_out_recall"] == 1
