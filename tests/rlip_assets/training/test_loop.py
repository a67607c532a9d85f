"""The loop gives the same losses and gradients however a step is cut, unless parts keep their own counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.training.batches import Batch
from rlip_assets.training.loop import NotFiniteError, Trainer
from rlip_assets.training.memory import StepTooLargeError, remedy_named
from rlip_assets.training.optimiser import GROUPS, group_of, weight_average
from rlip_assets.training.resume import Resume
from rlip_assets.training.retained import best_step
from rlip_assets.training.validation import best_threshold, validate
from rlip_model import LossCounts, enable_gradient_checkpointing
from rlip_model.losses import TERM_NAMES

CPU = torch.device("cpu")


MakeTrainer = Callable[..., Trainer]


ONE_SIZE = {"crop": 0.0, "short_sides": (48,)}


@pytest.mark.parametrize("group", ["backbone", "text"])
def test_a_group_without_a_rate_stays_as_it_is_and_gets_no_gradient(
    trainer_of: MakeTrainer, small_recipe: Recipe, group: str
) -> None:
    trainer = trainer_of(small_recipe.changed({f"lr_{group}": 0.0}))
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.run()
    moved = {group_of(name) for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {*GROUPS} - {group}
    still = [value for name, value in trainer.model.named_parameters() if group_of(name) == group]
    assert still
    assert all(value.grad is None for value in still)


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
        vectors, _ = trainer._encode(batch.labels)
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
    history = trainer.run()
    assert history.rows[-1]["loss"] > 0
    assert history.cut_pairs > 0


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
        encode = trainer.model.pool_text
        # Around their mean, some vectors have a positive sum and some a negative one.
        monkeypatch.setattr(trainer.model, "pool_text", lambda *ids, e=encode: e(*ids) - e(*ids).mean(0))
        trainer.model.encoder.register_forward_pre_hook(keep_mask, with_kwargs=True)
        batch = trainer.parts[0][0]
        losses.append(trainer._backward(0, [batch])["relation"])
    signs = trainer._encode(batch.labels)[0].sum(-1) <= 0
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


def test_rlipv1_trains_on_one_draw_of_resized_vectors(
    trainer_of: MakeTrainer, small_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RPL compares what the network reads, dropout included; the published text mask is that of the pooler output."""
    recipe = small_recipe.changed({"published": {"text_mask": True, "pseudo_gradient": True}, "model": "micro_parse"})
    trainer = trainer_of(recipe, name="micro_parse")
    network: Any = trainer.model
    network.resizer.dropout.p = 0.5
    seen: dict[str, list[torch.Tensor]] = {"pooled": [], "read": [], "compared": []}
    network.text_encoder.pooler.register_forward_hook(lambda _, given, out: seen["pooled"].append(out))
    network.encoder.register_forward_hook(lambda _, given, out: seen["read"].append(given[1]))
    targets_of = trainer.criterion._relation_targets
    keep = lambda targets, vectors, *rest: seen["compared"].append(vectors) or targets_of(targets, vectors, *rest)  # noqa: E731
    monkeypatch.setattr(trainer.criterion, "_relation_targets", keep)
    batch = trainer.parts[0][0]
    trainer._backward(0, [batch])
    assert len(seen["compared"]) == 2  # counts before the forward pass, and the loss
    for vectors in seen["compared"]:
        assert torch.equal(vectors, seen["read"][0][batch.labels.num_objects :])
    assert (seen["read"][0] == 0).any()
    weight = trainer.model.resizer.linear.weight
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


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
        vectors = trainer._encode(batch.labels)[0].detach()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            trainer.model(batch.images, batch.mask, vectors, batch.labels.num_objects)
        return sum(sizes.values())

    plain, recomputed = trainer_of(), trainer_of()
    enable_gradient_checkpointing(recomputed.model)
    assert kept(recomputed) < 0.6 * kept(plain)


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


def test_seconds_of_data_and_step_leave_out_states_and_evaluations(
    trainer_of: MakeTrainer, small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only saving a state and evaluating move."""
    now = [0.0]

    class Log(NullLog):
        seconds: list[float] = []  # noqa: RUF012

        def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
            self.seconds += [value for name, value in values.items() if name.startswith("seconds")]

    def slowly(*_: object, **__: object) -> dict[str, float]:
        now[0] += 100.0
        return {"headline": 0.0}

    monkeypatch.setattr("rlip_assets.training.loop.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(Resume, "save", slowly)
    log = Log()
    recipe = small_recipe.changed({"steps": 3})
    trainer_of(recipe, tmp_path / "state", log, every=1, evaluate=slowly, evaluate_every=1).run()
    assert now == [600.0]
    assert log.seconds == [0.0] * 4  # of the first and the last step
