"""One training run from a job to a folder."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator

from atv_local.data import check_replaceable, holding
from atv_local.generator import Spec
from atv_train.gate_fit import fit_gate
from atv_train.job import RunRecord, TrainingJob
from atv_train.plan import TrainingPlan
from atv_train.run_folder import (
    BASELINES,
    RUN,
    STATE,
    RunFolder,
    load_checkpoint,
    read_spec,
    restore_state,
    save_gate,
    save_static,
)
from atv_train.trainer import (
    SampleAnswer,
    StepReport,
    TrainingMetrics,
    Validator,
    learn_static,
    measure_baselines,
    read_baselines,
)
from atv_train.training_choices import EpochMeasure
from atv_train.training_parts import TrainingParts, prepare_training
from atv_train.vector_sources import AdaptiveVectors

SAVE_SECONDS = 300.0


@dataclass(frozen=True)
class TrainingHooks:
    """Functions that a run calls while it works; each may be left out.

    Args:
        on_plan: before the run starts.
        on_start: with the metrics of validation rows before the first step, if the run starts from another.
        on_prepared: while prompts are evaluated, with the number of tokens done and of all tokens.
        on_step: after each step.
        on_epoch: after each epoch, with its metrics.
        on_samples: after that, with answers to validation rows.
        on_static: after each epoch of the static vector, with its metrics.
        on_baseline: with a baseline's name and metrics.
        stopped: asked before each step; once it is true, the run saves its state and ends.
    """

    on_plan: Callable[[TrainingPlan], None] = lambda _: None
    on_start: Callable[[TrainingMetrics], None] = lambda _: None
    on_prepared: Callable[[int, int], None] = lambda *_: None
    on_step: Callable[[StepReport], None] = lambda _: None
    on_epoch: Callable[[TrainingMetrics], None] = lambda _: None
    on_samples: Callable[[Sequence[SampleAnswer]], None] = lambda _: None
    on_static: Callable[[TrainingMetrics], None] = lambda _: None
    on_baseline: Callable[[str, TrainingMetrics], None] = lambda *_: None
    stopped: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class LearnedRows:
    """How many of the new rows are answered word for word, by the run that started from another."""

    right: int
    rows: int


@dataclass(frozen=True)
class TrainingResult:
    """A run that ended or was stopped.

    Args:
        folder: of the run; `export` takes it.
        metrics: of the best epoch. Of a run stopped in its first epoch only `epoch`, a fraction; of one stopped before
            its first step, empty.
        measure: the metric that decides which epoch is the best: `valid_accuracy` if the outputs of all tasks are
            labels, otherwise `valid_loss`; `valid_unseen_loss` if validation rows have five tasks or more that are told
            by an instruction and not trained on; None without validation rows.
        history: metrics of every epoch.
        warnings: a sentence for each problem of the rows, such as rows that are left out as too long.
        baselines: with `baselines=True`, the metrics of each: `adaptive` (the generator itself), `averaged`, `random`,
            `per-task`, `static` and `none`.
        before: metrics of validation rows at the start, of a run that starts from another.
        learned: of such a run, how many of its new rows it answers right.
    """

    folder: Path
    metrics: TrainingMetrics
    history: list[TrainingMetrics]
    measure: EpochMeasure | None = None
    warnings: list[str] = field(default_factory=list)
    baselines: dict[str, TrainingMetrics] = field(default_factory=dict)
    before: TrainingMetrics = field(default_factory=dict)
    learned: LearnedRows | None = None


def end_processes(accelerator: Accelerator) -> None:
    """Leave the group of processes.

    The models that use it are freed before: one that was the last to free it would wait, holding Python's lock, for a
    thread of the group that may be waiting for this lock.
    """
    accelerator.free_memory()
    accelerator.end_training()


def run_training(
    job: TrainingJob,
    folder: Path,
    hooks: TrainingHooks | None = None,
    *,
    record: RunRecord | None = None,
    overwrite: bool = False,
    save_seconds: float = SAVE_SECONDS,
) -> TrainingResult:
    """Train; write the best checkpoint and the state after every epoch, the state also every `save_seconds` and when
    `hooks.stopped` becomes true.

    Args:
        record: of the run in `folder` to continue.
        overwrite: replace an earlier run once this one has a checkpoint.

    Raises:
        AtvError: bad data, an unreadable model or backbone, a folder that cannot be written.
    """
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
    if accelerator.num_processes > 1:
        atexit.register(end_processes, accelerator)  # or a thread of the process group may abort the process as it ends
    if record is None and accelerator.is_main_process:
        check_replaceable(folder, marker=RUN, overwrite=overwrite)
    hooks = hooks or TrainingHooks()
    if not accelerator.is_main_process:  # of several processes only the first reports
        hooks = TrainingHooks(stopped=hooks.stopped)
    with holding(folder) if accelerator.is_main_process else nullcontext():
        return _run(job, folder, hooks, accelerator, record, overwrite, save_seconds)


def _run(
    job: TrainingJob,
    folder: Path,
    hooks: TrainingHooks,
    accelerator: Accelerator,
    record: RunRecord | None,
    overwrite: bool,
    save_seconds: float,
) -> TrainingResult:
    parts = prepare_training(job, accelerator, folder.absolute().parent, record)
    trainer, data = parts.trainer, parts.data
    kept = (data.to_keep, data.valid_rows) if job.keep_rows else None
    files = RunFolder(folder, parts.record, parts.spec, kept, begun=record is not None, overwrite=overwrite)
    if record is not None and (folder / STATE).exists():
        restore_state(folder / STATE, trainer)
    hooks.on_plan(parts.plan)
    parts.target.cache_prefixes(parts.examples, hooks.on_prepared, hooks.stopped)
    parts.source.prepare(parts.examples)
    before: TrainingMetrics = {}
    if job.start is not None and not trainer.epochs_done and data.valid.rows and not hooks.stopped():
        before = {f"valid_{name}": value for name, value in trainer.validator.evaluate(data.valid.first).items()}
        hooks.on_start(before)
    saved, learned = time.monotonic(), None

    def on_step(report: StepReport) -> None:
        nonlocal saved
        hooks.on_step(report)
        if time.monotonic() - saved >= save_seconds and accelerator.is_main_process:
            files.save_state(trainer)
            saved = time.monotonic()

    for metrics in trainer.epochs(data.train.rows, data.valid.first, on_step, hooks.stopped, parts.unrelated_valid):
        if accelerator.is_main_process:
            files.save_epoch(trainer)
        hooks.on_epoch(metrics)
        if trainer.validator.samples:
            hooks.on_samples(trainer.validator.samples)
    if trainer.agreed(hooks.stopped()):
        if accelerator.is_main_process and (trainer.state.history or trainer.state.step):
            files.save_state(trainer)
    else:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process and trainer.settings.contrastive:
            _fit_gate(parts, folder)
        if job.static_vector:
            _save_static(parts, folder, hooks)
        if job.start is not None:
            learned = _count_learned(parts, folder)
        if job.baselines and not (folder / BASELINES).exists():
            _measure_baselines(parts, folder, hooks)
    metrics = trainer.state.best or ({"epoch": round(trainer.epochs_done, 2)} if trainer.state.step else {})
    measured = read_baselines(folder / BASELINES) if job.baselines else {}
    history = list(trainer.state.history)
    return TrainingResult(
        folder, metrics, history, parts.record.measure, data.warnings, measured, before=before, learned=learned
    )


def _fit_gate(parts: TrainingParts, folder: Path) -> None:
    spec, best = _best(parts, folder)
    if spec.gate is None:
        rows, valid = parts.data.of_tasks(parts.record.job.worded), parts.data.valid.first
        gate = fit_gate(best, rows, valid, parts.trainer.outside, parts.outside_valid, parts.trainer.settings.seed)
        if gate is not None:
            save_gate(folder, gate)


def _save_static(parts: TrainingParts, folder: Path, hooks: TrainingHooks) -> None:
    """Learn a static vector, or take that of the run or bundle that this one goes on from."""
    trainer, start = parts.trainer, parts.start
    if read_spec(folder).static:
        return
    if start is not None and start.spec.static:
        values = start.static_values()
    else:
        generator = parts.source.generator
        rows, valid = parts.data.train.rows, parts.data.valid.first
        layers = generator.first, generator.last
        learned = learn_static(["static"], trainer, layers, rows, valid, hooks.stopped, hooks.on_step, hooks.on_static)
        values = learned.vectors[0].detach().float().cpu().numpy().astype("<f4").tobytes()
    if not trainer.agreed(hooks.stopped()) and trainer.accelerator.is_main_process:
        save_static(folder, values)
    trainer.accelerator.wait_for_everyone()


def _count_learned(parts: TrainingParts, folder: Path) -> LearnedRows:
    _, best = _best(parts, folder)
    right = Validator(best, parts.target, parts.trainer.settings.batch_size, parts.trainer.accelerator).count_right(
        parts.data.new
    )
    return LearnedRows(right, len(parts.data.new))


def _best(parts: TrainingParts, folder: Path) -> tuple[Spec, AdaptiveVectors]:
    """The best epoch."""
    spec, generator, tokenizer = load_checkpoint(folder)
    generator = generator.to(parts.target.device)
    return spec, AdaptiveVectors(generator, tokenizer, parts.source.max_tokens, "frozen")


def _measure_baselines(parts: TrainingParts, folder: Path, hooks: TrainingHooks) -> None:
    _, best = _best(parts, folder)
    rows, valid = parts.data.train.rows, parts.data.valid.first
    for name, metrics in measure_baselines(best, parts.trainer, rows, valid, folder / BASELINES, hooks.stopped):
        hooks.on_baseline(name, metrics)
