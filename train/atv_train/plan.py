"""What a run will do, decided from the data and the machine, and said before it starts."""

from __future__ import annotations

import math
import os
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from atv_local.data import Row
from atv_local.errors import UsageError
from atv_train.examples import Example
from atv_train.frozen_target import PrefixStore
from atv_train.trainer import Settings, Trainer

Dtype = Literal["auto", "float32", "bfloat16"]

_STEPS, _MIN_EPOCHS, _MAX_EPOCHS = 600, 3, 15
_HELD_OUT = 0.1
_ROOM = 4 << 30  # disk that stays free


@dataclass(frozen=True)
class Timing:
    """Measured on this machine just before: seconds for a thousand prefix tokens, and for one step."""

    prefix: float
    step: float


@dataclass(frozen=True)
class TrainingPlan:
    """What the user sees before training. Sizes in bytes."""

    target: str
    computed: str
    generator: str
    trainable: int
    rows: int
    valid_rows: int
    held_out: bool
    tasks: int
    tokens: int
    settings: Settings
    processes: int
    prefix_bytes: int
    memory_bytes: int
    disk_bytes: int
    timing: Timing
    findings: list[str]
    sample: list[tuple[str, str, str]]
    """Task, prompt as the target sees it, answer."""

    @property
    def steps(self) -> int:
        """Of all epochs."""
        return self.settings.epochs * math.ceil(self.rows / (self.settings.batch_size * self.processes))

    @property
    def seconds(self) -> float:
        """All of it, if early stopping saves nothing: prefixes, steps, and a fifth more for measuring and saving."""
        prefixes = self.timing.prefix * self.tokens / 1000 if self.prefix_bytes else 0.0
        return 1.2 * (prefixes + self.steps * self.timing.step)


def measure(trainer: Trainer, rows: Sequence[Sequence[Example]]) -> Timing:
    """Time one batch of typical prefixes and one typical step, the latter with its prefixes kept."""
    settings, target = trainer.settings, trainer.target
    order = sorted((wordings[0] for wordings in rows), key=lambda e: len(e.prompt))
    middle = max(0, (len(order) - settings.batch_size) // 2)
    batch = order[middle : middle + settings.batch_size]
    started = time.monotonic()
    store, target.store = target.store, PrefixStore(1 << 62)
    target.prepare(batch)
    prefix = 1000 * (time.monotonic() - started) / sum(len(example.prompt) for example in batch)
    trainer.probe(batch)
    started = time.monotonic()
    trainer.probe(batch)
    target.store = store
    return Timing(prefix, time.monotonic() - started)


def batch_size_for(rows: int) -> int:
    """32, less for so few rows that an epoch would be under eight steps."""
    return min(32, max(4, 2 ** math.floor(math.log2(max(1, rows / 8)))))


def epochs_for(rows: int, batch_size: int) -> int:
    """Passes that come to about 600 steps, within 3 to 15 (the paper's number)."""
    return min(_MAX_EPOCHS, max(_MIN_EPOCHS, round(_STEPS * batch_size / max(1, rows))))


def hold_out(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """(training, validation): a tenth of each task's inputs, at least one; equal inputs stay on one side."""
    tasks: dict[str, list[str]] = {}
    for row in rows:
        tasks.setdefault(row.task, []).append(row.input)
    held: set[str] = set()
    for task, texts in tasks.items():
        unique = list(dict.fromkeys(texts))
        free = [text for text in unique if text not in held]
        wanted = max(1, round(len(unique) * _HELD_OUT)) - (len(unique) - len(free))
        held |= set(random.Random(f"{seed}/{task}").sample(free, max(0, min(wanted, len(free) - 1))))
    return [row for row in rows if row.input not in held], [row for row in rows if row.input in held]


def target_dtype(device: torch.device, wanted: Dtype = "auto") -> torch.dtype:
    """What the target is computed in: by default bfloat16 where the machine multiplies it in hardware, else float32."""
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    found = torch.cpu.get_capabilities()
    return torch.bfloat16 if found.get("avx512_bf16") or found.get("amx_bf16") else torch.float32


def room(needed: int, device: torch.device, folder: Path, limit: int | None = None) -> tuple[int, int]:
    """(memory, disk) bytes for one process's kept prefixes: half of the free memory or `limit`, the rest in `folder` if
    its disk has room. Processes on one machine share both.

    Raises:
        UsageError: a limit below zero.
    """
    if limit is not None and limit < 0:
        raise UsageError(f"a cache of {limit} bytes is below 0")
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else psutil.virtual_memory().available // beside
    memory = min(needed, free // 2 if limit is None else limit)
    here = next(part for part in (folder, *folder.parents) if part.exists())
    disk = min(needed - memory, max(0, shutil.disk_usage(here).free - _ROOM) // beside)
    return memory, disk
