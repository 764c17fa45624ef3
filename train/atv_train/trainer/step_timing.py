"""How long prefixes and steps take on this machine, measured before training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from atv_train.examples import Example
from atv_train.trainer.trainer import Trainer


@dataclass(frozen=True)
class StepTiming:
    """Seconds for a thousand prefix tokens, and for one step."""

    prefix: float
    step: float


def time_step(trainer: Trainer, rows: Sequence[Sequence[Example]]) -> StepTiming:
    """Time one batch of typical prefixes, and one typical step with its prefixes cached."""
    batch_size, target = trainer.settings.batch_size, trainer.target
    order = sorted((wordings[0] for wordings in rows), key=lambda e: len(e.prompt))
    middle = max(0, (len(order) - batch_size) // 2)
    batch = order[middle : middle + batch_size]
    with target.temporary_cache():
        started = time.monotonic()
        target.cache_prefixes(batch)
        prefix = 1000 * (time.monotonic() - started) / sum(len(example.prompt) for example in batch)
        trainer.probe(batch)  # the first one is slower
        started = time.monotonic()
        trainer.probe(batch)
        return StepTiming(prefix, time.monotonic() - started)
