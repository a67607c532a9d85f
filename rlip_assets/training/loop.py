"""The training loop: encode the texts once per step, forward, loss, backward, clip, step.

It runs unchanged in one process and under `torchrun` (every process computes its part of each batch, gradients are summed),
with a batch in one piece or in `accumulate` parts. A step is a function of the weights, the seed and the step number, so a
killed training resumes from its last state and ends with the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from safetensors.torch import save
from torch import Tensor, nn

from rlip_assets.evaluation.headlines import EVALUATED
from rlip_assets.lineage.context import StageLog
from rlip_assets.lineage.recipes import Recipe
from rlip_assets.storage.errors import RlipError
from rlip_assets.storage.files import write_bytes, write_json
from rlip_assets.training.batches import Batch, StepBatches, seed_of
from rlip_assets.training.label_lists import LabelList
from rlip_assets.training.loading import load
from rlip_assets.training.memory import remedy_named
from rlip_assets.training.optimiser import build_optimiser, build_schedule, weight_average
from rlip_assets.training.processes import Processes
from rlip_assets.training.resume import History, Resume
from rlip_assets.training.retained import RetainedCheckpoints, best_step
from rlip_model import (
    LabelTokenizer,
    LossConfig,
    ModelOutput,
    RelationCriterion,
    Rlip,
    enable_gradient_checkpointing,
    sign_text_mask,
)

LOG_EVERY = 10
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Evaluate = Callable[[Rlip, LabelTokenizer], dict[str, float]]


class NotFiniteError(RlipError):
    """The loss or a gradient is NaN or infinite."""


@dataclass(frozen=True)
class Settings:
    """Settings of the execution; none changes a result beyond float rounding."""

    device: torch.device
    precision: str = "fp32"
    """Precision of the network; losses and weights are float32. `fp16` scales the loss and skips a step whose gradients overflow."""
    workers: int = 0
    checkpoint_every: int = 100
    gradient_checkpointing: bool = False
    """Keep fewer activations and compute them again."""
    evaluate_every: int | None = None
    """Steps between two evaluations; the last step is evaluated too. None evaluates nothing."""


class Trainer:
    """Trains a network on the batches of a recipe.

    Args:
        model: on the device of `settings`, in the state to start from.
        parts: the batches of this process, `recipe.accumulate` views of each step.
        resume: saves the state; None saves none.
        evaluate: computes figures of the network on images that it is not trained on.
        retained: checkpoints beside the last one.
    """

    def __init__(
        self,
        model: Rlip,
        tokenizer: LabelTokenizer,
        recipe: Recipe,
        parts: Sequence[StepBatches],
        settings: Settings,
        processes: Processes,
        seed: int,
        log: StageLog,
        resume: Resume | None = None,
        evaluate: Evaluate | None = None,
        retained: RetainedCheckpoints | None = None,
    ) -> None:
        self.model, self.tokenizer, self.recipe, self.settings = model, tokenizer, recipe, settings
        self.parts, self.processes, self.seed, self.log, self.resume = parts, processes, seed, log, resume
        self.total_steps = len(parts[0])
        self.criterion = RelationCriterion(loss_config(recipe))
        self.optimiser = build_optimiser(model, recipe)
        self.schedule = build_schedule(self.optimiser, recipe, self.total_steps)
        self.average = None if recipe.average is None else weight_average(model, recipe.average)
        self.scaler = torch.amp.GradScaler(settings.device.type, enabled=settings.precision == "fp16")
        self.evaluate, self.retained = evaluate, retained
        if settings.gradient_checkpointing:
            enable_gradient_checkpointing(model)

    def run(self) -> History:
        """Run the steps that are not done yet; return the history, one row per step."""
        done, history = 0, History()
        if self.resume:
            done, history = self.resume.load(self.model, self.optimiser, self.average, self.scaler)
        if done:
            self.log.info(f"continuing after step {done} of {self.total_steps}")
            self.schedule = build_schedule(self.optimiser, self.recipe, self.total_steps, done)
            self._retain(history)  # a kill may have come between the state and its checkpoints
        self.model.train()
        waiting = time.perf_counter()
        for step, batches in enumerate(self._batches(done), start=done):
            began = time.perf_counter()
            largest = max(len(batch.images) for batch in batches)
            with remedy_named(
                largest, precision=self.settings.precision, gradient_checkpointing=self.settings.gradient_checkpointing
            ):
                row = self._step(step, batches)
            if self.average:
                self.average.update_parameters(self.model)
            seconds = {"seconds_data": began - waiting, "seconds_step": time.perf_counter() - began}
            row |= self._evaluate(step + 1)
            history.rows.append(row)
            self._count(history, batches)
            if self.resume and self.processes.is_first and self._is_saved(history):
                self.resume.save(step + 1, self.model, self.optimiser, history, self.average, self.scaler)
            self._retain(history)
            self._report(row, seconds)
            waiting = time.perf_counter()
        if self.average:
            self.model.load_state_dict(self._final_model.state_dict())
        self.model.eval()
        return history

    def _count(self, history: History, batches: list[Batch]) -> None:
        """Add what the input of a step lacks, in all processes together."""
        counts = sum(len(batch.skipped) for batch in batches), sum(batch.cut_pairs for batch in batches)
        skipped, cut = self.processes.sum_values(torch.tensor(counts, device=self.settings.device)).tolist()
        history.unreadable_images += skipped
        history.cut_pairs += cut

    def _is_saved(self, history: History) -> bool:
        """Whether the state after the last step is saved: regularly, and before the best checkpoint is replaced by that step's."""
        step = len(history.rows)
        metric = self.retained.metric if self.retained else ""
        best = metric in history.rows[-1] and best_step(history.rows, metric) == step
        return step % self.settings.checkpoint_every == 0 or step == self.total_steps or best

    def _retain(self, history: History) -> None:
        if self.retained and self.processes.is_first:
            self.retained.update(history.rows, self._final_model, self.tokenizer)

    def _evaluate(self, steps: int) -> dict[str, float]:
        """Figures after `steps` steps where they are due. The first process computes them; the others wait for it in the next step."""
        every = self.settings.evaluate_every
        due = every is not None and (steps % every == 0 or steps == self.total_steps)
        if self.evaluate is None or not due or not self.processes.is_first:
            return {}
        model = self._final_model.eval()
        figures = {f"{EVALUATED}{name}": value for name, value in self.evaluate(model, self.tokenizer).items()}
        self.model.train()
        self.log.metrics(figures, step=steps)
        return figures

    @property
    def _final_model(self) -> Rlip:
        """The network that a checkpoint saved now would hold: the average where there is one."""
        model = self.average.module if self.average else self.model
        assert isinstance(model, Rlip)
        return model

    def _batches(self, start: int) -> Iterator[list[Batch]]:
        steps, workers = range(start, self.total_steps), self.settings.workers
        loaded = [load(part, batch_size=None, sampler=steps, num_workers=workers) for part in self.parts]
        return map(list, zip(*loaded, strict=True))

    def _step(self, step: int, batches: list[Batch]) -> dict[str, float]:
        """Take one optimiser step; return its row of the history."""
        torch.manual_seed(seed_of(self.seed, step, self.processes.index))  # dropout
        self.optimiser.zero_grad(set_to_none=True)
        values = self._backward(step, [batch.to(self.settings.device) for batch in batches])
        self.processes.sum_gradients(self.model)
        self.scaler.unscale_(self.optimiser)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip))
        overflowed = self.scaler.is_enabled() and not math.isfinite(norm) and self.scaler.get_scale() > 1
        if not math.isfinite(values["loss"]) or not (math.isfinite(norm) or overflowed):
            self._stop(step, batches, f"the loss is {values['loss']} and the gradient norm {norm}")
        self.scaler.step(self.optimiser)
        self.scaler.update()
        rates = {f"lr_{group['name']}": group["lr"] for group in self.optimiser.param_groups}
        self.schedule.step()
        return {
            "step": step + 1,
            **values,
            "gradient_norm": 0.0 if overflowed else norm,
            **({"loss_scale": self.scaler.get_scale()} if self.scaler.is_enabled() else {}),
            **rates,
        }

    def _backward(self, step: int, batches: list[Batch]) -> dict[str, float]:
        """Compute the gradients of the whole step; return its loss and terms.

        Every list of texts is encoded once. Each part of the batch adds its gradient to the label vectors, and at the end one
        backward pass per list takes the sum into the text encoder.
        """
        texts = {labels: self._encode(labels) for labels in dict.fromkeys(batch.labels for batch in batches)}
        vectors = {labels: encoded.detach().requires_grad_() for labels, (encoded, _) in texts.items()}
        counts = [
            self.criterion.counts(
                batch.targets,
                self.model.config.pairs,
                vectors[batch.labels].float(),
                batch.labels.num_objects,
                batch.ignored,
            )
            for batch in batches
        ]
        whole = self.processes.sum_counts(sum(counts[1:], counts[0]))
        parts = len(batches) * self.processes.count
        sums: dict[str, Tensor] = {}
        for batch in batches:
            own, objects = vectors[batch.labels], batch.labels.num_objects
            with self._autocast():
                output = self.model(batch.images, batch.mask, own, objects, texts[batch.labels][1], batch.pairs)
            if not all(bool(torch.isfinite(value).all()) for value in vars(output).values()):
                self._stop(step, [batch], "the predictions are not finite")
            losses = self.criterion(_as_float(output), batch.targets, own.float(), objects, batch.ignored)
            published = self.recipe.published.part_counts
            divisors = losses.counts.published_divisors(whole, parts) if published else whole.divisors()
            total, terms = losses.divided(divisors)
            self.scaler.scale(total).backward()
            for name, value in {"loss": total, **terms}.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
        for labels, (encoded, _) in texts.items():
            if encoded.requires_grad:
                encoded.backward(vectors[labels].grad)
        summed = self.processes.sum_values(torch.stack([value.float() for value in sums.values()]))
        return dict(zip(sums, summed.tolist(), strict=True))

    def _encode(self, labels: LabelList) -> tuple[Tensor, Tensor | None]:
        """Label vectors, with the graph of the text encoder behind them, and the mask (T,) of texts that are no keys."""
        tokens = self.tokenizer(labels.texts)
        with self._autocast():
            pooled = self.model.pool_text(*(ids.to(self.settings.device) for ids in tokens))
            text_mask = sign_text_mask(pooled.detach().float()) if self.recipe.published.text_mask else None
            return self.model.label_vectors(pooled), text_mask

    def _autocast(self) -> torch.autocast:
        precision = _PRECISIONS[self.settings.precision]
        # A disabled context still wants a type of low precision.
        low = torch.bfloat16 if precision == torch.float32 else precision
        return torch.autocast(self.settings.device.type, low, enabled=precision != torch.float32)

    def _report(self, row: dict[str, float], seconds: dict[str, float]) -> None:
        """Log the row, and what may differ between equal trainings: times and memory."""
        step = int(row["step"])
        if step % LOG_EVERY == 0 or step in (1, self.total_steps):
            if self.settings.device.type == "cuda":
                seconds = seconds | {"gpu_memory_gb": torch.cuda.max_memory_allocated(self.settings.device) / 2**30}
            self.log.metrics({name: value for name, value in (row | seconds).items() if name != "step"}, step=step)
        self.log.progress(step, self.total_steps, "steps")

    def _stop(self, step: int, batches: list[Batch], what: str) -> NoReturn:
        """Stop before a step that is not finite reaches the weights; save its input for inspection.

        Raises:
            NotFiniteError: naming the images.
        """
        ids = [name for batch in batches for name in batch.image_ids]
        where = ""
        if self.resume:
            folder = self.resume.folder / f"not_finite_step_{step + 1}_process_{self.processes.index}"
            save_batch(folder, batches)
            where = f"; the batch is kept in {folder}"
        raise NotFiniteError(
            f"step {step + 1}: {what}, on images {', '.join(ids[:8])}{'...' if len(ids) > 8 else ''}{where}; "
            "look at these images or lower the learning rate"
        )


def loss_config(recipe: Recipe) -> LossConfig:
    """Return the criterion's configuration of a recipe."""
    return LossConfig(
        relational_quality=recipe.quality,
        pseudo_relations=recipe.pseudo,
        pseudo_gradient=recipe.published.pseudo_gradient,
        subject_class=recipe.subject_class,
        assignment="slots" if recipe.kind == "tagger" else "hungarian",
    )


def save_batch(folder: Path, batches: Sequence[Batch]) -> None:
    """Write a batch (images, masks, targets, texts, image ids) for inspection."""
    tensors: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        tensors |= {f"{number}/images": batch.images, f"{number}/mask": batch.mask}
        for row, target in enumerate(batch.targets):
            tensors |= {f"{number}/target/{row}/{name}": value for name, value in vars(target).items()}
    write_bytes(folder / "batch.safetensors", save({name: value.cpu().contiguous() for name, value in tensors.items()}))
    names = [list(batch.image_ids) for batch in batches]
    write_json(folder / "batch.json", {"image_ids": names, "texts": batches[0].labels.texts})


def _as_float(output: ModelOutput) -> ModelOutput:
    """The output in float32, in which losses are computed whatever the network ran in."""
    return ModelOutput(**{name: value.float() for name, value in vars(output).items()})
