"""The training loop: cross-entropy on the answer tokens, through the frozen target, into the generator."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from atv_local.errors import TrainingError
from atv_train.examples import Example, batches
from atv_train.generator import Generator
from atv_train.target import FrozenTarget

QUERY_TEMPLATE = "{query}"


@dataclass(frozen=True)
class Settings:
    """Hyperparameters. Defaults were chosen on validation rows of the demo tasks (docs/how-it-works.md)."""

    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 5e-4
    backbone_learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    warmup: float = 0.05
    max_query_tokens: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """After every step: where training is and how long the rest will take at the pace so far."""

    step: int
    steps: int
    loss: float
    seconds_left: float


class Trainer:
    """Trains `generator` in place. Knows nothing of files or terminals."""

    def __init__(
        self,
        generator: Generator,
        tokenizer: PreTrainedTokenizerFast,
        target: FrozenTarget,
        settings: Settings,
    ) -> None:
        self.generator, self.tokenizer, self.target, self.settings = generator, tokenizer, target, settings

    def epochs(
        self,
        examples: Sequence[Example],
        valid: Sequence[Example],
        on_step: Callable[[Progress], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[dict[str, float]]:
        """Yield the metrics of each epoch as it ends: `epoch`, `loss`, and `valid_*` where there are valid rows.

        Once `stopped` turns true, the epoch ends after the current step, with a fraction as its number; before the
        first step nothing is yielded.

        Raises:
            TrainingError: the loss is not finite.
        """
        settings = self.settings
        rng = random.Random(settings.seed)
        groups = [
            {"params": self.generator.expansion.parameters(), "lr": settings.learning_rate},
            {"params": self.generator.backbone.parameters(), "lr": settings.backbone_learning_rate},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        per_epoch = math.ceil(len(examples) / settings.batch_size)
        steps = per_epoch * settings.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._rate(step, steps))
        started, step = time.monotonic(), 0
        for _ in range(settings.epochs):
            losses = []
            for batch in batches(examples, settings.batch_size, rng):
                if stopped():
                    break
                self.generator.train()
                optimizer.zero_grad(set_to_none=True)
                logits, labels = self.target.answer_logits(batch, self.vectors(batch))
                loss = cross_entropy(logits, labels)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                step += 1
                losses.append(loss.item())
                pace = (time.monotonic() - started) / step
                if not math.isfinite(losses[-1]):
                    raise TrainingError(f"the loss is {losses[-1]} at step {step}; try a smaller learning rate")
                on_step(Progress(step, steps, losses[-1], pace * (steps - step)))
            if not losses:
                return
            seconds = time.monotonic() - started
            metrics = {"epoch": round(step / per_epoch, 2), "loss": sum(losses) / len(losses), "seconds": seconds}
            if stopped():
                yield metrics
                return
            yield metrics | self.evaluate(valid, prefix="valid_")

    def vectors(self, batch: Sequence[Example]) -> Tensor:
        """Task vectors float32 [batch, n_layer-1, n_embd] of the batch's queries: the query only, never the answer."""
        encoded = self.tokenizer(
            [QUERY_TEMPLATE.replace("{query}", example.query) for example in batch],
            padding=True,
            truncation=True,
            max_length=self.settings.max_query_tokens,
            return_tensors="pt",
        ).to(self.target.device)
        return self.generator(encoded["input_ids"], encoded["attention_mask"])

    @torch.no_grad()
    def evaluate(self, examples: Sequence[Example], prefix: str = "") -> dict[str, float]:
        """Share of rows whose greedy answer is exactly right, per task and as the mean of tasks.

        Teacher-forced: all answer tokens are the argmax exactly when greedy decoding writes that answer and stops.
        """
        self.generator.eval()
        right: dict[str, list[bool]] = {}
        for start in range(0, len(examples), self.settings.batch_size):
            batch = examples[start : start + self.settings.batch_size]
            logits, labels = self.target.answer_logits(batch, self.vectors(batch))
            hits = (logits.argmax(dim=-1) == labels).split([len(example.answer) for example in batch])
            for example, hit in zip(batch, hits, strict=True):
                right.setdefault(example.task, []).append(bool(hit.all()))
        accuracy = {task: sum(hits) / len(hits) for task, hits in sorted(right.items())}
        mean = {"accuracy": sum(accuracy.values()) / len(accuracy)} if accuracy else {}
        return {prefix + name: value for name, value in (mean | accuracy).items()}

    def _rate(self, step: int, steps: int) -> float:
        """Linear warm-up, then cosine decay to zero."""
        warmup = max(1, round(steps * self.settings.warmup))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
