"""One training run from files to a folder: what `atv-local train` does, without the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from atv_local.data import check_replaceable
from atv_train import baselines
from atv_train.job import Job, RunRecord
from atv_train.plan import TrainingPlan
from atv_train.prepare import TrainingParts, prepare
from atv_train.run_folder import BASELINES, RUN, STATE, Folder, checkpoint, read_record, state
from atv_train.trainer import Metrics, Progress
from atv_train.vector_sources import Adaptive

SAVE_SECONDS = 300.0


@dataclass(frozen=True)
class TrainingHooks:
    """What a run tells while it works; every one may be left out."""

    on_plan: Callable[[TrainingPlan], None] = lambda _: None
    on_prepared: Callable[[int, int], None] = lambda *_: None
    on_step: Callable[[Progress], None] = lambda _: None
    on_epoch: Callable[[Metrics], None] = lambda _: None
    on_baseline: Callable[[str, Metrics], None] = lambda *_: None
    stopped: Callable[[], bool] = lambda: False


def resume(output: Path, hooks: TrainingHooks | None = None) -> Metrics:
    """Continue the run in `output` from its last saved state, bit for bit; a finished run only reports.

    Raises:
        BundleError: no run there, or a damaged one.
        DataError: its data files have changed.
        AtvError: as `run`.
    """
    record = read_record(output)
    return run(record.job, output, hooks, record=record)


def run(
    job: Job,
    output: Path,
    hooks: TrainingHooks | None = None,
    *,
    record: RunRecord | None = None,
    save_seconds: float = SAVE_SECONDS,
) -> Metrics:
    """Train; write the best checkpoint and the state after every epoch, the state also every `save_seconds` and when
    `hooks.stopped` turns true.

    Returns:
        The metrics of the best epoch; of a run stopped in its first one only `epoch`, a fraction; of one stopped
        before its first step nothing.

    Raises:
        AtvError: bad data, an unreadable model or backbone, an output that cannot be written.
    """
    if record is None:
        check_replaceable(output, marker=RUN)
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
    hooks = (
        (hooks or TrainingHooks())
        if accelerator.is_main_process
        else TrainingHooks(stopped=(hooks or TrainingHooks()).stopped)
    )
    parts = prepare(job, accelerator, output.absolute().parent, record)
    trainer = parts.trainer
    folder = Folder(output, parts.record, parts.spec, begun=record is not None)
    if record is not None and (output / STATE).exists():
        state.restore(output / STATE, trainer)
    hooks.on_plan(parts.plan)
    parts.target.prepare(parts.examples, hooks.on_prepared, hooks.stopped)
    parts.source.prepare(parts.examples)
    saved = time.monotonic()

    def on_step(progress: Progress) -> None:
        nonlocal saved
        hooks.on_step(progress)
        if time.monotonic() - saved >= save_seconds and accelerator.is_main_process:
            folder.save_state(trainer)
            saved = time.monotonic()

    data = parts.data
    for metrics in trainer.epochs(data.train.rows, data.valid.first, on_step, hooks.stopped, parts.unrelated_valid):
        if accelerator.is_main_process:
            folder.save_epoch(trainer)
        hooks.on_epoch(metrics)
    if trainer.agreed(hooks.stopped()):
        if accelerator.is_main_process and (trainer.state.history or trainer.state.step):
            folder.save_state(trainer)
    elif job.baselines and not (output / BASELINES).exists():
        accelerator.wait_for_everyone()
        _compare(parts, output, hooks)
    return trainer.state.best or ({"epoch": round(trainer.epochs_done, 2)} if trainer.state.step else {})


def _compare(parts: TrainingParts, output: Path, hooks: TrainingHooks) -> None:
    _, generator, tokenizer = checkpoint.load(output)
    best = Adaptive(generator.to(parts.target.device), tokenizer, parts.source.max_tokens, "frozen")
    data = parts.data
    rows, valid, folder = data.train.rows, data.valid.first, output / BASELINES
    for name, metrics in baselines.compare(best, parts.trainer, rows, valid, folder, hooks.stopped):
        hooks.on_baseline(name, metrics)
