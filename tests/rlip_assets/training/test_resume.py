"""A training that was killed goes on bit for bit, and from nothing but its own whole state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from rlip_assets.lineage.context import NullLog
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import InputError
from rlip_assets.training.loop import Trainer
from rlip_assets.training.resume import HISTORY, History, Resume
from rlip_assets.training.retained import RetainedCheckpoints, best_step
from rlip_model import LabelTokenizer, Rlip, load_checkpoint

MakeTrainer = Callable[..., Trainer]


class Kill(BaseException):
    """Stands for the process being killed."""


class KillingLog(NullLog):
    """Dies when a step is reported."""

    def __init__(self, step: int) -> None:
        self.step = step

    def progress(self, done: int, total: int, unit: str) -> None:
        if done == self.step:
            raise Kill


@pytest.mark.parametrize(
    "killed_at", [pytest.param(1, marks=pytest.mark.deep), 4, pytest.param(6, marks=pytest.mark.deep)]
)
def test_a_killed_run_goes_on_bit_for_bit(trainer_of: MakeTrainer, tmp_path: Path, killed_at: int) -> None:
    """Counts of skipped input included."""
    undisturbed = trainer_of(resume=tmp_path / "a", queries=2)
    (tmp_path / "drawn/images/0003.png").write_bytes(b"not an image")
    expected = undisturbed.run()
    assert min(expected.cut_pairs, expected.unreadable_images) > 0
    with pytest.raises(Kill):
        trainer_of(resume=tmp_path / "b", log=KillingLog(killed_at), queries=2).run()
    resumed = trainer_of(resume=tmp_path / "b", queries=2)
    assert resumed.run() == expected
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert (tmp_path / "a" / HISTORY).read_bytes() == (tmp_path / "b" / HISTORY).read_bytes()


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


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_stays_near_and_resumes(trainer_of: MakeTrainer, tmp_path: Path, precision: str) -> None:
    full = trainer_of().run()
    undisturbed = trainer_of(resume=tmp_path / "a", precision=precision).run()
    assert [row["loss"] for row in undisturbed.rows] == pytest.approx([row["loss"] for row in full.rows], rel=0.1)
    with pytest.raises(Kill):
        trainer_of(resume=tmp_path / "b", precision=precision, log=KillingLog(4)).run()
    assert trainer_of(resume=tmp_path / "b", precision=precision).run().rows == undisturbed.rows


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


@pytest.mark.parametrize("died", ["after best", "before best"])
def test_best_is_of_the_step_that_the_history_says_though_a_resumed_run_goes_otherwise(
    trainer_of: MakeTrainer, tmp_path: Path, died: str
) -> None:
    """As on a GPU, where a repeated step is not equal to the bit: the step after the kill would be evaluated worse."""
    figures = iter([0.5, 0.9, *([0.2] * 3)])  # steps 2 and 4; after the kill

    class Dying(RetainedCheckpoints):
        def update(self, rows: Sequence[Mapping[str, float]], model: Rlip, tokenizer: LabelTokenizer) -> None:
            if died == "before best" and rows[-1]["step"] == 4:
                raise Kill
            super().update(rows, model, tokenizer)

    def trainer(kind: type[RetainedCheckpoints], log: NullLog | None = None) -> Trainer:
        retained = kind(tmp_path / "kept", "evaluated_headline", None, {"name": "t"})
        evaluate = lambda *_: {"headline": next(figures)}  # noqa: E731
        return trainer_of(resume=tmp_path, log=log, evaluate=evaluate, retained=retained, evaluate_every=2)

    with pytest.raises(Kill):
        trainer(Dying, KillingLog(4)).run()
    history = trainer(RetainedCheckpoints).run()
    kept = load_checkpoint(tmp_path / "kept/best").metadata["figures"]
    assert kept == {"step": 4, "evaluated_headline": 0.9}
    assert best_step(history.rows, "evaluated_headline") == 4


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
