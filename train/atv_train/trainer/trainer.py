"""The training loop: batches of examples train a source of task vectors through the frozen target.

Everything random is drawn from (seed, step), so that a run continued from a saved state takes the same steps as one
that was never interrupted. Runs on Hugging Face accelerate: with several processes each takes its share of every batch,
and the gradient is that of the whole batch.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from atv_local.errors import TrainingError
from atv_train.examples import UNRELATED, Example, epoch_batches
from atv_train.frozen_target import FrozenTarget
from atv_train.trainer.answer_sampler import AnswerSampler
from atv_train.trainer.losses import answer_loss, contrast, mean_kl
from atv_train.trainer.trainer_state import TrainerState, TrainingMetrics, load_state_tensors, state_tensors
from atv_train.trainer.training_settings import TrainingSettings
from atv_train.trainer.validator import Validator
from atv_train.vector_sources import VectorSource


@dataclass(frozen=True)
class StepReport:
    """After a step: where training is, how fast, and how long the rest will take at the pace so far.

    `validation` has the metrics of the last epoch; in the first there are none.
    """

    step: int
    steps: int
    loss: float
    validation: TrainingMetrics
    tokens_per_second: float
    seconds_left: float


def _tokens(examples: Sequence[Example]) -> int:
    return sum(len(example.answer) for example in examples)


class Trainer:
    """Trains `source` in place.

    Args:
        source: what gives task vectors.
        target: the frozen target they steer.
        unrelated: examples outside the tasks, for the do-no-harm term; needed if `settings.harmless` is above 0.
        outside: queries outside the tasks, for the contrastive term.
        sampler: answers validation rows after each epoch; see `Validator`.
    """

    def __init__(
        self,
        source: VectorSource,
        target: FrozenTarget,
        settings: TrainingSettings,
        unrelated: Sequence[Example] = (),
        accelerator: Accelerator | None = None,
        sampler: AnswerSampler | None = None,
        outside: Sequence[str] = (),
    ) -> None:
        self.source, self.target, self.settings, self.unrelated = source, target, settings, unrelated
        self.outside = [Example(-1, query, UNRELATED, (), ()) for query in outside]
        self.accelerator = accelerator or Accelerator(cpu=target.device.type == "cpu", mixed_precision="no")
        self.validator = Validator(source, target, settings.batch_size, self.accelerator, sampler)
        measure = sampler.measure if sampler else "valid_accuracy"
        self.state = TrainerState(measure=None if settings.keep_last else measure)
        groups = source.groups(settings.learning_rate, settings.backbone_learning_rate)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
        self._rates = [group["lr"] for group in groups]
        self._per_epoch = 1
        self._model: Any = self.accelerator.prepare_model(source)

    def epochs(
        self,
        rows: Sequence[Sequence[Example]],
        valid: Sequence[Example],
        on_step: Callable[[StepReport], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
        unrelated_valid: Sequence[Example] = (),
    ) -> Iterator[TrainingMetrics]:
        """Yield the metrics of each epoch as it ends, until the last one or `patience` epochs without progress.

        Metrics are `epoch`, `loss`, `seconds`, and `valid_*` and `unrelated_*` where there are such examples. Once
        `stopped` turns true the generator returns after the current step; `state` then has what to continue from.

        Raises:
            TrainingError: the loss is not finite.
        """
        settings, state = self.settings, self.state
        size = settings.batch_size * self.accelerator.num_processes
        per_epoch = self._per_epoch = math.ceil(len(rows) / size)
        total, started, done, tokens = per_epoch * settings.epochs, time.monotonic(), 0, 0
        while state.epoch < settings.epochs and (state.stale() < settings.patience or not valid):
            began = time.monotonic()
            batches = epoch_batches(rows, size, settings.seed, state.epoch)
            while state.step < per_epoch:
                if self.agreed(stopped()):
                    return
                batch, number = batches[state.step], state.epoch * per_epoch + state.step
                loss = self.step(batch, number, total)
                state.step, state.loss = state.step + 1, state.loss + loss
                done, tokens = done + 1, tokens + sum(example.length for example in batch)
                elapsed = time.monotonic() - started
                validation = state.history[-1] if state.history else {}
                left = elapsed / done * (total - number - 1)
                on_step(StepReport(number + 1, total, loss, validation, tokens / elapsed, left))
            metrics = {"epoch": state.epoch + 1.0, "loss": state.loss / per_epoch, "seconds": time.monotonic() - began}
            metrics |= self.validator(valid, unrelated_valid)
            state.epoch, state.step, state.loss = state.epoch + 1, 0, 0.0
            state.history.append(metrics)
            yield metrics

    @property
    def epochs_done(self) -> float:
        """Epochs so far, the one under way as a fraction."""
        return self.state.epoch + self.state.step / self._per_epoch

    def tensors(self) -> dict[str, Tensor]:
        """Trainable weights and the optimizer's moments: with `state`, all that `restore` needs."""
        return state_tensors(self.source, self.optimizer)

    def restore(self, state: TrainerState, tensors: dict[str, Tensor]) -> None:
        """Continue where another trainer with the same settings was.

        Raises:
            ValueError: tensors of another generator.
        """
        load_state_tensors(tensors, self.source, self.optimizer, stepped=state.epoch + state.step > 0)
        self.state = replace(state, measure=self.state.measure)

    def step(self, batch: Sequence[Example], number: int, total: int) -> float:
        """One update from a whole batch, of which this process takes its share; the mean loss per answer token.

        Raises:
            TrainingError: the loss or its gradient is not finite; nothing is updated.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss, terms = self.losses(batch, number)
        self.accelerator.backward(loss + terms)
        norm = float(torch.nn.utils.clip_grad_norm_(self.source.parameters(), 1.0))
        mean = float(self.accelerator.reduce(loss.detach(), "mean"))
        if not math.isfinite(mean) or not math.isfinite(norm):
            raise TrainingError(f"the loss is {mean} at step {number + 1}; try a smaller learning rate")
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._schedule(number, total)
        self.optimizer.step()
        return mean

    def losses(self, batch: Sequence[Example], number: int) -> tuple[Tensor, Tensor]:
        """Cross-entropy per answer token of the whole batch, and the weighted other terms, of this process's share."""
        settings, rank, world = self.settings, self.accelerator.process_index, self.accelerator.num_processes
        share = batch[rank::world]
        mine = share or batch[:1]  # no process may be without a row: the others wait for its gradient
        everywhere = self._draw(self.unrelated, 8, number) if settings.harmless else []
        unrelated = everywhere[rank::world]
        apart = settings.contrastive > 0 and self.source.learns_states
        outside = self._draw(self.outside, 3, number)[rank::world] if apart else []
        _seed_noise(settings.seed, number, rank)
        self._model.train()
        with torch.autocast(self.target.device.type, torch.bfloat16, enabled=self.target.dtype is torch.bfloat16):
            vectors = self._model([*mine, *unrelated, *outside])
        steered, others, _ = vectors.split([len(mine), len(unrelated), len(outside)])
        logits, labels = self.target.answer_logits(
            mine, steered * self._strengths(mine, number, settings.strength_range[0])
        )
        loss = answer_loss(logits, labels) * (world if share else 0) / _tokens(batch)
        terms = torch.zeros_like(loss)
        if apart and self.source.states is not None:
            states = self.source.states.float()
            alike = [self._label(example) for example in mine]
            terms = terms + settings.contrastive * contrast(states[: len(mine)], alike, states[len(mine) :])
        if unrelated:
            others = others * self._strengths(unrelated, number, 0.0)
            share_of_tokens = _tokens(unrelated) * world / _tokens(everywhere)
            with torch.no_grad():
                base, _ = self.target.answer_logits(unrelated, self.target.zeros(len(unrelated)))
            changed, _ = self.target.answer_logits(unrelated, others)
            harm = mean_kl(base, changed) * share_of_tokens
            terms = terms + settings.harmless * harm
        return loss, terms

    def agreed(self, flag: bool) -> bool:
        """Whether it is set in any process: all must stop at the same step."""
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.target.device), "sum") > 0)

    def _draw(self, examples: Sequence[Example], share: int, number: int) -> list[Example]:
        """For one step: one example for `share` rows of the batch."""
        count = min(len(examples), max(1, self.settings.batch_size // share) * self.accelerator.num_processes)
        draw = random.Random(f"{self.settings.seed}/general/{number}")  # the word is part of what a seed draws
        return draw.sample(list(examples), count)

    def _label(self, example: Example) -> Hashable:
        """What rows have in common whose states belong together: the task, and its answer if that is a label."""
        return example.task if example.task in self.validator.text_tasks else (example.task, example.answer)

    def _strengths(self, examples: Sequence[Example], number: int, low: float) -> Tensor:
        """float32 [batch, 1, 1], each drawn from `low` to the upper end of the range."""
        seed, high = self.settings.seed, self.settings.strength_range[1]
        draws = [random.Random(f"{seed}/{number}/{example.index}").uniform(low, high) for example in examples]
        return torch.tensor(draws, device=self.target.device)[:, None, None]

    def _schedule(self, step: int, steps: int) -> float:
        """Linear warm-up, then cosine decay to zero."""
        warmup = max(1, round(steps * self.settings.warmup))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    def probe(self, batch: Sequence[Example]) -> None:
        """Do the work of a step without its update, for timing; nothing changes."""
        loss, terms = self.losses(batch, 0)
        self.accelerator.backward(loss + terms)
        self.optimizer.zero_grad(set_to_none=True)


def _seed_noise(*numbers: int) -> None:
    """Seed what PyTorch draws next from these numbers alone: a resumed run needs no saved random state."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number) % (1 << 63)
    torch.manual_seed(seed)
