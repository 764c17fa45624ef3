"""Hyperparameters, and those that follow from the number of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_STEPS, _MORE_STEPS, _MIN_EPOCHS, _MAX_EPOCHS = 600, 75, 3, 15


@dataclass(frozen=True)
class TrainingSettings:
    """Hyperparameters; docs/explanation/results.md compares others.

    Each row's strength is drawn from `strength_range`. `contrastive` weighs the loss that draws queries of one task
    together for the gate, which a run with 0 does not have, `harmless` that for changed answers to unrelated queries.
    `patience` is the number of epochs without better validation before training stops; with `keep_last` it does not
    stop before, and the last epoch counts as the best.
    """

    epochs: Annotated[int, Field(ge=0)] = 4
    batch_size: Annotated[int, Field(ge=0)] = 32
    learning_rate: Rate = 2e-3
    backbone_learning_rate: Rate = 1e-4
    weight_decay: Rate = 1e-5
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    patience: Annotated[int, Field(ge=1)] = 4
    keep_last: bool = False
    strength_range: tuple[Rate, Rate] = (1.0, 1.0)
    contrastive: Rate = 0.3
    harmless: Rate = 0.0
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0

    def with_defaults(self, n_rows: int, *, trained: bool = False) -> TrainingSettings:
        """These settings for that many rows: a batch size or number of epochs of 0 is replaced.

        Args:
            n_rows: of an epoch.
            trained: whether the generator knows its tasks already, so that less is needed.
        """
        batch_size = self.batch_size or default_batch_size(n_rows)
        steps = _MORE_STEPS if trained else _STEPS
        return replace(self, batch_size=batch_size, epochs=self.epochs or default_epochs(n_rows, batch_size, steps))


def default_batch_size(n_rows: int) -> int:
    """32, less for so few rows that an epoch would have under eight steps."""
    return min(32, max(4, 2 ** math.floor(math.log2(max(1, n_rows / 8)))))


def default_epochs(n_rows: int, batch_size: int, steps: int = _STEPS) -> int:
    """The number of epochs that gives about so many steps, from 3 to 15 (the paper's number)."""
    return min(_MAX_EPOCHS, max(_MIN_EPOCHS, round(steps * batch_size / max(1, n_rows))))
